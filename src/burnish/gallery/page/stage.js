// The stage: two images on top of each other with a divider, side by side, or their difference.
"use strict";

const stage = {
  split: 0.5, // where the divider is

  start() {
    this.element = byId("stage");
    const move = (event) => {
      const box = this.element.firstChild.getBoundingClientRect();
      this.divide((event.clientX - box.left) / box.width);
    };
    this.element.addEventListener("pointerdown", (event) => {
      if (view.state.mode !== "swipe") return;
      this.element.setPointerCapture(event.pointerId);
      this.element.onpointermove = move;
      move(event);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.element.addEventListener(end, () => { this.element.onpointermove = null; });
    }
    new ResizeObserver(() => this.draw()).observe(this.element);
  },

  // Show two pictures, given as places in sprites, of images of a shape [C, H, W].
  show(before, after, name) {
    Object.assign(this, { before, after, name });
    this.draw();
  },

  draw() {
    if (!this.before || !this.element.clientWidth) return;
    const { mode } = view.state;
    const [, height, width] = data.facts.shape;
    const side = mode === "side";
    const room = side ? (this.element.clientWidth - 8) / 2 : this.element.clientWidth;
    let scale = Math.min(room / width, (window.innerHeight * 0.56) / height, 640 / Math.max(height, width));
    if (scale > 1) scale = Math.floor(scale); // pixels stay squares of one size
    const size = [Math.round(width * scale), Math.round(height * scale)];
    const layers = [this.before, this.after].map((place, i) => {
      const layer = make("i", { className: `picture ${i ? "after" : "before"}` });
      layer.setAttribute("role", "img");
      layer.setAttribute("aria-label", i ? this.name : "before");
      layer.classList.toggle("pixels", scale >= 1 && data.facts.exact);
      paint(layer, place, ...size);
      return layer;
    });
    const frame = make("div", { className: `frame ${mode}` }, ...layers);
    if (!side) Object.assign(frame.style, { width: `${size[0]}px`, height: `${size[1]}px` });
    this.element.replaceChildren(frame);
    if (mode === "swipe") {
      const handle = make("div", { className: "divider", tabIndex: 0 });
      handle.setAttribute("role", "slider");
      handle.setAttribute("aria-label", "Divider: before on its left, after on its right");
      frame.append(handle, make("b", { className: "tag", textContent: "before" }), make("b", { className: "tag right", textContent: this.name }));
      this.divide(this.split);
    }
    const words = {
      swipe: "Drag over the image: before on the left, after on the right.",
      side: `Before on the left, ${this.name} on the right.`,
      difference: `How much each pixel has changed, times ${view.factor}; black is unchanged.`,
    };
    byId("caption").textContent = words[mode];
  },

  divide(share) {
    this.split = Math.min(1, Math.max(0, share));
    const frame = this.element.firstChild;
    frame.style.setProperty("--split", `${100 * this.split}%`);
    frame.querySelector(".divider")?.setAttribute("aria-valuenow", Math.round(100 * this.split));
  },
};

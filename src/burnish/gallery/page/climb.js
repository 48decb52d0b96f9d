// The climb: the path of one image, its objective as a curve, and every image on the way.
"use strict";

const CHART = { width: 520, height: 150, left: 46, right: 12, top: 12, bottom: 24 };

const climb = {
  path: null,

  async load(row) {
    const element = byId("climb");
    this.path = null;
    if (data.facts.no_path) {
      element.replaceChildren(make("h3", { textContent: "Path" }), make("p", { className: "soft", textContent: data.facts.no_path }));
      return;
    }
    element.replaceChildren(make("h3", { textContent: "Path" }), make("p", { className: "soft", textContent: "Climbing again …" }));
    const { found, error } = await data.detail("path", row).catch((fault) => ({ error: fault.message }));
    if (large.row !== row) return; // another pair has been opened meanwhile
    if (!found) {
      element.lastChild.textContent = error;
      return;
    }
    this.path = found;
    this.draw();
    large.drawStage();
  },

  get last() {
    return this.path.objective.length - 1;
  },

  // The step that is shown; null for the stored image.
  get step() {
    const { step } = view.state;
    if (!this.path || step === "" || !/^\d+$/.test(step)) return null;
    return Math.min(Number(step), this.last);
  },

  // The image at a step, as a place in the sprite of the path.
  place(step) {
    return { url: this.path.sprite, column: step, line: 0, columns: this.last + 1, lines: 1 };
  },

  choose(step) {
    view.set({ step: this.step === step ? "" : String(step) });
    this.draw();
    large.drawStage();
  },

  draw() {
    const { same, levels } = this.path;
    const strip = make("div", { className: "strip" });
    const [, height, width] = data.facts.shape;
    const scale = 48 / Math.max(height, width);
    for (let step = 0; step <= this.last; step++) {
      const picture = make("i", { className: "picture" });
      picture.classList.toggle("pixels", data.facts.exact);
      paint(picture, this.place(step), Math.round(width * scale), Math.round(height * scale));
      const button = make("button", { type: "button" }, picture, make("span", { textContent: step }));
      button.setAttribute("aria-label", `Show step ${step}`);
      button.setAttribute("aria-pressed", this.step === step);
      button.addEventListener("click", () => this.choose(step));
      strip.append(button);
    }
    const { settings, refiner } = data.facts.card;
    const end = same ? "The last image is the stored one, bit by bit."
      : settings.keep_better ? "The stored image may be the one before: what got worse was taken back."
      : `The last image differs from the stored one by up to ${levels} of 255 levels: another processor, batch size or version.`;
    const guide = data.facts.card.guide ?? "the guide";
    const steps = `${this.last} ${this.last === 1 ? "step" : "steps"}`;
    const way = refiner ? `One pass of a learned refiner, made again for this image. The ${settings.objective ?? "objective"} is that of ${guide}.`
      : `${steps} up the ${settings.objective ?? "objective"} of ${guide}, done again for this image.`;
    byId("climb").replaceChildren(
      make("h3", { textContent: "Path" }),
      make("p", { className: "soft", textContent: `${way} ${end}` }),
      this.chart(), strip,
    );
  },

  chart() {
    const { width, height, left, right, top, bottom } = CHART;
    const values = this.path.objective;
    const least = Math.min(...values), most = Math.max(...values), span = most - least || 1;
    const x = (k) => left + (this.last ? (k / this.last) * (width - left - right) : (width - left - right) / 2);
    const y = (value) => height - bottom - ((value - least) / span) * (height - top - bottom);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img" });
    svg.setAttribute("aria-label", `Objective from ${text(values[0])} to ${text(values[this.last])}`);
    for (const value of most > least ? [least, (least + most) / 2, most] : [least]) {
      svg.append(draw("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "rule" }));
      svg.append(draw("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, text(value)));
    }
    svg.append(draw("polyline", { points: values.map((value, k) => `${x(k)},${y(value)}`).join(" ") }));
    values.forEach((value, k) => {
      const point = draw("circle", { cx: x(k), cy: y(value), r: this.step === k ? 6 : 3.5, class: this.step === k ? "chosen" : "" });
      point.append(draw("title", {}, `step ${k}: objective ${text(value)}, L2 ${text(this.path.l2[k])}`));
      point.addEventListener("click", () => this.choose(k));
      svg.append(point);
    });
    svg.append(draw("text", { x: left, y: height - 6 }, "step 0"));
    if (this.last) svg.append(draw("text", { x: width - right, y: height - 6, "text-anchor": "end" }, `step ${this.last}`));
    svg.append(draw("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, "objective by step"));
    return svg;
  },
};

function draw(tag, attributes, content = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = content;
  return element;
}

// The grid: only the tiles in sight exist, so that a hundred thousand pairs cost no more than fifty.
"use strict";

const GAP = 12, PADDING = 16, INSIDE = 8, CAPTION = 38;
const SETTLE = 70; // milliseconds without scrolling until new pictures are asked for

const grid = {
  tiles: new Map(), // place -> element
  spare: [],
  focused: 0, // place of the tile that has the focus

  start() {
    this.scroller = byId("scroller");
    this.element = byId("grid");
    this.scroller.addEventListener("scroll", () => this.draw(true), { passive: true });
    new ResizeObserver(() => this.layout()).observe(this.scroller);
    this.element.addEventListener("click", (event) => {
      const tile = event.target.closest(".tile");
      if (tile) large.open(view.rows[tile.place]);
    });
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.element.addEventListener("focusin", (event) => {
      if (event.target.classList.contains("tile")) this.focused = event.target.place;
    });
  },

  // Width and height of an image on the screen: a whole multiple where images are exact.
  imageSize() {
    const [height, width] = data.facts.thumbnail;
    const narrow = this.scroller.clientWidth < 640;
    const size = Number(view.state.size) || (narrow ? 2 : 3);
    const scale = (32 * size) / Math.max(height, width);
    const exact = data.facts.exact ? Math.max(1, Math.round(scale)) : scale;
    return [Math.round(width * exact), Math.round(height * exact)];
  },

  // Place all tiles anew: another size, order or set of rows.
  layout() {
    if (!data.facts) return;
    const [width, height] = this.imageSize();
    const images = view.state.show === "pair" ? 2 : 1;
    this.width = Math.max(images * width + (images - 1) * 2 + 2 * INSIDE, 112);
    this.height = height + 2 * INSIDE + CAPTION;
    const room = this.scroller.clientWidth - 2 * PADDING;
    this.columns = Math.max(1, Math.floor((room + GAP) / (this.width + GAP)));
    this.left = Math.max(PADDING, (this.scroller.clientWidth - this.columns * (this.width + GAP) + GAP) / 2);
    const lines = Math.ceil(view.rows.length / this.columns);
    this.element.style.height = `${lines * (this.height + GAP) + 2 * PADDING}px`;
    for (const place of [...this.tiles.keys()]) this.drop(place);
    this.draw();
  },

  draw(scrolling = false) {
    const line = this.height + GAP;
    const top = this.scroller.scrollTop - PADDING, bottom = top + this.scroller.clientHeight;
    const first = Math.max(0, Math.floor(top / line) - 1) * this.columns;
    const last = Math.min(view.rows.length, (Math.floor(bottom / line) + 2) * this.columns);
    for (const place of [...this.tiles.keys()]) if (place < first || place >= last) this.drop(place);
    for (let place = first; place < last; place++) if (!this.tiles.has(place)) this.add(place);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.paint(), scrolling ? SETTLE : 0);
  },

  drop(place) {
    const tile = this.tiles.get(place);
    // A tile that loses the focus would take the keyboard away.
    if (tile === document.activeElement) this.scroller.focus({ preventScroll: true });
    this.tiles.delete(place);
    tile.remove();
    if (this.spare.length < 100) this.spare.push(tile);
  },

  add(place) {
    const tile = this.spare.pop() ?? makeTile();
    const row = view.rows[place];
    tile.place = place;
    tile.painted = false;
    tile.style.width = `${this.width}px`;
    tile.style.height = `${this.height}px`;
    const x = this.left + (place % this.columns) * (this.width + GAP);
    const y = PADDING + Math.floor(place / this.columns) * (this.height + GAP);
    tile.style.transform = `translate(${x}px, ${y}px)`;
    for (const picture of tile.pictures) picture.style.backgroundImage = "";
    tile.frame.className = `frame ${view.state.show}`;
    this.element.append(tile);
    this.tiles.set(place, tile);
    this.write(tile, row);
  },

  write(tile, row) {
    const { facts, columns } = data;
    const name = facts.names ? facts.names[row].split("/").pop() : `id ${facts.ids[row]}`;
    const label = columns.label && !Number.isNaN(columns.label[row]) ? ` · ${data.className(columns.label[row])}` : "";
    tile.first.textContent = `${name}${label}`;
    const sorted = view.state.sort && view.state.sort !== "label" ? view.state.sort : "";
    const key = sorted || ["gain", "change"].find((one) => columns[one]);
    const short = { gain: "gain", change: "L2" }[key] ?? data.labels[key];
    tile.second.textContent = key ? `${short} ${text(columns[key][row], key)}` : "";
    const worse = columns.worse ? columns.worse[row] === 1 : columns.gain && columns.gain[row] < 0;
    tile.classList.toggle("worse", Boolean(worse));
    tile.title = facts.names ? facts.names[row] : "";
    tile.setAttribute("aria-label", `${tile.first.textContent}, ${tile.second.textContent}${worse ? ", got worse" : ""}`);
  },

  paint() {
    const [width, height] = this.imageSize();
    document.documentElement.style.setProperty("--factor", view.factor);
    for (const [place, tile] of this.tiles) {
      if (tile.painted) continue;
      tile.painted = true;
      const at = data.sprite(view.rows, place);
      tile.pictures.forEach((picture, side) => {
        paint(picture, { ...at, line: 2 * at.line + side, lines: 2 * at.lines }, width, height);
      });
      tile.frame.style.height = `${height}px`;
      tile.frame.style.width = `${view.state.show === "pair" ? 2 * width + 2 : width}px`;
    }
  },

  // Bring a place into sight and give it the focus.
  focus(place) {
    const last = view.rows.length - 1;
    if (last < 0) return;
    this.focused = Math.min(last, Math.max(0, place));
    const line = this.height + GAP, top = PADDING + Math.floor(this.focused / this.columns) * line;
    const { scrollTop, clientHeight } = this.scroller;
    if (top < scrollTop) this.scroller.scrollTop = top - GAP;
    if (top + line > scrollTop + clientHeight) this.scroller.scrollTop = top + line - clientHeight + GAP;
    this.draw();
    this.tiles.get(this.focused)?.focus({ preventScroll: true });
  },

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const page = this.columns * Math.max(1, Math.floor(this.scroller.clientHeight / (this.height + GAP)));
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns,
      PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity,
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const target = this.focused + steps[event.key];
    // Up in the first line and down in the last one go nowhere.
    if (event.key.startsWith("Arrow") && (target < 0 || target >= view.rows.length)) return;
    this.focus(target);
  },
};

function makeTile() {
  const pictures = [make("i", { className: "picture before" }), make("i", { className: "picture after" })];
  const frame = make("span", { className: "frame" }, ...pictures);
  const first = make("span", { className: "first" }), second = make("span", { className: "second" });
  const tile = make("button", { className: "tile", type: "button" }, frame, first, second);
  return Object.assign(tile, { pictures, frame, first, second });
}

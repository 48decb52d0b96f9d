// The filters: classes, reasons, and ranges of numbers with their histograms.
"use strict";

const BINS = 48;
const WIDTH = 240, HEIGHT = 34;
const SVG = "http://www.w3.org/2000/svg";

// Fill the menus once, when the data are known.
function fillMenus() {
  const { columns, labels, facts } = data;
  const sorts = Object.keys(columns).filter((key) => key !== "worse" && key !== "stopped");
  fill("sort", [["", "place in the file"], ...sorts.map((key) => [key, labels[key]])]);
  fill("factor", [1, 2, 3, 4, 5, 8, 10, 15, 20, 30, 50].map((n) => [String(n), String(n)]));
  const classes = columns.label ? [...new Set(columns.label)].sort((a, b) => a - b) : [];
  fill("label", [["", "any"], ...classes.map((n) => [String(n), data.className(n)])]);
  fill("stop", [["", "any"], ...facts.stops.map((name) => [name, name])]);
  byId("label-filter").hidden = classes.length < 2;
  byId("stop-filter").hidden = facts.stops.length < 2;
  byId("worse-filter").hidden = !columns.worse && !columns.gain;
}

function fill(id, options) {
  byId(id).replaceChildren(...options.map(([value, textContent]) => make("option", { value, textContent })));
}

// Make a histogram with two limits for every column that has numbers.
function fillRanges() {
  const shown = RANGED.filter((key) => data.columns[key]);
  byId("ranges").replaceChildren(...shown.map(makeRange));
  const nothing = !shown.length && ["label", "stop", "worse"].every((id) => byId(`${id}-filter`).hidden);
  byId("filter-toggle").hidden = nothing;
}

function makeRange(key) {
  const values = data.columns[key];
  let least = Infinity, most = -Infinity;
  for (const value of values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  const span = most > least ? most - least : 1;
  const counts = new Array(BINS).fill(0);
  for (const value of values) {
    if (!Number.isNaN(value)) counts[Math.min(BINS - 1, Math.floor(((value - least) / span) * BINS))]++;
  }
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const highest = Math.max(...counts);
  const bars = counts.map((count, i) => {
    const bar = document.createElementNS(SVG, "rect");
    const height = count && Math.max(1, (count / highest) * HEIGHT);
    const box = { x: (i * WIDTH) / BINS + 0.5, y: HEIGHT - height, width: WIDTH / BINS - 1, height };
    for (const [name, value] of Object.entries(box)) bar.setAttribute(name, value);
    svg.append(bar);
    return bar;
  });
  const inputs = ["least", "most"].map((word, side) => {
    // More digits where the ends of a narrow range would look the same.
    const write = (value) => text(least) === text(most) ? value.toPrecision(6) : text(value);
    const input = make("input", { type: "number", step: "any", placeholder: write(side ? most : least) });
    input.setAttribute("aria-label", `${word} ${data.labels[key]}`);
    input.dataset.key = key;
    input.dataset.side = side;
    input.addEventListener("change", () => {
      const limits = view.limits[key] ?? [null, null];
      limits[side] = bound(input.value);
      limit(key, limits);
    });
    return input;
  });
  const range = make("div", { className: "range" });
  range.draw = () => {
    const [low, high] = view.limits[key] ?? [null, null];
    inputs.forEach((input, side) => { input.value = (side ? high : low) ?? ""; });
    bars.forEach((bar, i) => {
      const from = least + (i / BINS) * span, to = from + span / BINS;
      bar.classList.toggle("out", to < (low ?? -Infinity) || from > (high ?? Infinity));
    });
  };
  drag(svg, (from, to) => {
    const ends = [from, to].sort((a, b) => a - b).map((x) => Number((least + x * span).toPrecision(4)));
    limit(key, to === from ? [null, null] : ends);
  });
  range.append(make("span", { textContent: data.labels[key] }), svg, make("div", {}, inputs[0], " to ", inputs[1]));
  return range;
}

function limit(key, limits) {
  view.limits[key] = limits;
  view.set({});
  refresh();
}

// Report a drag over an element as two shares of its width; a click reports the same one twice.
function drag(element, found) {
  const share = (event) => {
    const box = element.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  };
  element.addEventListener("pointerdown", (event) => {
    const start = share(event);
    element.setPointerCapture(event.pointerId);
    element.onpointerup = (end) => {
      element.onpointerup = null;
      found(start, Math.abs(share(end) - start) < 0.02 ? start : share(end));
    };
  });
}

// The view: what is sorted, filtered and open. It lives in the address, so that every view is a link.
"use strict";

const DEFAULTS = {
  sort: "", descending: "", show: "pair", factor: "", size: "", label: "", stop: "", worse: "",
  pair: "", mode: "swipe", step: "",
};
// The columns that have a range to filter by.
const RANGED = ["change", "gain", "realness_before", "realness_after"];

const view = {
  state: { ...DEFAULTS },
  limits: {}, // key -> [low, high], either may be null
  rows: [], // of the pairs that are shown, in order

  // Take the view from the address.
  read() {
    const given = new URLSearchParams(location.hash.slice(1));
    this.state = { ...DEFAULTS };
    this.limits = {};
    for (const [key, value] of given) {
      if (Object.hasOwn(DEFAULTS, key)) this.state[key] = value;
      if (RANGED.includes(key)) {
        const [low, high] = value.split("..");
        this.limits[key] = [bound(low ?? ""), bound(high ?? "")];
      }
    }
    if (this.state.sort && !(this.state.sort in data.columns)) this.state.sort = "";
    if (!["pair", "after", "difference"].includes(this.state.show)) this.state.show = "pair";
    if (!["swipe", "side", "difference"].includes(this.state.mode)) this.state.mode = "swipe";
  },

  // Change the view and the address; opening a pair can be taken back by the browser.
  set(changes) {
    const opens = Boolean(changes.pair) && !this.state.pair;
    Object.assign(this.state, changes);
    const hash = new URLSearchParams();
    for (const [key, value] of Object.entries(this.state)) {
      if (value !== DEFAULTS[key]) hash.set(key, value);
    }
    for (const [key, [low, high]] of Object.entries(this.limits)) {
      if (low !== null || high !== null) hash.set(key, `${low ?? ""}..${high ?? ""}`);
    }
    // Of the plain view, without the sign that nothing would follow.
    const url = String(hash) ? `#${hash}` : location.pathname + location.search;
    try {
      history[opens ? "pushState" : "replaceState"](null, "", url);
    } catch {
      // Some browsers take a limited number of addresses per minute; the next change comes through.
    }
  },

  get isFiltered() {
    const { label, stop, worse } = this.state;
    return Boolean(label || stop || worse) || Object.values(this.limits).flat().some((x) => x !== null);
  },

  // Find the rows that are shown, in order.
  select() {
    const { label, stop, worse, sort, descending } = this.state;
    const { columns, facts } = data;
    const tests = [];
    if (label !== "") tests.push([columns.label, Number(label), Number(label)]);
    if (stop !== "") tests.push([columns.stopped, facts.stops.indexOf(stop), facts.stops.indexOf(stop)]);
    if (worse) tests.push([columns.worse ?? columns.gain, ...(columns.worse ? [1, 1] : [-Infinity, -1e-30])]);
    for (const [key, [low, high]] of Object.entries(this.limits)) {
      tests.push([columns[key], low ?? -Infinity, high ?? Infinity]);
    }
    const usable = tests.filter(([column]) => column);
    const rows = [];
    for (let row = 0; row < facts.count; row++) {
      if (usable.every(([column, low, high]) => column[row] >= low && column[row] <= high)) rows.push(row);
    }
    const column = columns[sort];
    if (column) {
      // Without a value last, either way; equal ones in the order of the file.
      const sign = descending ? -1 : 1;
      rows.sort((a, b) => {
        const x = column[a], y = column[b];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a - b;
        return sign * (x - y) || a - b;
      });
    } else if (descending) rows.reverse();
    this.rows = rows;
  },

  get factor() {
    return Number(this.state.factor) || data.facts.factor;
  },
};

function bound(value) {
  return value === "" || Number.isNaN(Number(value)) ? null : Number(value);
}

// One pair in large: the stage, its path, its row of the ledger, real images, and the commands.
"use strict";

const large = {
  row: null,

  start() {
    this.dialog = byId("large");
    byId("close").addEventListener("click", () => this.close());
    byId("previous").addEventListener("click", () => this.move(-1));
    byId("next").addEventListener("click", () => this.move(1));
    this.dialog.addEventListener("cancel", (event) => { event.preventDefault(); this.close(); });
    this.dialog.addEventListener("keydown", (event) => this.key(event));
    segments("mode", (mode) => { view.set({ mode }); this.draw(); });
  },

  open(row) {
    view.set({ pair: String(data.facts.ids[row]), step: "" });
    this.show();
  },

  close() {
    view.set({ pair: "", step: "" });
    this.show();
  },

  move(by) {
    const place = view.rows.indexOf(this.row);
    const next = view.rows[place < 0 ? 0 : place + by];
    if (next !== undefined) this.open(next);
  },

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && event.target.classList.contains("divider") && event.shiftKey) stage.divide(stage.split + by / 20);
    else if (by) this.move(by);
    else return;
    event.preventDefault();
  },

  // Follow the view: open, closed, or another pair.
  show() {
    const row = data.rowOfId.get(view.state.pair);
    if (row === undefined) {
      if (view.state.pair) message(`There is no pair ${view.state.pair} here.`);
      if (!this.dialog.open) return;
      this.dialog.close();
      const place = view.rows.indexOf(this.row);
      this.row = null;
      if (place >= 0) grid.focus(place);
      return;
    }
    if (!this.dialog.open) this.dialog.showModal();
    if (row === this.row) return this.draw();
    this.row = row;
    climb.path = null;
    this.dialog.querySelector(".body").scrollTop = 0;
    this.draw();
    climb.load(row);
    this.loadNearest(row);
  },

  draw() {
    const { facts, columns, labels } = data;
    const row = this.row;
    press("mode", view.state.mode);
    const name = facts.names ? facts.names[row] : `id ${facts.ids[row]}`;
    const label = columns.label && !Number.isNaN(columns.label[row]) ? ` · ${data.className(columns.label[row])}` : "";
    byId("large-title").textContent = name + label;
    const place = view.rows.indexOf(row);
    byId("previous").disabled = place === 0;
    byId("next").disabled = place === view.rows.length - 1;
    this.drawStage();
    const cells = [["id", String(facts.ids[row])], ["place in the file", row.toLocaleString("en")]];
    for (const [key, column] of Object.entries(columns)) {
      if (key === "label") cells.push(["class", facts.classes[column[row]] ?? text(column[row])]);
      else if (key === "stopped") cells.push(["stopped", facts.stops[column[row]]]);
      else cells.push([labels[key], text(column[row], key)]);
    }
    const table = byId("row");
    table.replaceChildren(make("caption", { textContent: columns.num_steps ? "Ledger" : "Pair" }));
    for (const [head, cell] of cells) table.append(make("tr", {}, make("th", { textContent: head, scope: "row" }), make("td", { textContent: cell })));
    this.drawCommand();
    for (const by of [-1, 1]) {
      const next = place < 0 ? undefined : view.rows[place + by];
      if (next !== undefined) for (const side of ["before", "after"]) new Image().src = data.picture(next, side).url;
    }
  },

  drawStage() {
    const step = climb.step;
    const after = step === null ? data.picture(this.row, "after") : climb.place(step);
    document.documentElement.style.setProperty("--factor", view.factor);
    stage.show(data.picture(this.row, "before"), after, step === null ? "after" : `step ${step}`);
  },

  drawCommand() {
    const { lines, note } = data.facts.commands;
    const fill = (line) => line.replaceAll("{id}", data.facts.ids[this.row]);
    const element = byId("command");
    element.replaceChildren(make("h3", { textContent: "Make it again" }));
    if (lines.length) {
      const code = lines.map(fill).join("\n");
      const copy = make("button", { type: "button", textContent: "Copy" });
      copy.addEventListener("click", async () => {
        await navigator.clipboard?.writeText(code);
        copy.textContent = "Copied";
      });
      element.append(make("pre", { textContent: code }), copy);
    }
    if (note) element.append(make("p", { className: "soft", textContent: fill(note) }));
  },

  async loadNearest(row) {
    const element = byId("nearest");
    element.hidden = !data.facts.nearest;
    if (element.hidden) return;
    const said = make("p", { className: "soft", textContent: "Looking …" });
    element.replaceChildren(make("h3", { textContent: "Nearest real images" }), said);
    const { found, error } = await data.detail("nearest", row).catch((fault) => ({ error: fault.message }));
    if (this.row !== row) return;
    said.textContent = found ? `To the image after, by ${data.facts.nearest}.` : error;
    const shown = make("div", { className: "real" });
    for (const { id, label, distance, image } of found ?? []) {
      const picture = make("img", { src: image, alt: `real image ${id}`, className: data.facts.exact ? "pixels" : "" });
      const named = label === null ? "" : ` · ${data.className(label)}`;
      shown.append(make("figure", {}, picture, make("figcaption", { textContent: `${id}${named} · distance ${text(distance)}` })));
    }
    element.append(shown);
  },
};

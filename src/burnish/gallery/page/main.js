// The page as a whole: starts everything, and ties the controls to the view.
"use strict";

function byId(id) {
  return document.getElementById(id);
}

// Say something above the grid; nothing takes it away.
function message(words) {
  byId("message").textContent = words;
  byId("message").hidden = !words;
}

// A row of buttons of which one is pressed.
function segments(id, chosen) {
  byId(id).addEventListener("click", (event) => {
    const { value } = event.target.dataset;
    if (value) chosen(value);
  });
}

function press(id, value) {
  for (const button of byId(id).children) button.setAttribute("aria-pressed", button.dataset.value === value);
}

// Draw everything that depends on the view.
function refresh(jump = true) {
  view.select();
  const { state } = view;
  for (const id of ["sort", "label", "stop"]) byId(id).value = state[id];
  byId("worse").checked = Boolean(state.worse);
  byId("arrow").textContent = state.descending ? "↓" : "↑";
  byId("order").textContent = state.descending ? (state.sort ? "high first" : "last first") : state.sort ? "low first" : "in order";
  press("show", state.show);
  byId("factor").value = String(view.factor);
  byId("factor-label").hidden = state.show !== "difference" && state.mode !== "difference";
  byId("size").value = state.size || (window.innerWidth < 640 ? 2 : 3);
  const count = data.facts.count.toLocaleString("en");
  const found = view.rows.length.toLocaleString("en");
  const noun = data.facts.count === 1 ? "pair" : "pairs";
  byId("found").textContent = view.isFiltered ? `${found} of ${count} ${noun}` : `${count} ${noun}`;
  byId("reset").hidden = !view.isFiltered;
  byId("filter-toggle").classList.toggle("active", view.isFiltered);
  for (const range of byId("ranges").children) range.draw();
  if (jump) grid.scroller.scrollTop = 0;
  grid.layout();
}

function change(changes, jump = true) {
  view.set(changes);
  refresh(jump);
}

function tie() {
  byId("sort").addEventListener("change", (event) => {
    const sort = event.target.value;
    // The most of anything is more telling than the least.
    change({ sort, descending: sort && sort !== "label" ? "1" : "" });
  });
  byId("direction").addEventListener("click", () => change({ descending: view.state.descending ? "" : "1" }));
  for (const id of ["label", "stop"]) byId(id).addEventListener("change", (event) => change({ [id]: event.target.value }));
  byId("worse").addEventListener("change", (event) => change({ worse: event.target.checked ? "1" : "" }));
  byId("factor").addEventListener("change", (event) => change({ factor: event.target.value }, false));
  byId("size").addEventListener("input", (event) => change({ size: event.target.value }, false));
  segments("show", (show) => change({ show }, false));
  byId("reset").addEventListener("click", () => {
    view.limits = {};
    change({ label: "", stop: "", worse: "" });
  });
  byId("filter-toggle").addEventListener("click", () => {
    const filters = byId("filters");
    filters.hidden = !filters.hidden;
    byId("filter-toggle").setAttribute("aria-expanded", !filters.hidden);
  });
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input, select")) return;
    if (event.key === "d") toggleDifference();
    // Arrows reach the grid from anywhere on the page but from what has arrows of its own.
    else if (event.key.startsWith("Arrow") && !large.dialog.open && !event.target.closest(".tile")) {
      event.preventDefault();
      grid.focus(grid.focused);
    }
  });
  for (const name of ["popstate", "hashchange"]) window.addEventListener(name, follow);
}

function toggleDifference() {
  if (large.dialog.open) {
    view.set({ mode: view.state.mode === "difference" ? "swipe" : "difference" });
    large.draw();
  } else change({ show: view.state.show === "difference" ? "pair" : "difference" }, false);
}

// The address has changed: by a link, or by going back.
function follow() {
  view.read();
  refresh(false);
  large.show();
}

function introduce() {
  const { files, card, left_out: [before, after] } = data.facts;
  const { guide, refiner, settings } = card;
  document.body.classList.toggle("exact", data.facts.exact);
  byId("title").textContent = files[1];
  document.title = `${files[1]} · burnish view`;
  const parts = [`before: ${files[0]}`];
  if (guide) parts.push(`guide ${guide}`);
  if (settings.eps !== undefined && settings.eps !== null) parts.push(`eps ${settings.eps}`);
  if (refiner) parts.push("one pass of a learned refiner");
  else if (settings.num_steps !== undefined) parts.push(`${settings.num_steps} steps`);
  if (before || after) parts.push(`${before + after} images without a partner left out`);
  byId("subtitle").textContent = parts.join(" · ");
}

// Distances that no ledger knows are found while the page is shown.
async function awaitChanges() {
  for (;;) {
    const { share, values, error } = await fetchJson("change.json");
    if (error) return message(`The distances cannot be found: ${error}`);
    if (share === 1) {
      data.add("change", "change (L2)", unpack(values));
      message("");
      break;
    }
    message(`Finding how far each image has moved: ${Math.floor(100 * share)} %`);
    await new Promise((resolve) => setTimeout(resolve, 400));
  }
  fillMenus();
  fillRanges();
  follow();
}

async function main() {
  try {
    await data.load();
  } catch (fault) {
    return message(`The gallery cannot be read (${fault.message}); is burnish view still running?`);
  }
  introduce();
  fillMenus();
  fillRanges();
  view.read();
  grid.start();
  stage.start();
  large.start();
  tie();
  refresh();
  large.show();
  if (data.facts.pending) awaitChanges().catch((fault) => message(fault.message));
}

main();

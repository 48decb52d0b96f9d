"use strict";

// One page for all raters. Everything it shows is set as text, never as markup.
const $ = (id) => document.getElementById(id);
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (all, key) => values[key] ?? all);
const here = location.pathname.replace(/\/$/, "");
let state, shownAt = 0, open = false;

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body),
  };
  const reply = await fetch(path, options);
  if (!reply.ok) throw Object.assign(new Error(await reply.text()), {status: reply.status});
  return reply.json();
}

// Asks again, later and later, while the server cannot be reached; the nonce keeps it one vote.
async function insist(path, body) {
  for (let wait = 500; ; wait = Math.min(2 * wait, 10000)) {
    try {
      const reply = await ask(path, body);
      $("said").textContent = "";
      return reply;
    } catch (error) {
      if (error.status && error.status < 500) throw error;
      $("said").textContent = state ? state.texts.offline : "…";
      await new Promise((done) => setTimeout(done, wait));
    }
  }
}

function words() {
  const texts = state.texts, counts = {total: state.total, practice: state.practice};
  document.documentElement.lang = texts.code;
  document.title = $("question").textContent = state.question;
  for (const id of ["resume", "start", "tie", "keys"]) $(id).textContent = texts[id];
  $("intro").textContent = fill(texts.intro, counts);
  for (const side of ["left", "right"]) {
    $(side).setAttribute("aria-label", texts[side]);
    $(side + "-image").alt = texts[side];
  }
}

function part(name) {
  $("welcome").hidden = name !== "welcome";
  $("pair").hidden = $("below").hidden = name !== "pair";
}

const address = (name) => `${here}/${name}.png`;

// Both images are loaded and decoded before either is seen.
async function load(names) {
  const images = names.map((name) => Object.assign(new Image(), {src: address(name)}));
  await Promise.all(images.map((image) => image.decode()));
  return images;
}

// Shows both images as large as fits, each pixel of theirs as a whole number of pixels of the
// screen if there is room for one; beside each other, or below if that is clearly larger.
const FRAME = 20, GAP = 16;
function fit() {
  const images = ["left", "right"].map((side) => $(side + "-image"));
  if ($("pair").hidden || !images[0].naturalWidth) return;
  const width = images[0].naturalWidth / state.enlargement, height = images[0].naturalHeight / state.enlargement;
  const main = document.querySelector("main"), style = getComputedStyle(main);
  const across = main.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  // innerHeight would grow with a page that is too wide for a phone.
  const down = document.documentElement.clientHeight - (main.offsetHeight - $("pair").offsetHeight) - 4;
  const dots = (w, h) => devicePixelRatio * Math.min((w - FRAME) / width, (h - FRAME) / height);
  const row = dots((across - GAP) / 2, down), column = dots(across, (down - GAP) / 2);
  const below = column > 1.15 * row;
  let each = Math.min(Math.max(row, below ? column : 0), state.enlargement * devicePixelRatio);
  each = each < 1 ? Math.max(each, devicePixelRatio * 32 / width) : Math.floor(each);
  $("pair").className = below ? "below" : "";
  for (const image of images) {
    image.className = each < 1 ? "smooth" : "";
    image.style.width = `${width * each / devicePixelRatio}px`;
  }
}
addEventListener("resize", fit);

const ahead = new Map();
function prepare(number) {
  if (number < state.trials.length && !ahead.has(number)) {
    const loading = load(state.trials[number]);
    loading.catch(() => ahead.delete(number));
    ahead.set(number, loading);
  }
  return ahead.get(number);
}

async function show() {
  const {texts, trials, practice, total, next} = state;
  open = false;
  if (next >= trials.length) {
    part("done");
    $("progress").textContent = "";
    $("bar-done").style.width = "100%";
    $("said").textContent = texts.done;
    return;
  }
  const drill = next < practice;
  const counts = drill ? {number: next + 1, total: practice}
    : {number: next - practice + 1, total: total - practice};
  $("progress").textContent = fill(drill ? texts.practice : texts.progress, counts);
  $("bar-done").style.width = `${100 * next / total}%`;
  document.body.classList.add("wait");
  part("pair");
  for (let wait = 500; ; wait = Math.min(2 * wait, 10000)) {
    try {
      const images = await prepare(next);
      for (const [n, side] of ["left", "right"].entries()) {
        const old = $(side + "-image"), image = images[n];
        image.id = old.id;
        image.alt = old.alt;
        old.replaceWith(image);
      }
      break;
    } catch {
      $("said").textContent = texts.offline;
      await new Promise((done) => setTimeout(done, wait));
    }
  }
  $("said").textContent = "";
  ahead.delete(next);
  fit();
  requestAnimationFrame(() => {
    document.body.classList.remove("wait");
    document.activeElement?.blur();
    shownAt = performance.now();
    open = true;
    prepare(next + 1)?.catch(() => {});
  });
}

function nonce() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
}

async function vote(choice) {
  if (!open) return;
  open = false;
  document.body.classList.add("wait");
  const seconds = Math.min((performance.now() - shownAt) / 1000, 86400);
  try {
    state.next = (await insist(`${here}/answer`, {trial: state.next, choice, seconds, nonce: nonce()})).next;
  } catch {
    // Another window has answered this pair.
    state.next = (await insist(`${here}/state`)).next;
  }
  show();
}

async function enter() {
  const {link} = await insist("/join", {});
  if (link) location.replace(`${link}#start`);
  else {
    part("done");
    $("said").textContent = state.texts.full;
  }
}

addEventListener("keydown", (event) => {
  const choice = {ArrowLeft: "left", ArrowRight: "right", " ": "tie", ArrowUp: "left", ArrowDown: "right"}[event.key];
  if (!choice || !open || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  vote(choice);
});
// A key that is still down from the last pair must not press a button of the next one.
addEventListener("keyup", (event) => { if (event.key === " " && !$("pair").hidden) event.preventDefault(); });
for (const choice of ["left", "right", "tie"]) $(choice).addEventListener("click", () => vote(choice));
$("start").addEventListener("click", () => (here ? show() : enter()));

(async () => {
  state = await insist(here ? `${here}/state` : "/entrance");
  words();
  if (here && (state.next > 0 || location.hash === "#start")) show();
  else part("welcome");
})();

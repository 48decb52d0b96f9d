// The data of the gallery: read once, and where its pictures are.
"use strict";

const data = {
  facts: null, // as the server describes them
  columns: Object.create(null), // key -> Float32Array, one number per pair
  labels: Object.create(null), // key -> name of the column

  // Read what is known of the pairs: a script beside a static page, or else the server.
  async load() {
    this.facts = window.GALLERY ?? await fetchJson("data.json");
    for (const { key, label, values } of this.facts.columns) this.add(key, label, unpack(values));
    if (this.facts.change) this.add("change", "change (L2)", unpack(this.facts.change));
    this.rowOfId = new Map(this.facts.ids.map((id, row) => [String(id), row]));
  },

  add(key, label, values) {
    this.columns[key] = values;
    this.labels[key] = label;
  },

  // Where the row at a place of a list of rows lies in a sprite, and how large the sprite is.
  sprite(rows, place) {
    const { per_sprite: size, sprite_columns: width, exact, count } = this.facts;
    const isStatic = this.facts.static;
    const at = isStatic ? rows[place] : place;
    const number = Math.floor(at / size), inside = at % size;
    let held, url;
    if (isStatic) {
      held = Math.min(size, count - number * size);
      url = `files/sprite-${number}.${exact ? "png" : "jpg"}`;
    } else {
      const part = rows.slice(number * size, (number + 1) * size);
      held = part.length;
      url = `sprite?rows=${ranges(part)}&v=${this.facts.version}`;
    }
    return {
      url, column: inside % width, line: Math.floor(inside / width),
      columns: Math.min(width, held), lines: Math.ceil(held / width),
    };
  },

  // The whole image of a row, in the same form as a place in a sprite.
  picture(row, side) {
    if (this.facts.exact) {
      const place = this.sprite([row], 0);
      return { ...place, line: 2 * place.line + (side === "after" ? 1 : 0), lines: 2 * place.lines };
    }
    const url = this.facts.static ? `files/${side}-${row}.png` : `image/${side}/${row}.png?v=${this.facts.version}`;
    return { url, column: 0, line: 0, columns: 1, lines: 1 };
  },

  // The path of a row or its nearest real images: {found, error}.
  async detail(kind, row) {
    if (!this.facts.static) return fetchJson(`${kind}/${row}.json`);
    if (row >= this.facts.num_details) {
      const why = `These files hold the first ${this.facts.num_details} only.`;
      return { found: null, error: this.facts.no_path && kind === "path" ? this.facts.no_path : why };
    }
    window.DETAILS ??= {};
    if (!window.DETAILS[row]) await loadScript(`files/detail-${row}.js`);
    return { found: window.DETAILS[row][kind], error: this.facts.no_path };
  },

  className(label) {
    const name = this.facts.classes[label];
    return name === undefined ? `class ${label}` : name;
  },
};

// Show part of a picture in an element of a size in CSS pixels.
function paint(element, place, width, height) {
  const style = element.style;
  style.width = `${width}px`;
  style.height = `${height}px`;
  style.backgroundImage = `url("${place.url}")`;
  style.backgroundSize = `${place.columns * width}px ${place.lines * height}px`;
  style.backgroundPosition = `${-place.column * width}px ${-place.line * height}px`;
}

// Numbers of four bytes, the lowest first, as on all processors that browsers run on.
function unpack(text) {
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return new Float32Array(bytes.buffer);
}

// Write rows as 3,7-9.
function ranges(rows) {
  const parts = [];
  for (let i = 0; i < rows.length; i++) {
    const first = rows[i];
    while (rows[i + 1] === rows[i] + 1) i++;
    parts.push(rows[i] === first ? `${first}` : `${first}-${rows[i]}`);
  }
  return parts.join(",");
}

async function fetchJson(url) {
  const reply = await fetch(url);
  if (!reply.ok) throw new Error(`${reply.status} ${(await reply.text()).trim()}`);
  return reply.json();
}

function loadScript(url) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${url} is not there`));
    document.head.append(script);
  });
}

// A number for reading: three or four digits that say something.
function text(value, key = "") {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (key === "worse") return value ? "yes" : "no";
  if (Number.isInteger(value)) return value.toLocaleString("en").replace("-", "−");
  const size = Math.abs(value);
  const shown = size >= 100 ? value.toFixed(0) : size >= 0.1 ? value.toFixed(2) : value.toPrecision(2);
  return shown.replace("-", "−");
}

// Make an element; text is text, never markup.
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

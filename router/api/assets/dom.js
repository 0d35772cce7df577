// Elements out of data. Text is only ever set as text, so markup in it shows as it is written.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

// A name or a text from outside: its direction of writing must not move what stands around it.
export function apart(value) {
  return typeof value === "string" ? h("bdi", null, value) : value;
}

// `numbers` are the places of columns with figures, `short` of those with short words.
export function table(caption, heads, rows, { numbers = [], short = [], shown = false } = {}) {
  const kind = (index) => (numbers.includes(index) ? "number" : short.includes(index) ? "short" : null);
  const cell = (value, index) => index === 0 && kind(0) !== "number" ? h("th", { scope: "row", class: kind(0) }, apart(value))
    : h("td", { class: kind(index) }, apart(value));
  return h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: 0 },
    h("table", null,
      h("caption", { class: shown ? null : "aside" }, caption),
      h("thead", null, h("tr", null, heads.map((head, index) => h("th", { scope: "col", class: kind(index) }, head)))),
      h("tbody", null, rows.map((row) => h("tr", null, row.map(cell))))));
}

export function card(title, ...content) {
  return h("section", { class: "card" }, h("h2", null, title), ...content);
}

export function list(pairs) {
  return h("dl", null, pairs.filter(Boolean).map(([term, value]) => [h("dt", null, term), h("dd", null, apart(value))]));
}

export function problem(message) {
  return h("p", { class: "problem", role: "alert" }, message);
}

export function number(value, digits = 2) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString(undefined, { hourCycle: "h23" });
}

// A bar from `from` to `to`, in shares of its width; `mark` is a line across it.
export function bar(label, to, { from = 0, mark = null, kind = "" } = {}) {
  const at = (share) => Math.max(0, Math.min(1, share)) * 100;
  return svg("svg", { class: `bar ${kind}`, viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img",
    "aria-label": label },
  svg("rect", { class: "track", width: 100, height: 10 }),
  svg("rect", { class: "value", x: at(from), width: Math.max(at(to) - at(from), 0), height: 10 }),
  mark === null ? null : svg("line", { x1: at(mark), x2: at(mark), y1: 0, y2: 10, class: "threshold" }));
}

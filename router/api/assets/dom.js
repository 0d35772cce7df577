// Elements out of data. Text is only ever set as text, so markup in it shows as it is written.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

export function table(caption, heads, rows, options = {}) {
  const cell = (value, index) =>
    index === 0 && !options.plain ? h("th", { scope: "row" }, value) : h("td", null, value);
  return h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: 0 },
    h("table", null,
      h("caption", { class: options.caption ? null : "quiet" }, caption),
      h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", null, rows.map((row) => h("tr", null, row.map(cell))))));
}

export function card(title, ...content) {
  return h("section", { class: "card" }, h("h2", null, title), ...content);
}

export function problem(message) {
  return h("p", { class: "problem", role: "alert" }, message);
}

export function number(value, digits = 2) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

// The views, and which one the URL names: `#/view?what=it&shows=…`. What follows `#` is never sent to a server.

import { call } from "./client.js";
import { h, problem } from "./dom.js";

const VIEWS = ["playground", "compare", "live", "health"];
const view = document.getElementById("view");
let leave = () => {};
let shown = null;

export function parameters() {
  const [name, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { name: VIEWS.includes(name) ? name : "playground", query: new URLSearchParams(query) };
}

// Without a new entry in the history and without drawing the view again.
export function remember(values) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) if (value) query.set(key, value);
  const hash = `#/${parameters().name}${query.size ? `?${query}` : ""}`;
  shown = hash;
  history.replaceState(null, "", hash);
}

async function draw() {
  if (location.hash === "#view") {
    history.replaceState(null, "", shown ?? "#/playground");
    view.focus();
    return;
  }
  shown = location.hash;
  const { name, query } = parameters();
  leave();
  leave = () => {};
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name} · triton-router`;
  const root = h("div", { class: name });
  view.replaceChildren(h("h1", null, name[0].toUpperCase() + name.slice(1)), root);
  try {
    const module = await import(`./${name}.js`);
    leave = (await module.show(root, query, remember)) ?? leave;
  } catch (error) {
    root.append(problem(error.message));
  }
}

async function state() {
  const place = document.getElementById("state");
  try {
    const ready = await call("/ready");
    const down = Object.entries(ready.degraded).map(([part, reason]) => `${part}: ${reason}`);
    if (ready.rejected) down.push("the file on disk is rejected");
    place.replaceChildren(h("a", { href: "#/health", class: down.length ? "bad" : "good" },
      down.length ? `degraded: ${down.join(", ")}` : `generation ${ready.generation}`));
  } catch {
    place.replaceChildren(h("span", { class: "bad" }, "the router does not answer"));
  }
}

addEventListener("hashchange", draw);
draw();
state();
setInterval(state, 5000);

// The views, and which one the URL names: `#/view?what=it&shows=…`. What follows `#` is never sent to a server.

import { call } from "./client.js";
import { h, problem } from "./dom.js";

const VIEWS = ["playground", "compare", "live", "health"];
// Characters of an address that mail and chat programs still pass on whole.
const LONGEST_ADDRESS = 30000;
const view = document.getElementById("view");
let leave = () => {};
let shown = null;
let turn = 0;

function parameters() {
  const hash = location.hash.replace(/^#\/?/, "");
  const at = hash.includes("?") ? hash.indexOf("?") : hash.length;
  const name = hash.slice(0, at);
  return { name: VIEWS.includes(name) ? name : "playground", query: new URLSearchParams(hash.slice(at + 1)) };
}

// Without a new entry in the history and without drawing the view again. Whether the address can hold it all.
function remember(values) {
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value));
  const fits = query.toString().length <= LONGEST_ADDRESS;
  const hash = `#/${parameters().name}${fits && query.size ? `?${query}` : ""}`;
  shown = hash;
  history.replaceState(null, "", hash);
  return fits;
}

async function draw() {
  if (location.hash === "#view") {
    history.replaceState(null, "", shown ?? "#/playground");
    view.focus();
    return;
  }
  shown = location.hash;
  const own = ++turn;
  const { name, query } = parameters();
  leave();
  leave = () => {};
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const title = name[0].toUpperCase() + name.slice(1);
  document.title = `${title} · triton-router`;
  const root = h("div", { class: name });
  view.replaceChildren(h("h1", null, title), root);
  try {
    const module = await import(`./${name}.js`);
    // Another view may have been chosen meanwhile.
    if (own === turn) leave = module.show(root, query, remember) ?? leave;
  } catch (error) {
    root.append(problem(error.message));
  }
}

async function state() {
  const place = document.getElementById("state");
  try {
    const ready = await call("/ready");
    const down = Array.isArray(ready.degraded) ? ready.degraded
      : Object.entries(ready.degraded).map(([part, reason]) => `${part}: ${reason}`);
    if (ready.rejected) down.push("the file on disk is rejected");
    const text = down.length ? `✕ degraded: ${down.join(", ")}` : `✓ generation ${ready.generation}`;
    // Said again only where it has changed.
    if (place.textContent !== text) place.replaceChildren(h("a", { href: "#/health", class: down.length ? "bad" : "good" }, text));
  } catch {
    place.replaceChildren(h("span", { class: "bad" }, "✕ the router does not answer"));
  }
}

addEventListener("hashchange", draw);
draw();
state();
setInterval(state, 5000);

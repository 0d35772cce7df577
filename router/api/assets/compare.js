// What another configuration would change, on recorded requests or on those of a list.

import { call, Failure, lines, open } from "./client.js";
import { apart, card, h, number, problem, table } from "./dom.js";
import { flow } from "./flow.js";

const SOURCES = ["list", "examples", "recorded"];
// Moves that are listed; the rest is counted.
const MOST_MOVES = 50;

export function show(root, query, remember) {
  const config = h("textarea", { id: "config", rows: 14, spellcheck: "false" });
  const samples = h("textarea", { id: "samples", rows: 6, dir: "auto", value: query.get("samples") ?? "",
    placeholder: "One prompt or one JSON request per line" });
  const source = h("select", { id: "source" },
    h("option", { value: "list" }, "the list below"),
    h("option", { value: "examples" }, "examples of the configuration"),
    h("option", { value: "recorded" }, "recorded requests"));
  source.value = SOURCES.includes(query.get("from")) ? query.get("from") : "list";
  const count = /^\d{1,7}$/.test(query.get("tokens") ?? "") ? query.get("tokens") : "300";
  const tokens = h("input", { id: "tokens", type: "number", min: 0, max: 1000000, required: true, value: count });
  const button = h("button", { id: "compare" }, "What would move?");
  const stop = h("button", { id: "stop", type: "button", hidden: true, onclick: () => running?.abort() }, "Stop");
  const listed = h("div", null, h("label", { for: "samples" }, "Requests"), samples);
  const note = h("p", { class: "quiet", role: "status", id: "progress" });
  const warning = h("div");
  const result = h("div", { id: "moves" });
  let running = null;
  let original = "";
  let gone = false;

  function choose() {
    listed.hidden = source.value !== "list";
  }

  async function inForce() {
    original = await (await open("/config?format=yaml")).text();
    config.value = original;
  }

  async function body() {
    const asked = { config: config.value, answer_tokens: Number(tokens.value) };
    if (source.value === "examples") {
      const { examples } = await call("/api/v1/examples");
      return { ...asked, samples: examples.map((each) => JSON.stringify(each)).join("\n") };
    }
    if (source.value === "recorded") return asked;
    if (!samples.value.trim()) throw new Failure("The list is empty: write one request per line.");
    return { ...asked, samples: samples.value };
  }

  async function run() {
    const own = new AbortController();
    running = own;
    const fits = remember({ from: source.value === "list" ? "" : source.value,
      samples: source.value === "list" ? samples.value : "", tokens: tokens.value === "300" ? "" : tokens.value,
      change: change(original, config.value) });
    warning.replaceChildren(fits ? "" : h("p", { class: "quiet" }, "This is too long for the address, which now names only the view."));
    button.disabled = true;
    stop.hidden = false;
    result.replaceChildren();
    note.replaceChildren("The comparison starts…");
    try {
      const response = await open("/api/v1/compare", { body: await body(), signal: own.signal });
      for await (const line of lines(response)) {
        const message = JSON.parse(line);
        if ("done" in message) note.replaceChildren(`${message.done} of ${message.of} requests done`);
        if ("failed" in message) throw new Failure(message.failed);
        if ("report" in message) {
          note.replaceChildren(`${message.report.moved} of ${message.report.requests} requests move.`);
          result.replaceChildren(...report(message.report, root.clientWidth));
          finish(own);
        }
      }
    } catch (error) {
      note.replaceChildren(error.name === "AbortError" ? "Stopped." : "");
      if (error.name !== "AbortError") result.replaceChildren(problem(error.message));
    } finally {
      finish(own);
    }
  }

  function finish(own) {
    if (running !== own) return;
    button.disabled = false;
    stop.hidden = true;
  }

  const file = h("input", { id: "file", type: "file", accept: ".yaml,.yml", onchange: async () => {
    if (file.files.length) config.value = await file.files[0].text();
  } });
  source.addEventListener("change", choose);
  choose();
  root.append(
    h("form", { onsubmit: (event) => { event.preventDefault(); run(); } },
      h("p", null, "Change the configuration in force, or paste another one. The new one does not go into service."),
      h("label", { for: "config" }, "New configuration"), config,
      h("div", { class: "row" },
        h("button", { type: "button", id: "in-force", onclick: () => inForce().catch(complain) }, "Back to the one in force"),
        h("label", { for: "file" }, "or from a file"), file),
      h("div", { class: "row" }, h("div", { class: "pair" }, h("label", { for: "source" }, "Compare on"), source)),
      listed,
      h("div", { class: "row" }, h("label", { for: "tokens" }, "Tokens per answer, for the cost"), tokens),
      h("div", { class: "row" }, button, stop)),
    warning, note, result);

  function complain(error) {
    if (!gone) result.replaceChildren(problem(error.message));
  }

  async function begin() {
    const option = source.querySelector("[value=recorded]");
    const { keeps, records } = await call("/api/v1/recorded").catch(() => ({ keeps: false, records: 0 }));
    option.textContent = keeps ? `the last ${records} recorded requests`
      : "recorded requests (none are kept: see router_replay)";
    option.disabled = !keeps;
    await inForce();
    if (!query.has("change")) return;
    const text = changed(original, query.get("change"));
    if (text === null) {
      throw new Failure("The change in the address does not fit the configuration in force: it has changed since, or the "
        + "address is not whole.");
    }
    config.value = text;
    if (!gone) await run();
  }

  begin().catch(complain);
  return () => {
    gone = true;
    running?.abort();
  };
}

// A change is short in an address: the lines that differ, with those that they replace and the place of these.
function change(before, after) {
  if (before === after) return "";
  const [old, fresh] = [before.split("\n"), after.split("\n")];
  let start = 0;
  while (start < old.length && start < fresh.length && old[start] === fresh[start]) start++;
  let end = 0;
  while (end < old.length - start && end < fresh.length - start
    && old[old.length - 1 - end] === fresh[fresh.length - 1 - end]) end++;
  return JSON.stringify([start, old.slice(start, old.length - end), fresh.slice(start, fresh.length - end)]);
}

// `null` where the change does not fit.
function changed(before, written) {
  let hunk;
  try {
    hunk = JSON.parse(written);
  } catch {
    return null;
  }
  const texts = (value) => Array.isArray(value) && value.every((line) => typeof line === "string");
  if (!Array.isArray(hunk) || !Number.isInteger(hunk[0]) || !texts(hunk[1]) || !texts(hunk[2])) return null;
  const [start, old, fresh] = hunk;
  const all = before.split("\n");
  if (old.some((line, index) => all[start + index] !== line)) return null;
  all.splice(start, old.length, ...fresh);
  return all.join("\n");
}

function report(data, width) {
  const moves = data.flows.filter((each) => named(each.before) !== named(each.after));
  const down = Object.entries(data.degraded).map(([part, count]) => `${count} without ${part}`);
  const more = (shown, all, what) => (all > shown ? h("p", { class: "quiet" }, `${all - shown} more ${what}.`) : null);
  return [
    card("What moves",
      h("p", { class: "outcome", id: "moved" }, h("b", null, `${data.moved} of ${data.requests}`), " requests move"),
      down.length ? problem(`The comparison is incomplete: ${down.join(", ")}.`) : null,
      moves.length ? table("Moves", ["Requests", "From", "To"],
        moves.slice(0, MOST_MOVES).map((each) => [each.requests, trip(each.before), trip(each.after)]), { numbers: [0] }) : null,
      more(MOST_MOVES, moves.length, "kinds of moves")),
    card("Flow of decisions", flow(data.flows, width)),
    card("Cost", cost(data)),
    data.examples.length ? card("Requests that move", table("Requests that move", ["Prompt", "From", "To"],
      data.examples.map((each) => [h("bdi", { class: "text" }, each.prompt), trip(each.before), trip(each.after)])),
    more(data.examples.length, data.moved, "requests move")) : null,
  ].filter(Boolean);
}

function named({ decision, model, reasoning }) {
  return JSON.stringify([decision, model, reasoning]);
}

function trip({ decision, model, reasoning }) {
  return [apart(decision), h("span", { class: "quiet" }, " → ", apart(model), reasoning ? ", reasoning" : "")];
}

function cost({ cost: costs, unpriced, requests }) {
  const rows = costs.map((each) => [each.currency, number(each.before, 4), number(each.after, 4), difference(each)]);
  const without = unpriced.before || unpriced.after
    ? h("p", { class: "quiet" }, `Models without a price serve ${unpriced.before} of ${requests} requests before, `
      + `${unpriced.after} after; they are not in the sum.`) : null;
  return [rows.length ? table("Cost", ["Currency", "Before", "After", "Change"], rows, { numbers: [1, 2, 3] })
    : h("p", null, "No prices are configured."), rows.length ? without : null];
}

function difference({ before, after }) {
  if (!before) return after ? "new" : "0.0 %";
  const percent = number((after / before - 1) * 100, 1);
  return `${after >= before ? "+" : ""}${percent} %`;
}

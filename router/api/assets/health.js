// Each part as it is, and what is wrong with it.

import { call } from "./client.js";
import { apart, card, h, list, number, problem, table } from "./dom.js";

const EVERY = 3000;
// Names of one kind that a cell shows; the rest is counted.
const MOST_NAMES = 20;

export function show(root) {
  let alive = true;
  let before = null;
  const content = h("div", null, h("p", { class: "quiet" }, "Asking the router…"));
  root.append(content);
  async function refresh() {
    try {
      const state = await call("/api/v1/status");
      // A view that has not changed stays, with what somebody selected in it.
      const written = JSON.stringify(state);
      if (written !== before) content.replaceChildren(...cards(state));
      before = written;
    } catch (error) {
      before = null;
      content.replaceChildren(problem(error.message));
    }
    if (alive) setTimeout(() => alive && refresh(), EVERY);
  }
  refresh();
  return () => { alive = false; };
}

function word(good, text) {
  return h("span", { class: good ? "good" : "bad" }, good ? "✓ " : "✕ ", apart(text));
}

function cards(state) {
  return [
    troubles(state.troubles),
    card("Configuration",
      h("p", null, "Generation ", h("b", { id: "generation" }, state.generation), " of ", apart(state.file), ", in force since ",
        new Date(state.since * 1000).toLocaleString(undefined, { hourCycle: "h23" }), `. Version ${state.version}.`),
      state.rejected.length
        ? [problem("The file on disk is rejected; the generation above stays in force."),
          h("ul", { id: "rejected" }, state.rejected.map((each) => h("li", { class: "bad" }, apart(each))))]
        : h("p", null, word(true, "The file on disk is in service.")),
      state.warnings.length ? [h("h3", null, "Inactive keys and notes"),
        h("ul", { id: "warnings" }, state.warnings.map((each) => h("li", null, apart(each))))]
        : h("p", null, "No key is inactive.")),
    triton(state),
    card("Load", list([
      ["Requests being routed", state.gauges.in_flight ?? "–"],
      ["Recent wait for a worker", milliseconds(state.gauges.queue_seconds, 1000)]]),
    state.workers.length ? table("Workers", ["Worker on port", "State"], state.workers.map((worker) =>
      [String(worker.port), word(worker.ready, worker.ready ? "ready" : state.troubles[`worker ${worker.port}`] ?? "down")])) : h("p", null, "One process serves all."),
    h("p", { class: "quiet" }, "The figures are updated every ten seconds.")),
    card("Backends", table("Backends", ["Model", "Endpoints", "Adapters"],
      state.backends.map((each) => [each.model, each.endpoints.join(", "), adapters(each)]))),
  ].filter(Boolean);
}

function troubles(all) {
  const each = Object.entries(all);
  if (!each.length) return null;
  return card("Not running", h("ul", { id: "troubles" }, each.map(([part, reason]) =>
    h("li", { class: "bad" }, apart(part), ": ", apart(reason)))));
}

function triton({ trunks, triton: { endpoint, failures } }) {
  if (!trunks.length) return card("Triton", h("p", null, "This configuration uses no encoder."));
  const silent = Object.entries(failures);
  return card("Triton",
    silent.map(([address, reason]) => problem(`Triton at ${address} returns no figures: ${reason}`)),
    h("div", { class: "cards" }, trunks.map(trunk)),
    h("p", { class: "quiet" }, "Triton at ", apart(endpoint), " is asked for its statistics every five seconds. "
      + "They count requests that have left its queue."));
}

function trunk({ name, triton_model: model, ready, failure, detail, heads, checksum, deadline_ms: deadline, buckets, calls, load }) {
  const labels = Object.entries(heads).map(([head, each]) => `${head} (${each.length} labels)`);
  return h("section", { class: "card inner" }, h("h3", null, apart(name)),
    list([
      ["State", word(ready, ready ? "ready" : `down: ${failure}${detail ? `, ${detail}` : ""}`)],
      ["Triton's model", model],
      ["Heads", labels.join(", ") || "none"],
      ["Bundle", checksum.slice(0, 12)],
      ["Calls in flight", calls.limit === undefined ? "–" : `${calls.in_flight ?? 0} of ${calls.limit}`],
      ["In Triton's queue", load === null ? "–" : load.queue_ms === null ? "no requests"
        : `${number(load.waiting)} requests, ${milliseconds(load.queue_ms)} each`],
      ...(load === null || load.queue_ms === null ? [] : [
        ["At work", `${milliseconds(load.compute_ms)} on a request, ${number(load.batch, 1)} rows in a batch`],
        ["Requests a second", number(load.requests_per_second, 1)],
        load.failed ? ["Failed", word(false, String(load.failed))] : null]),
      ["Deadline", `${number(deadline, 0)} ms`],
      ["Buckets of tokens", buckets.join(", ")],
    ]));
}

function milliseconds(value, factor = 1) {
  return value === null || value === undefined ? "–" : `${number(value * factor)} ms`;
}

function names(all, count = all.length) {
  const more = count - Math.min(all.length, MOST_NAMES);
  return all.slice(0, MOST_NAMES).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

function adapters({ declared, missing, loaded, others }) {
  if (loaded === null && !declared.length) return "none declared";
  if (loaded === null) return [apart(names(declared)), h("p", { class: "unknown-text" }, "? not known whether they are loaded")];
  const there = declared.filter((each) => !missing.includes(each));
  return [
    there.length ? h("p", null, word(true, names(there))) : null,
    missing.length ? h("p", null, word(false, `missing: ${names(missing)}`)) : null,
    loaded > there.length ? h("p", { class: "quiet" }, "not declared: ", apart(names(others, loaded - there.length))) : null,
    !declared.length && !loaded ? "none" : null];
}

// Each part as it is, and what is wrong with it.

import { call } from "./client.js";
import { card, h, number, problem, table } from "./dom.js";

export async function show(root) {
  let alive = true;
  const content = h("div");
  root.append(content);
  async function refresh() {
    try {
      content.replaceChildren(...cards(await call("/api/v1/status")));
    } catch (error) {
      content.replaceChildren(problem(error.message));
    }
    if (alive) setTimeout(() => alive && refresh(), 3000);
  }
  await refresh();
  return () => { alive = false; };
}

function word(good, text) {
  return h("span", { class: good ? "good" : "bad" }, text);
}

function cards(state) {
  const { gauges } = state;
  return [
    card("Configuration",
      h("p", null, "Generation ", h("b", { id: "generation" }, state.generation), ` of ${state.file}, version ${state.version}`),
      state.rejected.length
        ? [problem("The file on disk is rejected; the generation above goes on."),
          h("ul", { id: "rejected" }, state.rejected.map((each) => h("li", { class: "bad" }, each)))]
        : h("p", null, word(true, "The file on disk is in service.")),
      state.warnings.length ? [h("h3", null, "Inactive, or to know"),
        h("ul", { id: "warnings" }, state.warnings.map((each) => h("li", null, each)))]
        : h("p", null, "Nothing in it is inactive.")),
    card("Triton", state.trunks.length ? table("Trunks on Triton", ["Trunk", "State", "Heads", "Bundle", "Deadline", "Buckets"],
      state.trunks.map((trunk) => [trunk.name, word(trunk.ready, trunk.ready ? "ready" : `down: ${trunk.failure}`),
        Object.entries(trunk.heads).map(([name, labels]) => `${name} (${labels.length} labels)`).join(", ") || "none",
        trunk.checksum.slice(0, 12), `${trunk.deadline_ms} ms`, trunk.buckets.join(", ")]))
      : h("p", null, "This configuration uses no encoder.")),
    card("Load", h("dl", null,
      pair("Requests being routed", gauges.in_flight), pair("Waited lately", seconds(gauges.queue_seconds)),
      pair("Calls that Triton may have at once", gauges.encoder_limit)),
    state.workers.length ? table("Workers", ["Port", "State"], state.workers.map((worker) =>
      [worker.port, word(worker.ready, worker.ready ? "ready" : "down")])) : h("p", { class: "quiet" }, "One process serves all.")),
    card("Backends", table("Backends", ["Model", "Endpoints", "Adapters declared", "Adapters loaded"],
      state.backends.map((each) => [each.model, each.endpoints.join(", "), each.declared.join(", ") || "none", loaded(each)]))),
  ];
}

function pair(term, value) {
  return [h("dt", null, term), h("dd", null, value ?? "–")];
}

function seconds(value) {
  return value === undefined ? undefined : `${number(value * 1000)} ms`;
}

function loaded({ loaded: names, declared }) {
  if (names === null && !declared.length) return "none";
  if (names === null) return h("span", { class: "unknown-text" }, "not known: it has not answered");
  const missing = declared.filter((each) => !names.includes(each));
  return [names.join(", ") || "none", missing.length ? word(false, ` missing: ${missing.join(", ")}`) : ""];
}

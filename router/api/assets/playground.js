// One request: where it goes, and why.

import { call, events, Failure, lines, open } from "./client.js";
import { diff } from "./diff.js";
import { card, h, number, problem, svg, table } from "./dom.js";

const PATHS = ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions"];
// Characters of a part that are shown.
const LONGEST = 600;
const MARKS = { true: ["✓", "true"], false: ["·", "false"], null: ["?", "unknown"] };

export async function show(root, query, remember) {
  const prompt = h("textarea", { id: "prompt", rows: 4, value: query.get("prompt") ?? "" });
  const whole = h("textarea", { id: "whole", rows: 10, spellcheck: "false", value: query.get("request") ?? "" });
  const headers = h("textarea", { id: "headers", rows: 2, spellcheck: "false", value: query.get("headers") ?? "",
    placeholder: "x-session-id: 42" });
  const path = h("select", { id: "path" }, PATHS.map((each) => h("option", null, each)));
  path.value = query.get("path") ?? PATHS[0];
  const result = h("div", { id: "result", "aria-live": "polite" });
  const answer = h("div", { id: "answer" });
  const more = h("details", { open: query.has("request") || query.has("headers") },
    h("summary", null, "Whole request, path and headers"),
    h("label", { for: "whole" }, "Request as JSON (in the prompt's place)"), whole,
    h("label", { for: "path" }, "Path"), path,
    h("label", { for: "headers" }, "Headers, one a line"), headers);

  function request() {
    const text = whole.value.trim();
    let body;
    try {
      body = text ? JSON.parse(text) : { model: "MoM", messages: [{ role: "user", content: prompt.value }] };
    } catch (error) {
      throw new Failure(`The request is not JSON: ${error.message}`);
    }
    const pairs = headers.value.split("\n").filter((line) => line.includes(":")).map((line) => {
      const at = line.indexOf(":");
      return [line.slice(0, at).trim().toLowerCase(), line.slice(at + 1).trim()];
    });
    return { request: body, path: text ? path.value : PATHS[0], headers: Object.fromEntries(pairs) };
  }

  async function explain() {
    remember({ prompt: prompt.value, request: whole.value.trim(), headers: headers.value.trim(),
      path: whole.value.trim() && path.value !== PATHS[0] ? path.value : "" });
    answer.replaceChildren();
    try {
      result.replaceChildren(...explained(await call("/api/v1/explain", { body: request() })));
    } catch (error) {
      result.replaceChildren(problem(error.message));
    }
  }

  async function send() {
    try {
      await stream(request(), answer);
    } catch (error) {
      answer.replaceChildren(card("Answer", problem(error.message)));
    }
  }

  const examples = h("select", { id: "example", onchange: () => {
    prompt.value = examples.value;
    whole.value = "";
    if (examples.value) explain();
  } }, h("option", { value: "" }, "Examples from the configuration"));
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) explain();
  });
  root.append(
    h("form", { onsubmit: (event) => { event.preventDefault(); explain(); } },
      h("label", { for: "prompt" }, "Prompt"), prompt, more,
      h("div", { class: "row" },
        h("button", { id: "explain" }, "Where would it go?"),
        h("button", { id: "send", type: "button", onclick: send }, "Send through Envoy"),
        h("label", { for: "example", class: "quiet" }, "Example"), examples)),
    result, answer);
  call("/api/v1/examples").then(({ examples: texts }) =>
    examples.append(...texts.map((text) => h("option", { value: text }, text.slice(0, 80)))), () => {});
  if (prompt.value || whole.value) await explain();
}

function explained(data) {
  const { outcome, outgoing } = data;
  if (!outcome) {
    return [card("Outcome", h("p", { class: "outcome" }, "passes through to ", h("b", null, outgoing.model)),
      h("p", null, "The request names a model, so nothing is decided. Name MoM to have one chosen.")),
    card("Outgoing body", diff(outgoing.before, outgoing.after))];
  }
  return [
    outcomeCard(data),
    data.parts?.length && partsCard(data.parts),
    card("Signals", signals(data.signals)),
    card("Decisions", h("div", { class: "decisions" }, data.decisions.map((each) => decision(each, data)))),
    outgoingCard(outgoing),
    card("Times", waterfall(data.stages)),
  ].filter(Boolean);
}

function outcomeCard({ outcome, decisions, signals: all, degraded, windows, outgoing }) {
  const lost = nearest(decisions);
  const down = Object.entries(degraded);
  const reasoning = { true: "on", false: "off", null: "untouched" }[outcome.reasoning];
  return card("Outcome",
    h("p", { class: "outcome" }, h("b", { id: "decision" }, outcome.decision ?? "no decision matched"), " → ",
      h("b", { id: "model" }, outcome.model)),
    down.length ? problem(`Without ${down.map(([part, reason]) => `${part} (${reason})`).join(", ")}: ` +
      "signals that need it are unknown.") : null,
    h("dl", null,
      pair("Confidence", number(outcome.confidence)),
      pair("Category", outcome.category ?? "none"),
      pair("Base model", outcome.base_model),
      pair("Adapter", outcome.adapter ?? "none"),
      outcome.missing_adapter && pair("Missing adapter", `${outcome.missing_adapter}: the base model serves it`),
      outcome.candidates.length > 1 && pair("Candidates", outcome.candidates.map(candidate).join("; ")),
      pair("Reasoning", outcome.reasoning_effort ? `${reasoning}, effort ${outcome.reasoning_effort}` : reasoning),
      pair("Plugins", outcome.plugins.length ? outcome.plugins.map((each) => each.type).join(", ") : "none"),
      windows > 1 && pair("Windows", `${windows}: the prompt is longer than the encoder reads at once`),
      outgoing.ignored.length ? pair("Ignored", `${outgoing.ignored.join(", ")}: this API has no place for it`) : null),
    h("p", { id: "lost" }, lost ? `Nearest that lost: ${lost.name}, ${why(lost, decisions, all)}` :
      "No other decision came near."));
}

function candidate({ model, share, factors, breaks }) {
  const reasons = [...Object.entries(factors).map(([name, ratio]) => `${name} ${ratio.toFixed(2)}`),
    ...breaks.map((bound) => `breaks ${bound}`)];
  return `${model} ${Math.round(share * 100)} %` + (reasons.length ? ` (${reasons.join(", ")})` : "");
}

function pair(term, value) {
  return [h("dt", null, term), h("dd", null, value)];
}

function nearest(decisions) {
  const others = decisions.filter((each) => !each.chosen && (each.matched || each.nearness !== null));
  const rank = (each) => (each.matched ? 1 : 0) + (each.nearness ?? 0);
  return others.sort((one, other) => rank(other) - rank(one))[0];
}

function why(lost, decisions, all) {
  const winner = decisions.find((each) => each.chosen);
  if (lost.matched && winner) {
    return winner.tier < lost.tier ? `it matched too, but ${winner.name} is of a lower tier.`
      : `it matched too (priority ${lost.priority}; the winner has ${winner.priority}).`;
  }
  const missing = leaves(lost).filter((leaf) => leaf.matched !== true);
  const parts = missing.slice(0, 3).map((leaf) => {
    const signal = all.find((each) => `${each.type}:${each.name}` === leaf.rule);
    if (leaf.matched === null) return `${leaf.rule} is unknown`;
    return signal?.threshold ? `${leaf.rule} has ${number(signal.value)} of ${number(signal.threshold)}`
      : `${leaf.rule} does not hold`;
  });
  return `it came to ${number(lost.nearness)}${parts.length ? `: ${parts.join(", ")}` : ""}.`;
}

function leaves(node) {
  return node.conditions ? node.conditions.flatMap(leaves) : node.rule ? [node] : [];
}

function mark(matched) {
  const [sign, word] = MARKS[matched];
  return h("span", { class: `mark ${word}` }, h("span", { "aria-hidden": "true" }, sign), h("span", { class: "aside" }, word));
}

function partsCard(parts) {
  const short = (text) => (text.length > LONGEST ? `${text.slice(0, LONGEST)}… (${text.length} characters)` : text);
  return card("Parts of the request", table("Parts of the request", ["Part", "Turn", "Text", "Told by"],
    parts.map((part) => [part.kind, part.turn + 1, h("span", { class: "text" }, short(part.text)), part.reason])));
}

function signals(all) {
  if (!all.length) return h("p", null, "This configuration has no signals.");
  const order = { true: 0, null: 1, false: 2 };
  const rows = [...all].sort((one, other) => order[one.matched] - order[other.matched] || other.value - one.value);
  return table("Signals", ["Signal", "Matched", "Value and threshold", "Value", "Threshold", "ms"], rows.map((each) => [
    `${each.type}:${each.name}`, mark(each.matched), bar(each),
    each.matched === null ? "unknown" : each.measure ?? number(each.value), number(each.threshold), number(each.ms),
  ]));
}

function bar({ matched, value, threshold, type, name }) {
  const at = (part) => Math.max(0, Math.min(1, part)) * 100;
  const label = matched === null ? `${type}:${name} is unknown`
    : `${number(value)}${threshold === null ? "" : ` of ${number(threshold)}`}`;
  return svg("svg", { class: `bar ${MARKS[matched][1]}`, viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img",
    "aria-label": label },
    svg("rect", { class: "track", width: 100, height: 10 }),
    svg("rect", { class: "value", width: matched === null ? 100 : at(value), height: 10 }),
    threshold === null || threshold === undefined ? null
      : svg("line", { x1: at(threshold), x2: at(threshold), y1: 0, y2: 10, class: "threshold" }));
}

function decision(each, { decisions }) {
  const lost = nearest(decisions) === each;
  return h("details", { open: each.chosen || lost, class: each.chosen ? "chosen" : null },
    h("summary", null, mark(each.matched), h("b", null, each.name), ` priority ${each.priority}`,
      each.tier ? ` tier ${each.tier}` : "", each.chosen ? h("span", { class: "tag" }, "won") : null,
      lost ? h("span", { class: "tag" }, "nearest that lost") : null),
    each.rule ? h("ul", { class: "tree" }, node(each)) : h("p", null, "No rules: it matches everything."));
}

function node(each) {
  const bounds = each.predicate && Object.entries(each.predicate).map(([name, value]) => `${name} ${value}`).join(", ");
  return h("li", null, mark(each.matched), h("span", { class: "rule" }, each.rule), bounds ? ` ${bounds}` : "",
    each.matched === null ? "" : ` ${number(each.confidence)}`,
    each.conditions && h("ul", null, each.conditions.map(node)));
}

function outgoingCard(outgoing) {
  const changes = [
    ...Object.entries(outgoing.set_headers).map(([name, value]) => [name, value]),
    ...outgoing.remove_headers.map((name) => [name, "(removed)"]),
  ];
  return card("Outgoing body",
    outgoing.after === null ? [h("p", null, "A plugin answers; no backend is asked."), h("pre", null, outgoing.answer)]
      : diff(outgoing.before, outgoing.after),
    changes.length ? table("Headers towards the backend", ["Header", "Value"], changes, { caption: true }) : null);
}

function waterfall(stages) {
  const total = Math.max(...stages.map((each) => each.start_ms + each.ms), 0.001);
  const rows = [...stages].sort((one, other) => one.start_ms - other.start_ms || other.ms - one.ms);
  return table("Times", ["Stage", "When", "ms"], rows.map((each) => [each.stage,
    svg("svg", { class: "bar time", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img",
      "aria-label": `from ${number(each.start_ms)} ms, for ${number(each.ms)} ms` },
    svg("rect", { class: "track", width: 100, height: 10 }),
    svg("rect", { class: "value", x: (each.start_ms / total) * 100, width: Math.max((each.ms / total) * 100, 0.5),
      height: 10 })),
    number(each.ms)]));
}

async function stream(sent, place) {
  const text = h("pre", { class: "answer", tabindex: 0, "aria-label": "The answer" });
  const notes = h("div");
  place.replaceChildren(card("Answer", text, notes));
  const streams = sent.path !== "/v1/completions" || !("stream" in sent.request);
  const body = { ...sent, request: streams ? { stream: true, ...sent.request } : sent.request };
  const began = performance.now();
  const response = await open("/api/v1/send", { body, stop: false });
  if (response.headers.get("content-type")?.startsWith("text/event-stream")) {
    for await (const event of events(response)) {
      if (event.data !== "[DONE]") text.append(delta(JSON.parse(event.data)));
    }
  } else {
    for await (const line of lines(response)) text.append(`${line}\n`);
  }
  const rows = [...response.headers].filter(([name]) => name.startsWith("x-vsr-") || name === "server-timing");
  notes.append(h("p", null, `Status ${response.status}, ${number((performance.now() - began) / 1000)} s.`),
    table("Headers of the response", ["Header", "Value"], rows, { caption: true }));
}

// The text in one event of each API's stream.
function delta(event) {
  const choice = event.choices?.[0];
  if (choice) return choice.delta?.content ?? choice.text ?? "";
  if (event.type === "response.output_text.delta") return event.delta;
  return event.type === "content_block_delta" ? event.delta?.text ?? "" : "";
}

// One request: where it goes, and why.

import { call, events, Failure, lines, open } from "./client.js";
import { diff } from "./diff.js";
import { apart, bar, card, h, list, number, problem, table } from "./dom.js";

const PATHS = ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/completions"];
// Characters of a part that are shown.
const LONGEST = 600;
const MARKS = { true: ["✓", "true"], false: ["·", "false"], null: ["?", "unknown"] };

export function show(root, query, remember) {
  const prompt = h("textarea", { id: "prompt", rows: 4, dir: "auto", value: query.get("prompt") ?? "" });
  const whole = h("textarea", { id: "whole", rows: 10, spellcheck: "false", value: query.get("request") ?? "" });
  const headers = h("textarea", { id: "headers", rows: 2, spellcheck: "false", value: query.get("headers") ?? "",
    placeholder: "x-session-id: 42" });
  const path = h("select", { id: "path" }, PATHS.map((each) => h("option", null, each)));
  path.value = PATHS.includes(query.get("path")) ? query.get("path") : PATHS[0];
  const note = h("p", { class: "quiet", id: "note" },
    "The router decides as it would for a client. It calls no backend, and metrics do not count it.");
  // For those who hear the page: all of the result would be too much at once.
  const said = h("p", { class: "aside", role: "status" });
  const result = h("div", { id: "result" });
  const answer = h("div", { id: "answer" });
  const more = h("details", { open: query.has("request") || query.has("headers") },
    h("summary", null, "Whole request, path and headers"),
    h("label", { for: "whole" }, "Request as JSON, instead of the prompt"), whole,
    h("label", { for: "path" }, "Path"), path,
    h("label", { for: "headers" }, "Headers, one per line"), headers);
  // What the chosen example should lead to, while the request is still that of the example.
  let expected = null;
  let examples = [];
  let turn = 0;

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
    const own = ++turn;
    const fits = remember({ prompt: prompt.value, request: whole.value.trim(), headers: headers.value.trim(),
      path: whole.value.trim() && path.value !== PATHS[0] ? path.value : "" });
    answer.replaceChildren();
    try {
      const data = await call("/api/v1/explain", { body: request() });
      if (own !== turn) return;
      result.replaceChildren(...explained(data, expected));
      note.replaceChildren(fits ? "" : "The request is too long for the address, which now names only the view.");
      said.replaceChildren(data.outcome ? `${data.outcome.decision ?? "No decision"}, model ${data.outcome.model}`
        : "The request passes through.");
    } catch (error) {
      if (own === turn) {
        note.replaceChildren();
        result.replaceChildren(problem(error.message));
      }
    }
  }

  async function send() {
    try {
      await stream(request(), answer);
    } catch (error) {
      answer.replaceChildren(card("Answer", problem(error.message)));
    }
  }

  function take(example) {
    const plain = plainPrompt(example);
    prompt.value = plain ?? "";
    whole.value = plain === null ? JSON.stringify(example.request, null, 2) : "";
    headers.value = Object.entries(example.headers ?? {}).map(([name, value]) => `${name}: ${value}`).join("\n");
    path.value = PATHS[0];
    more.open = plain === null || headers.value !== "";
    expected = example.decision ?? null;
    explain();
  }

  const choice = h("select", { id: "example", onchange: () => { if (choice.value) take(examples[Number(choice.value)]); } },
    h("option", { value: "" }, "Choose an example"));
  const flaw = h("div");
  for (const field of [prompt, whole, headers, path]) {
    field.addEventListener("input", () => { expected = null; choice.value = ""; });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) explain();
    });
  }
  root.append(
    h("form", { onsubmit: (event) => { event.preventDefault(); explain(); } },
      h("label", { for: "prompt" }, "Prompt"), prompt, more,
      h("div", { class: "row" },
        h("button", { id: "explain" }, "Where would it go?"),
        h("button", { id: "send", type: "button", onclick: send }, "Send through Envoy"),
        h("div", { class: "pair" }, h("label", { for: "example" }, "Example"), choice))),
    flaw, note, said, result, answer);
  call("/api/v1/examples").then((found) => {
    examples = found.examples;
    choice.append(...groups(examples));
    if (found.problem) flaw.replaceChildren(problem(`The file of probes cannot be read.\n${found.problem}`));
  }, () => {});
  if (prompt.value || whole.value) explain();
}

// The text of an example that is nothing but a prompt; `null` of any other.
function plainPrompt({ prompt, request }) {
  if (!request) return prompt;
  const { messages, model, ...rest } = request;
  const text = messages?.length === 1 && messages[0].role === "user" ? messages[0].content : null;
  return typeof text === "string" && model === undefined && !Object.keys(rest).length ? text : null;
}

function groups(examples) {
  const titles = new Map();
  examples.forEach((example, index) => {
    const title = example.request ? `Probes: ${example.group}` : "Quoted by signals";
    const text = plainPrompt(example) ?? example.name;
    const option = h("option", { value: index }, text.length > 80 ? `${text.slice(0, 79)}…` : text);
    titles.set(title, [...(titles.get(title) ?? []), option]);
  });
  return [...titles].map(([title, options]) => h("optgroup", { label: title }, options));
}

function explained(data, expected) {
  const { outcome, outgoing } = data;
  if (!outcome) {
    return [card("Outcome", h("p", { class: "outcome" }, "passes through to ", h("bdi", { class: "name" }, outgoing.model)),
      h("p", null, "The request names a model, so the router does not choose. Name MoM to let it choose.")),
    card("Outgoing body", diff(outgoing.before, outgoing.after ?? outgoing.before))];
  }
  return [
    outcomeCard(data, expected),
    data.parts?.length ? partsCard(data.parts) : null,
    card("Signals", signals(data.signals)),
    card("Decisions", h("div", { class: "decisions" }, data.decisions.map((each) => decision(each, data)))),
    outgoingCard(outgoing),
    card("Times", waterfall(data.stages)),
  ].filter(Boolean);
}

function outcomeCard({ outcome, decisions, signals: all, degraded, windows, outgoing }, expected) {
  const lost = nearest(decisions);
  const down = Object.entries(degraded);
  const reasoning = { true: "on", false: "off", null: "untouched" }[outcome.reasoning];
  return card("Outcome",
    h("p", { class: "outcome" }, h("bdi", { id: "decision", class: "name" }, outcome.decision ?? "no decision matched"),
      " → ", h("bdi", { id: "model", class: "name" }, outcome.model)),
    expected === null ? null : h("p", { id: "expected", class: expected === outcome.decision ? "good" : "bad" },
      expected === outcome.decision ? "✓ As its probe expects." : `✕ Its probe expects ${expected}.`),
    outcome.blocked ? problem(`A protective decision refuses the request: ${outcome.blocked}.`) : null,
    outcome.unsettled ? problem(`The request fails: a signal of ${outcome.unsettled} is unknown.`) : null,
    down.length ? problem(`Without ${down.map(([part, reason]) => `${part} (${reason})`).join(", ")}: ` +
      "signals that need it are unknown.") : null,
    list([
      outcome.recipe && ["Recipe", outcome.recipe],
      ["Confidence", number(outcome.confidence)],
      ["Category", outcome.category ?? "none"],
      ["Base model", outcome.base_model],
      ["Adapter", outcome.adapter ?? "none"],
      outcome.missing_adapter && ["Missing adapter", `${outcome.missing_adapter}: the base model serves it`],
      outcome.candidates.length > 1 && ["Candidates", outcome.candidates.map(candidate).join("; ")],
      ["Reasoning", outcome.reasoning_effort ? `${reasoning}, effort ${outcome.reasoning_effort}` : reasoning],
      ["Plugins", outcome.plugins.length ? outcome.plugins.map((each) => each.type).join(", ") : "none"],
      windows > 1 && ["Windows", `${windows}: the prompt is longer than the encoder reads at once`],
      outgoing.ignored.length && ["Ignored", `${outgoing.ignored.join(", ")}: this API has no place for it`],
    ]),
    h("p", { id: "lost" }, lost ? ["Nearest decision that lost: ", h("bdi", { class: "name" }, lost.name), `, ${why(lost, decisions, all)}`]
      : "No other decision came near."));
}

function candidate({ model, share, factors, breaks }) {
  const reasons = [...Object.entries(factors).map(([name, ratio]) => `${name} ${ratio.toFixed(2)}`),
    ...breaks.map((bound) => `breaks ${bound}`)];
  return `${model} ${Math.round(share * 100)} %` + (reasons.length ? ` (${reasons.join(", ")})` : "");
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
  return h("span", { class: `mark ${word}` }, h("span", { "aria-hidden": "true" }, sign), h("span", { class: "aside" }, `${word} `));
}

function partsCard(parts) {
  const short = (text) => (text.length > LONGEST ? `${text.slice(0, LONGEST)}… (${text.length} characters)` : text);
  const why = parts.some((part) => part.reason);
  return card("Parts of the request", table("Parts of the request", ["Part", "Text", ...(why ? ["Recognised by"] : [])],
    parts.map((part) => [parts.at(-1).turn ? `${part.kind}, turn ${part.turn + 1}` : part.kind,
      h("bdi", { class: "text" }, short(part.text)), ...(why ? [part.reason] : [])]), { short: [0] }));
}

function signals(all) {
  if (!all.length) return h("p", null, "This configuration has no signals.");
  const order = { true: 0, null: 1, false: 2 };
  const rows = [...all].sort((one, other) => order[one.matched] - order[other.matched] || other.value - one.value);
  return table("Signals", ["Signal", "Value and threshold", "ms"], rows.map((each) => {
    const value = text(each);
    return [
      h("span", { class: "marked" }, mark(each.matched), apart(`${each.type}:${each.name}`)),
      h("div", { class: "measure" }, bar(value, each.matched === null ? 1 : each.value,
        { mark: each.threshold ?? null, kind: MARKS[each.matched][1] }), h("span", null, value)),
      number(each.ms)];
  }), { numbers: [2] });
}

function text({ matched, value, threshold, measure }) {
  if (matched === null) return "unknown";
  return (measure ?? number(value)) + (threshold === null || threshold === undefined ? "" : ` of ${number(threshold)}`);
}

function decision(each, { decisions }) {
  const lost = nearest(decisions) === each;
  return h("details", { open: each.chosen || lost, class: each.chosen ? "chosen" : null },
    h("summary", null, mark(each.matched), h("bdi", { class: "name" }, each.name),
      h("span", { class: "quiet" }, ` priority ${each.priority}${each.tier ? `, tier ${each.tier}` : ""}`),
      each.chosen ? h("span", { class: "tag" }, "won") : null,
      lost ? h("span", { class: "tag" }, "nearest that lost") : null),
    each.rule ? h("ul", { class: "tree" }, node(each)) : h("p", null, "No rules: it matches everything."));
}

function node(each) {
  const bounds = each.predicate && Object.entries(each.predicate).map(([name, value]) => `${name} ${value}`).join(", ");
  return h("li", null, mark(each.matched), h("bdi", { class: "rule" }, each.rule), bounds ? ` ${bounds}` : "",
    each.matched === null ? " unknown" : ` ${number(each.confidence)}`,
    each.conditions && h("ul", null, each.conditions.map(node)));
}

function outgoingCard(outgoing) {
  const changes = [
    ...Object.entries(outgoing.set_headers).map(([name, value]) => [name, value]),
    ...outgoing.remove_headers.map((name) => [name, h("i", null, "removed")]),
  ];
  const body = outgoing.answer !== null
    ? [h("p", null, "A plugin answers; no backend is called."), h("pre", { tabindex: 0, "aria-label": "The answer of a plugin" }, outgoing.answer)]
    : diff(outgoing.before, outgoing.after ?? outgoing.before);
  return card("Outgoing body", body,
    changes.length ? table("Headers to the backend", ["Header", "Value"], changes, { shown: true }) : null);
}

function waterfall(stages) {
  const total = Math.max(...stages.map((each) => each.start_ms + each.ms), 0.001);
  const rows = [...stages].sort((one, other) => one.start_ms - other.start_ms || other.ms - one.ms);
  return table("Times", ["Stage", "When", "ms"], rows.map((each) => {
    const end = Math.max(each.start_ms + each.ms, each.start_ms + total / 200);
    return [each.stage, bar(`from ${number(each.start_ms)} ms, for ${number(each.ms)} ms`, end / total,
      { from: each.start_ms / total, kind: "time" }), number(each.ms)];
  }), { numbers: [2] });
}

async function stream(sent, place) {
  const text = h("pre", { class: "answer", dir: "auto", tabindex: 0, "aria-label": "The answer" });
  const notes = h("div", { role: "status" });
  place.replaceChildren(card("Answer", text, notes));
  const body = { ...sent, request: { stream: true, ...sent.request } };
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
    table("Headers of the response", ["Header", "Value"], rows, { shown: true }));
}

// The text in one event of each API's stream.
function delta(event) {
  if (event.error) return `${event.error.message}\n`;
  const choice = event.choices?.[0];
  if (choice) return choice.delta?.content ?? choice.text ?? "";
  if (event.type === "response.output_text.delta") return event.delta;
  return event.type === "content_block_delta" ? event.delta?.text ?? "" : "";
}

// Requests as they happen, and the last hour.

import { events, open } from "./client.js";
import { apart, bar, card, clock, h, number, problem, svg, table } from "./dom.js";

const ROWS = 50;
const SPANS = 360;
// Names of a table of shares that are listed.
const MOST_SHARES = 12;

export function show(root, query, remember) {
  const abort = new AbortController();
  const only = h("input", { id: "only", type: "search", dir: "auto", value: query.get("only") ?? "", oninput: () => {
    remember({ only: only.value });
    drawRows();
  } });
  const pause = h("button", { id: "pause", type: "button", "aria-pressed": "false", onclick: () => {
    const pressed = !paused();
    pause.setAttribute("aria-pressed", String(pressed));
    pause.textContent = pressed ? "Go on" : "Pause";
    if (!pressed) drawRows();
  } }, "Pause");
  const note = h("p", { class: "quiet", role: "status", id: "link" }, "Connecting…");
  const figures = h("div");
  const rows = h("div", { id: "requests" });
  root.append(note,
    card("Requests as they happen",
      h("div", { class: "row" }, h("div", { class: "pair" }, h("label", { for: "only" }, "Only with"), only), pause), rows),
    figures);
  const spans = [];
  let recent = [];
  let skipped = 0;

  function paused() {
    return pause.getAttribute("aria-pressed") === "true";
  }

  function drawRows() {
    if (paused()) return;
    const wanted = only.value.trim().toLowerCase();
    const shown = recent.filter((each) => !wanted || JSON.stringify(each).toLowerCase().includes(wanted)).slice(0, ROWS);
    const none = recent.length ? "None of the last requests matches." : "No requests yet.";
    rows.replaceChildren(shown.length ? table("Requests as they happen", ["Time", "Where", "ms", "Notes"], shown.map(row),
      { numbers: [2], short: [0] }) : h("p", null, none),
    skipped ? h("p", { class: "quiet" }, `${skipped} more in the last second.`) : "");
  }

  function draw() {
    figures.replaceChildren(...cards(spans));
  }

  async function watch() {
    while (!abort.signal.aborted) {
      try {
        const response = await open("/api/v1/live", { signal: abort.signal });
        note.replaceChildren("Connected: requests appear within a second, figures every ten.");
        for await (const { name, data } of events(response)) {
          const content = JSON.parse(data);
          if (name === "history") spans.splice(0, spans.length, ...content);
          if (name === "span") spans.push(content);
          if (name === "requests") {
            const news = content.requests.length || content.skipped !== skipped || !rows.hasChildNodes();
            skipped = content.skipped;
            recent = [...content.requests.reverse(), ...recent].slice(0, 200);
            if (news) drawRows();
          } else draw();
          spans.splice(0, Math.max(spans.length - SPANS, 0));
        }
        note.replaceChildren("The router has ended the view; connecting again…");
      } catch (error) {
        if (error.name === "AbortError") return;
        // A connection that breaks is no Failure: the browser's own words say little.
        note.replaceChildren(problem(error.name === "TypeError" ? "The connection to the router broke; connecting again…"
          : error.message));
      }
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }

  drawRows();
  draw();
  watch();
  return () => abort.abort();
}

function row(each) {
  const notes = [each.path !== "routed" && each.path !== "cache" && each.path, each.status && `status ${each.status}`,
    each.cache && `cache ${each.cache}`, each.reasoning && "reasoning",
    each.degraded.length && `without ${each.degraded.join(", ")}`,
    ...each.failed.map(({ model, reason }) => `after ${model} (${reason})`)].filter(Boolean);
  const where = each.decision === null && each.model === null ? "–"
    : h("span", null, apart(each.decision ?? "–"), h("span", { class: "quiet" }, " → ", apart(each.model ?? "–")));
  return [clock(each.time), where, number(each.ms), notes.join(" · ")];
}

function sum(spans, pick) {
  const sums = new Map();
  for (const span of spans) for (const [name, count] of pick(span)) sums.set(name, (sums.get(name) ?? 0) + count);
  return [...sums].sort((one, other) => other[1] - one[1]);
}

function cards(spans) {
  if (!spans.length) return [card("The last hour", h("p", null, "The first figures arrive within ten seconds."))];
  const last = spans.at(-1);
  const rate = (span) => span.requests.reduce((all, each) => all + each[3], 0) / span.seconds;
  const minutes = Math.max(Math.round(spans.reduce((all, span) => all + span.seconds, 0) / 60), 1);
  const stage = (part) => (span) => span.stages.total?.[part] ?? null;
  const tokens = sum(spans, (span) => Object.entries(span.tokens));
  const cost = sum(spans, (span) => Object.entries(span.cost));
  const cached = sum(spans, (span) => Object.entries(span.cache));
  const lost = sum(spans, (span) => Object.entries(span.degraded));
  const of = (index, none) => shares(sum(spans, (span) => span.requests.map((each) => [each[index] || none, each[3]])));
  const stages = Object.entries(last.stages).map(([name, each]) => [name, number(each.p50), number(each.p95)]);
  return [
    h("div", { class: "cards wide" },
      card("Requests a second", h("p", { class: "figure", id: "rate" }, number(rate(last), 1)),
        chart([["requests a second", spans.map(rate)]], spans)),
      card("Routing time", h("p", { class: "figure" }, last.stages.total ? `${number(last.stages.total.p50)} ms` : "–"),
        chart([["median", spans.map(stage("p50"))], ["95th percentile", spans.map(stage("p95"))]], spans, " ms"))),
    h("h2", { class: "section" }, minutes > 1 ? `The last ${minutes} minutes` : "The last minute"),
    h("div", { class: "cards" },
      card("Decisions", of(0, "no decision")),
      card("Models", of(1, "no model")),
      card("Answered by", of(2)),
      card("Degraded", lost.length ? amounts(lost) : h("p", { class: "good" }, "✓ No request went without a part.")),
      card("Tokens and cost", tokens.length || cost.length ? amounts([...tokens, ...cost])
        : h("p", null, "No answers were read: see ", h("code", null, "usage"), " in the configuration.")),
      cached.length ? card("Cache", shares(cached)) : null,
      card("Time by stage, last ten seconds", stages.length ? table("Time by stage, last ten seconds",
        ["Stage", "p50 ms", "p95 ms"], stages, { numbers: [1, 2] }) : h("p", null, "No requests."))),
  ];
}

function shares(counts) {
  if (!counts.length) return h("p", null, "No requests.");
  const total = counts.reduce((all, [, count]) => all + count, 0) || 1;
  const rows = counts.slice(0, MOST_SHARES).map(([name, count]) => {
    const percent = `${number((count / total) * 100, 1)} %`;
    return [h("div", null, apart(name), bar(percent, count / total, { kind: "time" })), count, percent];
  });
  return [table("Shares", ["Name", "Count", "Share"], rows, { numbers: [1, 2] }),
    counts.length > MOST_SHARES ? h("p", { class: "quiet" }, `${counts.length - MOST_SHARES} more.`) : null];
}

function amounts(counts) {
  return table("Counts", ["Name", "Count"], counts.slice(0, MOST_SHARES).map(([name, count]) =>
    [name, Number.isInteger(count) ? count : number(count, 4)]), { numbers: [1] });
}

// Lines over the last hour; a span without a value is a gap.
function chart(series, spans, unit = "") {
  const most = Math.max(...series.flatMap(([, values]) => values).filter((value) => value !== null), 0);
  const count = Math.max(spans.length - 1, 1);
  const at = (value, index) => `${((index / count) * 100).toFixed(2)} ${(40 - (value / (most || 1)) * 38).toFixed(2)}`;
  const line = (values) => {
    let pen = "M";
    return values.map((value, index) => {
      if (value === null) { pen = "M"; return ""; }
      // A line of no length shows a value without neighbours as a dot.
      const point = pen === "M" ? `M${at(value, index)}L${at(value, index)}` : `L${at(value, index)}`;
      pen = "L";
      return point;
    }).join("");
  };
  const label = series.map(([name]) => name).join(", ");
  return h("figure", null,
    h("figcaption", { class: "quiet" }, series.length > 1 ? series.map(([name], index) =>
      h("span", { class: index ? "key second" : "key" }, name)) : null, h("span", { class: "most" }, `highest ${number(most, 1)}${unit}`)),
    svg("svg", { class: "chart", viewBox: "0 0 100 41", preserveAspectRatio: "none", role: "img",
      "aria-label": `${label}: highest ${number(most, 1)}${unit}` },
    svg("line", { x1: 0, x2: 100, y1: 40.5, y2: 40.5 }),
    series.map(([, values], index) => svg("path", { d: line(values), class: index ? "second" : null }))),
    h("p", { class: "quiet times" }, h("span", null, clock(spans[0].time)), h("span", null, clock(spans.at(-1).time))));
}

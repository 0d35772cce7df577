// Requests as they happen, and the last hour.

import { events, open } from "./client.js";
import { card, h, number, problem, svg, table } from "./dom.js";

const ROWS = 50;
const SPANS = 360;

export async function show(root, query, remember) {
  const abort = new AbortController();
  const only = h("input", { id: "only", value: query.get("only") ?? "", oninput: () => {
    remember({ only: only.value });
    drawRows();
  } });
  const pause = h("button", { id: "pause", type: "button", "aria-pressed": "false", onclick: () => {
    const pressed = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", String(pressed));
    if (!pressed) drawRows();
  } }, "Pause");
  const note = h("p", { class: "quiet", role: "status", id: "link" }, "Connecting…");
  const figures = h("div", { class: "cards" });
  const rows = h("div", { id: "requests" });
  root.append(note,
    card("Requests as they happen",
      h("div", { class: "row" }, h("label", { for: "only" }, "Only with"), only, pause), rows),
    figures);
  const spans = [];
  let recent = [];
  let skipped = 0;

  function drawRows() {
    if (pause.getAttribute("aria-pressed") === "true") return;
    const wanted = only.value.trim().toLowerCase();
    const shown = recent.filter((each) => !wanted || JSON.stringify(each).toLowerCase().includes(wanted)).slice(0, ROWS);
    rows.replaceChildren(shown.length ? table("Requests as they happen",
      ["Time", "Decision", "Model", "Answered by", "ms", "Notes"], shown.map(row)) : h("p", null, "No requests yet."),
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
            skipped = content.skipped;
            recent = [...content.requests.reverse(), ...recent].slice(0, 200);
            if (content.requests.length || !rows.hasChildNodes()) drawRows();
          } else draw();
          spans.splice(0, Math.max(spans.length - SPANS, 0));
        }
        note.replaceChildren("The router has ended the view; connecting again…");
      } catch (error) {
        if (error.name === "AbortError") return;
        note.replaceChildren(problem(error.message));
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
  const notes = [each.status && `status ${each.status}`, each.cache && `cache ${each.cache}`,
    each.reasoning && "reasoning", each.degraded.length && `without ${each.degraded.join(", ")}`,
    ...each.failed.map(({ model, reason }) => `after ${model} (${reason})`)].filter(Boolean);
  return [new Date(each.time * 1000).toLocaleTimeString(), each.decision ?? "–", each.model ?? "–", each.path,
    number(each.ms), notes.join(" · ")];
}

function sum(spans, pick) {
  const sums = new Map();
  for (const span of spans) for (const [name, count] of pick(span)) sums.set(name, (sums.get(name) ?? 0) + count);
  return [...sums].sort((one, other) => other[1] - one[1]);
}

function cards(spans) {
  if (!spans.length) return [card("The last hour", h("p", null, "Figures come every ten seconds."))];
  const last = spans.at(-1);
  const rate = (span) => span.requests.reduce((all, each) => all + each[3], 0) / span.seconds;
  const minutes = Math.max(Math.round(spans.reduce((all, span) => all + span.seconds, 0) / 60), 1);
  const stage = (name, part) => (span) => span.stages[name]?.[part] ?? null;
  const tokens = sum(spans, (span) => Object.entries(span.tokens));
  const cost = sum(spans, (span) => Object.entries(span.cost));
  const cached = sum(spans, (span) => Object.entries(span.cache));
  return [
    card("Requests a second", h("p", { class: "figure", id: "rate" }, number(rate(last), 1)),
      chart([spans.map(rate)], `requests a second in the last ${minutes} minutes`)),
    card("Routing time", h("p", { class: "figure" }, `${number(last.stages.total?.p50)} ms`),
      h("p", { class: "quiet" }, "median, and 95th percentile above it"),
      chart([spans.map(stage("total", "p50")), spans.map(stage("total", "p95"))],
        `milliseconds of routing in the last ${minutes} minutes`)),
    card("Time by stage", table("Time by stage, last ten seconds", ["Stage", "p50 ms", "p95 ms"],
      Object.entries(last.stages).map(([name, each]) => [name, number(each.p50), number(each.p95)]))),
    card(`Decisions, ${minutes} min`, shares(sum(spans, (span) => span.requests.map((each) => [each[0] || "–", each[3]])))),
    card(`Models, ${minutes} min`, shares(sum(spans, (span) => span.requests.map((each) => [each[1] || "–", each[3]])))),
    card(`Answered by, ${minutes} min`, shares(sum(spans, (span) => span.requests.map((each) => [each[2], each[3]])))),
    card("Cache", cached.length ? shares(cached) : h("p", null, "No lookups.")),
    card("Degraded", degraded(spans)),
    card("Tokens and cost", tokens.length || cost.length ? shares([...tokens, ...cost], false)
      : h("p", null, "No answers were read: see `usage` in the configuration.")),
  ];
}

function degraded(spans) {
  const parts = sum(spans, (span) => Object.entries(span.degraded));
  return parts.length ? shares(parts, false) : h("p", { class: "good" }, "No request went without a part.");
}

function shares(counts, share = true) {
  const total = counts.reduce((all, [, count]) => all + count, 0) || 1;
  return table("Counts", ["Name", "Count", share ? "Share" : ""], counts.slice(0, 12).map(([name, count]) =>
    [name, Number.isInteger(count) ? count : number(count, 4), share ? `${number((count / total) * 100, 1)} %` : ""]));
}

function chart(series, label) {
  const most = Math.max(...series.flat().filter((value) => value !== null), 0.001);
  const count = Math.max(series[0].length - 1, 1);
  const line = (values) => {
    let pen = "M";
    return values.map((value, index) => {
      if (value === null) { pen = "M"; return ""; }
      const point = `${pen}${((index / count) * 100).toFixed(2)} ${(40 - (value / most) * 38).toFixed(2)}`;
      pen = "L";
      return point;
    }).join("");
  };
  return svg("svg", { class: "chart", viewBox: "0 0 100 41", preserveAspectRatio: "none", role: "img",
    "aria-label": `${label}, at most ${number(most, 1)}` },
  svg("line", { x1: 0, x2: 100, y1: 40.5, y2: 40.5 }),
  series.map((values, index) => svg("path", { d: line(values), class: index ? "second" : null })));
}

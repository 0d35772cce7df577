// What another configuration would change, on recorded requests or on those of a list.

import { call, lines, open } from "./client.js";
import { card, h, number, problem, svg, table } from "./dom.js";

export async function show(root, query, remember) {
  const config = h("textarea", { id: "config", rows: 14, spellcheck: "false" });
  const samples = h("textarea", { id: "samples", rows: 6, value: query.get("samples") ?? "",
    placeholder: "A prompt, or a request as a JSON object, a line" });
  const source = h("select", { id: "source" },
    h("option", { value: "list" }, "the list below"),
    h("option", { value: "examples" }, "examples from the configuration"),
    h("option", { value: "recorded" }, "recorded requests"));
  const tokens = h("input", { id: "tokens", type: "number", min: 0, value: query.get("tokens") ?? "300" });
  const button = h("button", { id: "compare" }, "What would move?");
  const result = h("div", { id: "moves" });
  const note = h("p", { class: "quiet", role: "status" });
  let running = null;

  async function inForce() {
    config.value = await (await open("/config?format=yaml")).text();
  }

  async function run() {
    remember({ from: source.value, samples: samples.value, tokens: tokens.value === "300" ? "" : tokens.value,
      change: change(original, config.value) });
    button.disabled = true;
    running = new AbortController();
    try {
      const body = { config: config.value, answer_tokens: Number(tokens.value) };
      if (source.value === "list") body.samples = samples.value;
      if (source.value === "examples") body.samples = (await call("/api/v1/examples")).examples
        .map((text) => JSON.stringify({ prompt: text })).join("\n");
      const response = await open("/api/v1/compare", { body, signal: running.signal });
      for await (const line of lines(response)) {
        const message = JSON.parse(line);
        if ("done" in message) note.replaceChildren(`${message.done} requests done`);
        else button.disabled = false;
        if ("failed" in message) result.replaceChildren(problem(message.failed));
        if ("report" in message) result.replaceChildren(...report(message.report));
      }
    } catch (error) {
      if (error.name !== "AbortError") result.replaceChildren(problem(error.message));
    } finally {
      note.replaceChildren();
      button.disabled = false;
    }
  }

  const file = h("input", { id: "file", type: "file", accept: ".yaml,.yml", onchange: async () => {
    if (file.files.length) config.value = await file.files[0].text();
  } });
  root.append(
    h("form", { onsubmit: (event) => { event.preventDefault(); run(); } },
      h("p", null, "Change the configuration in force, or paste another one. Nothing is put into service."),
      h("label", { for: "config" }, "Configuration that would take its place"), config,
      h("div", { class: "row" },
        h("button", { type: "button", onclick: inForce }, "The one in force"),
        h("label", { for: "file" }, "from a file"), file),
      h("div", { class: "row" }, h("label", { for: "source" }, "Compare on"), source,
        h("label", { for: "tokens" }, "tokens of an answer"), tokens),
      h("label", { for: "samples" }, "Requests"), samples,
      h("div", { class: "row" }, button)),
    note, result);

  const { keeps, records } = await call("/api/v1/recorded").catch(() => ({ keeps: false, records: 0 }));
  const option = source.querySelector("[value=recorded]");
  option.textContent = keeps ? `${records} recorded requests` : "recorded requests (not kept: see router_replay)";
  option.disabled = !keeps;
  source.value = query.get("from") ?? "list";
  await inForce();
  const original = config.value;
  if (query.has("change")) {
    config.value = changed(original, query.get("change"));
    await run();
  }
  return () => running?.abort();
}

// A change is short in an address: the lines that differ, by their place in the configuration in force.
function change(before, after) {
  if (before === after) return "";
  const [old, fresh] = [before.split("\n"), after.split("\n")];
  let start = 0;
  while (start < old.length && start < fresh.length && old[start] === fresh[start]) start++;
  let end = 0;
  while (end < old.length - start && end < fresh.length - start
    && old[old.length - 1 - end] === fresh[fresh.length - 1 - end]) end++;
  return JSON.stringify([start, old.length - start - end, fresh.slice(start, fresh.length - end).join("\n")]);
}

function changed(before, written) {
  try {
    const [start, count, text] = JSON.parse(written);
    const all = before.split("\n");
    all.splice(start, count, ...(text === "" && count ? [] : [text]));
    return all.join("\n");
  } catch {
    return before;
  }
}

function report(data) {
  const moves = data.flows.filter((flow) => named(flow.before) !== named(flow.after));
  const down = Object.entries(data.degraded).map(([part, count]) => `${count} without ${part}`);
  return [
    card("What moves",
      h("p", { class: "outcome", id: "moved" }, h("b", null, `${data.moved} of ${data.requests}`), " requests move"),
      down.length ? problem(`The comparison is not whole: ${down.join(", ")}.`) : null,
      moves.length ? table("Moves", ["Requests", "From", "To"],
        moves.map((flow) => [flow.requests, named(flow.before), named(flow.after)])) : null),
    card("Flow of decisions", flow(data.flows)),
    card("Cost", cost(data)),
    data.examples.length ? card("Requests that move", table("Requests that move", ["Prompt", "From", "To"],
      data.examples.map((each) => [h("span", { class: "text" }, each.prompt), named(each.before), named(each.after)])))
      : null,
  ].filter(Boolean);
}

function named({ decision, model, reasoning }) {
  return `${decision} → ${model}${reasoning ? " (reasoning)" : ""}`;
}

function cost({ cost: costs, unpriced, requests }) {
  const rows = costs.map((each) => [each.currency, number(each.before, 4), number(each.after, 4),
    `${each.after >= each.before ? "+" : ""}${number(each.before ? (each.after / each.before - 1) * 100 : 0, 1)} %`]);
  const without = unpriced.before || unpriced.after
    ? h("p", { class: "quiet" }, `Models without a price serve ${unpriced.before} of ${requests} requests before, `
      + `${unpriced.after} after; they are not in the sum.`) : null;
  return [rows.length ? table("Cost", ["Currency", "Before", "After", "Change"], rows) : h("p", null, "No prices are configured."),
    without];
}

// Decisions before on the left, after on the right; the width of a band is its share of the requests.
function flow(flows) {
  const bands = new Map();
  for (const { before, after, requests } of flows) {
    const key = JSON.stringify([before.decision, after.decision]);
    bands.set(key, (bands.get(key) ?? 0) + requests);
  }
  const pairs = [...bands].map(([key, count]) => [...JSON.parse(key), count]);
  const total = pairs.reduce((sum, [, , count]) => sum + count, 0) || 1;
  const sides = [0, 1].map((side) => {
    const sums = new Map();
    for (const pair of pairs) sums.set(pair[side], (sums.get(pair[side]) ?? 0) + pair[2]);
    return new Map([...sums].sort((one, other) => other[1] - one[1]));
  });
  const GAP = 16;
  const height = 200 + GAP * Math.max(sides[0].size, sides[1].size);
  const places = sides.map((side) => {
    let y = 0;
    return new Map([...side].map(([name, count]) => {
      const place = { top: y, used: y };
      y += Math.max((count / total) * 200, 1) + GAP;
      return [name, place];
    }));
  });
  const paths = pairs.sort((one, other) => other[2] - one[2]).map(([before, after, count]) => {
    const width = Math.max((count / total) * 200, 1);
    const [from, to] = [places[0].get(before), places[1].get(after)];
    const [y1, y2] = [from.used + width / 2, to.used + width / 2];
    from.used += width;
    to.used += width;
    return svg("path", { d: `M160 ${y1} C290 ${y1} 290 ${y2} 420 ${y2}`, "stroke-width": width,
      class: before === after ? "same" : null },
      svg("title", null, `${count} from ${before} to ${after}`));
  });
  const short = (name) => (name.length > 22 ? `${name.slice(0, 21)}…` : name);
  const texts = [0, 1].flatMap((side) => [...places[side]].map(([name, place]) =>
    svg("text", { x: side ? 426 : 154, y: place.top + 10, "text-anchor": side ? "start" : "end" },
      `${short(name)} ${sides[side].get(name)}`)));
  return svg("svg", { class: "flow", viewBox: `0 0 580 ${height}`, role: "img",
    "aria-label": `Flow of ${total} requests: ${pairs.slice(0, 20).map(([before, after, count]) =>
      `${count} from ${before} to ${after}`).join(", ")}` }, ...paths, ...texts);
}

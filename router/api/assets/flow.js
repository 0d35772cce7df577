// A diagram of where requests go before and after: bands between decisions, as wide as their share of the requests.

import { h, svg } from "./dom.js";

const HEIGHT = 200;
// Between two decisions, so that their names do not touch.
const GAP = 20;
const MOST = 40;

export function flow(flows, width) {
  const whole = Math.max(300, Math.min(width - 40, 760));
  const bands = sums(flows.map(({ before, after, requests }) => [JSON.stringify([before.decision, after.decision]), requests]));
  const pairs = [...bands].map(([key, count]) => [...JSON.parse(key), count]);
  const total = pairs.reduce((sum, [, , count]) => sum + count, 0) || 1;
  const thick = (count) => Math.max((count / total) * HEIGHT, 1);
  const sides = [0, 1].map((side) => sums(pairs.map((pair) => [pair[side], pair[2]])));
  const places = sides.map((side) => {
    let y = 0;
    return new Map([...side].map(([name, count]) => {
      const place = { top: y, used: y };
      y += thick(count) + GAP;
      return [name, place];
    }));
  });
  const text = Math.round(whole * (whole < 500 ? 0.38 : 0.33));
  const [left, right, middle] = [text, whole - text, whole / 2];
  const paths = pairs.map(([before, after, count]) => {
    const [from, to] = [places[0].get(before), places[1].get(after)];
    const [y1, y2] = [from.used + thick(count) / 2, to.used + thick(count) / 2];
    from.used += thick(count);
    to.used += thick(count);
    return svg("path", { d: `M${left} ${y1} C${middle} ${y1} ${middle} ${y2} ${right} ${y2}`, "stroke-width": thick(count),
      class: before === after ? "same" : null }, svg("title", null, `${count} from ${before} to ${after}`));
  });
  const labels = [0, 1].flatMap((side) => [...sides[side]].map(([name, count]) =>
    label(name, count, side, places[side].get(name).top, text, whole)));
  const bottom = Math.max(...places.flatMap((side) => [...side.values()].map((place) => place.used)), 0) + GAP;
  return svg("svg", { class: "flow", width: whole, viewBox: `0 0 ${whole} ${bottom}`, role: "img",
    "aria-label": `Flow of ${total} requests: ${pairs.slice(0, MOST).map(([before, after, count]) =>
      `${count} from ${before} to ${after}`).join(", ")}` }, ...paths, ...labels);
}

// The largest first.
function sums(pairs) {
  const all = new Map();
  for (const [key, count] of pairs) all.set(key, (all.get(key) ?? 0) + count);
  return new Map([...all].sort((one, other) => other[1] - one[1]));
}

// HTML inside the drawing: it cuts a name that is too long, in whatever script.
function label(name, count, side, top, width, whole) {
  return svg("foreignObject", { x: side ? whole - width : 0, y: top, width, height: GAP },
    h("div", { class: side ? "label" : "label before", title: name }, h("bdi", { class: "cut" }, name), h("span", null, count)));
}

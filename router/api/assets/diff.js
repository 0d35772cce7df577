// What differs between two JSON texts, line by line.

import { h } from "./dom.js";

// More lines than that on either side are shown whole: the table of the comparison grows with their product.
const LONGEST = 1500;

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2).split("\n");
  } catch {
    return text.split("\n");
  }
}

export function changes(before, after) {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start++;
  let end = 0;
  while (end < before.length - start && end < after.length - start
    && before[before.length - 1 - end] === after[after.length - 1 - end]) end++;
  const old = before.slice(start, before.length - end);
  const fresh = after.slice(start, after.length - end);
  const same = (lines) => lines.map((line) => [" ", line]);
  return [...same(before.slice(0, start)), ...middle(old, fresh), ...same(before.slice(before.length - end))];
}

function middle(old, fresh) {
  if (old.length > LONGEST || fresh.length > LONGEST) {
    return [...old.map((line) => ["-", line]), ...fresh.map((line) => ["+", line])];
  }
  const width = fresh.length + 1;
  const common = new Uint16Array((old.length + 1) * width);
  for (let i = old.length - 1; i >= 0; i--) {
    for (let j = fresh.length - 1; j >= 0; j--) {
      common[i * width + j] = old[i] === fresh[j] ? common[(i + 1) * width + j + 1] + 1
        : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
    }
  }
  const result = [];
  let [i, j] = [0, 0];
  while (i < old.length || j < fresh.length) {
    if (i < old.length && j < fresh.length && old[i] === fresh[j]) {
      result.push([" ", old[i++]]);
      j++;
    } else if (j >= fresh.length || (i < old.length && common[(i + 1) * width + j] >= common[i * width + j + 1])) {
      result.push(["-", old[i++]]);
    } else result.push(["+", fresh[j++]]);
  }
  return result;
}

export function diff(before, after) {
  const lines = changes(pretty(before), pretty(after));
  if (lines.every(([sign]) => sign === " ")) return h("p", null, "The body is forwarded unchanged.");
  const kinds = { " ": null, "-": "del", "+": "ins" };
  return h("pre", { class: "diff", tabindex: 0, "aria-label": "Changes of the body" },
    lines.map(([sign, line]) => h(kinds[sign] ?? "span", null, `${sign} `, h("bdi", null, line), "\n")));
}

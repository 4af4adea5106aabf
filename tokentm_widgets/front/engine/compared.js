// Maps of one class by several methods, in units in which they can be compared; as tokentm_widgets/scores.py.

import { explained } from "./explaining.js";

/** @import { Asked } from "./explaining.js" */
/** @import { Numbers } from "./types.d.ts" */

/**
 * @param {Asked} asked
 * @param {string[]} methods
 */
export function compared(asked, methods) {
  /** @type {Record<string, string>} */
  const failures = {};
  /** @type {{ name: string, scores: Numbers }[]} */
  const made = [];
  for (const name of methods) {
    try {
      made.push({ name, scores: explained(asked, name).scores });
    } catch (error) {
      failures[name] = error instanceof Error ? error.message : String(error);
    }
  }
  const [shares, ranks] = [made.map(({ scores }) => share(scores)), made.map(({ scores }) => rank(scores))];
  return {
    methods: made.map(({ name }) => name),
    failures,
    scores: joined(made.map(({ scores }) => scores)),
    share: joined(shares),
    rank: joined(ranks),
    agreement: joined(ranks.map((one) => Float32Array.from(ranks, (other) => correlation(one, other)))),
  };
}

/** Divided by the mean of sizes; zeros stay zeros. @param {Numbers} scores */
function share(scores) {
  const mean = scores.reduce((sum, value) => sum + Math.abs(value), 0) / scores.length;
  return scores.map((value) => value / Math.max(mean, 1.1754944e-38));
}

/** Share of the patches that score less, ties counted half. @param {Numbers} scores */
export function rank(scores) {
  const ordered = [...scores.keys()].sort((a, b) => scores[a] - scores[b]);
  const ranks = new Float32Array(scores.length);
  for (let first = 0; first < ordered.length; ) {
    let end = first;
    while (end < ordered.length && scores[ordered[end]] === scores[ordered[first]]) end += 1;
    for (let i = first; i < end; i++) ranks[ordered[i]] = (first + end) / (2 * scores.length);
    first = end;
  }
  return ranks;
}

/** Pearson's; NaN where one of them is constant. @param {Numbers} one @param {Numbers} other */
export function correlation(one, other) {
  const count = one.length;
  const [meanOne, meanOther] = [one, other].map((values) => values.reduce((a, b) => a + b, 0) / count);
  let [both, squareOne, squareOther] = [0, 0, 0];
  for (let i = 0; i < count; i++) {
    const [a, b] = [one[i] - meanOne, other[i] - meanOther];
    both += a * b;
    squareOne += a * a;
    squareOther += b * b;
  }
  return both / Math.sqrt(squareOne * squareOther);
}

/** @param {Numbers[]} rows */
export function joined(rows) {
  const all = new Float32Array(rows.reduce((sum, row) => sum + row.length, 0));
  let at = 0;
  for (const row of rows) {
    all.set(row, at);
    at += row.length;
  }
  return all;
}

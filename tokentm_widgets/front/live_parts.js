// From what the live engine answers to what views are sent: the same data that Python sends them.

import { softmaxOf, viewOf } from "./live_numbers.js";

/** @import { Numbers } from "./engine/types.d.ts" */
/** @import { ExplorerShown, LivePage } from "./schema.d.ts" */

/**
 * What is on the screen, for a view of it.
 * @typedef {{ live: LivePage, shown: ExplorerShown }} Screen
 */

/** What all views of a record are sent. @param {Screen} screen */
function common({ live, shown }) {
  const { rows, columns, aspect, offset } = shown;
  return { rows, columns, aspect, offset, pictures: [], ...explained({ live, shown }) };
}

/** @param {Screen} screen */
function explained({ live, shown }) {
  const target = /** @type {number} */ (shown.target);
  const probability = live.unit === "none" ? null : [floatAt(shown.values, target)];
  return { names: [shown.explained], probabilities: probability, answers: [shown.score], colours: live.colours };
}

/** @param {DataView} values @param {number} at */
const floatAt = (values, at) => values.getFloat32(4 * at, true);

/**
 * @param {Screen} screen
 * @param {Record<string, any>} answer of "layers"
 */
export const layersData = (screen, answer) => ({
  ...common(screen),
  ...{ layers: answer.layers, heads: answer.heads, weightHeads: answer.heads, prefix: screen.live.engine.spec.prefix },
  ...{ choice: "Class", readout: screen.live.readout, imageOf: [0], gradient: true, factors: screen.live.differences },
  ...viewsOf(answer, ["attentionReadout", "updateReadout", "contributionReadout", "weight", "ratio", "cosine", "necc"]),
  ...{ taken: [], inPage: true },
});

/**
 * Rows as they are sent: one byte a number between the ends of its row.
 * @param {Record<string, any>} answer of "rows"
 * @param {number} patches
 */
export function rowsMessage({ indices, heads, patches: taking, ...rows }, patches) {
  /** @type {[string, string][]} */
  const parts = [];
  /** @type {DataView[]} */
  const buffers = [];
  for (const [name, values] of Object.entries(rows))
    for (const [part, view] of Object.entries(coded(values, patches))) {
      parts.push([name, part]);
      buffers.push(view);
    }
  return { rows: { indices, heads, patches: taking }, parts, buffers };
}

/** @param {Numbers} values @param {number} length of a row */
export function coded(values, length) {
  const count = values.length / length;
  const [codes, low, high] = [new Uint8Array(values.length), new Float32Array(count), new Float32Array(count)];
  for (let row = 0; row < count; row++) {
    const at = row * length;
    let [least, most] = [values[at], values[at]];
    for (let p = at; p < at + length; p++) {
      if (values[p] < least) least = values[p];
      if (values[p] > most) most = values[p];
    }
    [low[row], high[row]] = [least, most];
    const scale = most > least ? 255 / (most - least) : 0;
    for (let p = at; p < at + length; p++) codes[p] = Math.round((values[p] - least) * scale);
  }
  return { codes: viewOf(codes), low: viewOf(low), high: viewOf(high) };
}

/**
 * @param {Screen} screen
 * @param {Record<string, any>} answer of "methods"
 */
export const methodsData = (screen, answer) => ({
  ...common(screen),
  ...{ methods: answer.methods, failures: answer.failures, titles: screen.live.titles },
  chance: answer.methods.map(() => false),
  ...viewsOf(answer, ["scores", "share", "rank", "agreement"]),
  differences: screen.live.differences,
});

/**
 * @param {Screen} screen
 * @param {Record<string, any>} answer of "paths"
 */
export const pathsData = (screen, answer) => ({
  ...common(screen),
  ...{ layers: answer.layers, headCount: answer.headCount, count: answer.count },
  prefixNames: screen.live.prefixNames,
  ...viewsOf(answer, ["tokens", "heads", "values", "total", "through", "stayed"]),
});

/**
 * @param {Screen} screen
 * @param {string[]} methods
 * @param {{ rankings: number[][], logits: Numbers[][] }} answer of "removal": a row of steps for each way to take away
 */
export function removalData(screen, methods, { rankings, logits }) {
  const { live, shown } = screen;
  const target = /** @type {number} */ (shown.target);
  const score = live.unit === "none";
  const names = live.engine.classes;
  const whole = logits[0][0];
  const likeliest = [...whole.keys()].sort((a, b) => whole[b] - whole[a]).filter((c) => c !== target);
  const drawn = score ? [target] : [target, ...likeliest].slice(0, 3);
  const curves = logits.map((steps) => steps.flatMap((one) => drawn.map((c) => valuesOf(live.unit, one)[c])));
  const own = curves.map((curve) => curve.filter((_, i) => i % drawn.length === 0));
  const { rows, columns, aspect, offset } = shown;
  return {
    ...{ rows, columns, aspect, offset, pictures: [], methods, titles: live.titles, failures: {} },
    ...{ explained: shown.explained, unit: score ? "score" : "probability", counts: live.counts, replace: "drop" },
    names: drawn.map((c) => (score && !names[c].startsWith("output ") ? `${names[c]} (output)` : names[c])),
    dashes: live.dashes.slice(0, drawn.length),
    rankings: viewOf(Int16Array.from(rankings.flat())),
    curves: viewOf(Float32Array.from(curves.flat())),
    areas: viewOf(Float32Array.from(own, (curve) => area(curve, live.counts))),
  };
}

/** Under a curve, by the trapezoidal rule, divided by its range. @param {number[]} curve @param {number[]} counts */
export function area(curve, counts) {
  let sum = 0;
  for (let i = 1; i < curve.length; i++) sum += ((curve[i] + curve[i - 1]) / 2) * (counts[i] - counts[i - 1]);
  return sum / (counts[counts.length - 1] - counts[0]);
}

/** Probabilities, or the outputs where they are none. @param {string} unit @param {Numbers} logits @returns {Numbers} */
export function valuesOf(unit, logits) {
  if (unit === "softmax") return softmaxOf(logits);
  return unit === "sigmoid" ? logits.map((value) => 1 / (1 + Math.exp(-value))) : logits;
}

/** @param {Record<string, any>} answer @param {string[]} names */
const viewsOf = (answer, names) => Object.fromEntries(names.map((name) => [name, viewOf(answer[name])]));

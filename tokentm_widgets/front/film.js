// The perturbation test as it was sent: rankings, curves, and how their numbers are written.

import { extent, floats, number, percent, range, shorts } from "./numbers.js";

/** @import { PerturbationPlayerData } from "./schema.d.ts" */
/** @typedef {ReturnType<typeof read>} Data */

export const ORDERS = ["most", "least"];

/** Ends of the axis, and how numbers are written. */
const UNITS = {
  probability: () => ({
    low: 0,
    high: 1,
    title: "Probabilities",
    mean: "mean probability",
    tick: String,
    written: percent,
    area: (/** @type {number} */ value) => value.toFixed(3),
  }),
  score: (/** @type {Float32Array} */ curves) => {
    const [low, high] = extent(curves);
    const flat = low === high ? 0.5 : 0; // a flat curve lies in the middle
    return {
      low: low - flat,
      high: high + flat,
      left: 50,
      title: "Scores",
      mean: "mean",
      tick: number,
      written: number,
      area: number,
    };
  },
};

/** @param {PerturbationPlayerData} sent */
export function read(sent) {
  const curves = floats(sent.curves);
  return {
    ...sent,
    patches: sent.rows * sent.columns,
    steps: sent.counts.length,
    rankings: shorts(sent.rankings),
    curves,
    areas: floats(sent.areas),
    ...UNITS[/** @type {"probability" | "score"} */ (sent.unit)](curves),
  };
}

/**
 * One curve at every step.
 * @param {Pick<Data, "curves" | "steps" | "names">} data
 * @param {number} method
 * @param {number} order
 * @param {number} k
 */
export function curveOf(data, method, order, k) {
  const at = (method * 2 + order) * data.steps;
  return range(data.steps).map((step) => data.curves[(at + step) * data.names.length + k]);
}

/**
 * The patches that are gone after some steps, as one method ranks them.
 * @param {Pick<Data, "rankings" | "patches" | "counts">} data
 * @param {number} method
 * @param {number} order
 * @param {number} step
 */
export function gone(data, method, order, step) {
  const ranking = data.rankings.subarray(method * data.patches, (method + 1) * data.patches);
  const count = data.counts[step];
  return order === 0 ? ranking.subarray(0, count) : ranking.subarray(data.patches - count);
}

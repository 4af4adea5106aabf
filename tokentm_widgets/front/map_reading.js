// What a map says, in words and numbers of its own: multiples of an average patch, and how many patches carry half of it.

import { where } from "./grid.js";
import { averageSize, largest, times } from "./numbers.js";

/** @import { Grid } from "./types.d.ts" */

/**
 * How few patches carry half of what is positive in a map.
 * @param {ArrayLike<number>} values
 */
export function half(values) {
  const positive = Float64Array.from(values)
    .filter((value) => value > 0)
    .sort()
    .reverse();
  const whole = positive.reduce((sum, value) => sum + value, 0);
  let [sum, count] = [0, 0];
  while (count < positive.length && sum < whole / 2) {
    sum += positive[count];
    count += 1;
  }
  return count;
}

/**
 * A map in two sentences. `of` is what was explained, or empty for a map that is the same for every class.
 * @param {ArrayLike<number>} values
 * @param {Grid} grid
 * @param {string} of
 */
export function inWords(values, grid, of) {
  const [count, top, mean] = [values.length, largest(values), averageSize(values)];
  const map = of ? `the map for ${of}` : "the map";
  const signed = Array.prototype.some.call(values, (value) => value < 0);
  if (mean === 0) return `${map[0].toUpperCase()}${map.slice(1)} is empty: every patch has zero.`;
  if (values[top] <= 0) return `No patch speaks for ${of || "any class"}: all values of the map are below zero.`;
  const few = half(values);
  const lies = `Half of ${signed ? "the positive part of " : ""}${map} lies on ${few} of the ${count} patches.`;
  const size = values[top] / mean;
  if (size < 1.005) return `${lies} All patches have the same value.`;
  const verb = of ? "contributes" : "counts";
  return `${lies} The strongest, ${where(top, grid)}, ${verb} ${times(size, 1).replace("×", "")} times as much as an average patch.`;
}

/**
 * How far a map that grows has come after a layer.
 * @param {ArrayLike<number>} values after that layer
 * @param {ArrayLike<number>} whole
 * @param {number} layer from 0
 * @param {number} layers
 */
export function soFar(values, whole, layer, layers) {
  const sum = (/** @type {ArrayLike<number>} */ of) =>
    Array.prototype.reduce.call(of, (total, value) => Number(total) + Number(value), 0);
  const part = sum(whole) === 0 ? 0 : Number(sum(values)) / Number(sum(whole));
  const early = layer + 1 <= layers / 2 ? ": too early to judge" : "";
  return `After layer ${layer + 1}, ${Math.round(100 * part)} % of the final map is there${early}.`;
}

/**
 * One patch of a map.
 * @param {ArrayLike<number>} values
 * @param {number} patch
 */
export function patchInWords(values, patch) {
  const [value, mean, count] = [values[patch], averageSize(values), values.length];
  let [rank, whole] = [1, 0];
  for (let p = 0; p < count; p++) {
    if (values[p] > value) rank += 1;
    if (values[p] > 0) whole += values[p];
  }
  const signed = Array.prototype.some.call(values, (one) => one < 0);
  const share = value > 0 && !signed ? `, ${((100 * value) / whole).toFixed(1)} % of the map` : "";
  const many = times(value, mean);
  const compared = many.endsWith("×") ? `${many} an average patch` : many.replace("none", "nothing");
  return `${compared}${share}, rank ${rank} of ${count}`;
}

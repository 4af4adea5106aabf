// Tables of 256 colours, 3 bytes each.

import { range } from "./numbers.js";

/**
 * @param {Uint8Array} table
 * @param {number} share from 0 to 1
 */
export function colourAt(table, share) {
  const at = 3 * Math.round(255 * Math.min(1, Math.max(0, share)));
  return `rgb(${table[at]},${table[at + 1]},${table[at + 2]})`;
}

/** @param {Uint8Array} table */
export const ramp = (table) =>
  `linear-gradient(to right, ${range(9)
    .map((i) => colourAt(table, i / 8))
    .join(",")})`;

/**
 * A value's place in a table between two ends, in bytes.
 * @param {ArrayLike<number>} values
 * @param {[number, number]} ends
 * @param {Uint8Array} table
 * @param {Uint8ClampedArray} pixels red, green, blue and opacity of each value, written here
 */
export function paintValues(values, [from, to], table, pixels) {
  const factor = to > from ? 255 / (to - from) : 0;
  for (let p = 0; p < values.length; p++) {
    const at = 3 * Math.min(255, Math.max(0, Math.round((values[p] - from) * factor)));
    pixels[4 * p] = table[at];
    pixels[4 * p + 1] = table[at + 1];
    pixels[4 * p + 2] = table[at + 2];
    pixels[4 * p + 3] = 255;
  }
}

/** One of six colours that are told apart by people who cannot tell red from green. @param {number} k */
export const hue = (k) => `var(--hue-${k % 6})`;

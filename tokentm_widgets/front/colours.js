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

/**
 * How much of a colour is laid over a picture: the picture stays visible where little is, and the hot patches glow.
 * @param {number} share of the largest value, from 0 to 1
 */
export const glow = (share) => Math.sqrt(Math.min(1, Math.max(0, share)));

/**
 * The colours of a bar, as a map shows them over a grey picture.
 * @param {Uint8Array} table
 * @param {number} opacity of the map
 * @param {boolean} glows
 */
export function ramp(table, opacity = 1, glows = false) {
  const steps = range(9).map((i) => {
    const [red, green, blue] = table.subarray(3 * Math.round((255 * i) / 8));
    return `rgba(${red},${green},${blue},${(opacity * (glows ? glow(i / 8) : 1)).toFixed(3)})`;
  });
  return `linear-gradient(to right, ${steps.join(",")}), #808080`;
}

/**
 * A value's place in a table between two ends, in bytes.
 * @param {ArrayLike<number>} values
 * @param {[number, number]} ends
 * @param {Uint8Array} table
 * @param {Uint8ClampedArray} pixels red, green, blue and opacity of each value, written here
 * @param {boolean} glows whether opacity follows the value
 */
export function paintValues(values, [from, to], table, pixels, glows = false) {
  const factor = to > from ? 255 / (to - from) : 0;
  for (let p = 0; p < values.length; p++) {
    const at = 3 * Math.min(255, Math.max(0, Math.round((values[p] - from) * factor)));
    pixels[4 * p] = table[at];
    pixels[4 * p + 1] = table[at + 1];
    pixels[4 * p + 2] = table[at + 2];
    pixels[4 * p + 3] = glows ? 255 * glow(at / 765) : 255;
  }
}

/** One of six colours that are told apart by people who cannot tell red from green. @param {number} k */
export const hue = (k) => `var(--hue-${k % 6})`;

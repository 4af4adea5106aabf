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

/** From a share of the colours to an opacity. @typedef {(share: number) => number} Opacity */

/** @param {number} share */
const within = (share) => Math.min(1, Math.max(0, share));

/** The picture stays visible where little is, and the hot patches glow. @type {Opacity} */
export const glow = (share) => Math.sqrt(within(share));

/** Of what is mostly little, on no picture. @type {Opacity} */
export const faint = (share) => within(share) ** 0.36;

/** Of what is compared with the middle of the colours. @type {Opacity} */
export const away = (share) => Math.abs(2 * within(share) - 1);

/** @type {Opacity} */
export const solid = () => 1;

/**
 * The colours of a bar, as a map shows them over a grey picture.
 * @param {Uint8Array} table
 * @param {number} opacity of the map
 * @param {Opacity} opacityOf
 */
export function ramp(table, opacity = 1, opacityOf = solid) {
  const steps = range(17).map((i) => {
    const [red, green, blue] = table.subarray(3 * Math.round((255 * i) / 16));
    return `rgba(${red},${green},${blue},${(opacity * opacityOf(i / 16)).toFixed(3)})`;
  });
  return `linear-gradient(to right, ${steps.join(",")}), var(--ground)`;
}

/** Where a table of colours begins on a dark page: what lies below is hardly seen there. */
const DARKEST = 0.25;

/** @type {WeakMap<Uint8Array, Uint8Array>} */
const brightened = new WeakMap();

/**
 * A table of colours as a page shows it: on a dark one without its dark end.
 * @param {Uint8Array} table
 * @param {boolean} dark
 */
export function onPage(table, dark) {
  if (!dark) return table;
  const known = brightened.get(table);
  if (known) return known;
  const made = new Uint8Array(table.length);
  for (const k of range(table.length / 3)) {
    const from = Math.round(255 * DARKEST + k * (1 - DARKEST));
    made.set(table.subarray(3 * from, 3 * from + 3), 3 * k);
  }
  brightened.set(table, made);
  return made;
}

/**
 * A value's place in a table between two ends, in bytes.
 * @param {ArrayLike<number>} values
 * @param {[number, number]} ends
 * @param {Uint8Array} table
 * @param {Uint8ClampedArray} pixels red, green, blue and opacity of each value, written here
 * @param {Opacity} opacityOf
 */
export function paintValues(values, [from, to], table, pixels, opacityOf = solid) {
  const factor = to > from ? 255 / (to - from) : 0;
  const opaque = opacities(opacityOf);
  for (let p = 0; p < values.length; p++) {
    const share = Math.min(255, Math.max(0, Math.round((values[p] - from) * factor)));
    pixels[4 * p] = table[3 * share];
    pixels[4 * p + 1] = table[3 * share + 1];
    pixels[4 * p + 2] = table[3 * share + 2];
    pixels[4 * p + 3] = opaque[share];
  }
}

/** @type {Map<Opacity, Uint8ClampedArray>} */
const tables = new Map();

/** The opacity of each of the 256 colours, in bytes. @param {Opacity} opacityOf */
function opacities(opacityOf) {
  const known = tables.get(opacityOf);
  if (known) return known;
  const made = Uint8ClampedArray.from(range(256), (k) => 255 * opacityOf(k / 255));
  tables.set(opacityOf, made);
  return made;
}

/** What cells without a value look like: the sunk paper of family.css. @param {boolean} dark */
const sunk = (dark) => (dark ? [29, 33, 38] : [244, 245, 247]);

/**
 * A colour of a table as it is seen on sunk paper, opaque: the ink on it can be chosen then.
 * @param {Uint8Array} table
 * @param {number} share from 0 to 1
 * @param {number} opacity
 * @param {boolean} dark
 */
export function onPaper(table, share, opacity, dark) {
  const at = 3 * Math.round(255 * within(share));
  return sunk(dark).map((below, k) => Math.round(below + opacity * (table[at + k] - below)));
}

/** How bright a colour is seen, from 0 to 1 (WCAG's relative luminance). @param {number[]} colour */
function luminance(colour) {
  const [red, green, blue] = colour.map((byte) => {
    const part = byte / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** Black or white: what is read better on a colour. @param {number[]} colour */
export const inkOn = (colour) => (luminance(colour) > 0.179 ? "#000" : "#fff");

/**
 * The style of a cell that is coloured by its value.
 * @param {Uint8Array} table
 * @param {number} share
 * @param {number} opacity
 * @param {boolean} dark
 */
export function cellStyle(table, share, opacity, dark) {
  const colour = onPaper(table, share, opacity, dark);
  return `background: rgb(${colour.join(",")}); color: ${inkOn(colour)}`;
}

/** One of six colours that are told apart by people who cannot tell red from green. @param {number} k */
export const hue = (k) => `var(--hue-${k % 6})`;

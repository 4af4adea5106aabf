// From bytes to numbers, and from numbers to words.

/** @import { Coded } from "./schema.d.ts" */
/** @import { Extent, Row, Rows } from "./types.d.ts" */

/** @param {number} count */
export const range = (count) => [...Array(count).keys()];

/** @param {DataView} view */
export const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

// numbers of several bytes may start anywhere in a message; a copy is aligned
/** @param {DataView} view */
export const floats = (view) => new Float32Array(bytes(view).slice().buffer);
/** @param {DataView} view */
export const shorts = (view) => new Int16Array(bytes(view).slice().buffer);

/**
 * Rows sent as bytes between the exact ends of each row (see quantise in payload.py).
 * @param {Coded} sent
 * @returns {Rows}
 */
export function codedRows({ codes, low, high }) {
  const coded = { codes: bytes(codes), low: floats(low), high: floats(high) };
  return (row, length) => {
    const [from, step] = [coded.low[row], (coded.high[row] - coded.low[row]) / 255];
    const values = new Float32Array(length);
    for (let p = 0; p < length; p++) values[p] = from + coded.codes[row * length + p] * step;
    return values;
  };
}

/** @param {Row[]} rows */
export function mean(rows) {
  if (rows.length === 1) return rows[0];
  const sum = new Float32Array(rows[0].length);
  for (const row of rows) for (let p = 0; p < sum.length; p++) sum[p] += row[p] / rows.length;
  return sum;
}

/**
 * Lowest and highest value.
 * @param {ArrayLike<number>} values
 * @param {number | null} aside an index that is left out
 * @returns {Extent}
 */
export function extent(values, aside = null) {
  let [low, high] = [Infinity, -Infinity];
  for (let p = 0; p < values.length; p++) {
    if (p === aside) continue;
    if (values[p] < low) low = values[p];
    if (values[p] > high) high = values[p];
  }
  return [low, high];
}

/**
 * From the lowest low to the highest high.
 * @param {Extent[]} extents
 * @returns {Extent}
 */
export const union = (extents) => [Math.min(...extents.map(([low]) => low)), Math.max(...extents.map((one) => one[1]))];

/** @param {ArrayLike<number>[]} rows */
export const extentOf = (rows) => union(rows.map((values) => extent(values)));

/**
 * Where the largest value is; -1 where there is none.
 * @param {ArrayLike<number>} values
 * @param {number | null} aside an index that is left out
 */
export function largest(values, aside = null) {
  let top = -1;
  for (let p = 0; p < values.length; p++) if (p !== aside && (top < 0 || values[p] > values[top])) top = p;
  return top;
}

/** @param {number} value */
export function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 0.01 && size < 1000 ? value.toPrecision(3) : value.toExponential(1);
}

/** The size of an average number of a row. @param {ArrayLike<number>} values */
export function averageSize(values) {
  let sum = 0;
  for (let p = 0; p < values.length; p++) sum += Math.abs(values[p]);
  return values.length ? sum / values.length : 0;
}

/**
 * A number as a multiple of an average one, as people compare patches: "22×", "1.3×", "0.05×", "none".
 * @param {number} value
 * @param {number} average
 */
export function times(value, average) {
  if (value === 0 || average === 0) return "none";
  const many = value / average;
  const size = Math.abs(many);
  if (size < 0.005) return "almost none";
  const digits = size >= 9.95 ? 0 : size >= 0.095 ? 1 : 2;
  return `${many.toFixed(digits)}×`.replace("-", "−");
}

/** @param {number} share */
export const percent = (share) => `${(100 * share).toFixed(1)} %`;

/**
 * What was explained, with its probability where there is one, else with the score itself.
 * @param {{ names: string[], probabilities: number[] | null, answers: number[] }} data
 * @param {number} index
 */
export const named = ({ names, probabilities, answers }, index) =>
  `${names[index]} (${probabilities ? percent(probabilities[index]) : number(answers[index])})`;

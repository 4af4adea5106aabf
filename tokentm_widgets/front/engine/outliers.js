// Which patches have outlier tokens, as tokentm/tokens.py finds them in a record.

import { lengths } from "./tokentm.js";

/** @import { Numbers, Pass } from "./types.d.ts" */
/** @import { Vit } from "./vit.js" */

/** As in tokens.py. */
const [DEVIATIONS, LONGER] = [3.5, 2];

/**
 * Patches that are outliers after two successive layers, or after the only one, in their order.
 * @param {Vit} vit
 * @param {Pass} pass
 */
export function outliers(vit, pass) {
  const found = pass.layers.map(({ streamOut }) => outlying(streamOut, vit));
  const lasting = found.length > 1 ? found.slice(1).map((now, l) => now.filter((p) => found[l].includes(p))) : found;
  return [...new Set(lasting.flat())].sort((a, b) => a - b);
}

/**
 * The outliers after one layer.
 * @param {Numbers} stream
 * @param {{ spec: { dim: number, prefix: number }, rows: number, columns: number }} vit
 */
export function outlying(stream, { spec: { dim, prefix }, rows, columns }) {
  const patches = stream.subarray(prefix * dim);
  const long = lengths(patches, dim);
  const log = Array.from(long, Math.log);
  const middle = median(log);
  const most = middle + DEVIATIONS * 1.4826 * median(log.map((one) => Math.abs(one - middle)));
  const alike = withNeighbours(patches, long, dim, rows, columns);
  const usual = median(alike);
  return [...log.keys()].filter((p) => log[p] > most && log[p] >= middle + Math.log(LONGER) && alike[p] < usual);
}

/**
 * Mean cosine of each patch with those beside it.
 * @param {Numbers} patches
 * @param {Numbers} long
 * @param {number} dim
 * @param {number} rows
 * @param {number} columns
 */
function withNeighbours(patches, long, dim, rows, columns) {
  const sums = new Array(rows * columns).fill(0);
  const counts = sums.slice();
  /** @param {number} one @param {number} other */
  function pair(one, other) {
    let product = 0;
    for (let d = 0; d < dim; d++) product += patches[one * dim + d] * patches[other * dim + d];
    const cosine = product / Math.max(long[one] * long[other], Number.MIN_VALUE);
    for (const at of [one, other]) {
      sums[at] += cosine;
      counts[at] += 1;
    }
  }
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const here = row * columns + column;
      if (row + 1 < rows) pair(here, here + columns);
      if (column + 1 < columns) pair(here, here + 1);
    }
  return sums.map((sum, p) => sum / counts[p]);
}

/** The lower one of two in the middle, as in Python. @param {number[]} values */
function median(values) {
  return values.slice().sort((a, b) => a - b)[(values.length - 1) >> 1];
}

// Numbers between the live engine, which has arrays, and views, which are sent bytes.

import { softmax } from "./engine/functions.js";

/** @import { Numbers } from "./engine/types.d.ts" */

/** @param {ArrayBufferView<ArrayBuffer>} array */
export const viewOf = ({ buffer, byteOffset, byteLength }) => new DataView(buffer, byteOffset, byteLength);

/** @param {Numbers} logits */
export const softmaxOf = (logits) => softmax(logits.slice(), logits.length);

/**
 * Maps after every layer, where a method's map only grows from layer to layer; else nothing.
 * @param {Numbers[]} layers
 */
export function growthOf(layers) {
  if (layers.length < 2) return null;
  const most = Math.max(...layers.map((map) => map.reduce((a, b) => Math.max(a, Math.abs(b)), 0)));
  const before = [new Float32Array(layers[0].length), ...layers];
  const grows = layers.every((map, l) => map.every((value, p) => value - before[l][p] >= -1e-6 * most));
  if (!grows) return null;
  const all = new Float32Array(layers.length * layers[0].length);
  for (const [l, map] of layers.entries()) all.set(map, l * map.length);
  return all;
}

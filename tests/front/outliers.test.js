// Outlier tokens in the live engine, each condition by itself.

import assert from "node:assert/strict";
import test from "node:test";
import { outliers, outlying } from "../../tokentm_widgets/front/engine/outliers.js";

const vit = /** @type {any} */ ({ spec: { dim: 2, prefix: 1 }, rows: 3, columns: 3 });

/** A token before nine patches of length 1 that look to the right; some are other ones. @param {Record<number, number[]>} others */
const stream = (others) =>
  Float32Array.from([[50, 50], ...Array(9).fill([1, 0])].flatMap((one, i) => others[i - 1] ?? one));

/** @param {Float32Array<ArrayBuffer>[]} streams */
const found = (...streams) =>
  outliers(vit, /** @type {any} */ ({ layers: streams.map((streamOut) => ({ streamOut })) }));

test("a token is an outlier that is twice as long as the median and unlike its neighbours", () => {
  assert.deepEqual(outlying(stream({ 4: [0, 2] }), vit), [4]);
  assert.deepEqual(outlying(stream({ 4: [0, 1.9] }), vit), []);
  assert.deepEqual(outlying(stream({ 4: [2, 0], 0: [0, 1] }), vit), []);
  assert.deepEqual(outlying(stream({}), vit), []);
});

test("where tokens differ much in length, a long one is no outlier", () => {
  const differing = { 0: [0.2, 0], 1: [0.4, 0], 2: [0.7, 0], 3: [1.5, 0], 5: [2, 0], 6: [2.2, 0], 7: [0.3, 0] };
  assert.deepEqual(outlying(stream({ ...differing, 4: [0, 4] }), vit), []);
  assert.deepEqual(outlying(stream({ ...differing, 4: [0, 400] }), vit), [4]);
});

test("outliers last for two successive layers, where there are several", () => {
  const [clean, one, other, both] = [{}, { 4: [0, 3] }, { 8: [0, 3] }, { 4: [0, 3], 8: [0, 3] }].map(stream);
  assert.deepEqual(found(one), [4]);
  assert.deepEqual(found(one, clean, one), []);
  assert.deepEqual(found(clean, one, one), [4]);
  assert.deepEqual(found(one, other), []);
  assert.deepEqual(found(other, both, one), [4, 8]);
});

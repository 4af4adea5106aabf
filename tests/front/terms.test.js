// The formula's terms: their scales, and what is said of them.

import assert from "node:assert/strict";
import test from "node:test";
import { againstAverage, factorEnds, factorWritten, rounded, writtenFor } from "../../tokentm_widgets/front/terms.js";
import { story, strongest } from "../../tokentm_widgets/front/terms_in_words.js";
import { contributionOf, headShares, largestOf } from "../../tokentm_widgets/front/thumbs.js";

/** Two layers, two heads, three patches; the readout takes this. */
const data = {
  layers: 2,
  heads: 2,
  patches: 3,
  rows: 1,
  columns: 3,
  names: ["cat"],
  updateReadout: Float32Array.from([1, 0, 0, 0, 0, 1, 0, 2, 0, 2, 2, 0]),
  contributionReadout: Float32Array.from([1, 0, 0, 2, 2, 0]),
};

test("a patch's own cell is left out of the average that it is compared with", () => {
  assert.equal(writtenFor(Float32Array.from([1, 2, 3]))(4), "2.0×");
  assert.equal(writtenFor(Float32Array.from([1, 98, 3]), 1)(4), "2.0×");
});

test("factors are as far from the average as a multiple and as a part of it", () => {
  const powers = againstAverage(Float32Array.from([2, 1, 3]));
  assert.equal(powers[0], 0);
  assert.ok(Math.abs(powers[1] + 1) < 1e-6 && Math.abs(powers[2] - Math.log2(1.5)) < 1e-6);
  assert.deepEqual([...againstAverage(Float32Array.from([0, 2]))], [0, 1]); // nothing is no power of two
  assert.deepEqual(factorEnds([[-1, 0.5], [0.2]]), [-1, 1]);
  assert.deepEqual(factorEnds([[0, 0]]), [-0.25, 0.25]); // all average: no colour is made of nothing
  assert.deepEqual([-1, 1, Math.log2(2.94)].map(factorWritten), ["÷2", "×2", "×2.9"]);
});

test("shares are whole per cents, and a little is not nothing", () => {
  assert.deepEqual([0, 0.001, 0.124, 1].map(rounded), ["0 %", "less than 1 %", "12 %", "100 %"]);
});

test("the k-th largest, or the least of fewer", () => {
  const values = [3, 1, 4, 1, 5, 9, 2, 6];
  assert.deepEqual(
    [1, 3, 8, 99].map((k) => largestOf(values, k)),
    [9, 5, 1, 1],
  );
  assert.equal(largestOf([], 9), 0);
});

test("what heads add are shares of all that is added", () => {
  assert.deepEqual(headShares(data, 0), [
    [1 / 8, 1 / 8],
    [2 / 8, 4 / 8],
  ]);
  assert.deepEqual([...contributionOf(data, 0, 1)], [2, 2, 0]);
});

test("a layer's part of the map is told, and whose the largest update is", () => {
  const seen = (layer, patch = null) => story(data, { layer, patch, index: 0, head: null });
  assert.equal(seen(0), "Its largest update comes from head 1. 25 % of the final map is there now.");
  assert.equal(
    seen(1),
    "Layer 2 adds 75 % of the final map for cat; its largest update comes from head 2. The map is complete.",
  );
  assert.equal(seen(1, 2), ""); // what a patch takes is no part of the map
  const nothing = { ...data, contributionReadout: new Float32Array(6) };
  assert.equal(story(nothing, { layer: 1, patch: null, index: 0, head: null }), "");
});

test("the strongest patch is named with its multiple", () => {
  const now = { layer: 0, patch: null, index: 0, head: null };
  const of = (values, patch = null) => strongest(data, { ...now, patch }, { contribution: Float32Array.from(values) });
  assert.equal(of([1, 0, 5]), "Row 1, column 3 counts most: 2.5 times an average patch.");
  assert.equal(of([1, 3, 99], 2), "Row 1, column 2 counts most: 1.5 times an average patch.");
  assert.equal(of([0, 0, 0]), "No patch counts yet.");
});

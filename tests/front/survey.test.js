// What a survey is read by: when half of the pictures are decided, where a patch lies in its piece, which head looks most.

import assert from "node:assert/strict";
import test from "node:test";
import { halfBy, ofAll } from "../../tokentm_widgets/front/decided_bars.js";
import { ofStrongest, ringOf, shapeOf } from "../../tokentm_widgets/front/driving_gallery.js";
import { headInWords } from "../../tokentm_widgets/front/head_table.js";
import { lookingMost } from "../../tokentm_widgets/front/survey_browser.js";

test("half of the pictures are decided by the first layer that reaches half", () => {
  for (const [decided, layer] of [
    [[1, 1, 2], 2],
    [[0, 0, 3], 3],
    [[5, 1, 1], 1],
    [[2, 2, 5], 3],
  ]) {
    const all = decided.flatMap((count, k) => Array(count).fill(k + 1));
    assert.equal(halfBy(decided), all[Math.ceil(all.length / 2) - 1]);
    assert.equal(halfBy(decided), layer);
  }
});

test("all pictures are those of every class", () => {
  assert.deepEqual(ofAll([{ decided: [1, 0, 2] }, { decided: [0, 4, 1] }]), [1, 4, 3]);
});

test("a ring lies where the patch's token looks in its piece", () => {
  const grid = { rows: 14, columns: 14, offset: [0, 0] };
  assert.deepEqual(ringOf({ patch: 14 * 5 + 6, window: [4, 5, 3, 3] }, grid), [1 / 3, 1 / 3, 1 / 3, 1 / 3]);
  assert.deepEqual(ringOf({ patch: 0, window: [0, 0, 3, 3] }, grid), [0, 0, 1 / 3, 1 / 3]);
  const half = { rows: 2, columns: 5, offset: [0.5, -0.5] };
  assert.deepEqual(ringOf({ patch: 9, window: [0, 2, 2, 3] }, half), [1.5 / 3, 1.5 / 2, 1 / 3, 1 / 2]);
});

test("a piece has the shape of its patches", () => {
  // 3 x 2 patches (width x height) of a picture of 100 x 40 pixels with 5 x 4 patches: 60 x 20 pixels
  assert.equal(shapeOf({ window: [0, 0, 2, 3] }, { rows: 4, columns: 5, aspect: 0.4 }), 3);
});

test("shares are whole per cents", () => {
  assert.equal(ofStrongest(0.456), "46 %");
});

const statistic = (name, means) => ({
  ...{ name, title: "Title", unit: "%", says: "", digits: 0, alike: 15, means },
  deviations: means.map((row) => row.map(() => 7)),
});

test("a head is read with what it differs from picture to picture, and from one that looks everywhere", () => {
  const of = statistic("object", [[20, 83.4]]);
  assert.equal(
    headInWords(of, 0, 1, 300),
    "Layer 1, head 2: 83 %, give or take 7 from picture to picture. A head that looks everywhere alike: 15 %.",
  );
  assert.ok(!headInWords(of, 0, 1, 1).includes("give or take"));
});

test("which head looks most at objects is said where objects are known", () => {
  assert.equal(lookingMost([statistic("distance", [[1]])]), "");
  const said = lookingMost([
    statistic("object", [
      [20, 30],
      [80, 10],
    ]),
  ]);
  assert.ok(said.startsWith("Head 1 of layer 2 looks most at the object: 80 % of what it takes"));
});

// What methods are compared by: one scale or their own, places among the patches, and who is like whom.

import assert from "node:assert/strict";
import test from "node:test";
import { agreeing, byLikeness, compared, likeness, placed, writtenAs } from "../../tokentm_widgets/front/comparing.js";

const maps = [new Float32Array([1, 2]), new Float32Array([4, 0]), new Float32Array([9, -9])];
const ends = (...given) => compared(...given).map((one) => one.ends);

test("chance decides no scale, unless there is nothing else", () => {
  assert.deepEqual(ends(maps, -1, [false, false, true]), [
    [0, 4],
    [0, 4],
    [0, 4],
  ]);
  assert.deepEqual(ends(maps, 0, [false, false, true]), [
    [1, 2],
    [-3, 3],
    [-3, 3],
  ]);
  assert.deepEqual(ends([maps[2]], -1, [true]), [[-9, 9]]);
  assert.deepEqual(ends([maps[0], maps[2]], 0, [false, true])[1], [-11, 11]); // only chance is compared
});

test("each map may have its own scale, and a difference stays symmetric", () => {
  assert.deepEqual(ends(maps, -1, [], true), [
    [1, 2],
    [0, 4],
    [-9, 9],
  ]);
  assert.deepEqual(ends(maps, 0, [], true), [
    [1, 2],
    [-3, 3],
    [-11, 11],
  ]);
});

test("a rank is a place from the top, or from the other end", () => {
  const of = (k, patches) => placed((k + 0.5) / patches, patches); // k patches score less
  assert.equal(of(99, 100), "top 1 %");
  assert.equal(of(97, 100), "top 3 %");
  assert.equal(of(50, 100), "top 50 %");
  assert.equal(of(0, 100), "lowest 1 %");
  assert.equal(of(195, 196), "top 1 %");
  assert.equal(placed(0.5, 196), "top 51 %"); // all alike
});

test("numbers are written by their unit", () => {
  assert.equal(writtenAs(22.4, "share", false, 100), "22×");
  assert.equal(writtenAs(3.14, "share", true, 100), "+3.1×");
  assert.equal(writtenAs(-3.14, "share", true, 100), "−3.1×");
  assert.equal(writtenAs(0, "share", true, 100), "same");
  assert.equal(writtenAs(0.123, "rank", true, 100), "+12 %");
  assert.equal(writtenAs(-0.5, "rank", true, 100), "−50 %");
  assert.equal(writtenAs(0.001, "rank", true, 100), "same");
});

// 0 and 2 are alike, 1 is like nobody, 3 ranks nothing
const table = [
  [1, 0.1, 0.9, Number.NaN],
  [0.1, 1, 0.2, Number.NaN],
  [0.9, 0.2, 1, Number.NaN],
  [Number.NaN, Number.NaN, Number.NaN, Number.NaN],
];
const alike = (a, b) => table[a][b];

test("neighbours are alike, and what ranks nothing is the last", () => {
  assert.deepEqual(byLikeness(alike, 4), [2, 0, 1, 3]);
  assert.deepEqual(byLikeness(alike, 1), [0]);
});

test("who is most and least like one method, chance left out", () => {
  const names = ["A", "B", "C", "D"];
  const of = (chance) => likeness(alike, 0, names, chance);
  assert.equal(of([]), "C (0.90; 1 is the same order) orders the patches most like A, B (0.10) least.");
  assert.match(of([false, true, false, false]), /^C \(0.90; 1 is the same order\) is compared with A/);
  assert.equal(likeness(alike, 0, ["A"], []), "");
});

test("methods agree on a patch that is in their top", () => {
  const ranked = (above, patches) => new Float32Array(patches).fill((patches - above - 0.5) / patches);
  const ranks = [0, 4, 5, 0].map((above) => ranked(above, 100));
  const top = "top\u00a05\u00a0%";
  assert.deepEqual(agreeing(ranks, 0, [false, false, false, true]), { among: 2, all: 3, top });
  const few = [0, 1].map((above) => ranked(above, 10)); // one of ten patches is more than five of a hundred
  assert.deepEqual(agreeing(few, 0, [false, false]), { among: 1, all: 2, top: "top\u00a010\u00a0%" });
});

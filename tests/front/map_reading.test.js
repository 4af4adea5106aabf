// What is said of a map, against sums done by hand.

import assert from "node:assert/strict";
import test from "node:test";
import { half, inWords, patchInWords, soFar } from "../../tokentm_widgets/front/map_reading.js";

const grid = { rows: 2, columns: 3 };

test("half of a map lies on as few patches as carry it", () => {
  assert.equal(half([1, 1, 1, 1]), 2);
  assert.equal(half([10, 1, 1, 1]), 1);
  assert.equal(half([3, 2, 2, 2]), 2); // 3 of 9 is not half, 5 is
  assert.equal(half([0, 0]), 0);
  assert.equal(half([-9, 2, 1]), 1); // of what is positive
});

test("a map in words", () => {
  const said =
    "Half of the map for cat lies on 1 of the 6 patches. The strongest, row 2, column 1, contributes 3.0 times as much as an average patch.";
  assert.equal(inWords([1, 1, 1, 6, 2, 1], grid, "cat"), said);
});

test("a map that no class has says nothing of a class", () => {
  const said =
    "Half of the map lies on 1 of the 6 patches. The strongest, row 2, column 1, counts 3.0 times as much as an average patch.";
  assert.equal(inWords([1, 1, 1, 6, 2, 1], grid, ""), said);
});

test("of a signed map the positive part is halved, and an average patch is one of average size", () => {
  const said =
    "Half of the positive part of the map for cat lies on 1 of the 6 patches. The strongest, row 1, column 2, contributes 2.0 times as much as an average patch.";
  assert.equal(inWords([-4, 8, -4, 4, -4, 0], grid, "cat"), said);
});

test("maps with nothing to find", () => {
  assert.match(inWords([0, 0, 0, 0, 0, 0], grid, "cat"), /^The map for cat is empty/);
  assert.match(inWords([-1, -2, -1, -1, -1, -1], grid, "cat"), /^No patch speaks for cat/);
  assert.match(inWords([2, 2, 2, 2, 2, 2], grid, "cat"), /3 of the 6 patches. All patches have the same value.$/);
});

test("how far a map has come", () => {
  assert.equal(soFar([1, 1], [4, 4], 1, 4), "After layer 2, 25 % of the final map is there: too early to judge.");
  assert.equal(soFar([3, 3], [4, 4], 2, 4), "After layer 3, 75 % of the final map is there.");
});

test("one patch of a map", () => {
  assert.equal(patchInWords([1, 1, 1, 6, 2, 1], 3), "3.0× an average patch, 50.0 % of the map, rank 1 of 6");
  assert.equal(patchInWords([1, 1, 1, 6, 2, 1], 0), "0.5× an average patch, 8.3 % of the map, rank 3 of 6");
  assert.equal(patchInWords([-4, 8, -4, 4, -4, 0], 0), "−1.0× an average patch, rank 4 of 6");
  assert.equal(patchInWords([-4, 8, -4, 4, -4, 0], 5), "nothing, rank 3 of 6");
});

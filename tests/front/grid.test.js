// Patches: names, places, moves by keys.

import assert from "node:assert/strict";
import test from "node:test";
import { aspectOf, cellOf, moved, patchAt, where } from "../../tokentm_widgets/front/grid.js";

const grid = { rows: 3, columns: 5, aspect: 0.6, offset: [0, 0] };
const patches = [...Array(15).keys()];

test("a patch is named by row and column", () => {
  assert.equal(where(0, grid), "row 1, column 1");
  assert.equal(where(13, grid), "row 3, column 4");
});

test("a picture has the aspect it was given, or that of its patches", () => {
  assert.equal(aspectOf(grid), 0.6);
  assert.equal(aspectOf({ rows: 2, columns: 4 }), 0.5);
});

const near = (found, wanted) =>
  found.forEach((value, k) => {
    assert.ok(Math.abs(value - wanted[k]) < 1e-12, `${found} is not ${wanted}`);
  });

test("cells tile the picture", () => {
  near(cellOf(0, grid), [0, 0, 0.2, 1 / 3]);
  near(cellOf(14, grid), [0.8, 2 / 3, 0.2, 1 / 3]);
  const area = patches.map((patch) => cellOf(patch, grid)).reduce((sum, [, , w, h]) => sum + w * h, 0);
  near([area], [1]);
});

test("a shifted cell ends where the picture ends", () => {
  const shifted = { ...grid, offset: [0.5, -0.5] };
  near(cellOf(0, shifted), [0, 1 / 6, 0.1, 1 / 3]);
  near(cellOf(14, shifted), [0.7, 5 / 6, 0.2, 1 / 6]);
  near(cellOf(14, { ...grid, offset: [1, 1] }).slice(2), [0, 0]);
});

test("the middle of every cell leads back to its patch, also where maps are shifted", () => {
  for (const offset of [[0, 0], [0.4, -0.4], undefined])
    for (const patch of patches) {
      const [x, y, w, h] = cellOf(patch, { ...grid, offset });
      assert.equal(patchAt([x + w / 2, y + h / 2], { ...grid, offset }), patch);
    }
});

test("outside of the grid there is no patch", () => {
  for (const place of [
    [-0.01, 0.5],
    [0.5, -0.01],
    [1, 0.5],
    [0.5, 1],
  ])
    assert.equal(patchAt(place, grid), null);
  assert.equal(patchAt([0.05, 0.05], { ...grid, offset: [0.5, 0.5] }), null);
});

test("arrow keys move by one and stop at the edges", () => {
  const keys = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"];
  const from = (patch) => keys.map((key) => moved(key, patch, grid));
  assert.deepEqual(from(7), [6, 8, 2, 12]);
  assert.deepEqual(from(0), [0, 1, 0, 5]);
  assert.deepEqual(from(14), [13, 14, 9, 14]);
  assert.deepEqual(from(5), [5, 6, 0, 10]); // not to the end of the row before
});

test("keys begin in the middle, Escape lets go, other keys are not taken", () => {
  assert.equal(moved("ArrowUp", null, grid), 7);
  assert.equal(moved("Escape", 3, grid), null);
  assert.equal(moved("Escape", null, grid), null);
  assert.equal(moved("Tab", 3, grid), undefined);
  assert.equal(moved("toString", 3, grid), undefined);
});

test("in a grid of one column the side keys lead nowhere", () => {
  assert.equal(moved("ArrowLeft", 1, { rows: 3, columns: 1 }), 1);
  assert.equal(moved("ArrowDown", 1, { rows: 3, columns: 1 }), 2);
});

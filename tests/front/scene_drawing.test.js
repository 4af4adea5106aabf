// Scenes pixel by pixel: tests/test_scene_table.py compares them with those of Python.

import assert from "node:assert/strict";
import test from "node:test";
import {
  averaged,
  CELL,
  composed,
  coverOf,
  layerOf,
  SIZE,
  shareOn,
  surrounded,
} from "../../tokentm_widgets/front/scene_drawing.js";

const full = surrounded(new Uint8Array(4 * CELL * CELL).fill(255));
const grey = new Uint8Array(3 * SIZE * SIZE).fill(100);
const at = (pixels, x, y) => [...pixels.slice(3 * (y * SIZE + x), 3 * (y * SIZE + x) + 3)];

test("a drawing covers its square and nothing else", () => {
  const layer = layerOf(full, { sprite: "", x: 40, y: 50, size: 20, angle: 0 });
  const { pixels, owner } = composed(grey, [layer]);
  assert.deepEqual(at(pixels, 40, 50), [255, 255, 255]);
  assert.deepEqual(at(pixels, 31, 41), [255, 255, 255]);
  assert.deepEqual(at(pixels, 51, 50), [100, 100, 100]);
  assert.equal(
    owner.reduce((sum, k) => sum + (k === 0), 0),
    20 * 20,
  );
});

test("a drawing turns about its middle, and may leave the scene", () => {
  const turned = layerOf(full, { sprite: "", x: 56, y: 56, size: 40, angle: 45 });
  const { owner } = composed(grey, [turned]);
  assert.equal(owner[56 * SIZE + 56 + 27], 0); // half a diagonal is 28
  assert.equal(owner[(56 - 18) * SIZE + 56 + 18], -1);
  const outside = layerOf(full, { sprite: "", x: 4, y: 108, size: 100, angle: 10 });
  assert.ok(outside.left >= 0 && outside.top + outside.height <= SIZE);
  assert.equal(composed(grey, [outside]).owner[111 * SIZE], 0);
});

test("later drawings cover earlier ones, which keep what is left", () => {
  const one = layerOf(full, { sprite: "", x: 40, y: 40, size: 32, angle: 0 });
  const other = layerOf(full, { sprite: "", x: 56, y: 40, size: 32, angle: 0 });
  const { owner } = composed(grey, [one, other]);
  const first = coverOf(owner, (k) => k === 0);
  const both = coverOf(owner, () => true);
  assert.ok(Math.abs(first.area * SIZE ** 2 - 16 * 32) < 1e-9);
  assert.ok(Math.abs(both.area * SIZE ** 2 - 48 * 32) < 1e-9);
  assert.equal(first.patches[3 * 14 + 3], 1);
  assert.equal(first.patches[3 * 14 + 6], 0);
});

test("a map's share on an object goes by how much of each patch it covers", () => {
  assert.equal(shareOn([1, 3, 0], [1, 0.5, 1]), 2.5 / 4);
  assert.equal(shareOn([0, 0], [1, 1]), 0);
});

test("a background is averaged, halves upwards", () => {
  const rgba = new Uint8ClampedArray(4 * (2 * SIZE) ** 2).fill(10);
  rgba[0] = 12; // 12 + 3 * 10 = 42, a quarter is 10.5
  assert.deepEqual([...averaged(rgba).slice(0, 4)], [11, 10, 10, 10]);
});

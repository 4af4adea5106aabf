// Bytes, rows, extents and words.

import assert from "node:assert/strict";
import test from "node:test";
import * as numbers from "../../tokentm_widgets/front/numbers.js";

const view = (array, offset = 0) => {
  const moved = new Uint8Array(array.byteLength + offset);
  moved.set(new Uint8Array(array.buffer), offset);
  return new DataView(moved.buffer, offset);
};

test("numbers are read wherever they begin in a message", () => {
  for (const offset of [0, 1, 3, 4]) {
    assert.deepEqual([...numbers.floats(view(new Float32Array([0.5, -2]), offset))], [0.5, -2]);
    assert.deepEqual([...numbers.shorts(view(new Int16Array([300, -1]), offset))], [300, -1]);
    assert.deepEqual([...numbers.bytes(view(new Uint8Array([7, 255]), offset))], [7, 255]);
  }
});

test("coded rows lie between the ends of their row", () => {
  const rows = numbers.codedRows({
    codes: view(new Uint8Array([0, 51, 255, 255, 0, 102])),
    low: view(new Float32Array([0, -1])),
    high: view(new Float32Array([10, 1])),
  });
  assert.deepEqual([...rows(0, 3)], [0, 2, 10]);
  assert.deepEqual(
    [...rows(1, 3)].map((value) => Number(value.toFixed(6))),
    [1, -1, -0.2],
  );
});

test("a row of equal values keeps its value", () => {
  const ends = view(new Float32Array([0.25]));
  const rows = numbers.codedRows({ codes: view(new Uint8Array([0, 0])), low: ends, high: ends });
  assert.deepEqual([...rows(0, 2)], [0.25, 0.25]);
});

test("the mean of rows; one row is its own mean", () => {
  const row = new Float32Array([1, 2]);
  assert.equal(numbers.mean([row]), row);
  assert.deepEqual([...numbers.mean([row, new Float32Array([3, 6])])], [2, 4]);
});

test("an extent may leave one out", () => {
  assert.deepEqual(numbers.extent([3, 9, 1]), [1, 9]);
  assert.deepEqual(numbers.extent([3, 9, 1], 1), [1, 3]);
  assert.deepEqual(numbers.extent([3, 9, 1], 0), [1, 9]);
  assert.deepEqual(numbers.extent([]), [Infinity, -Infinity]);
});

test("extents of several rows are joined", () => {
  assert.deepEqual(numbers.extentOf([[3, 4], [], [-1, 0]]), [-1, 4]);
  assert.deepEqual(
    numbers.union([
      [1, 2],
      [0, 1],
    ]),
    [0, 2],
  );
});

test("the first of the largest is found, with one left out", () => {
  assert.equal(numbers.largest([1, 5, 5]), 1);
  assert.equal(numbers.largest([1, 5, 3], 1), 2);
  assert.equal(numbers.largest([-3, -2], 1), 0);
  assert.equal(numbers.largest([4], 0), -1);
});

test("numbers have three digits, or a power of ten", () => {
  const written = {
    0: 0,
    "0.500": 0.5,
    "-0.0100": -0.01,
    "9.9e-3": 0.0099,
    999: 999,
    "1.0e+3": 1000,
    "-2.5e+4": -25000,
  };
  for (const [text, value] of Object.entries(written)) assert.equal(numbers.number(value), text);
  assert.equal(numbers.percent(0.1234), "12.3 %");
});

test("what was explained has its probability, or else its score", () => {
  const data = { names: ["cat", "dog"], answers: [2.5, 1], probabilities: [0.5, 0.25] };
  assert.equal(numbers.named(data, 1), "dog (25.0 %)");
  assert.equal(numbers.named({ ...data, probabilities: null }, 0), "cat (2.50)");
});

test("patches are compared as multiples of an average one", () => {
  assert.equal(numbers.averageSize([1, -3, 0, 0]), 1);
  assert.equal(numbers.averageSize([]), 0);
  assert.deepEqual(
    [22.4, 9.96, 7.84, 1, 0.31, 0.052, 0.001, 0, -2.5].map((value) => numbers.times(value, 1)),
    ["22×", "10×", "7.8×", "1.0×", "0.3×", "0.05×", "almost none", "none", "−2.5×"],
  );
  assert.equal(numbers.times(3, 0), "none"); // nothing counts: nothing to compare with
});

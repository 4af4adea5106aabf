// The playground's formula, and where tips may be.

import assert from "node:assert/strict";
import test from "node:test";
import * as pairs from "../../tokentm_widgets/front/pairs.js";

const near = (found, wanted) => assert.ok(Math.abs(found - wanted) < 1e-12, `${found} is not ${wanted}`);

test("a weight is the length ratio times NECC", () => {
  const [turned, kept] = pairs.measure(
    [
      [1, 0],
      [0, 2],
    ],
    [
      [0, 3],
      [0, 1],
    ],
    "sum",
  );
  assert.deepEqual([turned.ratio, turned.cosine, kept.ratio, kept.cosine], [3, 0, 0.5, 1]);
  near(turned.necc, 1 / (1 + Math.E));
  near(turned.weight, 3 / (1 + Math.E));
  near(turned.necc + kept.necc, 1);
});

test("by the mean, NECC is 1 on average; alone it is 1", () => {
  const { values } = pairs.necc([0.3, -0.9, 0.1], "mean");
  near(values.reduce((sum, value) => sum + value, 0) / 3, 1);
  assert.deepEqual(pairs.necc([-0.4], "sum").values, [1]);
});

test("a T without length has cosine 0 and weight 0", () => {
  const [row] = pairs.measure([[1, 1]], [[0, 0]], "sum");
  assert.deepEqual([row.cosine, row.weight], [0, 0]);
});

test("NECC lies within its bounds", () => {
  for (const normaliser of ["sum", "mean"]) {
    const [low, high] = pairs.bounds(3, normaliser);
    for (const cosines of [
      [-1, 1, 1],
      [1, -1, -1],
      [0.2, 0.4, -0.7],
    ])
      for (const value of pairs.necc(cosines, normaliser).values)
        assert.ok(value >= low - 1e-12 && value <= high + 1e-12);
  }
});

test("a tip lands on the grid, inside the disc, and E keeps a length", () => {
  assert.deepEqual(pairs.placed([1.02, -0.49], [1, 0], 0, 3), [1, -0.5]);
  near(Math.hypot(...pairs.placed([5, 5], [1, 0], 0, 3)), 3);
  assert.deepEqual(pairs.placed([0.01, 0], [0, 2], 0.1, 3), [0, 0.1]); // along where it was
  assert.deepEqual(pairs.placed([0, -0.01], [0, 2], 0, 3), [0, 0]);
  assert.ok(Object.is(pairs.placed([0, -0.01], [0, 2], 0, 3)[1], 0)); // no minus zero
});

test("actions keep lengths or double them, and are hindered at the edges", () => {
  const act = Object.fromEntries(pairs.ACTIONS.map(([name, , , action]) => [name, action]));
  assert.deepEqual(act.same([1, 2], [3, 4]), { T: [1, 2] });
  assert.deepEqual(act.reverse([1, 2], [3, 4]), { T: [-3, -4] });
  near(Math.hypot(...act.turn([1, 0], [3, 4]).T), 5);
  const { E, T } = act.both([1, 0], [0, 2]);
  near(E[0] * T[0] + E[1] * T[1], 0);
  const edge = { limit: 3, shortest: 0.1 };
  assert.equal(pairs.hindrance("double", [2, 0], edge), "T would leave the plane");
  assert.equal(pairs.hindrance("double", [1.5, 0], edge), "");
  assert.equal(pairs.hindrance("halve", [0.1, 0], edge), "T is short already");
  assert.equal(pairs.hindrance("turn", [0, 0], edge), "T has no length");
  assert.equal(pairs.hindrance("same", [0, 0], edge), "");
});

test("numbers have a true minus, and zero has none", () => {
  assert.deepEqual([pairs.fixed(-1.234, 2), pairs.fixed(-0.001, 2), pairs.fixed(2, 1)], ["−1.23", "0.00", "2.0"]);
  assert.equal(pairs.degrees(0), "90°");
});

test("a bar's end is the next round number", () => {
  assert.deepEqual([0.2, 1, 1.1, 3, 7, 11, 60].map(pairs.ceiling), [1, 1, 2, 5, 10, 20, 100]);
});

test("arrow keys step, with Shift they stride", () => {
  assert.deepEqual(pairs.stepped({ key: "ArrowLeft", shiftKey: false }, [1, 1]), [0.9, 1]);
  assert.deepEqual(pairs.stepped({ key: "ArrowUp", shiftKey: true }, [1, 1]), [1, 1.5]);
  assert.equal(pairs.stepped({ key: "Enter", shiftKey: false }, [1, 1]), undefined);
});

test("advice says how far turning T alone can move its weight", () => {
  const said = pairs.advice(pairs.measure([[1, 0]], [[2, 0]], "sum"), 0, "sum");
  assert.match(said, /2\.00 times as long as E and 0° away.*alone has NECC 1/);
  assert.match(pairs.advice(pairs.measure([[1, 0]], [[0, 0]], "sum"), 0, "sum"), /^T has no length/);
});

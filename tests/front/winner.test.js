// Who wins when patches go, in words that are true of the curves.

import assert from "node:assert/strict";
import test from "node:test";
import { fallenAt, halfOf, verdict } from "../../tokentm_widgets/front/winner.js";

const counts = [0, 1, 4, 9];

/** Curves of each method, the most relevant first and the least, of one class. */
const filmed = (unit, ...methods) => ({
  ...{ unit, names: ["cat"], counts, steps: 4 },
  curves: Float32Array.from(methods.flat(2)),
  areas: Float32Array.from(methods.flatMap((orders) => orders.map(meanOf))),
  area: (value) => value.toFixed(2),
});

/** The mean of a curve over the patches that are gone. */
const meanOf = (curve) =>
  counts.slice(1).reduce((sum, count, i) => sum + ((count - counts[i]) * (curve[i] + curve[i + 1])) / 2, 0) / 9;
const steep = [0.8, 0.4, 0.1, 0];
const late = [0.8, 0.7, 0.5, 0.2];
const flat = [0.8, 0.8, 0.8, 0.7];

test("half of a probability, and half of the way of a score", () => {
  assert.equal(halfOf(steep, { unit: "probability" }), 0.4);
  assert.equal(halfOf([3, 5, -1], { unit: "score" }), 1);
  assert.equal(halfOf([-1, 0, 3], { unit: "score" }), null);
  assert.equal(halfOf([0, 0], { unit: "probability" }), null);
  assert.equal(fallenAt(steep, counts, 0.4), 1);
  assert.equal(fallenAt(flat, counts, 0.4), null);
});

test("with the most relevant first, the fewest win", () => {
  const of = (...methods) => verdict(filmed("probability", ...methods), 0, ["A", "B", "C"].slice(0, methods.length));
  assert.equal(
    of([late, flat], [steep, late], [flat, flat]),
    "Taking away B's first 1 patch halves the probability of cat; A needs 9; C never does.",
  );
  assert.equal(
    of([late, flat], [late, flat]),
    "Taking away the first 9 patches of A and B halves the probability of cat.",
  );
  assert.equal(of([flat, flat]), "The probability of cat never halves, in nobody's order.");
});

test("with the least relevant first, the most win, and who never falls before all", () => {
  const of = (...methods) => verdict(filmed("probability", ...methods), 1, ["A", "B"].slice(0, methods.length));
  assert.equal(
    of([flat, steep], [flat, late]),
    "The least relevant first, the probability of cat halves only at 9 patches in the order of B; at 1 in that of A.",
  );
  assert.equal(
    of([flat, steep], [flat, flat]),
    "The least relevant first, the probability of cat never halves in the order of B; at 1 in that of A.",
  );
});

test("who is ahead over all steps is told where that is somebody else", () => {
  const soon = [0.8, 0.4, 0.4, 0.4];
  const deep = [0.8, 0.5, 0, 0];
  const of = (order, ...methods) => verdict(filmed("probability", ...methods), order, ["A", "B"]);
  assert.equal(
    of(0, [soon, flat], [deep, flat]),
    "Taking away A's first 1 patch halves the probability of cat; B needs 4. By the mean over all steps B is ahead: " +
      `${meanOf(deep).toFixed(2)} against ${meanOf(soon).toFixed(2)}.`,
  );
  assert.ok(!of(0, [soon, flat], [late, flat]).includes("mean")); // the same one
  assert.ok(!of(0, [late, flat], [late, late]).includes("mean")); // both
});

test("a score falls half of its way, or does not go down", () => {
  const data = filmed("score", [[3, 1, 0, -1], late]);
  assert.equal(verdict(data, 0, ["A"]), "Taking away A's first 1 patch takes cat half of its way down.");
  const rising = filmed("score", [[-1, 0, 1, 2], late]);
  assert.equal(verdict(rising, 0, ["A"]), "Cat does not go down when patches go.");
});

// The model's answer, and the search for a class.

import assert from "node:assert/strict";
import test from "node:test";
import { barsOf, found, listed, suggested } from "../../tokentm_widgets/front/classes.js";

test("the five largest probabilities are offered, and what is explained", () => {
  const values = [0.1, 0.3, 0.05, 0.2, 0.15, 0.12, 0.08];
  assert.deepEqual(listed("softmax", null, values), [1, 3, 4, 5, 0]);
  assert.deepEqual(listed("softmax", 3, values), [1, 3, 4, 5, 0]);
  assert.deepEqual(listed("softmax", 2, values), [1, 3, 4, 5, 0, 2]);
});

test("other outputs are offered by their distance from zero, few in the model's order", () => {
  assert.deepEqual(listed("none", null, [1, -9, 3, 0, 2, -4]), [1, 5, 2, 4, 0]);
  assert.deepEqual(listed("none", null, [1, -9, 3]), [0, 1, 2]);
});

test("bars of probabilities begin at zero", () => {
  assert.deepEqual(barsOf("sigmoid", [0.25, 1]), [
    { left: 0, width: 0.25, zero: null },
    { left: 0, width: 1, zero: null },
  ]);
});

test("bars of other numbers lie on both sides of zero, on one scale", () => {
  assert.deepEqual(barsOf("none", [3, -1]), [
    { left: 0.25, width: 0.75, zero: 0.25 },
    { left: 0, width: 0.25, zero: 0.25 },
  ]);
  assert.deepEqual(barsOf("none", [0, 0])[0], { left: 0, width: 0, zero: null });
});

test("a class is found by entry, name and number, and not by a part", () => {
  const classes = ["cat", "dog", "1"];
  assert.equal(found("1: dog", classes, null), 1);
  assert.equal(found("dog", classes, null), 1);
  assert.equal(found("0", classes, null), 0);
  assert.equal(found("1", classes, null), 1); // the number before the name
  assert.equal(found("", classes, null), -1);
});

test("the chosen score is found by its name", () => {
  assert.equal(found("chosen score", ["cat"], "chosen score"), "chosen score");
  assert.equal(found("chosen score", ["cat"], null), -1);
});

test("any part of a name finds its class: its beginning first, then a word's, then what is in it", () => {
  const names = ["hot dog", "Goldfish, Carassius auratus", "dogfish", "great white shark"];
  assert.equal(found("goldfish", names, null), 1);
  assert.equal(found("DOG", names, null), 2);
  assert.equal(found("auratus", names, null), 1);
  assert.equal(found("white sh", names, null), 3);
  assert.equal(found("ssius", names, null), 1);
  assert.equal(found(" hot ", names, null), 0);
  assert.equal(found("cat", names, null), -1);
  assert.equal(found("  ", names, null), -1);
});

test("what may be meant is suggested, likeliest first, and no more than find room", () => {
  const names = ["hot dog", "Goldfish, Carassius auratus", "dogfish", "great white shark", "12"];
  assert.deepEqual(suggested("dog", names, null), [2, 0]);
  assert.deepEqual(suggested("1", names, null), [1, 4]);
  assert.deepEqual(suggested("ch", names, "chosen score"), ["chosen score"]);
  assert.deepEqual(suggested("", ["a", "b"], null), [0, 1]);
  assert.equal(suggested("n", Array(100).fill("name"), null).length, 8);
});

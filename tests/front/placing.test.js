// What keys, buttons and hands make of the drawings on a table.

import assert from "node:assert/strict";
import test from "node:test";
import { acted, added, changed, kept, keyed, pulled } from "../../tokentm_widgets/front/placing.js";

const one = { sprite: "a", x: 50, y: 50, size: 40, angle: 0 };
const other = { sprite: "b", x: 20, y: 90, size: 30, angle: 10 };
const lying = { objects: [one, other], selected: 0 };
const another = (sprite) => `${sprite}'`;
const key = (name, shiftKey = false) => keyed(lying, { key: name, shiftKey }, another);

test("arrows move by 2, with Shift four times as far, and stop at the edge", () => {
  assert.equal(key("ArrowLeft").objects[0].x, 48);
  assert.equal(key("ArrowDown", true).objects[0].y, 58);
  const edge = { objects: [{ ...one, x: 5 }], selected: 0 };
  assert.equal(keyed(edge, { key: "ArrowLeft", shiftKey: true }, another).objects[0].x, 4);
  assert.equal(key("q"), null);
  assert.equal(keyed({ objects: [], selected: -1 }, { key: "ArrowUp", shiftKey: false }, another), null);
});

test("keys scale, turn, bring to the front, take another drawing, remove", () => {
  assert.equal(key("+").objects[0].size, 44);
  assert.equal(key("-").objects[0].size, 36);
  assert.equal(key(",").objects[0].angle, -15);
  assert.equal(key(".").objects[0].angle, 15);
  assert.deepEqual(key("f"), { objects: [other, one], selected: 1 });
  assert.equal(key("n").objects[0].sprite, "a'");
  assert.deepEqual(key("Delete"), { objects: [other], selected: 0 });
  assert.deepEqual(acted({ objects: [one], selected: 0 }, "remove", another), { objects: [], selected: -1 });
});

test("what stays where it was stays the same object", () => {
  assert.equal(changed(lying, { x: 10 }).objects[1], other);
});

test("a drawing stays on the scene, of a size that can be seen, its angle within a turn", () => {
  assert.deepEqual(kept({ sprite: "a", x: -9, y: 300, size: 5, angle: 400 }), {
    sprite: "a",
    x: 4,
    y: 108,
    size: 16,
    angle: 40,
  });
});

test("a new drawing comes to lie where most room is, or where it is put", () => {
  assert.deepEqual(added([], "a").objects[0], { sprite: "a", x: 56, y: 56, size: 44, angle: 0 });
  const { objects, selected } = added([{ ...one, x: 30, y: 30 }], "b");
  assert.deepEqual([objects[1].x, objects[1].y, selected], [84, 84, 1]);
  assert.equal(added([one], "b", [10, 20]).objects[1].y, 20);
});

test("a hand moves by the middle, scales and turns by the corner or with two fingers", () => {
  assert.deepEqual(pulled(one, "move", [[60, 60]], [[63, 55]]), { x: 53, y: 45 });
  const corner = pulled(one, "corner", [[70, 50]], [[50, 90]]);
  assert.equal(corner.size, 80);
  assert.ok(Math.abs(corner.angle - 90) < 1e-9);
  const two = pulled(one, "pinch", [[40, 50], [60, 50]], [[50, 40], [50, 70]]); // biome-ignore format: points
  assert.equal(two.size, 60);
  assert.ok(Math.abs(two.angle - 90) < 1e-9);
});

// What the user chose, until the kernel has heard of it.

import assert from "node:assert/strict";
import test from "node:test";
import { userOf } from "../../tokentm_widgets/front/user.js";
import { clockOf, modelOf } from "./model.js";

const begin = (t) => {
  const tick = clockOf(t);
  const model = modelOf({ layer: 0, head: 0 });
  return { model, user: userOf({}, model), tick };
};

test("choices are set at once and saved once, a little later", (t) => {
  const { model, user, tick } = begin(t);
  user.choose("layer", 1);
  user.choose("layer", 2);
  user.choose("head", 3);
  assert.deepEqual([model.get("layer"), model.get("head"), model.saved.length], [2, 3, 0]);
  tick(24);
  assert.equal(model.saved.length, 0);
  tick(1);
  assert.deepEqual(model.saved, [{ layer: 2, head: 3 }]);
  user.choose("layer", 0);
  tick(25);
  assert.equal(model.saved.length, 2);
});

test("a choice outlives an echo until it is saved, and no longer", (t) => {
  const { model, user, tick } = begin(t);
  user.choose("layer", 2);
  model.set("layer", 1);
  user.insist();
  assert.equal(model.get("layer"), 2);
  tick(25);
  model.set("layer", 1);
  user.insist();
  assert.equal(model.get("layer"), 1);
});

test("what was chosen among other data is not insisted on", (t) => {
  const { model, user } = begin(t);
  user.choose("layer", 2);
  user.forget();
  model.set("layer", 0);
  user.insist();
  assert.equal(model.get("layer"), 0);
});

test("saving early saves once; with nothing chosen it saves nothing", (t) => {
  const { model, user, tick } = begin(t);
  user.save();
  assert.equal(model.saved.length, 0);
  user.choose("layer", 2);
  user.save();
  tick(100);
  assert.equal(model.saved.length, 1);
});

test("all views of one widget have one user", () => {
  const [shared, model] = [{}, modelOf({})];
  assert.equal(userOf(shared, model), userOf(shared, modelOf({})));
  assert.notEqual(userOf({}, model), userOf(shared, model));
});

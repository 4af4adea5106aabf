// The beat of a widget that plays.

import assert from "node:assert/strict";
import test from "node:test";
import { beat, playingOver } from "../../tokentm_widgets/front/playing.js";
import { clockOf, modelOf } from "./model.js";

test("steps come at the speed of the model, while it plays", (t) => {
  const tick = clockOf(t);
  const model = modelOf({ playing: false, speed: 2 });
  let steps = 0;
  const stop = beat(model, () => {
    steps += 1;
  });
  const after = (time) => {
    tick(time);
    return steps;
  };
  assert.equal(after(2000), 0);
  model.set("playing", true);
  assert.equal(after(1000), 2);
  model.set("speed", 4);
  assert.equal(after(1000), 6);
  model.set("playing", false);
  assert.equal(after(1000), 6);
  model.set("playing", true);
  stop();
  assert.equal(after(1000), 6);
  assert.equal(Object.values(model.listeners).flat().length, 0);
});

test("a trait goes to its end and stops there; played again, it begins anew", (t) => {
  const tick = clockOf(t);
  const model = modelOf({ playing: true, speed: 1, layer: 1, _data: { layers: 3 } });
  const stop = playingOver("layer", (data) => data.layers)({ model });
  tick(3000);
  assert.equal(model.get("playing"), false);
  model.set("playing", true);
  tick(2000);
  stop();
  assert.deepEqual(
    model.saved.map(({ layer }) => layer),
    [2, 0, 1],
  );
});

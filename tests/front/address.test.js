// What a page keeps in its address, and what it takes from one.

import assert from "node:assert/strict";
import test from "node:test";
import { asked, unsaid, written } from "../../tokentm_widgets/front/address.js";

const choices = {
  layer: { count: 8, optional: false },
  patch: { count: 196, optional: true },
  scale: { values: ["layer", "common"] },
  reference: { values: [null, "token & tm"] },
  speed: { values: [0.5, 1] },
  opacity: { low: 0, high: 1 },
};
const initial = { layer: 2, patch: null, scale: "layer", reference: null, speed: 1, opacity: 0.8 };
const of = (state) => written((name) => ({ ...initial, ...state })[name], initial, choices);

test("only what differs from the page as it was written is in its address", () => {
  assert.equal(of({}), "");
  assert.equal(of({ layer: 5, patch: 120 }), "layer=5&patch=120");
  assert.equal(of({ scale: "common", unknown: 3 }), "scale=common");
});

test("what is written is read again", () => {
  const states = [{ layer: 0 }, { patch: 195, opacity: 0.35 }, { reference: "token & tm", speed: 0.5 }];
  for (const state of states) assert.deepEqual(asked(`#${of(state)}`, choices), state);
  const pinned = { ...initial, patch: 3, reference: "token & tm" };
  const back = written((name) => ({ ...pinned, patch: null, reference: null })[name], pinned, choices);
  assert.equal(back, "patch=&reference=");
  assert.deepEqual(asked(back, choices), { patch: null, reference: null });
});

test("what does not exist is left out", () => {
  const wrong = ["layer=8", "layer=-1", "layer=1.5", "layer=", "layer=x", "patch=196", "scale=no", "speed=3"];
  for (const one of [...wrong, "opacity=2", "opacity=x", "unknown=1", "__proto__=1", "", "#", "layer"])
    assert.deepEqual(asked(`#${one}`, choices), {}, one);
  assert.deepEqual(asked("#layer=9&patch=4", choices), { patch: 4 });
});

test("a picture that its reader brought is in no address, and that is known", () => {
  const choices = { picture: { values: [0, 1] }, target: { values: [null, 0, 1] } };
  const now = { picture: 2, target: null };
  assert.equal(
    written((name) => now[name], { picture: 0, target: 1 }, choices),
    "target=",
  );
  assert.deepEqual(
    unsaid((name) => now[name], choices),
    ["picture"],
  );
});

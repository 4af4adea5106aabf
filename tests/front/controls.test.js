// Controls and traits, with the least of a document.

import assert from "node:assert/strict";
import test from "node:test";
import { modelOf } from "./model.js";

class Node {
  constructor(tag) {
    Object.assign(this, { tag, value: "", textContent: "", disabled: false, listeners: {} });
  }
  setAttribute(name, value) {
    this[name] = value;
  }
  append(...children) {
    this.children = children;
    if (this.tag === "select") this.value = children[0]?.value;
  }
  addEventListener(event, listener) {
    this.listeners[event] = listener;
  }
}
globalThis.document = { createElement: (tag) => new Node(tag) };
const { bind, button, choices, playButton, slider } = await import("../../tokentm_widgets/front/controls.js");

function bound(control, trait, state, ...value) {
  const model = modelOf(state);
  const tools = { model, choose: model.set, follow: (name, show) => model.on(`change:${name}`, show) };
  bind(control, trait, tools, ...value);
  for (const show of model.listeners[`change:${trait}`]) show();
  const user = (event, value = control.value) => {
    control.value = value;
    control.listeners[event]();
    return model.get(trait);
  };
  return { model, user };
}

test("a slider gives a number and shows it", () => {
  const control = slider("layer", 0, 7);
  const { model, user } = bound(control, "layer", { layer: 3 });
  assert.equal(control.value, "3");
  assert.equal(user("input", "5"), 5);
  model.set("layer", 1);
  assert.equal(control.value, "1");
});

test("a select gives the value of its option, null too", () => {
  const control = Object.assign(choices("head", ["mean", "head 1", "head 2"], [null, 0, 1]), { type: "select-one" });
  const { model, user } = bound(control, "head", { head: null });
  assert.equal(control.value, "");
  assert.equal(user("change", "1"), 1);
  assert.equal(user("change", "0"), 0);
  assert.equal(user("change", ""), null);
  model.set("head", 1);
  assert.equal(control.value, "1");
});

test("options have numbers from 0, or the texts and numbers that are given", () => {
  const text = Object.assign(choices("unit", ["a", "b"], ["share", "rank"]), { type: "select-one" });
  assert.equal(bound(text, "unit", { unit: "share" }).user("change", "rank"), "rank");
  const index = Object.assign(choices("index", ["cat", "dog"]), { type: "select-one" });
  assert.equal(bound(index, "index", { index: 0 }).user("change", "1"), 1);
  const speed = Object.assign(choices("speed", ["½", "1"], [0.5, 1]), { type: "select-one" });
  assert.equal(bound(speed, "speed", { speed: 1 }).user("change", "0.5"), 0.5);
});

test("a button turns a trait on and off, and says which", () => {
  const control = playButton();
  const { user } = bound(control, "playing", { playing: false });
  assert.equal(control.textContent, "▶ Play");
  assert.equal(user("click"), true);
  assert.equal(control.textContent, "❚❚ Pause");
  assert.equal(user("click"), false);
});

test("a button with a value sets it, and rests while the trait has it", () => {
  const control = button("reset", "Reset");
  const { model, user } = bound(control, "patch", { patch: 4 }, null);
  assert.equal(control.disabled, false);
  assert.equal(user("click"), null);
  assert.equal(control.disabled, true);
  model.set("patch", 0);
  assert.equal(control.disabled, false);
});

// A view inside the explorer: what is common to all views is the explorer's, the rest goes by the view's name.

import assert from "node:assert/strict";
import test from "node:test";
import { offlineOf } from "../../tokentm_widgets/front/offline.js";
import { partOf } from "../../tokentm_widgets/front/part.js";
import { modelOf } from "./model.js";

const explorer = () =>
  modelOf({
    shown: { picture: "data:cat", layers: 8 },
    patch: 3,
    layer: null,
    head: null,
    opacity: 0.5,
    _layers: { layers: 8, pictures: [] },
    layers_settings: { speed: 1, playing: false },
  });

test("a part reads what is common, its own settings, and its data with the picture", () => {
  const part = partOf(explorer(), "layers");
  assert.deepEqual([part.get("kept"), part.get("speed"), part.get("index")], [3, 1, 0]);
  assert.equal(part.get("patch"), null); // what this view calls so is its own
  assert.equal(partOf(explorer(), "paths").get("patch"), 3);
  assert.equal(part.get("layer"), 7); // the last where none is chosen
  assert.deepEqual(part.get("_data"), { layers: 8, pictures: ["data:cat"] });
  assert.equal(part.get("_data"), part.get("_data")); // one object, by which answers are kept
});

test("what is chosen in a part reaches the explorer, and its listeners", () => {
  const model = explorer();
  const part = partOf(model, "layers");
  const heard = [];
  for (const name of ["kept", "patch", "speed", "playing"]) part.on(`change:${name}`, () => heard.push(name));
  part.set("kept", 5);
  part.set("patch", 6);
  part.set("speed", 4);
  part.set("speed", 4);
  assert.equal(model.get("patch"), 5);
  assert.deepEqual(model.get("layers_settings"), { patch: 6, speed: 4, playing: false });
  assert.deepEqual(heard, ["kept", "patch", "speed"]);
});

test("messages carry the view's name, and only its own come in", () => {
  const model = explorer();
  model.send = (content) => {
    model.sent = content;
  };
  const part = partOf(model, "layers");
  part.send({ kind: "head" });
  assert.deepEqual(model.sent, { kind: "part", view: "layers", content: { kind: "head" } });
  const heard = [];
  part.on("msg:custom", (content) => heard.push(content));
  for (const view of ["layers", "paths"])
    for (const listener of model.listeners["msg:custom"]) listener({ kind: "part", view, content: view }, []);
  assert.deepEqual(heard, ["layers"]);
});

test("a closed part leaves no listener", () => {
  const model = explorer();
  partOf(model, "layers").close();
  assert.equal(Object.values(model.listeners).flat().length, 0);
});

const page = () => {
  const model = modelOf({
    target: null,
    method: "b",
    tab: null,
    trust: {},
    shown: { rows: 1, columns: 2, target: 4, explained: "cat", score: 1, picture: null, layers: 1 },
    films_settings: {},
  });
  const offline = {
    offered: [
      { target: 7, explained: "dog", score: 2 },
      { target: 4, explained: "cat", score: 1 },
    ],
    methods: ["a", "b"],
    specific: [true, false],
    grown: ["a"],
    layers: 1,
    scores: new DataView(Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8).buffer),
    growth: new DataView(Float32Array.of(1, 2, 5, 6).buffer),
    trust: ["7 a", "7 b", "4 a", "4 b"],
  };
  const parts = {
    rows: { data: [{ of: "both" }], settings: { unit: "share" } },
    films: { data: [{ of: "dog" }, { of: "cat" }], settings: { step: 0 } },
  };
  return { model, source: offlineOf(model, offline, parts) };
};
const floats = (view) => [...new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength))];

test("a page gives the map, the checks and the views of the chosen class and method", () => {
  const { model, source } = page();
  assert.deepEqual(floats(source.get("shown").scores), [7, 8]);
  assert.deepEqual([source.get("trust"), source.get("index"), source.get("_films").of], ["4 b", 1, "cat"]);
  assert.equal(source.get("shown").growth, null);
  const heard = [];
  source.on("change:shown", () => heard.push(source.get("shown").explained));
  model.set("target", 7);
  model.set("method", "a");
  assert.deepEqual(heard, ["dog", "dog"]);
  assert.deepEqual(floats(source.get("shown").scores), [1, 2]);
  assert.deepEqual(floats(source.get("shown").growth), [1, 2]);
  assert.deepEqual(
    [source.get("shown").specific, source.get("_films").of, source.get("_rows").of],
    [true, "dog", "both"],
  );
  assert.equal(source.get("shown"), source.get("shown"));
});

test("in a page a view's own choice of a class is the page's, and settings begin with those that were sent", () => {
  const { model, source } = page();
  source.set("index", 0);
  assert.equal(model.get("target"), 7);
  assert.deepEqual(source.get("films_settings"), { step: 0 });
  source.set("films_settings", { step: 3 });
  assert.deepEqual(source.get("films_settings"), { step: 3 });
  assert.equal(source.get("tab"), "rows"); // a page opens with a view
});

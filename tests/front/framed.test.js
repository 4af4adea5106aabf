// What a page in a frame takes from the page around it, and from nobody else's messages.

import assert from "node:assert/strict";
import { test } from "node:test";
import { answered } from "../../tokentm_widgets/front/framed.js";

test("a theme is taken from an answer alone", () => {
  assert.equal(answered({ tokentm: "fits", theme: "dark" }), "dark");
  assert.equal(answered({ tokentm: "fits", theme: "light" }), "light");
  for (const other of [null, undefined, "fits", 3, {}, { theme: "dark" }, { tokentm: "height", theme: "dark" }]) {
    assert.equal(answered(other), undefined);
  }
});

test("nothing but the two themes is taken", () => {
  for (const theme of [undefined, "auto", "url(x)", 1]) assert.equal(answered({ tokentm: "fits", theme }), undefined);
});

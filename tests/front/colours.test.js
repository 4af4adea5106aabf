// Tables of colours.

import assert from "node:assert/strict";
import test from "node:test";
import { away, colourAt, glow, hue, onPage, paintValues, ramp } from "../../tokentm_widgets/front/colours.js";

const grey = Uint8Array.from({ length: 768 }, (_, i) => Math.floor(i / 3)); // colour k is (k, k, k)

test("shares beyond the ends have the colours of the ends", () => {
  assert.deepEqual(
    [-1, 0, 0.5, 1, 2].map((share) => colourAt(grey, share)),
    ["rgb(0,0,0)", "rgb(0,0,0)", "rgb(128,128,128)", "rgb(255,255,255)", "rgb(255,255,255)"],
  );
});

test("a ramp goes from end to end in seventeen steps", () => {
  const steps = ramp(grey).match(/rgba\([^)]+\)/g);
  assert.equal(steps?.length, 17);
  assert.deepEqual(
    [steps[0], steps[8], steps[16]],
    ["rgba(0,0,0,1.000)", "rgba(128,128,128,1.000)", "rgba(255,255,255,1.000)"],
  );
});

test("a bar is drawn as its map: the colours over the ground, by value where they glow", () => {
  const bar = ramp(grey, 0.5, glow);
  const steps = bar.match(/rgba\([^)]+\)/g);
  assert.deepEqual(
    [steps?.[0], steps?.[4], steps?.[16]],
    ["rgba(0,0,0,0.000)", "rgba(64,64,64,0.250)", "rgba(255,255,255,0.500)"],
  );
  assert.ok(bar.endsWith(", var(--ground)"));
});

test("what glows is seen as the root of its share, within bounds", () => {
  assert.deepEqual([-1, 0, 0.25, 1, 3].map(glow), [0, 0, 0.5, 1, 1]);
  const pixels = new Uint8ClampedArray(12);
  paintValues([0, 0.25, 1], [0, 1], grey, pixels, glow);
  assert.deepEqual([pixels[3], pixels[7], pixels[11]], [0, 128, 255]);
});

test("what is compared with the middle is seen at both ends alike", () => {
  assert.deepEqual([-1, 0, 0.25, 0.5, 1, 3].map(away), [1, 1, 0.5, 0, 1, 1]);
});

test("on a dark page a table begins where it is seen, and ends as it does", () => {
  const dark = onPage(grey, true);
  assert.deepEqual([dark[0], dark[765]], [64, 255]);
  assert.equal(onPage(grey, true), dark); // made once
  assert.equal(onPage(grey, false), grey);
});

test("values are painted between their ends, and hidden by nothing", () => {
  const pixels = new Uint8ClampedArray(20);
  paintValues([0, 1, 1.5, 2, 9], [0, 2], grey, pixels);
  assert.deepEqual(
    [0, 4, 8, 12, 16].map((at) => [...pixels.slice(at, at + 4)]),
    [0, 128, 191, 255, 255].map((k) => [k, k, k, 255]),
  );
});

test("equal values have the lowest colour", () => {
  const pixels = new Uint8ClampedArray(8);
  paintValues([5, 5], [5, 5], grey, pixels);
  assert.deepEqual([...pixels], [0, 0, 0, 255, 0, 0, 0, 255]);
});

test("there are six hues", () => {
  assert.deepEqual([0, 5, 6].map(hue), ["var(--hue-0)", "var(--hue-5)", "var(--hue-0)"]);
});

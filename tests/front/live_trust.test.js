// The four checks of a live page: their verdicts, and how patches are painted over.

import assert from "node:assert/strict";
import test from "node:test";
import {
  adviceOf,
  classVerdict,
  methodVerdict,
  outlierVerdict,
  paintedOver,
  removalVerdict,
  strongest,
} from "../../tokentm_widgets/front/live_trust.js";

const rising = Float32Array.from({ length: 20 }, (_, p) => p);
const falling = rising.map((value) => 19 - value);

test("the strongest patches come strongest first, equal ones in their order", () => {
  assert.deepEqual(strongest(Float32Array.of(1, 3, 2, 3), 3), [1, 3, 2]);
});

test("a map changes with the class by how many strongest patches two classes share", () => {
  const { correlation, ...found } = classVerdict(rising, falling, 4);
  assert.deepEqual(found, { verdict: "Yes", shared: [], count: 4 });
  assert.ok(Math.abs((correlation ?? 0) + 1) < 1e-12);
  const some = rising.slice().fill(0, 18);
  some[0] = 50;
  some[1] = 50;
  const { verdict, shared } = classVerdict(rising, some, 4);
  assert.deepEqual([verdict, shared], ["Partly", [16, 17]]);
  assert.equal(classVerdict(rising, new Float32Array(20), 4).correlation, null);
  assert.equal(classVerdict(rising, rising, 4).verdict, "Hardly");
});

test("patches matter where a probability falls below half, of itself and of what is left without random ones", () => {
  assert.equal(removalVerdict("probability", 0.8, 0.3, 0.7), "Yes");
  assert.equal(removalVerdict("probability", 0.8, 0.3, 0.5), "Not clearly");
  assert.equal(removalVerdict("probability", 0.8, 0.5, 0.79), "Not clearly");
  assert.equal(removalVerdict("probability", 0.8, 0.8, 0.1), "No");
  assert.equal(removalVerdict("score", 3, 1, 2), "Yes");
  assert.equal(removalVerdict("score", 3, 1, 1.9), "Not clearly");
});

test("methods agree that share half of the strongest patches", () => {
  const others = { alike: rising, also: rising, opposite: falling };
  assert.deepEqual(methodVerdict(rising, others, 4), {
    ...{ verdict: "Mostly", agreeing: ["alike", "also"], others: ["alike", "also", "opposite"], count: 4 },
  });
  assert.equal(methodVerdict(rising, { alike: rising }, 4).verdict, "Yes");
  assert.equal(methodVerdict(rising, { opposite: falling }, 4).verdict, "Hardly");
});

test("outliers dominate a map from a quarter of its positive mass and four times their share on", () => {
  const scores = new Float32Array(16).fill(-1);
  scores.set([1, 3]);
  assert.deepEqual(outlierVerdict(scores, [0]), { verdict: "No", patches: [0], count: 16, share: 0.25 });
  assert.deepEqual(outlierVerdict(scores, [1, 5, 6, 7, 8]).verdict, "Mostly");
  assert.deepEqual(outlierVerdict(scores, [5]), { verdict: "Mostly", patches: [5], count: 16, share: 0 });
  assert.deepEqual(outlierVerdict(scores, []).verdict, "Yes");
  assert.equal(outlierVerdict(new Float32Array(16), [0]).share, 0);
});

test("what helps against outliers is the method that was measured to put the least there", () => {
  const end = " Or leave these patches out of the map: tokentm.tokens.left_out.";
  const two = [
    { name: "one", share: 0.2 },
    { name: "other", share: 0.004 },
  ];
  assert.equal(adviceOf("R.", []), `R.${end}`);
  assert.equal(
    adviceOf("R.", two),
    `R. other, which weighs attention by the gradient, puts less than 1 % there.${end}`,
  );
  assert.equal(
    adviceOf("R.", [{ name: "one", share: 0.3 }]),
    `R. Other methods that weigh attention by the gradient put 30 % there or more.${end}`,
  );
});

test("patches are painted over in the mean colour of each channel, where they lie", () => {
  const spec = { channels: 2, height: 2, width: 4, patch: [1, 2] };
  const image = Float32Array.of(0, 1, 2, 3, 4, 5, 6, 7, 10, 10, 10, 10, 10, 10, 10, 18);
  const painted = paintedOver(image, [1, 2], spec);
  assert.deepEqual([...painted], [0, 1, 3.5, 3.5, 3.5, 3.5, 6, 7, 10, 10, 11, 11, 11, 11, 10, 18]);
  assert.equal(image[2], 2);
});

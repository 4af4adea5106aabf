// Sentences of the scene table, and the bars that mirror them.

import assert from "node:assert/strict";
import test from "node:test";
import { placed } from "../../tokentm_widgets/front/engine/explaining.js";
import { steppedTo, stroke } from "../../tokentm_widgets/front/stage.js";
import {
  invitation,
  likeliest,
  lossOf,
  percent,
  points,
  speedOf,
  verdictOf,
} from "../../tokentm_widgets/front/table_words.js";
import { mirrored, nextTen } from "../../tokentm_widgets/front/taking_away.js";

const plain = (pieces) => pieces.join("").replaceAll("\u00a0", " ");

test("shares and changes", () => {
  assert.deepEqual(
    [0.9951, 0.841, 0.0996, 0.07, 0].map(percent).map((one) => plain([one])),
    ["100 %", "84 %", "10 %", "7.0 %", "0.0 %"],
  );
  assert.deepEqual([points(0.093), points(-0.001)], ["−9.3 points", "+0.1 points"]);
});

test("the verdict: on the object, on none, on a picture of the reader's", () => {
  assert.equal(
    plain(verdictOf("tokentm", "car", { on: 0.84, area: 0.125 }, "car", false)),
    "84 % of the TokenTM map lies on the car, which covers 13 % of the picture: 6.7 times chance.",
  );
  assert.match(plain(verdictOf("rollout", "cat", { on: 0.3, area: 0.1 }, "cat", false)), /of the attention map lies/);
  assert.match(plain(verdictOf("tokentm", "dog", null, "cat", false)), /There is no dog on the table/);
  assert.match(plain(verdictOf("tokentm", "dog", null, "dog", true)), /No mask is known.* says dog;/);
});

test("what patches were worth", () => {
  const log = [
    { patch: 1, said: 0.2, first: 0.25, did: 0.1 },
    { patch: 2, said: 0.1, first: 0.2, did: 0.15 },
  ];
  assert.equal(
    plain(lossOf(log, "cat", 0.73, 0.48, 196)),
    "2 of 196 patches gone. The map had given them 45 % of the reason; the probability of cat went from 73 % to 48 %.",
  );
  assert.match(plain(lossOf([], "cat", 1, 1, 196)), /^Paint over the picture/);
});

test("the likeliest classes, the speed, the first thing to do", () => {
  assert.equal(plain([likeliest({ odds: [0.2, 0.7, 0.1] }, ["a", "b", "c"])]), "It says b 70 %, a 20 %.");
  assert.match(speedOf(126.4, 7), /^7 updates in the last second, 126 ms each/);
  assert.match(speedOf(126.4, 1), /^Answer and maps in 126 ms/);
  assert.deepEqual(
    [["cat", "car"], ["cat", "cat"], []].map((there) => invitation(there).split(",")[0]),
    ["Drag the cat behind the car", "Drag the cat", "Put something on the table"],
  );
});

test("bars: each side against its own largest, the last forty", () => {
  const log = [
    { patch: 0, said: 0.02, first: 0, did: 0.1 },
    { patch: 1, said: 0.04, first: 0, did: -0.05 },
  ];
  assert.deepEqual(mirrored(log), { said: 0.04, did: 0.1, bars: [{ up: 0.5, down: 1 }, { up: 1, down: -0.5 }] }); // biome-ignore format: short
  assert.equal(mirrored(Array(50).fill(log[0])).bars.length, 40);
  assert.deepEqual(mirrored([]).bars, []);
});

test("the next ten patches: most, least, by chance, without those that are gone", () => {
  const map = Float32Array.from({ length: 30 }, (_, p) => p);
  assert.deepEqual(nextTen("most", map, [29]).slice(0, 2), [28, 27]);
  assert.deepEqual(nextTen("least", map, [0]), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  assert.deepEqual(nextTen("random", map, [], () => 0).length, 10);
  assert.deepEqual(nextTen("most", Float32Array.of(1, 2, 3), [0, 1]), [2]);
});

test("a brush leaves no gap, and a cursor stays on the scene", () => {
  assert.deepEqual(stroke([4, 4], [28, 4]), [0, 1, 2, 3]);
  assert.deepEqual(stroke([4, 4], [4, 4]), [0]);
  assert.deepEqual(stroke([111, 111], [150, 150]), [195]);
  assert.deepEqual(
    [steppedTo("ArrowRight", 13), steppedTo("ArrowDown", 0), steppedTo("ArrowLeft", 15), steppedTo("a", 3)],
    [13, 14, 14, null],
  );
});

test("a map of the patches that are there lies where they are", () => {
  assert.deepEqual([...placed(Float32Array.of(5, 7), [1, 3], 4)], [0, 5, 0, 7]);
});

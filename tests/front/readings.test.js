// What widgets read out of the data that was sent: rows of layers, paths, films, comparisons.

import assert from "node:assert/strict";
import test from "node:test";
import { cellStyle } from "../../tokentm_widgets/front/colours.js";
import { compared } from "../../tokentm_widgets/front/comparing.js";
import { curveOf, gone, read as readFilm } from "../../tokentm_widgets/front/film.js";
import { read as readLayers, rowsOf, tokens } from "../../tokentm_widgets/front/layer_rows.js";
import { short } from "../../tokentm_widgets/front/path_table.js";
import {
  headNames,
  inWords,
  passed,
  pathOf,
  read as readPaths,
  stretches,
  stretchName,
  told,
} from "../../tokentm_widgets/front/paths.js";
import { padded } from "../../tokentm_widgets/front/scatter.js";

const view = (array) => new DataView(array.buffer);
const floats = (count, of = (i) => i) => view(Float32Array.from({ length: count }, (_, i) => of(i)));
const rounded = (row) => [...row].map((value) => Number(value.toFixed(4)));

// B = 2 scores of I = 1 image, L = 2 layers, H = 2 heads, P = 2 patches, one prefix token
const sent = {
  ...{ rows: 1, columns: 2, layers: 2, heads: 2, weightHeads: 2, prefix: 1, imageOf: [0, 0], colours: floats(192) },
  ...{ attentionReadout: floats(8), updateReadout: floats(16), contributionReadout: floats(8) },
  ...{ weight: floats(12), ratio: floats(12), cosine: floats(12), necc: floats(12) },
  taken: [],
};

test("quantities of tokens are those of a head, or their mean over heads", () => {
  const data = readLayers(sent);
  assert.deepEqual([...tokens(data, "weight", 0, 1, 1)], [9, 10, 11]);
  assert.deepEqual([...tokens(data, "weight", 0, 1, null)], [7.5, 8.5, 9.5]);
  assert.equal(tokens(data, "weight", 0, 1, null), tokens(data, "weight", 0, 1, null));
  const shared = readLayers({ ...sent, weightHeads: 1 });
  assert.deepEqual([...tokens(shared, "weight", 0, 1, 1)], [3, 4, 5]);
});

test("from the readout, products are made head by head and then averaged", () => {
  const rows = rowsOf(readLayers(sent), undefined, { layer: 1, head: null, index: 1, patch: null });
  assert.deepEqual([...rows.attention], [5, 6]); // mean of (4, 5) and (6, 7)
  assert.deepEqual([...rows.weight], [8.5, 9.5]);
  assert.deepEqual([...rows.product], [(4 * 7 + 6 * 10) / 2, (5 * 8 + 7 * 11) / 2]);
  assert.deepEqual([...rows.update], [13, 14]); // of the second score
  assert.deepEqual([...rows.contribution], [6, 7]);
});

test("from the readout through one head", () => {
  const rows = rowsOf(readLayers(sent), undefined, { layer: 0, head: 1, index: 0, patch: null });
  assert.deepEqual([...rows.attention], [2, 3]);
  assert.deepEqual([...rows.product], [2 * 4, 3 * 5]);
});

test("from a patch, rows are what it takes, and their mean over the heads that are shown", () => {
  const [data, now] = [readLayers(sent), { layer: 1, index: 1, patch: 0 }];
  const taken = {
    attention: (layer) => [new Float32Array([layer, 1]), new Float32Array([3, 2])],
    update: (layer) => [new Float32Array([2, layer])],
    contribution: (layer) => new Float32Array([4, layer]),
  };
  const rows = rowsOf(data, taken, { ...now, head: null });
  assert.deepEqual([...rows.attention], [2, 1.5]);
  assert.deepEqual([...rows.product], [(1 * 7 + 3 * 10) / 2, (1 * 8 + 2 * 11) / 2]); // head by head
  assert.deepEqual([...rows.update], [2, 1]);
  assert.deepEqual([...rows.contribution], [4, 1]);
  const one = rowsOf(data, { attention: (layer) => [new Float32Array([layer, 2])] }, { ...now, head: 1 });
  assert.deepEqual([...one.product], [10, 22]);
  const mean = rowsOf(data, { ...taken, product: () => new Float32Array([5, 6]) }, { ...now, head: null });
  assert.deepEqual([...mean.product], [5, 6]);
});

test("from a patch, what has not come is missing", () => {
  const [data, now] = [readLayers(sent), { layer: 1, head: 0, index: 0, patch: 0 }];
  const { attention, product, update, contribution, weight } = rowsOf(data, undefined, now);
  assert.deepEqual([attention, product, update, contribution], [undefined, undefined, undefined, undefined]);
  assert.deepEqual([...weight], [7, 8]);
});

test("a scatter's axis begins at zero, unless all values are far from it", () => {
  assert.deepEqual(rounded(padded([0.1, 1])), [0, 1.06]);
  assert.deepEqual(rounded(padded([0.8, 1])), [0.774, 1.06]);
  assert.deepEqual(padded([0, 0]), [0, 1]);
});

test("compared maps have one scale; a difference is symmetric, and the reference keeps its own", () => {
  const maps = [new Float32Array([1, 2]), new Float32Array([4, 0])];
  const plain = compared(maps, -1);
  assert.deepEqual(
    plain.map(({ ends }) => ends),
    [
      [0, 4],
      [0, 4],
    ],
  );
  assert.equal(plain[0].values, maps[0]);
  const [reference, other] = compared(maps, 0);
  assert.deepEqual(reference, { values: maps[0], ends: [1, 2], difference: false });
  assert.deepEqual([[...other.values], other.ends, other.difference], [[3, -2], [-3, 3], true]);
});

// one score, P = 2 patches and a class token, K = 2 paths, L = 2 layers, H = 1
const paths = readPaths({
  ...{ rows: 1, columns: 2, layers: 2, headCount: 1, count: 2, prefixNames: ["class token"], colours: floats(192) },
  tokens: view(new Int16Array([1, 1, 0, 1, 2, 0, 2, 2, 2, 2, 0, 0])),
  heads: view(new Int16Array([-1, 0, 0, 0, -1, -1, 0, -1])),
  values: view(new Float32Array([3, 1, 2, 0])),
  ...{ total: view(new Float32Array([4, 0])), through: floats(4), stayed: floats(4) },
});

test("a path is its tokens, its heads, and its share of the patch", () => {
  const path = pathOf(paths, 0, 0, 1);
  assert.deepEqual([[...path.tokens], [...path.heads], path.share], [[1, 2, 0], [0, 0], 0.25]);
  assert.equal(pathOf(paths, 0, 1, 0).share, 0); // of nothing
});

test("a path in words names its moves", () => {
  assert.equal(
    inWords(pathOf(paths, 0, 0, 1), paths),
    "25.0 %: row 1, column 1, layer 1, head 1 → row 1, column 2, layer 2, head 1 → class token",
  );
  assert.equal(inWords(pathOf(paths, 0, 1, 0), paths), "0.0 %: row 1, column 2, stays");
});

test("prefix tokens are on top, the chosen patch at the bottom", () => {
  assert.deepEqual(passed([pathOf(paths, 0, 0, 0), pathOf(paths, 0, 0, 1)]), [0, 2, 1]);
});

test("layers in which nothing moves share a column", () => {
  const of = (...heads) =>
    stretches(
      heads.map((one) => ({ heads: one })),
      heads[0].length,
    );
  const still = { from: 1, to: 2, moves: false };
  assert.deepEqual(of([0, -1, -1, 3]), [{ from: 0, to: 0, moves: true }, still, { from: 3, to: 3, moves: true }]);
  assert.deepEqual(of([-1, -1], [-1, 2]), [
    { from: 0, to: 0, moves: false },
    { from: 1, to: 1, moves: true },
  ]);
  assert.deepEqual(of([-1, -1]), [{ from: 0, to: 1, moves: false }]);
  assert.deepEqual([stretchName(still), stretchName({ from: 4, to: 4 })], ["layers 2 to 3", "layer 5"]);
  assert.deepEqual([headNames([2]), headNames([0, 2])], ["head 3", "heads 1, 3"]);
});

test("a patch's paths are told in multiples of an average patch, and of its contribution", () => {
  const both = [pathOf(paths, 0, 0, 0), pathOf(paths, 0, 0, 1)];
  assert.deepEqual(told(both, paths.total, 0, paths), [
    "It contributes 2.0 times an average patch.",
    "Its 2 strongest paths carry 100 % of its contribution; the strongest, 75 %, moves in layer 2 through head 1 to the class token.",
  ]);
  assert.deepEqual(told([], paths.total, 1, paths), ["It contributes nothing."]);
});

test("cells are read on their colours", () => {
  const black = new Uint8Array(768);
  const white = new Uint8Array(768).fill(255);
  assert.equal(cellStyle(black, 1, 1, false), "background: rgb(0,0,0); color: #fff");
  assert.equal(cellStyle(white, 1, 1, true), "background: rgb(255,255,255); color: #000");
  assert.equal(cellStyle(black, 1, 0, false), "background: rgb(244,245,247); color: #000");
  assert.equal(cellStyle(white, 1, 0, true), "background: rgb(29,33,38); color: #fff");
  assert.deepEqual([0, 0.004, 0.005, 0.126].map(short), ["", "", "1", "13"]);
});

// M = 2 methods, S = 3 steps, C = 2 curves, P = 4 patches
const filmed = {
  ...{ rows: 2, columns: 2, names: ["cat", "dog"], counts: [0, 1, 4], unit: "probability" },
  rankings: view(new Int16Array([3, 1, 0, 2, 0, 1, 2, 3])),
  ...{ curves: floats(24), areas: floats(4) },
};

test("curves are found by method, order and class", () => {
  const data = readFilm(filmed);
  assert.deepEqual(curveOf(data, 0, 0, 0), [0, 2, 4]);
  assert.deepEqual(curveOf(data, 1, 1, 1), [19, 21, 23]);
});

test("the most relevant patches go first, or the least", () => {
  const data = readFilm(filmed);
  assert.deepEqual([...gone(data, 0, 0, 1)], [3]);
  assert.deepEqual([...gone(data, 0, 1, 1)], [2]);
  assert.deepEqual([...gone(data, 1, 0, 0)], []);
  assert.deepEqual([...gone(data, 0, 1, 2)].sort(), [0, 1, 2, 3]);
});

test("probabilities have an axis from 0 to 1, scores their own", () => {
  const [probability, score] = [readFilm(filmed), readFilm({ ...filmed, unit: "score" })];
  assert.deepEqual([probability.low, probability.high, probability.written(0.5)], [0, 1, "50.0 %"]);
  assert.deepEqual([score.low, score.high, score.written(0.5)], [0, 23, "0.500"]);
  const flat = readFilm({ ...filmed, unit: "score", curves: floats(24, () => 2) });
  assert.deepEqual([flat.low, flat.high], [1.5, 2.5]);
});

// What a patch takes: out of what was sent, out of what a page holds, or asked from the kernel.

import assert from "node:assert/strict";
import test from "node:test";
import { rowSource } from "../../tokentm_widgets/front/rows.js";
import { clockOf, modelOf } from "./model.js";

const view = (array) => new DataView(array.buffer);
const floats = (count, of) => view(Float32Array.from({ length: count }, (_, i) => of(i)));

/** Rows whose codes are their own numbers: code c of row r is worth 1000 r + c. */
const coded = (rows, length) => ({
  codes: view(Uint8Array.from({ length: rows * length }, (_, i) => i % length)),
  low: floats(rows, (r) => 1000 * r),
  high: floats(rows, (r) => 1000 * r + 255),
});

// B = 2 scores of one image, L = 2 layers, H = 2 heads, P = 3 patches
const P = 3;
const dataOf = (taken, more) => ({ heads: 2, layers: 2, patches: P, taken, ...more });

function rowsOf(indices, heads, patches, more = {}) {
  const count = patches.length * 2 * heads.length;
  return { indices, heads, patches, attention: coded(count, P), update: coded(count * indices.length, P), ...more };
}
const means = rowsOf([0, 1], [-1], [0, 1, 2], { product: coded(6, P), contribution: coded(12, P) });

const asking = () => {
  const model = modelOf({ _data: {} });
  return Object.assign(model, { sent: [], send: (message) => model.sent.push(message) });
};

/** What the kernel answers. */
function answer(model, asked, rows) {
  const names = Object.keys(rows).filter((name) => !Array.isArray(rows[name]));
  const parts = names.flatMap((name) => Object.keys(rows[name]).map((part) => [name, part]));
  const plain = { indices: rows.indices, heads: rows.heads, patches: rows.patches };
  const buffers = parts.map(([name, part]) => rows[name][part]);
  for (const listener of model.listeners["msg:custom"]) listener({ kind: "rows", asked, rows: plain, parts }, buffers);
}

/** First numbers of rows, which say which rows they are. */
const firsts = (rows) => rows.map(([first]) => first / 1000);

test("rows that were sent are read, and nobody is asked", () => {
  const model = asking();
  const source = rowSource(model, dataOf([means]), () => {});
  assert.equal(source.get({ layer: 0, head: null, index: 0, patch: null }), undefined); // the readout is elsewhere
  const now = { layer: 0, head: null, index: 1, patch: 2 };
  const taken = source.get(now);
  assert.deepEqual([firsts(taken.attention(1)), firsts([taken.product(1)])], [[5], [5]]);
  assert.deepEqual([firsts(taken.update(1)), firsts([taken.contribution(0)])], [[11], [8]]); // of the second score
  assert.equal(source.waiting(now, taken), "");
  assert.deepEqual(model.sent, []);
});

test("a head is asked for once with all patches, and its answer serves all views", (t) => {
  const tick = clockOf(t);
  const model = asking();
  let changes = 0;
  const data = dataOf([means]);
  const source = rowSource(model, data, () => {
    changes += 1;
  });
  const now = { layer: 0, head: 1, index: 0, patch: 0 };
  const before = source.get(now);
  source.get(now);
  assert.equal(before.attention, undefined);
  assert.deepEqual(firsts([before.contribution(1)]), [3]); // does not depend on heads
  assert.equal(source.waiting(now, before), "Asking the kernel for head 2 …");
  const asked = { kind: "rows", index: 0, head: 1, patch: null };
  assert.deepEqual(model.sent, [asked]);
  tick(2999);
  assert.equal(changes, 0);
  tick(1);
  assert.equal(changes, 1);
  assert.match(source.waiting(now, source.get(now)), /^The kernel does not answer; .* what the readout takes\.$/);
  assert.equal(model.sent.length, 1); // not again and again
  answer(model, asked, rowsOf([0], [1], [0, 1, 2]));
  assert.equal(changes, 2);
  const taken = source.get({ ...now, patch: 2 });
  assert.deepEqual([firsts(taken.attention(1)), firsts([taken.contribution(1)])], [[5], [5]]);
  assert.equal(taken.product, undefined); // made of attention and weight
  assert.equal(source.waiting({ ...now, patch: 2 }, taken), "");
  assert.deepEqual(
    firsts(
      rowSource(model, data, () => {})
        .get(now)
        .update(0),
    ),
    [0],
  );
  source.close();
  assert.equal(model.listeners["msg:custom"].length, 1);
});

test("without rows, one patch is asked for at a time, and the newest wins", (t) => {
  clockOf(t);
  const model = asking();
  const source = rowSource(model, dataOf([]), () => {});
  const at = (patch, head = null) => ({ layer: 0, head, index: 1, patch });
  for (const patch of [0, 1, 2]) source.get(at(patch));
  const question = (patch) => ({ kind: "rows", index: 1, head: null, patch });
  assert.deepEqual(model.sent, [question(0)]);
  assert.equal(source.waiting(at(2), source.get(at(2))), "Asking the kernel for what this patch takes …");
  const rows = (patch) => rowsOf([1], [0, 1], [patch], { contribution: coded(2, P) });
  answer(model, question(0), rows(0));
  assert.deepEqual(model.sent, [question(0), question(2)]);
  answer(model, question(2), rows(2));
  assert.equal(model.sent.length, 2); // patch 1 was only passed over
  const taken = source.get(at(2));
  assert.deepEqual(firsts(taken.attention(1)), [2, 3]); // of both heads
  assert.deepEqual(firsts(source.get(at(2, 1)).update(1)), [3]); // the same answer holds for a single head
  assert.deepEqual(firsts([taken.contribution(1)]), [1]);
  assert.equal(model.sent.length, 2);
});

test("who returns to what is known before the answer comes asks nothing more", (t) => {
  clockOf(t);
  const model = asking();
  const source = rowSource(model, dataOf([rowsOf([0], [0, 1], [0])]), () => {});
  const at = (patch) => ({ layer: 0, head: null, index: 0, patch });
  for (const patch of [1, 2, 0]) source.get(at(patch));
  answer(model, { kind: "rows", index: 0, head: null, patch: 1 }, rowsOf([0], [0, 1], [1]));
  assert.equal(model.sent.length, 1);
});

test("a kernel that did not answer is asked again when a patch is looked at again", (t) => {
  const tick = clockOf(t);
  const model = asking();
  const source = rowSource(model, dataOf([]), () => {});
  const at = (patch) => ({ layer: 0, head: null, index: 0, patch });
  source.get(at(0));
  tick(3000);
  source.get(at(0));
  assert.equal(model.sent.length, 1);
  source.get(at(1));
  tick(3000);
  source.get(at(0));
  assert.deepEqual(
    model.sent.map((one) => one.patch),
    [0, 1, 0],
  );
});

test("the oldest answers are forgotten when they are too many", (t) => {
  clockOf(t);
  const model = asking();
  const rows = (patch) => rowsOf([0], [0, 1], [patch]);
  const bytes = 2 * 4 * (P + 8); // attention and update, 2 layers x 2 heads, codes and ends
  const source = rowSource(model, dataOf([]), () => {}, 2 * bytes);
  const at = (patch) => ({ layer: 0, head: null, index: 0, patch });
  for (const patch of [0, 1, 2]) {
    source.get(at(patch));
    answer(model, { kind: "rows", index: 0, head: null, patch }, rows(patch));
  }
  for (const patch of [1, 2]) assert.ok(source.get(at(patch)).attention);
  assert.equal(model.sent.length, 3);
  source.get(at(0));
  assert.equal(model.sent.length, 4);
});

test("a closed kernel is said at once", () => {
  const throwing = Object.assign(modelOf({ _data: {} }), {
    send() {
      throw new Error("closed");
    },
  });
  const source = rowSource(throwing, dataOf([]), () => {});
  const now = { layer: 0, head: 0, index: 0, patch: 0 };
  assert.match(source.waiting(now, source.get(now)), /does not answer; without it only what the readout takes/);
});

test("a page shows what it holds, says what it does not, and asks nobody", () => {
  const model = asking();
  const source = rowSource(model, dataOf([rowsOf([0, 1], [0, 1], [1])], { offered: [0, 1] }), () => {});
  const now = { layer: 0, head: null, index: 1, patch: 1 };
  assert.deepEqual(firsts(source.get(now).update(1)), [6, 7]);
  assert.equal(source.waiting(now, source.get(now)), "");
  const other = { ...now, patch: 0 };
  assert.equal(source.get(other).attention, undefined);
  assert.match(source.waiting(other, source.get(other)), /does not hold .*: it holds the 1 patches/);
  assert.deepEqual(model.sent, []);
});

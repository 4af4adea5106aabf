// The live engine's own parts, and its side of a page; tests/test_live_engine.py holds its numbers against Python.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { afterEach, beforeEach, test } from "node:test";
import { engineOf } from "../../tokentm_widgets/front/engine/answering.js";
import { rank } from "../../tokentm_widgets/front/engine/compared.js";
import {
  activate,
  activateBack,
  normal,
  normalise,
  normaliseBack,
  softmax,
  softmaxBack,
  transpose,
} from "../../tokentm_widgets/front/engine/functions.js";
import { METHODS } from "../../tokentm_widgets/front/engine/methods.js";
import { fastest, plain } from "../../tokentm_widgets/front/engine/products.js";
import { fromHalves } from "../../tokentm_widgets/front/engine/vit.js";
import serve from "../../tokentm_widgets/front/engine/worker.js";
import { engineClient, newest } from "../../tokentm_widgets/front/engine_client.js";
import { assembled, FILE } from "./assemble.js";

/** Numbers by chance between -1 and 1, the same ones for a seed. */
function chance(seed) {
  let state = seed + 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

function numbers(count, seed, size = 1) {
  const draw = chance(seed);
  return Float32Array.from({ length: count }, () => size * draw());
}

// ---- products ----

test("matmul.js is what matmul.wat assembles to", async () => {
  assert.equal(await readFile(FILE, "utf8"), await assembled());
});

test("the product in WebAssembly is the plain one, whatever the sizes", () => {
  const { product, without } = fastest();
  assert.equal(without, "");
  const draw = chance(5);
  const size = (most) => 1 + Math.floor(((draw() + 1) / 2) * most);
  // large before small: what a product leaves behind in the memory must not get into the next one
  for (const most of [300, 40, 9, 9, 9, 5, 5, 5, 5, 60, 20, 3, 3, 3]) {
    const [m, k, n] = [size(most), size(most), size(most)];
    const [a, b] = [numbers(m * k, m), numbers(k * n, n)];
    const [found, expected] = [product(a, b, m, k, n), plain(a, b, m, k, n)];
    assert.equal(found.length, m * n);
    for (let i = 0; i < found.length; i++)
      assert.ok(Math.abs(found[i] - expected[i]) < 1e-5 * Math.sqrt(k), `${[m, k, n]} at ${i}`);
  }
});

test("the plain product is the sum of products", () => {
  const [m, k, n] = [3, 7, 5];
  const [a, b] = [numbers(m * k, 1), numbers(k * n, 2)];
  const c = plain(a, b, m, k, n);
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let p = 0; p < k; p++) sum += a[i * k + p] * b[p * n + j];
      assert.equal(c[i * n + j], Math.fround(sum));
    }
});

test("both products take the first numbers of longer arrays", () => {
  const [a, b] = [numbers(50000, 1), numbers(50000, 2)]; // more than the memory holds at first
  for (const n of [4, 8]) {
    const short = plain(a.slice(0, 6), b.slice(0, 2 * n), 3, 2, n);
    assert.deepEqual(plain(a, b, 3, 2, n), short);
    const found = fastest().product(a, b, 3, 2, n);
    assert.equal(found.length, 3 * n);
    found.forEach((value, i) => {
      assert.ok(Math.abs(value - short[i]) < 1e-6);
    });
  }
});

// ---- elementary functions ----

test("every number of half precision is read", () => {
  const halves = Uint16Array.of(
    0,
    0x8000,
    1,
    0x8001,
    0x3ff,
    0x400,
    0x3c00,
    0xc000,
    0x3555,
    0x7bff,
    0x7c00,
    0xfc00,
    0x7e00,
  );
  const third = 0.333251953125;
  const [least, subnormal] = [2 ** -24, 1023 * 2 ** -24];
  const all = [0, -0, least, -least, subnormal, 2 ** -14, 1, -2, third, 65504, Infinity, -Infinity, Number.NaN];
  assert.deepEqual([...fromHalves(halves)], all);
});

test("the normal distribution is exact to 1e-10, between the entries of its table, too", () => {
  /** Its upper end, 0.5 erfc(x / sqrt 2). */
  const known = [
    [0, 0.5],
    [0.1, 0.460172162722971],
    [0.7, 0.24196365222307306],
    [1, 0.15865525393145707],
    [1.234567, 0.10849584847540206],
    [2.5, 0.006209665325776139],
    [3, 0.0013498980316300957],
    [4.321, 7.766183692753035e-6],
    [6.5, 4.016000583859125e-11],
    [7, 0],
    [100, 0],
  ];
  for (const [x, above] of known) {
    assert.ok(Math.abs(normal(-x) - above) < 1e-10, `below ${-x}: ${normal(-x)}`);
    assert.ok(Math.abs(normal(x) + above - 1) < 1e-10, `below ${x}: ${normal(x)}`);
  }
  assert.ok(Number.isNaN(normal(Number.NaN)));
});

/** The gradient of sum(weights * f(x)) at every number of x, from differences; f gives Float32Arrays. */
function slopes(f, x, weights, step = 0.01) {
  const scored = (at) => f(at).reduce((sum, value, i) => sum + value * weights[i], 0);
  return x.map((_, i) => {
    const [less, more] = [x.slice(), x.slice()];
    less[i] -= step;
    more[i] += step;
    return (scored(more) - scored(less)) / (more[i] - less[i]);
  });
}

function near(found, expected, what, slack = 3e-3) {
  assert.equal(found.length, expected.length);
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  found.forEach((value, i) => {
    assert.ok(
      Math.abs(value - expected[i]) < slack * largest,
      `${what} at ${i}: ${value}, by differences ${expected[i]}`,
    );
  });
}

for (const activation of ["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"])
  for (const gate of ["", "first", "last"])
    test(`the gradient of ${activation}${gate && `, ${gate} half a gate`}`, () => {
      const hidden = numbers(24, 3, 3).map((value) => (Math.abs(value) < 0.05 ? 0.5 : value)); // relu has a corner at 0
      const dy = numbers(gate ? 12 : 24, 4);
      const found = activateBack(activation, gate, dy, hidden, 8);
      near(
        found,
        slopes((x) => activate(activation, gate, x, 8), hidden, dy),
        activation,
      );
    });

for (const kind of ["layer", "rms"])
  for (const bare of [false, true])
    test(`the gradient of ${kind} norm${bare ? " without weights" : ""}`, () => {
      const norm = { kind, eps: 0.01, weight: bare ? null : numbers(6, 1, 2), bias: bare ? null : numbers(6, 2) };
      const [x, dy] = [numbers(18, 3, 2), numbers(18, 4)];
      near(
        normaliseBack(norm, dy, x, 6),
        slopes((at) => normalise(norm, at, 6), x, dy),
        kind,
      );
    });

test("no norm leaves numbers as they are", () => {
  const x = numbers(6, 1);
  assert.equal(normalise(null, x, 3), x);
  assert.equal(normaliseBack(null, x, numbers(6, 2), 3), x);
});

test("the gradient of softmax, whose rows add up to 1 whatever their sizes", () => {
  const [x, dy] = [numbers(15, 3, 3), numbers(15, 4)];
  const weights = softmax(x.slice(), 5);
  near(
    softmaxBack(weights, dy, 5),
    slopes((at) => softmax(at.slice(), 5), x, dy),
    "softmax",
  );
  const large = softmax(Float32Array.of(-1e30, 1e30, 1e30, 200, 300, 0), 3);
  assert.deepEqual([...large], [0, 0.5, 0.5, Math.fround(Math.exp(-100)), 1, 0]);
});

test("a matrix turned twice is itself", () => {
  const matrix = numbers(15, 1);
  assert.equal(transpose(matrix, 3, 5)[1], matrix[5]);
  assert.deepEqual(transpose(transpose(matrix, 3, 5), 5, 3), matrix);
});

test("ranks count ties half", () => {
  assert.deepEqual([...rank(Float32Array.of(3, 1, 3, 2))], [0.75, 0.125, 0.75, 0.375]);
});

// ---- a worker ----

/** What timm would call a Vision Transformer of two tokens, one number wide. */
const SPEC = {
  channels: 1,
  height: 1,
  width: 2,
  patch: [1, 1],
  prefix: 0,
  dim: 1,
  classes: 2,
  pooling: "all",
  positions: "none",
  normPre: null,
  norm: null,
  normPooled: null,
  blocks: [],
  weights: { "embedding.weight": [0, [1, 1]], "head.weight": [1, [2, 1]] },
};
const HALVES = Uint16Array.of(0x3c00, 0x4000, 0xc000); // 1, 2, -2

test("the engine is opened before it is asked, and refuses what it does not know", () => {
  const ask = engineOf();
  assert.throws(
    () => ask("explain", { image: Float32Array.of(1, 3), target: 0, methods: [] }),
    /no model is there yet/,
  );
  ask("open", { spec: SPEC, weights: HALVES }, () => {});
  const { logits, target } = ask("explain", { image: Float32Array.of(1, 3), target: null, methods: [] });
  assert.deepEqual([[...logits], target], [[4, -4], 0]);
});

test("a worker answers every message by its number, errors too", () => {
  const sent = [];
  const scope = { postMessage: (message) => sent.push(message) };
  serve(scope);
  const put = (id, act, given) => scope.onmessage({ data: { id, act, given } });
  put(1, "open", { spec: SPEC, weights: HALVES });
  put(2, "answers", { images: [Float32Array.of(1, 3)] });
  put(3, "explain", { image: Float32Array.of(1), target: 0, methods: [] });
  assert.deepEqual(sent[0], { id: 1, answer: { without: "", methods: Object.keys(METHODS) } });
  assert.deepEqual(sent[1], { id: 2, share: 0 });
  assert.deepEqual(
    sent[2].answer.logits.map((one) => [...one]),
    [[4, -4]],
  );
  assert.equal(sent[3].id, 3);
  assert.match(sent[3].error, /expected 1 x 1 x 2 numbers of a picture; got 1/);
});

// ---- the side of a page ----

/** Workers that do as they are told; `started` holds all that were. */
class FakeWorker {
  static started = [];

  constructor(url) {
    this.url = url;
    this.asked = [];
    this.ended = false;
    FakeWorker.started.push(this);
  }

  postMessage(message) {
    this.asked.push(message);
  }

  terminate() {
    this.ended = true;
  }

  /** Answers the question asked so many back. */
  answer(what, back = 1) {
    this.onmessage({ data: { id: this.asked.at(-back).id, ...what } });
  }

  /** Fails, as a worker does whose memory is full. */
  fail() {
    this.onerror({ preventDefault() {}, message: "out of memory" });
  }
}

/** Lets every promise that can go on do so. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

const live = () => ({ code: "", spec: SPEC, weights: new DataView(HALVES.buffer) });
const { Worker } = globalThis;

beforeEach(() => {
  FakeWorker.started = [];
  globalThis.Worker = FakeWorker;
});
afterEach(() => {
  globalThis.Worker = Worker;
});

/** A page's engine whose worker has been opened, and that worker. */
async function opened(silent) {
  const client = engineClient(live(), silent);
  client.open();
  const [worker] = FakeWorker.started;
  worker.answer({ answer: { without: "", methods: [] } });
  await client.open();
  return { client, worker };
}

test("the model is sent once, before the first question", async () => {
  const client = engineClient(live());
  const asked = [client.ask("layers", { target: 1 }), client.ask("rows", { target: 2 })];
  const [worker, ...others] = FakeWorker.started;
  assert.equal(others.length, 0);
  assert.deepEqual(
    worker.asked.map(({ act }) => act),
    ["open"],
  );
  assert.deepEqual(worker.asked[0].given, { spec: SPEC, weights: HALVES });
  worker.answer({ answer: {} });
  await settle();
  assert.deepEqual(
    worker.asked.map(({ act, given }) => [act, given.target]),
    [
      ["open", undefined],
      ["layers", 1],
      ["rows", 2],
    ],
  );
  worker.answer({ answer: "second" });
  worker.answer({ answer: "first" }, 2);
  assert.deepEqual(await Promise.all(asked), ["first", "second"]);
  client.close();
  assert.ok(worker.ended);
});

test("reports come before the answer, errors in place of it", async () => {
  const { client, worker } = await opened();
  const shares = [];
  const asked = client.ask("paths", {}, (share) => shares.push(share));
  await settle();
  worker.answer({ share: 0.25 });
  worker.answer({ share: 0.5 });
  worker.answer({ error: "no model" });
  await assert.rejects(asked, /^Error: no model$/);
  assert.deepEqual(shares, [0.25, 0.5]);
  worker.answer({ answer: "too late" }); // to nobody
  client.close();
});

test("when a worker is lost everybody who waits hears of it, and the next question starts another one", async () => {
  const { client, worker } = await opened();
  const waiting = [client.ask("layers", {}), client.ask("rows", {})];
  await settle();
  worker.fail();
  for (const one of await Promise.allSettled(waiting))
    assert.match(one.reason.message, /was lost \(out of memory\)\. Choose again to start it anew\./);
  assert.ok(worker.ended);
  const again = client.ask("layers", {});
  const second = FakeWorker.started[1];
  assert.equal(second.asked[0].act, "open");
  second.answer({ answer: {} });
  await settle();
  second.answer({ answer: "there" });
  assert.equal(await again, "there");
  assert.equal(client.inPage(), false);
  client.close();
});

test("a worker that says nothing for a while counts as lost; one that reports does not, nor one that has nothing to do", async () => {
  const { client, worker } = await opened(60);
  const after = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  await after(90); // nothing is asked
  assert.ok(!worker.ended);
  const asked = client.ask("paths", {});
  asked.catch(() => {});
  await settle();
  for (const share of [0.2, 0.4, 0.6]) {
    await after(30);
    worker.answer({ share });
  }
  assert.ok(!worker.ended);
  await assert.rejects(asked, /it has not answered for a while/);
  assert.ok(worker.ended);
});

test("those who wait hear that it was stopped", async () => {
  const { client, worker } = await opened();
  const asked = client.ask("paths", {});
  await settle();
  client.stop();
  await assert.rejects(asked, /^Error: Stopped/);
  assert.ok(worker.ended);
});

test("where workers may not be started the page answers itself", async () => {
  globalThis.Worker = class {
    constructor() {
      throw new Error("refused by a content security policy");
    }
  };
  const client = engineClient(live(), 20);
  assert.equal((await client.open()).without, "");
  assert.ok(client.inPage());
  const { logits } = await client.ask("explain", { image: Float32Array.of(1, 3), target: null, methods: [] });
  assert.deepEqual([...logits], [4, -4]);
  await assert.rejects(
    client.ask("explain", { image: Float32Array.of(1), target: 0, methods: [] }),
    /numbers of a picture/,
  );
});

test("of what changes faster than it is answered only the newest is asked next", async () => {
  const [begun, ends] = [[], []];
  const ask = newest((given) => {
    begun.push(given);
    return new Promise((resolve) => ends.push(resolve));
  });
  for (const given of [1, 2, 3]) ask(given);
  assert.deepEqual(begun, [1]);
  ends[0]();
  await settle();
  assert.deepEqual(begun, [1, 3]);
  ends[1]();
  await settle();
  ask(4);
  assert.deepEqual(begun, [1, 3, 4]);
});

test("a question that fails does not keep later ones from being asked", async (t) => {
  const told = t.mock.method(console, "error", () => {});
  const begun = [];
  const ask = newest(async (given) => {
    begun.push(given);
    if (given === 1) throw new Error("lost");
  });
  ask(1);
  ask(2);
  await settle();
  ask(3);
  await settle();
  assert.deepEqual(begun, [1, 2, 3]);
  assert.equal(told.mock.calls[0].arguments[0].message, "lost");
});

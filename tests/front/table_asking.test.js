// What the table asks its model, in which order, and what it makes of the answers.

import assert from "node:assert/strict";
import test from "node:test";
import { askingOf, sharesOf } from "../../tokentm_widgets/front/table_asking.js";

const PATCHES = 4;

/** A table whose model is answered by hand. */
function tableOf() {
  const now = { key: "first", target: null, gone: [] };
  const questions = [];
  const failures = [];
  const results = [];
  const asking = askingOf({
    wanted: () => ({ ...now, gone: [...now.gone] }),
    measure: () => "tokentm",
    ask: (question) =>
      new Promise((resolve, reject) => {
        questions.push({ ...question, resolve, reject });
      }),
    answered: (result) => results.push(result),
    failed: (error) => failures.push(error.message),
  });
  /** The model answers the question that is under way: class 0 with some odds. */
  const answer = async (odds, map = [4, 3, 2, 1]) => {
    const { target, maps, resolve } = questions.at(-1);
    const scores = Float32Array.from(map);
    const three = Object.fromEntries(["rollout", "generic_attention", "tokentm"].map((name) => [name, { scores }]));
    resolve({ logits: [Math.log(odds), Math.log(1 - odds)], target: target ?? 0, maps: maps ? three : {} });
    await settle();
  };
  return { now, asking, questions, results, failures, answer };
}
const settle = () => new Promise((resolve) => setImmediate(resolve));
const close = (found, wanted) => assert.ok(Math.abs(found - wanted) < 1e-6, `${found} is not ${wanted}`);

test("probabilities and shares", () => {
  assert.deepEqual([...sharesOf(Float32Array.of(1, 3))], [0.25, 0.75]);
  assert.deepEqual([...sharesOf(Float32Array.of(0, 0))], [0, 0]);
});

test("one question is under way; whatever came meanwhile, the newest state is asked next and last", async () => {
  const { now, asking, questions, answer } = tableOf();
  asking.drive();
  for (const key of ["second", "third", "fourth"]) {
    now.key = key;
    asking.drive();
  }
  assert.equal(questions.length, 1);
  await answer(0.9);
  assert.equal(questions.length, 2);
  await answer(0.8);
  assert.equal(asking.result().key, "fourth");
  assert.equal(questions.length, 2);
  assert.ok(asking.settled());
});

test("patches are taken one after the other, and each has its own effect", async () => {
  const { now, asking, questions, answer } = tableOf();
  asking.drive();
  await answer(0.9);
  now.gone = [2, 0];
  asking.drive();
  assert.deepEqual([questions[1].taken, questions[1].maps], [[2], false]);
  await answer(0.7);
  assert.deepEqual([questions[2].taken, questions[2].maps], [[2, 0], true]); // the last one brings the maps
  await answer(0.75, [0, 3, 0, 1]);
  const [first, second] = asking.log();
  assert.deepEqual([first.patch, second.patch], [2, 0]);
  close(first.did, 0.2);
  close(second.did, -0.05);
  close(first.said, 0.2);
  close(second.first, 0.4);
  assert.ok(asking.settled());
});

test("a patch that is put back leaves the log, and the model sees it again", async () => {
  const { now, asking, questions, answer } = tableOf();
  asking.drive();
  await answer(0.9);
  now.gone = [1];
  asking.drive();
  await answer(0.5);
  now.gone = [];
  asking.drive();
  assert.deepEqual(questions.at(-1).taken, []);
  await answer(0.9);
  assert.deepEqual(asking.log(), []);
  assert.ok(asking.settled());
});

test("the question stays that of the class at first, while its evidence goes", async () => {
  const { now, asking, questions, answer } = tableOf();
  asking.drive();
  await answer(0.9);
  now.gone = [1];
  asking.drive();
  assert.equal(questions.at(-1).target, 0);
  await answer(0.1);
  assert.deepEqual([asking.result().index, asking.result().top], [0, 1]);
  assert.ok(asking.settled());
});

test("another scene, or class, is asked as a whole before its patches go", async () => {
  const { now, asking, questions, answer } = tableOf();
  asking.drive();
  await answer(0.9);
  now.gone = [1];
  asking.drive();
  await answer(0.5);
  now.key = "other";
  asking.drive();
  assert.deepEqual(questions.at(-1).taken, []);
  await answer(0.6);
  assert.deepEqual(questions.at(-1).taken, [1]);
  await answer(0.4);
  close(asking.log()[0].did, 0.2);
  now.target = 1;
  asking.drive();
  assert.deepEqual([questions.at(-1).taken, questions.at(-1).target], [[], 1]);
});

test("a question that fails is told once, what is known stays, and a new state is asked", async () => {
  const { now, asking, questions, failures, answer } = tableOf();
  asking.drive();
  await answer(0.9);
  now.key = "lost";
  asking.drive();
  questions.at(-1).reject(new Error("the worker was lost"));
  await settle();
  asking.drive();
  assert.deepEqual([failures, questions.length], [["the worker was lost"], 2]);
  assert.equal(asking.result().key, "first");
  assert.ok(!asking.settled());
  now.key = "new";
  asking.drive();
  await answer(0.8);
  assert.equal(asking.result().key, "new");
  assert.equal(PATCHES, asking.result().maps.tokentm.length);
});

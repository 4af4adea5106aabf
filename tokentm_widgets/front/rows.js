// What a patch takes, wherever it comes from: rows that were sent with the widget, rows that an exported page holds, or
// rows that the kernel is asked for when a patch is looked at. At most one question is under way: while it is, the
// pointer moves on, and only what it points at in the end is asked next.

import { codedRows } from "./numbers.js";

/** @import { Data, Shown, Taken } from "./layer_rows.js" */
/** @import { RowsData } from "./schema.d.ts" */
/** @import { Model, Rows } from "./types.d.ts" */
/** @typedef {{ kind: "rows", index: number, head: number | null, patch: number | null }} Question */
/** @typedef {{ has: (now: Shown) => boolean, taken: (now: Shown) => Taken, bytes: number }} Block */
/**
 * What all views of one widget share: answers by question, oldest first, the question that is under way, the one that
 * waits for it, those that were not answered in time, and what was last looked for.
 * @typedef {{ answers: Map<string, Block>, asked: string, next: Question | null, late: Set<string>, last: string }} Answers
 */

/** Milliseconds after which an unanswered question is called unanswered. */
const ASK = 3000;
/** Most bytes of answers that are kept. */
const KEPT = 64 * 2 ** 20;
/** In place of a head: the mean of all; see layer_panels.py. */
const MEAN = -1;

/** By data as sent. @type {WeakMap<object, Answers>} */
const known = new WeakMap();

/**
 * @param {Model} model
 * @param {Data} data
 * @param {() => void} changed called when rows have come, or have not come in time
 * @param {number} kept most bytes of answers that are kept
 */
export function rowSource(model, data, changed, kept = KEPT) {
  const sent = data.taken.map((one) => blockOf(one, data));
  /** @type {Answers} */
  const shared = known.get(model.get("_data")) ?? {
    ...{ answers: new Map(), asked: "", next: null, late: new Set(), last: "" },
  };
  known.set(model.get("_data"), shared);

  /** Through one head, all patches come at once where their means did: from then on pointing asks nobody. */
  const questionOf = (/** @type {Shown} */ now) =>
    now.head !== null && sent.some((one) => one.has({ ...now, head: null }))
      ? question(now.index, now.head, null)
      : question(now.index, null, now.patch);

  /** @param {Question} asking */
  function ask(asking) {
    const key = keyOf(asking);
    if (shared.asked) {
      shared.next = asking;
      return;
    }
    shared.asked = key;
    shared.next = null;
    shared.late.delete(key);
    try {
      model.send(asking);
      setTimeout(() => {
        if (shared.answers.has(key) || shared.asked !== key) return;
        shared.late.add(key);
        shared.asked = ""; // a kernel that was started anew has forgotten the question
        changed();
      }, ASK);
    } catch {
      shared.late.add(key); // JupyterLab throws where the kernel was shut down
      shared.asked = "";
    }
  }

  /**
   * @param {{ kind: string, asked: Question, rows: RowsData, parts: [string, string][] } | undefined} message
   * @param {DataView[]} buffers
   */
  function listen(message, buffers) {
    if (message?.kind !== "rows") return;
    const key = keyOf(message.asked);
    /** @type {Record<string, Record<string, DataView>>} */
    const coded = {};
    message.parts.forEach(([name, part], i) => {
      coded[name] = { ...coded[name], [part]: buffers[i] };
    });
    shared.answers.delete(key);
    shared.answers.set(key, blockOf({ ...message.rows, ...coded }, data));
    forgetOldest(shared.answers, kept);
    shared.late.delete(key);
    if (shared.asked === key) shared.asked = "";
    if (!shared.asked && shared.next) ask(shared.next);
    changed();
  }

  model.on("msg:custom", listen);
  return {
    /**
     * What the patch that is looked at takes, as far as it is here; what is not is asked for.
     * @param {Shown} now
     * @returns {Taken | undefined}
     */
    get(now) {
      if (now.patch === null) return undefined;
      const answer = shared.answers.get(keyOf(question(now.index, null, now.patch)));
      const ofHead = shared.answers.get(keyOf(question(now.index, now.head, null)));
      const blocks = [...sent, answer, ofHead].filter((one) => one !== undefined);
      const found = blocks.find((one) => one.has(now))?.taken(now);
      const contribution = blocks.map((one) => one.taken(now).contribution).find((one) => one);
      const asking = questionOf(now);
      const key = keyOf(asking);
      if (key !== shared.last) shared.late.delete(key); // looked at again: the kernel may be back
      shared.last = key;
      if (found || data.offered) shared.next = null;
      else if (!shared.late.has(key) && shared.asked !== key) ask(asking);
      return { ...found, contribution };
    },
    /**
     * What is awaited, in words; nothing where all is here.
     * @param {Shown} now
     * @param {Taken | undefined} taken
     */
    waiting(now, taken) {
      if (now.patch === null || taken?.attention) return "";
      if (data.offered) return `This page does not hold what this patch takes${holding(data)}.`;
      const asking = questionOf(now);
      const [what, without] =
        asking.patch === null
          ? [`head ${(now.head ?? 0) + 1}`, "a single head shows only what the readout takes"]
          : ["what this patch takes", "only what the readout takes is shown"];
      if (shared.late.has(keyOf(asking)))
        return data.inPage
          ? `Still computing; meanwhile ${without}.`
          : `The kernel does not answer; without it ${without}.`;
      return data.inPage ? `Computing ${what} …` : `Asking the kernel for ${what} …`;
    },
    close: () => model.off("msg:custom", listen),
  };
}

/** @type {(index: number, head: number | null, patch: number | null) => Question} */
const question = (index, head, patch) => ({ kind: "rows", index, head, patch });

/** @param {Question} asked */
const keyOf = ({ index, head, patch }) => `${index} ${head} ${patch}`;

/** @param {Data} data */
function holding(data) {
  const count = Math.max(0, ...data.taken.map((one) => one.patches.length));
  return count ? `: it holds the ${count} patches that contribute most` : "";
}

/**
 * Drop the oldest answers, but not the last one, until those that are left take no more than so many bytes.
 * @param {Map<string, Block>} answers
 * @param {number} most
 */
function forgetOldest(answers, most) {
  let sum = [...answers.values()].reduce((all, one) => all + one.bytes, 0);
  for (const [key, one] of answers) {
    if (sum <= most || answers.size === 1) return;
    answers.delete(key);
    sum -= one.bytes;
  }
}

/**
 * Rows as they are sent -> what can be read from them.
 * @param {RowsData} rows
 * @param {Data} data
 * @returns {Block}
 */
function blockOf(rows, data) {
  const { heads, patches, indices } = rows;
  const coded = {
    attention: codedRows(rows.attention),
    update: codedRows(rows.update),
    product: rows.product && codedRows(rows.product),
    contribution: rows.contribution && codedRows(rows.contribution),
  };
  const whole = heads.length === data.heads && heads[0] !== MEAN;
  const places = new Map(patches.map((patch, k) => [patch, k]));
  /** Which rows are those of the shown heads. @param {number | null} head */
  const shownHeads = (head) =>
    head === null && whole ? heads.map((_, s) => s) : [heads.indexOf(head ?? MEAN)].filter((s) => s >= 0);
  const has = (/** @type {Shown} */ { index, head, patch }) =>
    patch !== null && indices.includes(index) && places.has(patch) && shownHeads(head).length > 0;
  const all = Object.values(rows).flatMap((one) => (Array.isArray(one) ? [] : [one.codes, one.low, one.high]));
  return {
    has,
    bytes: all.reduce((sum, view) => sum + view.byteLength, 0),
    taken({ index, head, patch }) {
      const [b, k] = [indices.indexOf(index), places.get(patch ?? -1)];
      if (b < 0 || k === undefined) return {};
      const { contribution, product } = coded;
      /** Number of a row, of those of so many heads: (score, layer, head, patch). */
      const at = (/** @type {number} */ layer, s = 0, count = 1, score = 0) =>
        ((score * data.layers + layer) * count + s) * patches.length + k;
      const shown = shownHeads(head);
      /** @type {Taken} */
      const taken = {};
      if (contribution) taken.contribution = (layer) => contribution(at(layer, 0, 1, b), data.patches);
      if (!shown.length) return taken;
      const of =
        (/** @type {Rows} */ read, score = 0) =>
        (/** @type {number} */ layer) =>
          shown.map((s) => read(at(layer, s, heads.length, score), data.patches));
      taken.attention = of(coded.attention);
      taken.update = of(coded.update, b);
      if (product && head === null) taken.product = (layer) => product(at(layer), data.patches);
      return taken;
    },
  };
}

// What the scene table asks its model, and in which order: one question is under way, and when it is answered, the newest
// state says which one is next. Patches that are gone are taken one after the other, so that each has its own effect.

import { largest } from "./engine/explaining.js";
import { softmaxOf } from "./live_numbers.js";

/** @import { Numbers } from "./engine/types.d.ts" */
/** @typedef {Record<string, Float32Array>} Maps shares of a whole, by method; "difference" is that of the last two */
/**
 * What is looked at: what tells one scene from another, and what the model gets of it.
 * @typedef {{ key: string, target: number | null, gone: number[] }} Wanted
 */
/**
 * What the model said. `taken` had been taken away; `maps` are those of the last time that maps were asked.
 * @typedef {{ key: string, index: number, top: number, odds: Numbers, taken: number[], maps: Maps, fresh: boolean }} Result
 */
/** Of one patch: what the map said of it when it went and at first, and by how much the probability fell. @typedef {{ patch: number, said: number, first: number, did: number }} Entry */
/** The same for maps by every method. @typedef {{ patch: number, before: Maps, whole: Maps, did: number }} Gone */
/** A question; without `maps` it is answered sooner. @typedef {{ taken: number[], target: number | null, maps: boolean }} Question */
/** @typedef {{ logits: Numbers, target: number, maps: Record<string, { scores: Float32Array }> }} Answer */
/**
 * @typedef {object} Table
 * @property {() => Wanted | null} wanted the state now; null while there is nothing to ask about
 * @property {(question: Question) => Promise<Answer>} ask
 * @property {() => string} measure the method whose map says what a patch is worth
 * @property {(result: Result) => void} answered
 * @property {(error: Error) => void} failed
 */

/** A map as shares of its whole. @param {Float32Array} scores */
export function sharesOf(scores) {
  const sum = scores.reduce((a, b) => a + b, 0);
  return scores.map((value) => (sum ? value / sum : 0));
}

/** @param {Record<string, { scores: Float32Array }>} maps @returns {Maps} */
export function mapsOf(maps) {
  /** @type {Maps} */
  const shares = Object.fromEntries(Object.entries(maps).map(([name, { scores }]) => [name, sharesOf(scores)]));
  const before = shares.generic_attention;
  return { ...shares, difference: shares.tokentm.map((value, p) => value - before[p]) };
}

/** @param {Table} table */
export function askingOf({ wanted, ask, measure, answered, failed }) {
  /** @type {Result | null} */
  let result = null;
  /** The answer with all patches there. @type {Result | null} */
  let base = null;
  /** @type {Gone[]} */
  let log = [];
  /** The log as the method that is looked at has it. @type {{ of: Gone[], measure: string, entries: Entry[] }} */
  let read = { of: log, measure: "", entries: [] };
  const entries = () => {
    const name = measure();
    if (read.of !== log || read.measure !== name)
      read = {
        ...{ of: log, measure: name },
        entries: log.map(({ patch, before, whole, did }) => ({
          ...{ patch, did, said: before[name][patch], first: whole[name][patch] },
        })),
      };
    return read.entries;
  };
  let busy = false;
  /** The state that could not be answered: asked again when it has changed. */
  let given = "";

  const patches = () => log.map(({ patch }) => patch);
  const stateOf = (/** @type {Wanted} */ { key, target, gone }) => JSON.stringify([key, target, gone]);

  /**
   * The next question and what its answer is for.
   * @param {Wanted} now
   * @returns {(Question & { patch: number | null }) | null}
   */
  function next({ key, target, gone }) {
    if (!result || !base || result.key !== key || (target !== null && base.index !== target) || asked !== target) {
      return { taken: [], target, maps: true, patch: null };
    }
    const stays = log.filter(({ patch }) => gone.includes(patch));
    if (stays.length < log.length) log = stays;
    const before = patches();
    const waiting = gone.filter((patch) => !before.includes(patch));
    const same = before.length === result.taken.length && before.every((patch) => result?.taken.includes(patch));
    if (!same) return { taken: before, target: base.index, maps: !waiting.length, patch: null };
    // as long as more patches wait, the maps follow at every fourth one, and the answer at each
    if (waiting.length) {
      const maps = waiting.length === 1 || before.length % 4 === 3;
      return { taken: [...before, waiting[0]], target: base.index, maps, patch: waiting[0] };
    }
    return result.fresh ? null : { taken: before, target: base.index, maps: true, patch: null };
  }
  /** Which class the base was asked for, as it was wished. @type {number | null} */
  let asked = null;

  /**
   * @param {Wanted} now
   * @param {Question & { patch: number | null }} question
   */
  async function put(now, question) {
    const { logits, target, maps } = await ask(question);
    const odds = softmaxOf(logits);
    const top = largest(odds);
    const before = result;
    const made = question.maps ? mapsOf(maps) : (before?.maps ?? {});
    result = { key: now.key, index: target, top, odds, taken: question.taken, maps: made, fresh: question.maps };
    if (!question.taken.length) {
      [base, asked] = [result, now.target];
      log = [];
    } else if (question.patch !== null && before && base) {
      const { patch } = question;
      log = [...log, { patch, before: before.maps, whole: base.maps, did: before.odds[base.index] - odds[base.index] }];
    }
    answered(result);
  }

  async function drive() {
    if (busy) return;
    busy = true;
    try {
      for (;;) {
        const now = wanted();
        if (!now || stateOf(now) === given) break;
        const question = next(now);
        if (!question) break;
        try {
          await put(now, question);
          given = "";
        } catch (error) {
          given = stateOf(now);
          failed(error instanceof Error ? error : new Error(String(error)));
        }
      }
    } finally {
      busy = false;
    }
  }

  return {
    /** Something has changed: asks what is not known yet. */
    drive,
    result: () => result,
    base: () => base,
    log: entries,
    /** Whether all that is wanted is known. */
    settled: () => {
      const now = wanted();
      return now !== null && next(now) === null;
    },
  };
}

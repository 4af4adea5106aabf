// The explorer's model in a page without a kernel: maps, checks and views of every class that is offered are there.

import { bytes } from "./numbers.js";

/** @import { ExplorerShown, OfflineData } from "./schema.d.ts" */
/** @import { Model } from "./types.d.ts" */
/** @typedef {{ data: object[], settings: Record<string, unknown>, why?: string }} Part */

/** What follows from the chosen class and method. */
const DERIVED = ["change:shown", "change:trust", "change:index"];

/**
 * @param {Model} model the page's
 * @param {OfflineData} offline
 * @param {Record<string, Part>} parts
 * @returns {Model}
 */
export function offlineOf(model, offline, parts) {
  /** @type {ExplorerShown} */
  const first = model.get("shown");
  const patches = first.rows * first.columns;
  /** @type {Map<string, ExplorerShown>} */
  const made = new Map();
  const chosen = () => {
    const target = model.get("target");
    const wanted = typeof target === "number" ? target : first.target;
    return Math.max(
      0,
      offline.offered.findIndex((one) => one.target === wanted),
    );
  };
  const cut = (/** @type {DataView} */ all, /** @type {number} */ at, /** @type {number} */ length) => {
    const { buffer, byteOffset } = bytes(all);
    return new DataView(buffer, byteOffset + 4 * at, 4 * length);
  };

  function shown() {
    const [k, m] = [chosen(), offline.methods.indexOf(model.get("method"))];
    const key = `${k} ${m}`;
    const known = made.get(key);
    if (known) return known;
    const grown = offline.grown.indexOf(offline.methods[m]);
    const length = offline.layers * patches;
    const one = {
      ...first,
      ...offline.offered[k],
      method: offline.methods[m],
      specific: offline.specific[m],
      scores: cut(offline.scores, (k * offline.methods.length + m) * patches, patches),
      growth: grown < 0 ? null : cut(offline.growth, (k * offline.grown.length + grown) * length, length),
    };
    made.set(key, one);
    return one;
  }

  /** @type {Record<string, () => unknown>} */
  const derived = {
    shown,
    trust: () => offline.trust[chosen() * offline.methods.length + offline.methods.indexOf(model.get("method"))],
    index: chosen,
    gallery: () => [],
    tab: () => model.get("tab") ?? Object.keys(parts)[0],
  };
  for (const [view, part] of Object.entries(parts)) {
    derived[`_${view}`] = () => (part.data ? (part.data[part.data.length > 1 ? chosen() : 0] ?? {}) : {});
    derived[`${view}_settings`] = () => {
      const set = model.get(`${view}_settings`);
      return Object.keys(set ?? {}).length ? set : part.settings;
    };
  }
  const sources = (/** @type {string} */ event) =>
    DERIVED.includes(event) ? ["change:target", "change:method"] : [event];
  return {
    get: (name) => (name in derived ? derived[name]() : model.get(name)),
    set: (name, value) =>
      name === "index"
        ? model.set("target", offline.offered[/** @type {number} */ (value)].target)
        : model.set(name, value),
    save_changes: () => model.save_changes(),
    send() {},
    on(event, listener) {
      for (const one of sources(event)) model.on(one, listener);
    },
    off(event, listener) {
      for (const one of sources(event)) model.off(one, listener);
    },
  };
}

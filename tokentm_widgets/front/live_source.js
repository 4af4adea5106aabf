// The model of a page that computes: in place of the kernel, the live engine answers what its reader chooses, by setting
// the traits that the kernel would set (what is shown, its checks, the views' data).

import { normalised } from "./engine/preparing.js";
import { engineClient, newest } from "./engine_client.js";
import { growthOf, viewOf } from "./live_numbers.js";
import { layersData, methodsData, pathsData, removalData, rowsMessage, valuesOf } from "./live_parts.js";
import { comparedClasses, freeOfOutliers, measured } from "./live_trust.js";
import { bytes, floats } from "./numbers.js";
import { ownPicture } from "./own_picture.js";

/** @import { Numbers } from "./engine/types.d.ts" */
/** @import { ExplorerShown, LivePage, LivePicture } from "./schema.d.ts" */
/** @import { Model } from "./types.d.ts" */
/** @typedef {{ picture: number, target: number | null, method: string }} Choice */
/** @typedef {{ name: string, url: string, picture: string | null, image: Numbers }} Entry */

const CHOICES = ["picture", "target", "method"];
const VIEWS = ["layers", "methods", "removal", "paths"];

/** By the page's data, since every view of a page has a model object of its own. @type {WeakMap<LivePage, Model>} */
const made = new WeakMap();

/**
 * @param {Model} model the page's
 * @param {LivePage} live
 * @returns {Model}
 */
export function liveOf(model, live) {
  const known = made.get(live);
  if (known) return known;
  const source = sourceOf(model, live);
  made.set(live, source);
  return source;
}

/**
 * @param {Model} model
 * @param {LivePage} live
 * @returns {Model}
 */
function sourceOf(model, live) {
  const engine = engineClient(live.engine);
  const entries = live.pictures.map((one) => entryOf(one, live));
  /** A page of one view has no tabs: that view is always open. @type {string | undefined} */
  const fixed = model.get("_data").view;
  /** Who hears messages. @type {((...given: any[]) => void)[]} */
  let hearing = [];
  const first = /** @type {ExplorerShown} */ (model.get("shown"));
  const galleryOf = () => entries.map(({ name, url }) => ({ name, url }));
  /** What is on the screen, and the logits that it was made with. @type {Choice & { logits: Numbers | null }} */
  let there = { .../** @type {Choice} */ (live.first), logits: null };
  let opened = "";
  /** A view that could not be computed, until something else is chosen. */
  let failed = "none";
  let righting = false;

  const put = (/** @type {Record<string, unknown>} */ values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
  };
  const wanted = () => ({ picture: model.get("picture"), target: model.get("target"), method: model.get("method") });
  const isThere = (/** @type {Choice} */ now) =>
    now.picture === there.picture && now.target === there.target && now.method === there.method;
  const screen = () => ({ live, shown: /** @type {ExplorerShown} */ (model.get("shown")) });
  const asked = () => ({ image: entries[there.picture].image, target: screen().shown.target });
  const report = (/** @type {number} */ share) => put({ progress: share });

  /** What is being done, in words; newest last. @type {string[]} */
  const tasks = [];
  const say = () => put({ busy: tasks[tasks.length - 1] ?? (isPending() ? "computing" : "") });

  /** Work that says what it does; what is on the screen stays if it fails. Gives whether it was done. */
  async function work(/** @type {string} */ doing, /** @type {() => Promise<void>} */ task) {
    tasks.push(doing);
    put({ busy: doing, progress: 0, error: "" });
    try {
      await task();
      return true;
    } catch (error) {
      put({ error: error instanceof Error ? error.message : String(error) });
      return false;
    } finally {
      tasks.splice(tasks.indexOf(doing), 1);
      put({ progress: 0 });
      say();
    }
  }

  /** Whether something is chosen that is not on the screen yet. */
  function isPending() {
    const tab = tabNow();
    if (!isThere(wanted())) return true;
    return tab !== failed && (tab !== opened || (tab !== "" && !Object.keys(model.get(`_${tab}`)).length));
  }

  /** What is chosen is what is on the screen. */
  function putRight() {
    righting = true;
    for (const name of CHOICES) model.set(name, there[/** @type {"picture"} */ (name)]);
    model.set("tab", fixed ?? (opened || null));
    righting = false;
    failed = tabNow();
  }

  const look = newest(async (/** @type {null} */ _) => {
    await null; // what is chosen at the same time is answered at once
    const [now, tab] = [wanted(), tabNow()];
    const done = isThere(now) || (await work("computing the map", () => showMap(now)));
    const opening = done && isThere(wanted()) && isPending();
    if (!(done && (!opening || (await openView(tabNow()))))) {
      const chosen = wanted();
      const same = now.picture === chosen.picture && now.target === chosen.target && now.method === chosen.method;
      if (same && tabNow() === tab) putRight(); // what was chosen meanwhile is answered next
    }
    say();
  });

  /** @param {Choice} now */
  async function showMap(now) {
    const entry = entries[now.picture];
    const { logits, target, maps } = await engine.ask("explain", {
      ...{ image: entry.image, target: now.target, methods: [now.method] },
    });
    const shown = shownOf(first, live, { entry, now, logits, target, explained: maps[now.method] });
    const before = screen().shown;
    const same = there.picture === now.picture && before.target === target;
    there = { ...now, logits };
    if (entry.picture !== before.picture || shown.rows !== before.rows) clearPatch();
    // views of what was there before go; those of the same class stay, but for the one that shows the map's own ranking
    const stale = VIEWS.filter((view) => !same || view === "removal").map((view) => [`_${view}`, {}]);
    put({ shown, trust: {}, ...Object.fromEntries(stale) });
    if (fixed) return; // a page of one view says nothing of trust
    const explained = explainedNow(logits);
    const classes = await comparedClasses(engine, live, explained, (one) => valuesOf(live.unit, one));
    const outliers = await freeOfOutliers(engine, live, explained);
    if (isThere(now)) put({ trust: { classes, removal: null, methods: null, outliers } });
  }

  /** What is on the screen, as its checks need it. @param {Numbers} logits */
  function explainedNow(logits) {
    const { image, target } = asked();
    return {
      ...{ image, target: /** @type {number} */ (target), method: there.method, logits },
      scores: floats(screen().shown.scores),
    };
  }

  function clearPatch() {
    if (model.get("patch") !== null) model.set("patch", null);
  }

  /** @param {string} tab */
  async function openView(tab) {
    if (!tab) {
      opened = "";
      return true;
    }
    const now = wanted();
    return work(DOING[tab], async () => {
      const data = await PARTS[tab]();
      if (!isThere(now)) return; // something else was chosen meanwhile
      opened = tab;
      put({ [`_${tab}`]: data });
    });
  }

  /** @type {Record<string, () => Promise<object>>} */
  const PARTS = {
    layers: async () => layersData(screen(), await engine.ask("layers", asked())),
    methods: async () => methodsData(screen(), await engine.ask("methods", { ...asked(), methods: live.compared })),
    paths: async () => pathsData(screen(), await engine.ask("paths", { ...asked(), count: live.paths }, report)),
    async removal() {
      const methods = fixed ? live.removed : [...new Set([there.method, ...live.removed.slice(1)])];
      const orders = { shuffle: live.shuffle, random: live.chance };
      const given = { ...asked(), methods, orders, counts: live.counts };
      return removalData(screen(), methods, await engine.ask("removal", given, report));
    },
  };

  async function check() {
    await work("taking patches away", async () => {
      const { image, target } = asked();
      const now = wanted();
      const { classes, outliers } = model.get("trust");
      const logits = there.logits ?? (await engine.ask("explain", { image, target, methods: [] })).logits;
      const found = await measured(engine, live, explainedNow(logits), (one) => valuesOf(live.unit, one), report);
      if (isThere(now)) put({ trust: { classes, ...found, outliers } });
    });
  }

  /** @param {{ index: number, head: number | null, patch: number | null }} question @param {string} view */
  async function answerRows(question, view) {
    const { shown } = screen();
    try {
      const answer = await engine.ask("rows", { ...asked(), head: question.head, patch: question.patch });
      const now = screen().shown;
      if (now.picture !== shown.picture || now.target !== shown.target) return;
      const { buffers, ...sent } = rowsMessage(answer, shown.rows * shown.columns);
      for (const listener of [...hearing])
        listener({ kind: "part", view, content: { kind: "rows", asked: question, ...sent } }, buffers);
    } catch (error) {
      put({ error: error instanceof Error ? error.message : String(error) });
    }
  }

  /** @param {string} name @param {ArrayBuffer} file */
  async function upload(name, file) {
    const how = live.engine.preparing;
    await work("reading the picture", async () => {
      if (!how) throw new Error(`This page takes no pictures: ${live.engine.why}`);
      entries.push(await ownPicture({ name, file: new Blob([file]) }, /** @type {any} */ (how)));
      // its reader wants to know what the model says of it, not what it would say for the class before
      put({ gallery: galleryOf(), target: null, picture: entries.length - 1 });
    });
  }

  const tabNow = () => fixed ?? model.get("tab") ?? "";
  for (const name of [...CHOICES, "tab"])
    model.on(`change:${name}`, () => {
      if (righting) return;
      failed = "none";
      if (isPending()) put({ busy: "computing", error: "" });
      look(null);
    });
  engine.open().then(
    ({ without }) => {
      if (without)
        put({ note: `This browser does not allow WebAssembly (${without}), so this page computes more slowly.` });
      look(null);
    },
    (error) => put({ error: error.message }),
  );

  put({ gallery: galleryOf(), tab: fixed ?? model.get("tab") });
  put(Object.fromEntries(VIEWS.map((view) => [`_${view}`, {}])));
  for (const [view, usual] of Object.entries(live.settings))
    model.set(`${view}_settings`, { ...usual, ...model.get(`${view}_settings`) });
  return {
    get: (name) => model.get(name),
    set: (name, value) => model.set(name, value),
    save_changes: () => model.save_changes(),
    send(/** @type {any} */ content, _callbacks, buffers = []) {
      if (content.kind === "stop") engine.stop();
      else if (content.kind === "check") check();
      else if (content.kind === "upload") upload(content.name, buffers[0]);
      else if (content.kind === "part" && content.content.kind === "rows") answerRows(content.content, content.view);
    },
    on(event, listener) {
      if (event === "msg:custom") hearing.push(listener);
      else model.on(event, listener);
    },
    off(event, listener) {
      if (event === "msg:custom") hearing = hearing.filter((one) => one !== listener);
      else model.off(event, listener);
    },
  };
}

/** What is computed for each view, in words. @type {Record<string, string>} */
const DOING = {
  layers: "computing layers",
  methods: "computing methods",
  removal: "taking patches away",
  paths: "looking for paths",
};

/**
 * A picture that the page begins with.
 * @param {LivePicture} given
 * @param {LivePage} live
 * @returns {Entry}
 */
function entryOf({ name, url, picture, pixels, numbers }, live) {
  const { height, width } = live.engine.spec;
  const image = pixels
    ? normalised({ data: bytes(pixels), width, height }, /** @type {any} */ (live.engine.preparing))
    : floats(/** @type {DataView} */ (numbers));
  return { name, url, picture, image };
}

/**
 * What is on the screen.
 * @param {ExplorerShown} first what was there as the page was written: how patches lie, and what does not change
 * @param {LivePage} live
 * @param {{ entry: Entry, now: Choice, logits: Numbers, target: number, explained: { layers: Numbers[], scores: Numbers } }} found
 * @returns {ExplorerShown}
 */
function shownOf(first, live, { entry, now, logits, target, explained }) {
  const values = valuesOf(live.unit, logits);
  const growth = growthOf(explained.layers);
  const named = live.engine.classes[target];
  return {
    ...first,
    ...{ picture: entry.picture, note: "", method: now.method, specific: live.specific[now.method] },
    ...{ explained: named, named, target, score: logits[target], unit: live.unit },
    ...{ values: viewOf(values), scores: viewOf(explained.scores), growth: growth && viewOf(growth) },
  };
}

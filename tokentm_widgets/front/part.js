// One view inside the explorer, as that view's module sees it: a model of its own, over the explorer's.
// What all views have in common is the explorer's; the view's data and what else is chosen in it are traits by its name.

/** @import { Model } from "./types.d.ts" */

/** Chosen in one view, it is chosen in all. */
const SHARED = ["patch", "layer", "head", "opacity"];
/** What a view calls it where it has a name of its own for it. @type {Record<string, Record<string, string>>} */
const CALLED = { layers: { kept: "patch", patch: "" } };

/** Data as sent -> the same with the picture, which comes once. @type {WeakMap<object, object>} */
const completed = new WeakMap();

/**
 * @param {Model} model the explorer's, or what stands for it in an exported page
 * @param {string} view
 * @returns {Model & { close(): void }}
 */
export function partOf(model, view) {
  const [data, settings] = [`_${view}`, `${view}_settings`];
  /** @type {Record<string, ((...given: any[]) => void)[]>} */
  const listeners = {};
  let before = model.get(settings) ?? {};
  const tell = (/** @type {string} */ event, /** @type {any[]} */ ...given) => {
    for (const listener of [...(listeners[event] ?? [])]) listener(...given);
  };
  const changed = () => {
    const now = model.get(settings) ?? {};
    const names = Object.keys({ ...before, ...now }).filter((name) => before[name] !== now[name]);
    before = now;
    for (const name of names) tell(`change:${name}`);
  };
  const heard = (/** @type {any} */ message, /** @type {DataView[]} */ buffers) => {
    if (message?.kind === "part" && message.view === view) tell("msg:custom", message.content, buffers);
  };
  /** The explorer's trait that is meant by one of the view; nothing where it is the view's own. */
  const common = (/** @type {string} */ name) => CALLED[view]?.[name] ?? (SHARED.includes(name) ? name : "");
  const names = [...SHARED, "index", ...Object.keys(CALLED[view] ?? {})];
  /** @type {{ event: string, call: (...given: any[]) => void }[]} */
  const relays = names
    .filter((name) => name === "index" || common(name))
    .map((name) => ({ event: `change:${common(name) || name}`, call: () => tell(`change:${name}`) }));
  relays.push({ event: `change:${settings}`, call: changed }, { event: "msg:custom", call: heard });
  for (const { event, call } of relays) model.on(event, call);

  function get(/** @type {string} */ name) {
    if (name === "_data") return withPicture(model.get(data), model.get("shown").picture);
    if (name === "index") return model.get("index") ?? 0;
    if (name === "layer") return model.get("layer") ?? (model.get("shown").layers ?? 1) - 1;
    return common(name) ? model.get(common(name)) : (model.get(settings)?.[name] ?? null);
  }

  return {
    get,
    set(name, value) {
      if (get(name) === value) return;
      if (name === "index" || common(name)) model.set(common(name) || name, value);
      else model.set(settings, { ...model.get(settings), [name]: value });
    },
    save_changes: () => model.save_changes(),
    send: (content, callbacks, buffers) => model.send({ kind: "part", view, content }, callbacks, buffers),
    on(event, listener) {
      listeners[event] ??= [];
      listeners[event].push(listener);
    },
    off(event, listener) {
      listeners[event] = (listeners[event] ?? []).filter((one) => one !== listener);
    },
    close() {
      for (const { event, call } of relays) model.off(event, call);
    },
  };
}

/**
 * @param {object} data
 * @param {string | null} picture
 */
function withPicture(data, picture) {
  if (!completed.has(data)) completed.set(data, { ...data, pictures: picture ? [picture] : [] });
  return completed.get(data);
}

// Playing belongs to the model, not to a view: two views of one widget must not step twice.

/** @import { Model } from "./types.d.ts" */

/**
 * A widget's `initialize`: while "playing", a trait goes up to `count(data)` - 1, at "speed" steps per second, and stops
 * there; from there it begins anew.
 * @param {string} trait
 * @param {(data: any) => number} count
 */
export const playingOver =
  (trait, count) =>
  (/** @type {{ model: Model }} */ { model }) =>
    beat(model, () => {
      const last = count(model.get("_data")) - 1;
      const next = model.get(trait) >= last ? 0 : model.get(trait) + 1;
      model.set(trait, next);
      if (next === last) model.set("playing", false);
      model.save_changes();
    });

/**
 * Calls `step` at the model's speed while it plays; gives what ends that.
 * @param {Model} model
 * @param {() => void} step
 */
export function beat(model, step) {
  /** @type {ReturnType<typeof setInterval> | undefined} */
  let timer;
  const follow = () => {
    clearInterval(timer);
    timer = model.get("playing") ? setInterval(step, 1000 / model.get("speed")) : undefined;
  };
  for (const name of ["playing", "speed"]) model.on(`change:${name}`, follow);
  follow();
  return () => {
    clearInterval(timer);
    for (const name of ["playing", "speed"]) model.off(`change:${name}`, follow);
  };
}

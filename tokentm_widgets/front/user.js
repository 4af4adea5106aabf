// What the user chose belongs to the widget, not to a view.

/** @import { Model, Shared, User } from "./types.d.ts" */

/** Milliseconds until the kernel hears of a choice: after the next frame, since its answers keep JupyterLab busy. */
const PAUSE = 25;

/**
 * The one user of a widget. Until the kernel has heard of a choice, it outlives what comes in between: the kernel's echo
 * of the choice before would set the view back.
 * @param {Shared} shared
 * @param {Model} model
 * @returns {User}
 */
export function userOf(shared, model) {
  shared.user ??= userWith(model);
  return shared.user;
}

/**
 * @param {Model} model
 * @returns {User}
 */
function userWith(model) {
  /** @type {Map<string, unknown>} */
  const chosen = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let saving;
  const save = () => {
    if (saving === undefined) return;
    clearTimeout(saving);
    saving = undefined;
    chosen.clear();
    model.save_changes();
  };
  return {
    choose(trait, value) {
      chosen.set(trait, value);
      model.set(trait, value);
      saving ??= setTimeout(save, PAUSE);
    },
    insist() {
      for (const [trait, value] of chosen) if (model.get(trait) !== value) model.set(trait, value);
    },
    forget: () => chosen.clear(),
    save,
  };
}

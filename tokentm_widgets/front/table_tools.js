// The buttons below the scene: what the pointer does, what is done with the chosen drawing, and which patches go.

import { press } from "./controls.js";
import { drawing, element } from "./dom.js";
import { TEN } from "./taking_away.js";

/** @import { Act } from "./placing.js" */

/** @type {[act: Act, says: string, key: string, path: string][]} */
const ACTS = [
  ["smaller", "Smaller", "−", "M4 10h12"],
  ["bigger", "Bigger", "+", "M4 10h12M10 4v12"],
  ["left", "Turn left", ",", "M4 4v5h5M4.6 9A6.2 6.2 0 1 1 5 13.5"],
  ["right", "Turn right", ".", "M16 4v5h-5M15.4 9A6.2 6.2 0 1 0 15 13.5"],
  ["front", "To the front", "F", "M3 3h9v9H3zM8 15v2h9V8h-2"],
  ["other", "Another drawing of the same kind", "N", "M4 7h10l-3-3M16 13H6l3 3"],
  ["remove", "Remove", "Delete", "M4 6h12M8 6V4h4v2M6 6l1 11h6l1-11"],
];

/** @param {(act: Act) => void} act */
export function drawingTools(act) {
  const buttons = ACTS.map(([name, says, key, path]) => {
    const icon = drawing("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" }, drawing("path", { d: path }));
    const made = element(
      "button",
      { type: "button", class: "icon", name, "aria-label": says, title: `${says} (${key})` },
      icon,
    );
    made.addEventListener("click", () => act(name));
    return made;
  });
  const node = element("span", { class: "icons", role: "group", "aria-label": "The chosen drawing" }, ...buttons);
  return {
    node,
    /** @param {boolean} chosen */
    paint(chosen) {
      for (const one of buttons) one.disabled = !chosen;
    },
  };
}

const MODES = { move: "Move things", take: "Take patches away" };

/** @param {(name: string) => void} choose */
export function modes(choose) {
  const buttons = Object.entries(MODES).map(([name, says]) => {
    const made = element("button", { type: "button", name: "mode", "data-value": name }, says);
    made.addEventListener("click", () => choose(name));
    return made;
  });
  const node = element("span", { class: "modes", role: "group", "aria-label": "What the pointer does" }, ...buttons);
  return {
    node,
    /** @param {string} now */
    paint(now) {
      for (const one of buttons) press(one, one.dataset.value === now);
    },
  };
}

/** @typedef {"most" | "least" | "random" | "back"} Which */
/** @type {[which: Which, says: string][]} */
const AWAY = [
  ["most", `${TEN} the map values most`],
  ["least", `${TEN} it values least`],
  ["random", `${TEN} at random`],
  ["back", "Put all back"],
];

/** @param {(which: Which) => void} act */
export function takingTools(act) {
  const buttons = AWAY.map(([which, says]) => {
    const made = element("button", { type: "button", name: "take", "data-value": which }, says);
    made.addEventListener("click", () => act(which));
    return made;
  });
  return { node: element("span", { class: "away" }, ...buttons) };
}

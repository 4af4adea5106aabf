// Controls, and what binds them to traits.

import { assign, element, put, write } from "./dom.js";
import { range } from "./numbers.js";

/** @import { Child } from "./dom.js" */
/** @import { Tools } from "./types.d.ts" */
/** @typedef {HTMLSelectElement | HTMLInputElement | HTMLButtonElement} Control */

/** The values that the options of a select stand for. @type {WeakMap<Control, unknown[]>} */
const valuesOf = new WeakMap();

/**
 * @param {string} text
 * @param {Child[]} controls
 */
export const labelled = (text, ...controls) => element("label", {}, text, ...controls);

/**
 * A select with an option for each value; null is a value, too.
 * @param {string} name
 * @param {(string | number)[]} texts
 * @param {(string | number | null)[]} values
 */
export function choices(name, texts, values = range(texts.length)) {
  const options = texts.map((text, i) => element("option", { value: values[i] ?? "" }, text));
  const made = element("select", { name }, ...options);
  valuesOf.set(made, values);
  return made;
}

/**
 * @param {string} name
 * @param {number} min
 * @param {number} max
 * @param {number} step
 */
export const slider = (name, min, max, step = 1) => element("input", { type: "range", name, min, max, step });

/**
 * @param {string} name
 * @param {string} text
 * @param {string} hint
 */
export const button = (name, text, hint = "") =>
  element("button", { type: "button", name, ...(hint && { title: hint }) }, text);

/** How many values are offered beside each other; more are a list. */
const BESIDE = 8;

/**
 * A choice of one value, bound to its trait: buttons beside each other, or a list where there are many.
 * @param {string} trait
 * @param {string} label
 * @param {(string | number)[]} texts
 * @param {(string | number | null)[]} values
 * @param {Pick<Tools, "model" | "choose" | "follow">} tools
 * @param {number} most values that are offered beside each other
 */
export function chooser(trait, label, texts, values, tools, most = BESIDE) {
  if (texts.length > most) {
    const list = choices(trait, texts, values);
    bind(list, trait, tools);
    return labelled(label, list);
  }
  const buttons = texts.map((text) => button(trait, String(text)));
  for (const [k, one] of buttons.entries()) {
    assign(one, "data-value", values[k] ?? "");
    one.addEventListener("click", () => tools.choose(trait, values[k]));
  }
  tools.follow(trait, () => {
    for (const [k, one] of buttons.entries()) press(one, values[k] === tools.model.get(trait));
  });
  return element("div", { class: "segments", role: "group", "aria-label": label }, ...buttons);
}

/** Plays and pauses: bound to the trait "playing". */
export const playButton = () => button("play", "");

/**
 * Ties a control to a trait: the user's hand sets the trait, and the control shows it. Selects give the value of their
 * option, sliders a number; a button turns the trait on and off, or sets `value`, and is disabled while it has it.
 * @param {Control} control
 * @param {string} trait
 * @param {Pick<Tools, "model" | "choose" | "follow">} tools
 * @param {unknown} value of a button
 */
export function bind(control, trait, { model, choose, follow }, value = undefined) {
  const now = () => model.get(trait);
  if (control.type === "button" && value !== undefined) {
    control.addEventListener("click", () => choose(trait, value));
    follow(trait, () => {
      control.disabled = now() === value;
    });
  } else if (control.type === "button") {
    control.addEventListener("click", () => choose(trait, !now()));
    follow(trait, () => write(control, now() ? "❚❚ Pause" : "▶ Play"));
  } else if (control.type === "range") {
    control.addEventListener("input", () => choose(trait, Number(control.value)));
    follow(trait, () => put(control, now()));
  } else {
    const values = valuesOf.get(control) ?? [];
    control.addEventListener("change", () => {
      const chosen = values.find((one) => String(one ?? "") === control.value);
      choose(trait, chosen ?? null);
    });
    follow(trait, () => put(control, now()));
  }
}

/**
 * Shows by aria-pressed which of some buttons is on.
 * @param {Element} control
 * @param {boolean} on
 */
export const press = (control, on) => assign(control, "aria-pressed", on);

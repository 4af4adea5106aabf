// The model's answer: which outputs are offered as buttons, their bars, and the search for a class.

import { range } from "./numbers.js";

/** How many classes are offered as buttons. */
const TOP = 5;
/** How many classes are suggested while one is typed. */
const CANDIDATES = 8;

/**
 * A class as it is listed.
 * @param {string[]} classes
 * @param {number} c
 */
export const entry = (classes, c) => `${c}: ${classes[c]}`;

/**
 * Which outputs are offered as buttons. Probabilities by size; numbers that are none by their distance from zero, or in
 * the model's own order where all find room. What is explained is always among them.
 * @param {string} unit
 * @param {number | null} target
 * @param {ArrayLike<number>} values
 */
export function listed(unit, target, values) {
  const size = (/** @type {number} */ c) => (unit === "none" ? Math.abs(values[c]) : values[c]);
  const all = range(values.length);
  const inOrder = unit === "none" && all.length <= TOP;
  const order = inOrder ? all : all.sort((a, b) => size(b) - size(a)).slice(0, TOP);
  if (target !== null && !order.includes(target)) order.push(target);
  return order;
}

/**
 * Where bars begin and end, in shares of the width, and zero where it is not an end: probabilities from 0 to 1; other
 * numbers to the left or right of zero, on one scale.
 * @param {string} unit
 * @param {number[]} values
 */
export function barsOf(unit, values) {
  const [low, high] = unit === "none" ? [Math.min(0, ...values), Math.max(0, ...values)] : [0, 1];
  const at = (/** @type {number} */ value) => (high > low ? (value - low) / (high - low) : 0);
  const zero = low === 0 || high === 0 ? null : at(0);
  return values.map((value) => ({ left: at(Math.min(0, value)), width: at(low + Math.abs(value)), zero }));
}

/** How a name may fit what is typed, best first: its beginning, that of a word in it, anywhere. */
const FITS = [
  (/** @type {string} */ name, /** @type {string} */ part) => name.startsWith(part),
  (/** @type {string} */ name, /** @type {string} */ part) =>
    name.split(/[^\p{L}\p{N}]+/u).some((word) => word.startsWith(part)),
  (/** @type {string} */ name, /** @type {string} */ part) => name.includes(part),
];

/**
 * The class that is meant: by its entry, its name or its number; or the chosen score; else the first class whose name
 * begins with what is wanted, or has a word that does, or holds it anywhere, in capitals or not; -1 where there is none.
 * @param {string} wanted
 * @param {string[]} classes
 * @param {string | null} chosen
 */
export function found(wanted, classes, chosen) {
  if (wanted && wanted === chosen) return chosen;
  const exact = classes.findIndex((name, c) => [entry(classes, c), name, String(c)].includes(wanted));
  if (exact >= 0 || !wanted.trim()) return exact;
  return suggested(wanted, classes, null)[0] ?? -1;
}

/**
 * The classes that may be meant, likeliest first: as many as are offered at once. Without a wish the first ones.
 * @param {string} wanted
 * @param {string[]} classes
 * @param {string | null} chosen
 * @returns {(number | string)[]}
 */
export function suggested(wanted, classes, chosen) {
  const part = wanted.trim().toLowerCase();
  /** @type {Set<number | string>} */
  const fitting = new Set(chosen?.toLowerCase().startsWith(part) ? [chosen] : []);
  const names = classes.map((name) => name.toLowerCase());
  const exact = classes.findIndex((_, c) => [entry(classes, c).toLowerCase(), String(c)].includes(part));
  if (exact >= 0) fitting.add(exact);
  for (const fits of FITS)
    for (const [c, name] of names.entries()) if (fits(name, part) && fitting.size < CANDIDATES) fitting.add(c);
  return [...fitting];
}

// Where drawings lie on a scene, and what keys, buttons and fingers make of that: lists of drawings in, new lists out.

import { SIZE } from "./scene_drawing.js";

/** @import { Placed } from "./scene_drawing.js" */
/** @typedef {{ objects: Placed[], selected: number }} Lying selected: -1 for none */
/** What can be done with the chosen drawing. @typedef {"smaller" | "bigger" | "left" | "right" | "front" | "other" | "remove"} Act */

export const MOST = 6;
const [STEP, FASTER, GROWTH, TURN] = [2, 4, 4, 15];
const [SMALLEST, LARGEST, EDGE, NEW] = [16, 100, 4, 44];
/** Where a new drawing may come to lie. */
const SPOTS = [
  [56, 56],
  [28, 28],
  [84, 28],
  [28, 84],
  [84, 84],
];

const limited = (/** @type {number} */ value, /** @type {number} */ low, /** @type {number} */ high) =>
  Math.round(100 * Math.min(high, Math.max(low, value))) / 100;

/** A drawing that stays on the scene, whatever it was wished to be. @param {Placed} one @returns {Placed} */
export const kept = (one) => ({
  ...one,
  x: limited(one.x, EDGE, SIZE - EDGE),
  y: limited(one.y, EDGE, SIZE - EDGE),
  size: limited(one.size, SMALLEST, LARGEST),
  angle: limited(one.angle - 360 * Math.round(one.angle / 360), -180, 180),
});

/**
 * @param {Lying} lying
 * @param {Partial<Placed>} wish for the chosen drawing
 * @returns {Lying}
 */
export const changed = ({ objects, selected }, wish) => ({
  objects: objects.map((one, i) => (i === selected ? kept({ ...one, ...wish }) : one)),
  selected,
});

/**
 * A drawing more, in front: where it is put, else where most room is.
 * @param {Placed[]} objects
 * @param {string} sprite
 * @param {[number, number] | null} at
 * @returns {Lying}
 */
export function added(objects, sprite, at = null) {
  const room = (/** @type {number[]} */ [x, y]) =>
    Math.min(2 * SIZE, ...objects.map((one) => Math.hypot(one.x - x, one.y - y)));
  const [x, y] = at ?? SPOTS.reduce((best, spot) => (room(spot) > room(best) ? spot : best));
  return { objects: [...objects, kept({ sprite, x, y, size: NEW, angle: 0 })], selected: objects.length };
}

/**
 * @param {Lying} lying
 * @param {Act} act
 * @param {(sprite: string) => string} another of the same class
 * @returns {Lying}
 */
export function acted(lying, act, another) {
  const { objects, selected } = lying;
  const one = objects[selected];
  if (!one) return lying;
  const others = objects.filter((_, i) => i !== selected);
  if (act === "front") return { objects: [...others, one], selected: others.length };
  if (act === "remove") return { objects: others, selected: Math.min(selected, others.length - 1) };
  const wishes = {
    smaller: { size: one.size - GROWTH },
    bigger: { size: one.size + GROWTH },
    left: { angle: one.angle - TURN },
    right: { angle: one.angle + TURN },
    other: { sprite: another(one.sprite) },
  };
  return changed(lying, wishes[act]);
}

/** What keys do. @type {Record<string, Act>} */
const ACTS = {
  "+": "bigger",
  "=": "bigger",
  "-": "smaller",
  ",": "left",
  ".": "right",
  f: "front",
  F: "front",
  n: "other",
  N: "other",
  Delete: "remove",
  Backspace: "remove",
};
/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * What a key does with the chosen drawing; null where it does nothing.
 * @param {Lying} lying
 * @param {{ key: string, shiftKey: boolean }} event
 * @param {(sprite: string) => string} another
 * @returns {Lying | null}
 */
export function keyed(lying, { key, shiftKey }, another) {
  const one = lying.objects[lying.selected];
  if (!one) return null;
  if (Object.hasOwn(ACTS, key)) return acted(lying, ACTS[key], another);
  if (!Object.hasOwn(ARROWS, key)) return null;
  const step = STEP * (shiftKey ? FASTER : 1);
  return changed(lying, { x: one.x + ARROWS[key][0] * step, y: one.y + ARROWS[key][1] * step });
}

/**
 * How a hand that holds a drawing changes it, from where it was taken to where the hand is now: by its middle, by its
 * corner, or with two fingers.
 * @param {Placed} from the drawing as it was taken
 * @param {"move" | "corner" | "pinch"} grip
 * @param {[number, number][]} then where the fingers were
 * @param {[number, number][]} now
 * @returns {Partial<Placed>}
 */
export function pulled(from, grip, then, now) {
  if (grip === "move") return { x: from.x + now[0][0] - then[0][0], y: from.y + now[0][1] - then[0][1] };
  /** @type {[number, number]} */
  const middle = [from.x, from.y];
  const [before, after] =
    grip === "corner" ? [arm(middle, then[0]), arm(middle, now[0])] : [arm(...two(then)), arm(...two(now))];
  return {
    size: (from.size * after.length) / Math.max(1, before.length),
    angle: from.angle + ((after.turn - before.turn) * 180) / Math.PI,
  };
}

/** @param {[number, number][]} fingers @returns {[[number, number], [number, number]]} */
const two = ([one, other]) => [one, other];

/** @param {[number, number]} from @param {[number, number]} to */
const arm = (from, to) => ({
  length: Math.hypot(to[0] - from[0], to[1] - from[1]),
  turn: Math.atan2(to[1] - from[1], to[0] - from[0]),
});

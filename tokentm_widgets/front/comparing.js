// What is compared of several methods, on which scale, and how it is said.

import { extent, extentOf, range, times } from "./numbers.js";

/** @import { Extent, Row } from "./types.d.ts" */
/** @typedef {"share" | "rank"} Unit */
/** @typedef {{ values: Row, ends: Extent, difference: boolean }} Drawn */

/**
 * What is drawn: maps, or their differences from one of them; and the ends of each one's colours. On one scale, chance
 * does not decide how long it is, and the map that others are compared with keeps its own.
 * @param {Row[]} maps
 * @param {number} against which map they are compared with, -1 for none
 * @param {boolean[]} chance which of them are made by chance
 * @param {boolean} own whether each has a scale of its own
 * @returns {Drawn[]}
 */
export function compared(maps, against, chance = [], own = false) {
  const base = maps[against];
  const shown = base ? maps.map((values, m) => (m === against ? values : values.map((v, p) => v - base[p]))) : maps;
  const others = range(maps.length).filter((m) => m !== against);
  const deciding = others.filter((m) => !chance[m]);
  const decide = deciding.length ? deciding : others;
  const common = decide.length ? extentOf(decide.map((m) => shown[m])) : extentOf(shown);
  return shown.map((values, m) => {
    const difference = Boolean(base) && m !== against;
    const [low, high] = own || m === against ? extent(values) : common;
    const most = Math.max(Math.abs(low), Math.abs(high));
    return { values, ends: difference ? [-most, most] : [low, high], difference };
  });
}

/**
 * A rank in words: "top 3 %" is among the best three of a hundred.
 * @param {number} rank the share of patches that score less, ties counted half
 * @param {number} patches
 */
export function placed(rank, patches) {
  const [top, least] = [1 - rank + 0.5 / patches, rank + 0.5 / patches].map((part) => Math.ceil(100 * part - 1e-4));
  return top <= least ? `top ${top} %` : `lowest ${least} %`;
}

/** @param {number} value */
const signed = (value) => (value > 0 ? "+" : "");

/**
 * How a number of a map is written, by its unit.
 * @param {number} value
 * @param {Unit} unit
 * @param {boolean} difference
 * @param {number} patches
 */
export function writtenAs(value, unit, difference, patches) {
  if (!difference) return unit === "share" ? times(value, 1) : placed(value, patches);
  const whole = Math.round(100 * value);
  if (unit === "share") return value === 0 ? "same" : `${signed(value)}${times(value, 1)}`;
  return whole === 0 ? "same" : `${signed(whole)}${whole} %`.replace("-", "−");
}

/**
 * Methods in an order in which neighbours are alike: from the one that is most like all others, each time the one most
 * like the last. Those that rank nothing are the last.
 * @param {(a: number, b: number) => number} alike
 * @param {number} count
 */
export function byLikeness(alike, count) {
  const mean = (/** @type {number} */ m) => {
    const known = range(count)
      .filter((other) => other !== m)
      .map((other) => alike(m, other))
      .filter((rho) => !Number.isNaN(rho));
    return known.length ? known.reduce((sum, rho) => sum + rho, 0) / known.length : -Infinity;
  };
  const left = range(count).sort((a, b) => mean(b) - mean(a));
  const order = left.splice(0, 1);
  while (left.length) {
    const last = order[order.length - 1];
    const rho = (/** @type {number} */ m) => {
      const found = alike(last, m);
      return Number.isNaN(found) ? -Infinity : found;
    };
    const next = left.reduce((best, m) => (rho(m) > rho(best) ? m : best), left[0]);
    order.push(...left.splice(left.indexOf(next), 1));
  }
  return order;
}

/**
 * Who ranks the patches most and least like one method, chance left out.
 * @param {(a: number, b: number) => number} alike
 * @param {number} base
 * @param {string[]} names
 * @param {boolean[]} chance
 */
export function likeness(alike, base, names, chance) {
  const others = range(names.length).filter((m) => m !== base && !chance[m] && !Number.isNaN(alike(base, m)));
  if (!others.length) return "";
  const ordered = others.sort((a, b) => alike(base, b) - alike(base, a));
  const said = (/** @type {number} */ m) => `${names[m]} (${alike(base, m).toFixed(2)}`.replace("-", "−");
  const [most, least] = [ordered[0], ordered[ordered.length - 1]];
  const like = `${said(most)}; 1 is the same order)`;
  return ordered.length === 1
    ? `${like.slice(0, -1)}) is compared with ${names[base]} by the order of the patches.`
    : `${like} orders the patches most like ${names[base]}, ${said(least)}) least.`;
}

/** The patches that a method ranks highest are this part of all, or one. */
const TOP = 0.05;

/**
 * How many methods agree on what one of them sees as the strongest patch: have it in their top, and what the top is.
 * @param {ArrayLike<number>[]} ranks of each method, over the patches
 * @param {number} patch
 * @param {boolean[]} chance
 */
export function agreeing(ranks, patch, chance) {
  const real = ranks.filter((_, m) => !chance[m]);
  const patches = ranks[0].length;
  const top = Math.max(TOP, 1 / patches);
  const among = real.filter((rank) => 1 - rank[patch] + 0.5 / patches <= top + 1e-6).length;
  return { among, all: real.length, top: `top\u00a0${Math.ceil(100 * top - 1e-4)}\u00a0%` };
}

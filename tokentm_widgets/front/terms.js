// The terms of TokenTM's formula as the layer stepper names them, and what it says of each.

import { averageSize, extent, times } from "./numbers.js";

/** @import { Data } from "./layer_rows.js" */
/** @import { Extent, Row } from "./types.d.ts" */
/** @typedef {"attention" | "ratio" | "necc" | "product" | "update" | "contribution"} TermName */
/**
 * What a term is seen for: the explained name, who takes, and the layer.
 * @typedef {{ explained: string, taker: string, layer: number, patch: number | null }} Seen
 */

/**
 * @typedef {object} Term
 * @property {TermName} name
 * @property {string} title
 * @property {string} formula
 * @property {string} section where the course tells more
 * @property {(seen: Seen, data: Data) => string} says
 * @property {(data: Data) => string} more
 */

/** Factors are read against the average: "2.9 times" is as far from it as a third. @param {TermName} name */
export const isFactor = (name) => name === "ratio" || name === "necc";

/** @type {Term[]} */
export const TERMS = [
  {
    name: "attention",
    title: "Attention",
    formula: "A = softmax(q · k / √d)",
    section: "01 Tokens and attention",
    says: ({ taker, patch }) => `How much ${taker} takes from each ${patch === null ? "" : "other "}patch.`,
    more: () => "Every head has attention of its own; shown is their mean. Attention says from where a token takes.",
  },
  {
    name: "ratio",
    title: "Length kept",
    formula: "L(T) / L(E)",
    section: "03 Length and direction",
    says: () => "How much of a patch's length is passed on",
    more: () => "T is what the layer makes of the token E before it is handed on. A long T counts more in the sum.",
  },
  {
    name: "necc",
    title: "Direction share",
    formula: "NECC = exp(cos(E, T)) / Σ exp(cos)",
    section: "03 Length and direction",
    says: () => "How well it keeps its direction",
    more: () =>
      "The normalised exponential cosine correlation: a token that is turned away has less to do with its patch.",
  },
  {
    name: "product",
    title: "Attention × weight",
    formula: "A · W, with W = length kept × direction share",
    section: "03 Length and direction",
    says: () => "What really arrives: attention, corrected for what happens on the way.",
    more: () => "In each head attention is multiplied by the weight; then the heads are averaged.",
  },
  {
    name: "update",
    title: "Update",
    formula: "U = mean over heads of (∇A · A · W)⁺",
    section: "04 Aggregation",
    says: ({ explained }, { gradient }) =>
      gradient ? `The part of it that speaks for ${explained}; the rest is cut to zero.` : "What this layer adds.",
    more: ({ gradient }) =>
      gradient
        ? "The gradient says in which direction the score moves when attention grows; where it falls, nothing is added."
        : "This reading of TokenTM uses no gradient, so it is the same for every class: U = mean over heads of A · W.",
  },
  {
    name: "contribution",
    title: "Contribution so far",
    formula: "C ← C + U · C",
    section: "04 Aggregation",
    says: ({ explained, layer, patch, taker }) =>
      patch === null
        ? `What each patch has contributed to ${explained} by the end of layer ${layer + 1}.`
        : `What each patch has brought into ${taker} by the end of layer ${layer + 1}.`,
    more: () => "Each layer adds its update of what the layers before it have added, so that evidence is passed on.",
  },
];

/**
 * How the numbers of a panel are written: as multiples of its average, a patch's own cell left out.
 * @param {Row} values
 * @param {number | null} aside
 */
export function writtenFor(values, aside = null) {
  const count = aside === null ? values.length : values.length - 1;
  const own = aside === null ? 0 : Math.abs(values[aside]);
  const average = count > 0 ? (averageSize(values) * values.length - own) / count : 0;
  return (/** @type {number} */ value) => times(value, average);
}

/**
 * Factors as powers of two over their own average: 0 is average, 1 twice as much.
 * @param {Row} values
 */
export function againstAverage(values) {
  const average = averageSize(values);
  return values.map((value) => (average > 0 && value > 0 ? Math.log2(value / average) : 0));
}

/** Both factors have one scale, which reaches from as little to as much of the average. @param {Row[]} powers */
export function factorEnds(powers) {
  const most = Math.max(0.25, ...powers.map((row) => Math.max(...extent(row).map(Math.abs))));
  return /** @type {Extent} */ ([-most, most]);
}

/** An end of the factors' scale: "÷3", "×3". @param {number} power */
export const factorWritten = (power) => `${power < 0 ? "÷" : "×"}${Number((2 ** Math.abs(power)).toPrecision(2))}`;

/**
 * A share of something, as it is said: whole per cents, and what rounds to none is not none.
 * @param {number} share
 */
export const rounded = (share) => {
  const whole = Math.round(100 * share);
  return whole === 0 && share > 0 ? "less than 1 %" : `${whole} %`;
};

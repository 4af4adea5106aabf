// Paths as they were sent: where each is before and after every layer, through which heads it moves, and its share.

import { where } from "./grid.js";
import { averageSize, bytes, floats, percent, range, shorts, times } from "./numbers.js";
import { rounded } from "./terms.js";

/** @import { PathExplorerData } from "./schema.d.ts" */
/** @import { Grid } from "./types.d.ts" */
/** @typedef {ReturnType<typeof read>} Data */
/** @typedef {ReturnType<typeof pathOf>} Path */

/** @param {PathExplorerData} sent */
export function read(sent) {
  return {
    ...sent,
    patches: sent.rows * sent.columns,
    colours: bytes(sent.colours),
    tokens: shorts(sent.tokens),
    heads: shorts(sent.heads),
    values: floats(sent.values),
    total: floats(sent.total),
    through: floats(sent.through),
    stayed: floats(sent.stayed),
  };
}

/**
 * The k-th path of a patch.
 * @param {Data} data
 * @param {number} index
 * @param {number} patch
 * @param {number} k
 */
export function pathOf(data, index, patch, k) {
  const at = (index * data.patches + patch) * data.count + k;
  const total = data.total[index * data.patches + patch];
  return {
    tokens: data.tokens.subarray(at * (data.layers + 1), (at + 1) * (data.layers + 1)),
    heads: data.heads.subarray(at * data.layers, (at + 1) * data.layers),
    share: total > 0 ? data.values[at] / total : 0,
  };
}

/**
 * @param {number} token
 * @param {Grid & { prefixNames: string[] }} data
 */
export const tokenName = (token, data) =>
  token < data.prefixNames.length ? data.prefixNames[token] : where(token - data.prefixNames.length, data);

/**
 * @param {Path} path
 * @param {Grid & { prefixNames: string[] }} data
 */
export function inWords({ tokens, heads, share }, data) {
  const moves = [...heads].flatMap((head, layer) =>
    head >= 0 ? [`layer ${layer + 1}, head ${head + 1} → ${tokenName(tokens[layer + 1], data)}`] : [],
  );
  return `${percent(share)}: ${tokenName(tokens[0], data)}${moves.length ? `, ${moves.join(", ")}` : ", stays"}`;
}

/**
 * The tokens that paths pass, from top to bottom: prefix tokens, what lies between, and the chosen patch.
 * @param {Path[]} paths
 */
export function passed(paths) {
  const first = paths[0].tokens[0];
  const tokens = [...new Set(paths.flatMap((one) => [...one.tokens]))];
  return tokens.sort((a, b) => Number(a === first) - Number(b === first) || a - b);
}

/** Layers from `from` to `to`, or one; `moves` where a path does not stay. @typedef {{ from: number, to: number, moves: boolean }} Stretch */

/**
 * The columns of a diagram: each layer in which something moves, and one column for all those between in which nothing
 * does.
 * @param {Pick<Path, "heads">[]} paths
 * @param {number} layers
 */
export function stretches(paths, layers) {
  /** @type {Stretch[]} */
  const found = [];
  for (const layer of range(layers)) {
    const moves = paths.some(({ heads }) => heads[layer] >= 0);
    const before = found.at(-1);
    if (moves || !before || before.moves) found.push({ from: layer, to: layer, moves });
    else before.to = layer;
  }
  return found;
}

/** @param {Stretch} stretch */
export const stretchName = ({ from, to }) => (from === to ? `layer ${from + 1}` : `layers ${from + 1} to ${to + 1}`);

/** Several of the same, named: "head 2", "heads 1, 3". @param {number[]} heads from 0 on */
export const headNames = (heads) => `${heads.length > 1 ? "heads" : "head"} ${heads.map((h) => h + 1).join(", ")}`;

/** More moves than these are counted, not told one by one. */
const TOLD = 3;

/**
 * What the strongest path does, as the end of a sentence.
 * @param {Path} path
 * @param {Grid & { prefixNames: string[] }} data
 */
function moved({ tokens, heads }, data) {
  const moves = [...heads].flatMap((head, layer) =>
    head >= 0 ? [`in layer ${layer + 1} through head ${head + 1} to ${named(tokenName(tokens[layer + 1], data))}`] : [],
  );
  if (!moves.length) return "stays where it is";
  return moves.length > TOLD ? `moves ${moves.length} times` : `moves ${moves.join(", then ")}`;
}

/** @param {string} token */
const named = (token) => (token.startsWith("row ") ? token : `the ${token}`);

/**
 * What is told of a patch: how much it counts, and what its paths carry.
 * @param {Path[]} paths
 * @param {Float32Array} totals of all patches
 * @param {number} patch
 * @param {Grid & { prefixNames: string[] }} data
 */
export function told(paths, totals, patch, data) {
  if (!paths.length || !(totals[patch] > 0)) return ["It contributes nothing."];
  const many = times(totals[patch], averageSize(totals)).replace("×", " times");
  const carried = rounded(paths.reduce((sum, one) => sum + one.share, 0));
  const all = paths.length === 1 ? "Its one path carries" : `Its ${paths.length} strongest paths carry`;
  const first = paths.length === 1 ? "it" : `the strongest, ${rounded(paths[0].share)},`;
  return [
    `It contributes ${many} an average patch.`,
    `${all} ${carried} of its contribution; ${first} ${moved(paths[0], data)}.`,
  ];
}

// Paths as they were sent: where each is before and after every layer, through which heads it moves, and its share.

import { where } from "./grid.js";
import { bytes, floats, percent, shorts } from "./numbers.js";

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

// The rows that the layer stepper draws, out of what was sent: heads averaged, seen from the readout or from a patch.

import { bytes, floats, mean, range } from "./numbers.js";

/** @import { LayerStepperData } from "./schema.d.ts" */
/** @import { Row } from "./types.d.ts" */
/** @typedef {ReturnType<typeof read>} Data */
/** @typedef {"weight" | "ratio" | "necc" | "cosine"} OfTokens */
/**
 * What the shown patch takes in a layer: a row for each head that is shown, or their mean as the only one. What has not
 * come yet is not there; a product that is not there is made of the attention.
 * @typedef {{
 *   attention?: (layer: number) => Row[],
 *   update?: (layer: number) => Row[],
 *   product?: (layer: number) => Row,
 *   contribution?: (layer: number) => Row,
 * }} Taken
 */
/** @typedef {{ layer: number, head: number | null, index: number, patch: number | null }} Shown */

/** @param {LayerStepperData} sent */
export function read(sent) {
  return {
    ...sent,
    patches: sent.rows * sent.columns,
    colours: bytes(sent.colours),
    attentionReadout: floats(sent.attentionReadout),
    updateReadout: floats(sent.updateReadout),
    contributionReadout: floats(sent.contributionReadout),
    weight: floats(sent.weight),
    ratio: floats(sent.ratio),
    cosine: floats(sent.cosine),
    necc: floats(sent.necc),
    means: /** @type {Record<string, Row>} */ ({}),
  };
}

/**
 * One quantity of one layer for all tokens, prefix first; the mean over heads is kept.
 * @param {Data} data
 * @param {OfTokens} name
 * @param {number} image
 * @param {number} layer
 * @param {number | null} head
 */
export function tokens(data, name, image, layer, head) {
  const count = data.prefix + data.patches;
  const of = (/** @type {number} */ h) => {
    const at = ((image * data.layers + layer) * data.weightHeads + h) * count;
    return data[name].subarray(at, at + count);
  };
  if (head !== null) return of(Math.min(head, data.weightHeads - 1));
  const key = `${name} ${image} ${layer}`;
  data.means[key] ??= mean(range(data.weightHeads).map(of));
  return data.means[key];
}

/**
 * What the readout takes of each patch, through each head that is shown.
 * @param {Data} data
 * @param {"attentionReadout" | "updateReadout"} name
 * @param {number} index
 * @param {number} layer
 * @param {number | null} head
 */
function readout(data, name, index, layer, head) {
  const heads = head === null ? range(data.heads) : [head];
  return heads.map((h) => {
    const at = ((index * data.layers + layer) * data.heads + h) * data.patches;
    return data[name].subarray(at, at + data.patches);
  });
}

/**
 * @param {Row} a
 * @param {Row} b
 */
const times = (a, b) => a.map((value, p) => value * b[p]);

/**
 * The row of every panel, seen from the readout (patch null) or from a patch; undefined where it has not arrived.
 * @param {Data} data
 * @param {Taken | undefined} taken by the patch, see rows.js
 * @param {Shown} shown
 * @returns {Record<OfTokens, Row> & { attention?: Row, product?: Row, update?: Row, contribution?: Row }}
 */
export function rowsOf(data, taken, { layer, head, index, patch }) {
  const image = data.imageOf[index];
  const of = (/** @type {OfTokens} */ name, /** @type {number | null} */ h) =>
    tokens(data, name, image, layer, h).subarray(data.prefix);
  const { attention, update, product, contribution } =
    patch === null ? byReadout(data, head, index) : (taken ?? /** @type {Taken} */ ({}));
  const by = attention?.(layer);
  return {
    weight: of("weight", head),
    ratio: of("ratio", head),
    necc: of("necc", head),
    cosine: of("cosine", head),
    attention: by && mean(by),
    product: product ? product(layer) : by && mean(by.map((row, h) => times(row, of("weight", head ?? h)))),
    update: update && mean(update(layer)),
    contribution: contribution?.(layer),
  };
}

/**
 * What the readout takes.
 * @param {Data} data
 * @param {number | null} head
 * @param {number} index
 * @returns {Taken}
 */
function byReadout(data, head, index) {
  return {
    attention: (layer) => readout(data, "attentionReadout", data.imageOf[index], layer, head),
    update: (layer) => readout(data, "updateReadout", index, layer, head),
    contribution(layer) {
      const at = (index * data.layers + layer) * data.patches;
      return data.contributionReadout.subarray(at, at + data.patches);
    },
  };
}

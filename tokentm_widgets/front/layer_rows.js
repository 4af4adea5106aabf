// The rows that the layer stepper draws, out of what was sent: heads averaged, seen from the readout or from a patch.

import { bytes, codedRows, floats, mean, range } from "./numbers.js";

/** @import { LayerStepperData } from "./schema.d.ts" */
/** @import { Row, Rows } from "./types.d.ts" */
/** @typedef {ReturnType<typeof read>} Data */
/** @typedef {"weight" | "ratio" | "necc" | "cosine"} OfTokens */
/** @typedef {{ layer: number, head: number | null, index: number, patch: number | null }} Shown */
/** @typedef {{ attention: Rows, update: Rows }} Held */

/** @param {LayerStepperData} sent */
export function read(sent) {
  return {
    ...sent,
    patches: sent.rows * sent.columns,
    colours: bytes(sent.colours),
    attention: codedRows(sent.attention),
    product: codedRows(sent.product),
    update: codedRows(sent.update),
    contribution: codedRows(sent.contribution),
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
 * @param {Held | undefined} held
 * @param {Shown} shown
 * @returns {Record<OfTokens | "contribution", Row> & { attention?: Row, product?: Row, update?: Row }}
 */
export function rowsOf(data, held, { layer, head, index, patch }) {
  const image = data.imageOf[index];
  const of = (/** @type {OfTokens} */ name, /** @type {number | null} */ h) =>
    tokens(data, name, image, layer, h).subarray(data.prefix);
  const rows = {
    weight: of("weight", head),
    ratio: of("ratio", head),
    necc: of("necc", head),
    cosine: of("cosine", head),
  };
  if (patch === null) {
    const attention = readout(data, "attentionReadout", image, layer, head);
    const at = (index * data.layers + layer) * data.patches;
    return {
      ...rows,
      attention: mean(attention),
      product: mean(attention.map((row, h) => times(row, of("weight", head ?? h)))),
      update: mean(readout(data, "updateReadout", index, layer, head)),
      contribution: data.contributionReadout.subarray(at, at + data.patches),
    };
  }
  const row = (/** @type {number} */ k) => (k * data.layers + layer) * data.patches + patch;
  const contribution = data.contribution(row(index), data.patches);
  if (head === null)
    return {
      ...rows,
      contribution,
      attention: data.attention(row(image), data.patches),
      product: data.product(row(image), data.patches),
      update: data.update(row(index), data.patches),
    };
  if (!held) return { ...rows, contribution };
  const attention = held.attention(row(0), data.patches);
  const update = held.update(row(0), data.patches);
  return { ...rows, contribution, attention, product: times(attention, rows.weight), update };
}

// TokenTM (Wu et al., CVPR 2024) on a pass of the engine: how each layer transformed its tokens, what its heads mix, and
// the contribution of every patch. The same choices as tokentm/methods/tokentm.py, default reading.

/** @import { Gradients, Numbers, Pass } from "./types.d.ts" */
/** @import { Vit } from "./vit.js" */
/**
 * How a layer transformed its tokens: by head, and in the FFN; (N) each.
 * @typedef {{ ratio: Numbers, cosine: Numbers, necc: Numbers, weight: Numbers }} Transformation
 * @typedef {{ heads: Transformation[], ffn: Transformation }} Transformed
 */

/** @type {WeakMap<Pass, Transformed[]>} */
const known = new WeakMap();

/**
 * @param {Vit} vit
 * @param {Pass} pass
 * @returns {Transformed[]}
 */
export function transformations(vit, pass) {
  const before = known.get(pass);
  if (before) return before;
  const { dim } = vit.spec;
  const found = vit.blocks.map((block, l) => {
    const layer = pass.layers[l];
    const { headDim, out, scale1 } = block;
    return {
      heads: layer.v.map((values, h) => {
        // rows of the map's transpose are what one number of a head adds to the stream
        const projection = out.transposed.subarray(h * headDim * dim, (h + 1) * headDim * dim);
        const moved = vit.product(values, projection, pass.tokens, headDim, dim);
        if (scale1) for (let i = 0; i < moved.length; i++) moved[i] *= scale1[i % dim];
        return transformation(layer.stream, moved, dim);
      }),
      ffn: transformation(layer.middle, layer.ffn, dim),
    };
  });
  known.set(pass, found);
  return found;
}

/**
 * Length ratio L(T) / L(E), cosine, NECC and their product, the weight, of every token.
 * @param {Numbers} token E, (N, D)
 * @param {Numbers} transformed T, (N, D)
 * @param {number} dim
 * @returns {Transformation}
 */
export function transformation(token, transformed, dim) {
  const count = token.length / dim;
  const [ratio, cosine, necc, weight] = [0, 1, 2, 3].map(() => new Float32Array(count));
  let sum = 0;
  for (let i = 0; i < count; i++) {
    let before = 0;
    let after = 0;
    let inner = 0;
    for (let j = i * dim; j < (i + 1) * dim; j++) {
      before += token[j] * token[j];
      after += transformed[j] * transformed[j];
      inner += token[j] * transformed[j];
    }
    if (before === 0) throw new Error(`token ${i + 1} has length zero, so its change of length is undefined`);
    ratio[i] = Math.sqrt(after / before);
    cosine[i] = after > 0 ? Math.max(-1, Math.min(1, inner / Math.sqrt(before * after))) : 0;
    sum += Math.exp(cosine[i]);
  }
  for (let i = 0; i < count; i++) {
    necc[i] = Math.exp(cosine[i]) / sum;
    weight[i] = ratio[i] * necc[i];
  }
  return { ratio, cosine, necc, weight };
}

/** Lengths of rows. @param {Numbers} rows @param {number} dim */
export function lengths(rows, dim) {
  const found = new Float32Array(rows.length / dim);
  for (let i = 0; i < found.length; i++) {
    let square = 0;
    for (let j = i * dim; j < (i + 1) * dim; j++) square += rows[j] * rows[j];
    found[i] = Math.sqrt(square);
  }
  return found;
}

/**
 * What one head of a layer mixes, relu(G * A W), (N, N).
 * @param {Numbers} attention
 * @param {Numbers} gradient
 * @param {Numbers} weight
 */
export function headMixing(attention, gradient, weight) {
  const mixed = new Float32Array(attention.length);
  const count = weight.length;
  for (let at = 0; at < mixed.length; at += count)
    for (let j = 0; j < count; j++) {
      const value = gradient[at + j] * attention[at + j];
      if (value > 0) mixed[at + j] = value * weight[j];
    }
  return mixed;
}

/** What one layer does to a map: it mixes (N, N) and, after that, each token grows. @typedef {{ mixing: Numbers, growth: Numbers | null }} Step */

/**
 * The layers of TokenTM.
 * @param {Vit} vit
 * @param {Pass} pass
 * @param {Gradients} gradients
 * @returns {Step[]}
 */
export function steps(vit, pass, gradients) {
  return transformations(vit, pass).map(({ heads, ffn }, l) => {
    const { attention } = pass.layers[l];
    const mixing = new Float32Array(pass.tokens ** 2);
    for (let h = 0; h < attention.length; h++)
      addMixing(mixing, attention[h], gradients.layers[l].attention[h], heads[h].weight, 1 / attention.length);
    return { mixing, growth: ffn.weight };
  });
}

/**
 * @param {Numbers} sum
 * @param {Numbers} attention
 * @param {Numbers} gradient
 * @param {Numbers} weight
 * @param {number} share
 */
function addMixing(sum, attention, gradient, weight, share) {
  const count = weight.length;
  for (let at = 0; at < sum.length; at += count)
    for (let j = 0; j < count; j++) {
      const value = gradient[at + j] * attention[at + j];
      if (value > 0) sum[at + j] += share * value * weight[j];
    }
}

/**
 * What the readout takes from each patch after every layer, (L, P): one row of the map at a time, down the layers.
 * @param {Vit} vit
 * @param {Step[]} layers
 * @param {Numbers} readout
 * @param {Numbers | null} initial the diagonal of the first map; ones unless told
 */
export function maps(vit, layers, readout, initial) {
  return layers.map((_, last) => {
    let row = readout;
    for (let l = last; l >= 0; l--) row = descend(row, layers[l]);
    return row.slice(vit.spec.prefix).map((value, p) => value * (initial ? initial[vit.spec.prefix + p] : 1));
  });
}

/**
 * r (I + W) (I + M).
 * @param {Numbers} row
 * @param {Step} step
 */
export function descend(row, { mixing, growth }) {
  const count = row.length;
  const grown = growth ? row.map((value, i) => value * (1 + growth[i])) : row.slice();
  const next = grown.slice();
  for (let i = 0; i < count; i++) {
    const share = grown[i];
    if (share === 0) continue;
    const at = i * count;
    for (let j = 0; j < count; j++) next[j] += share * mixing[at + j];
  }
  return next;
}

/**
 * One layer more of a whole map, (I + W) (I + M) C.
 * @param {Vit} vit
 * @param {Numbers} map (N, N)
 * @param {Step} step
 */
export function ascend(vit, map, { mixing, growth }) {
  const count = Math.sqrt(map.length);
  const next = vit.product(mixing, map, count, count, count);
  for (let i = 0; i < count; i++) {
    const factor = growth ? 1 + growth[i] : 1;
    for (let j = i * count; j < (i + 1) * count; j++) next[j] = factor * (map[j] + next[j]);
  }
  return next;
}

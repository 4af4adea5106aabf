// The methods that the engine computes, as their files in tokentm/methods/ do: each gives a map after every layer.

import { lengths, maps, steps, transformation } from "./tokentm.js";
import { backwardOfEach, backwardToPixels } from "./vit.js";

/** @import { Gradients, Numbers, Pass } from "./types.d.ts" */
/** @import { Step } from "./tokentm.js" */
/** @import { Vit } from "./vit.js" */
/**
 * What a method reads.
 * @typedef {{ vit: Vit, pass: Pass, target: Numbers, gradients: Gradients }} Seen
 */

/** Maps by layer, the last of which is the explanation. @type {Record<string, (seen: Seen) => Numbers[]>} */
export const METHODS = {
  tokentm({ vit, pass, gradients }) {
    const first = lengths(pass.layers[0].stream, vit.spec.dim);
    return maps(vit, steps(vit, pass, gradients), gradients.readout, first);
  },

  tokentm_libragrad({ vit, pass, gradients }) {
    const { dim } = vit.spec;
    const layers = pass.layers.map((layer, l) => {
      const { weight } = transformation(layer.stream, layer.middle, dim);
      const growth = transformation(layer.middle, layer.streamOut, dim).weight;
      const gradient = headMean(gradients.layers[l].attention.map((one) => one.map((value) => Math.max(0, value))));
      const mixing = headMean(layer.attention);
      for (let i = 0; i < mixing.length; i++) mixing[i] *= gradient[i] * weight[i % pass.tokens];
      return { mixing, growth };
    });
    return maps(vit, layers, gradients.readout, lengths(pass.layers[0].stream, dim));
  },

  generic_attention: ({ vit, pass, gradients }) =>
    rolled(vit, gradients.readout, (l) => weighedMean(pass, gradients, l, true)),

  gradient_rollout: ({ vit, pass, gradients }) =>
    rolled(
      vit,
      gradients.readout,
      (l) => weighedMean(pass, gradients, l, false).map((value) => Math.max(0, value)),
      true,
    ),

  grad_cam: ({ vit, pass, gradients }) =>
    pass.layers.map((layer, l) => {
      const sum = new Float32Array(vit.patches);
      layer.attention.forEach((attention, h) => {
        const taken = patchesOf(vit, read(gradients.readout, attention));
        const gradient = patchesOf(vit, read(gradients.readout, gradients.layers[l].attention[h]));
        const weight = gradient.reduce((a, b) => a + b, 0) / gradient.length;
        for (let p = 0; p < sum.length; p++) sum[p] += (taken[p] * weight) / layer.attention.length;
      });
      return sum.map((value) => Math.max(0, value));
    }),

  attcat({ vit, pass, gradients }) {
    const { dim } = vit.spec;
    /** Sums of the sizes of all terms: what rounding is measured by. */
    const sizes = new Float64Array(vit.patches);
    const parts = pass.layers.map((layer, l) => {
      const taken = patchesOf(vit, read(gradients.readout, headMean(layer.attention)));
      const gradient = gradients.layers[l].streamOut;
      return taken.map((share, p) => {
        let [activation, size] = [0, 0];
        for (let j = (vit.spec.prefix + p) * dim, end = j + dim; j < end; j++) {
          const term = layer.streamOut[j] * gradient[j];
          activation += term;
          size += Math.abs(term);
        }
        sizes[p] += share * size;
        return share * activation;
      });
    });
    const layers = summed(parts);
    const [found, most] = [layers[layers.length - 1].map(Math.abs), sizes].map((of) => Math.max(...of));
    if (found < CANCELLED * most)
      throw new Error(
        "activations and their gradients cancel to rounding, as where nothing but norms reads the tokens: AttCAT cannot " +
          "explain this model",
      );
    return layers;
  },

  legrad({ vit, pass, target }) {
    const parts = backwardOfEach(vit, pass, target).map((heads) => {
      const sum = new Float32Array(pass.tokens);
      for (const gradient of heads)
        for (let at = 0; at < gradient.length; at += pass.tokens)
          for (let j = 0; j < pass.tokens; j++)
            if (gradient[at + j] > 0) sum[j] += gradient[at + j] / (heads.length * pass.tokens);
      return patchesOf(vit, sum);
    });
    return summed(parts).map((map, l) => map.map((value) => value / (l + 1)));
  },

  input_x_gradient({ vit, pass, target }) {
    const gradient = backwardToPixels(vit, pass, target);
    const { channels, height, width, patch } = vit.spec;
    const sums = new Float32Array(vit.patches);
    for (let channel = 0, i = 0; channel < channels; channel++)
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++, i++)
          sums[Math.floor(y / patch[0]) * vit.columns + Math.floor(x / patch[1])] += gradient[i] * pass.image[i];
    return [sums];
  },

  rollout: ({ vit, pass, gradients }) =>
    rolled(vit, gradients.readout, (l) => headMean(pass.layers[l].attention), true),

  attention: ({ vit, pass, gradients }) =>
    pass.layers.map((layer) => patchesOf(vit, read(gradients.readout, headMean(layer.attention)))),
};

/** Share of its terms below which a sum in single precision means nothing, as in tokentm/methods/attcat.py. */
const CANCELLED = 100 * 2 ** -23;

/**
 * mean_h [ G^h * A^h ] of a layer, or mean_h relu(G^h * A^h). One loop, for it runs while a reader drags.
 * @param {Pass} pass
 * @param {Gradients} gradients
 * @param {number} l
 * @param {boolean} positive
 */
function weighedMean(pass, gradients, l, positive) {
  const { attention } = pass.layers[l];
  const mean = new Float32Array(attention[0].length);
  const share = 1 / attention.length;
  for (const [h, weights] of attention.entries()) {
    const gradient = gradients.layers[l].attention[h];
    for (let i = 0; i < mean.length; i++) {
      const value = weights[i] * gradient[i];
      if (!positive || value > 0) mean[i] += share * value;
    }
  }
  return mean;
}

/** @param {Numbers[]} heads */
function headMean(heads) {
  const mean = new Float32Array(heads[0].length);
  const share = 1 / heads.length;
  for (const head of heads) for (let i = 0; i < mean.length; i++) mean[i] += share * head[i];
  return mean;
}

/**
 * What the readout takes in one matrix.
 * @param {Numbers} readout
 * @param {Numbers} matrix
 */
export function read(readout, matrix) {
  const row = new Float32Array(readout.length);
  for (let i = 0; i < row.length; i++) {
    const share = readout[i];
    if (share === 0) continue;
    for (let j = 0; j < row.length; j++) row[j] += share * matrix[i * row.length + j];
  }
  return row;
}

/** @param {Vit} vit @param {Numbers} row */
const patchesOf = (vit, row) => row.slice(vit.spec.prefix);

/** Each map and all before it. @param {Numbers[]} parts */
function summed(parts) {
  const sum = new Float32Array(parts[0].length);
  return parts.map((part) => {
    for (let p = 0; p < sum.length; p++) sum[p] += part[p];
    return sum.slice();
  });
}

/**
 * C_l = (I + M_l) C_{l-1} from C_0 = I, rows normalised where asked.
 * @param {Vit} vit
 * @param {Numbers} readout
 * @param {(l: number) => Numbers} mixingOf
 * @param {boolean} [normalised]
 */
function rolled(vit, readout, mixingOf, normalised = false) {
  const layers = vit.blocks.map((_, l) => {
    const mixing = mixingOf(l);
    return normalised ? normalisedStep(mixing) : { mixing, growth: null };
  });
  return maps(vit, layers, readout, null);
}

/** (I + M) divided by the sums of its rows is diag(1 / sum) (I + M). @param {Numbers} mixing @returns {Step} */
function normalisedStep(mixing) {
  const count = Math.sqrt(mixing.length);
  const growth = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    let sum = 1;
    for (let j = i * count; j < (i + 1) * count; j++) sum += mixing[j];
    growth[i] = 1 / sum - 1;
  }
  return { mixing, growth };
}

// A Vision Transformer of the plain kind (timm's VisionTransformer): forward over one image, and backward from its logits
// to every attention. Its weights come in half precision; all computing is in single precision.

import {
  activate,
  activateBack,
  linear,
  linearBack,
  normalise,
  normaliseBack,
  softmax,
  softmaxBack,
  transpose,
} from "./functions.js";

/**
 * @import { Block, Gradients, LayerPass, Linear, Norm, NormSpec, Numbers, Pass, Product, Spec } from "./types.d.ts"
 */
/** @typedef {ReturnType<typeof vitOf>} Vit */

/**
 * A model, ready to run.
 * @param {Spec} spec
 * @param {Uint16Array} halves all weights
 * @param {Product} product
 */
export function vitOf(spec, halves, product) {
  const all = fromHalves(halves);
  /** @param {string} name */
  const tensor = (name) => {
    const place = spec.weights[name];
    if (!place) return null;
    const [first, shape] = place;
    return all.subarray(first, first + shape.reduce((a, b) => a * b, 1));
  };
  /** @param {string} name @returns {Linear} */
  const map = (name) => {
    const [out, from] = spec.weights[`${name}.weight`][1];
    const weight = /** @type {Numbers} */ (tensor(`${name}.weight`));
    return { weight, transposed: transpose(weight, out, from), bias: tensor(`${name}.bias`), out, from };
  };
  /** @param {NormSpec | null} given @param {string} name @returns {Norm | null} */
  const norm = (given, name) => given && { ...given, weight: tensor(`${name}.weight`), bias: tensor(`${name}.bias`) };
  const rows = spec.height / spec.patch[0];
  const columns = spec.width / spec.patch[1];
  return {
    spec,
    product,
    rows,
    columns,
    patches: rows * columns,
    tokens: spec.prefix + rows * columns,
    embedding: map("embedding"),
    prefix: tensor("prefix"),
    positions: tensor("positions"),
    normPre: norm(spec.normPre, "normPre"),
    norm: norm(spec.norm, "norm"),
    normPooled: norm(spec.normPooled, "normPooled"),
    heads: spec.pooling === "tokens" ? [map("head"), map("head2")] : [map("head")],
    /** @type {Block[]} */
    blocks: spec.blocks.map((block, i) => ({
      ...block,
      norms: {
        norm1: /** @type {Norm} */ (norm(block.norm1, `${i}.norm1`)),
        norm2: /** @type {Norm} */ (norm(block.norm2, `${i}.norm2`)),
        q: norm(block.qNorm, `${i}.qNorm`),
        k: norm(block.kNorm, `${i}.kNorm`),
      },
      qkv: map(`${i}.qkv`),
      out: map(`${i}.out`),
      scale1: tensor(`${i}.scale1`),
      fc1: map(`${i}.fc1`),
      fc2: map(`${i}.fc2`),
      scale2: tensor(`${i}.scale2`),
    })),
  };
}

/** @param {Uint16Array} halves */
export function fromHalves(halves) {
  const table = new Float32Array(2 ** 16);
  for (let bits = 0; bits < table.length; bits++) {
    const [sign, exponent, part] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    if (exponent === 31) table[bits] = part ? Number.NaN : sign * Number.POSITIVE_INFINITY;
    else table[bits] = sign * (exponent ? (1 + part / 1024) * 2 ** (exponent - 15) : part * 2 ** -24);
  }
  const numbers = new Float32Array(halves.length);
  for (let i = 0; i < numbers.length; i++) numbers[i] = table[halves[i]];
  return numbers;
}

/**
 * @param {Vit} vit
 * @param {Numbers} image (channels, height, width), normalised
 * @param {number[] | null} [kept] the patches that stay, in order; all of them unless told
 * @returns {Pass}
 */
export function forward(vit, image, kept = null) {
  const { dim } = vit.spec;
  const whole = normalise(vit.normPre, embed(vit, image), dim);
  const first = kept ? chosen(whole, dim, vit.spec.prefix, kept) : whole;
  const tokens = first.length / dim;
  if (tokens === 0) throw new Error("no token is left, so there is nothing that the model could answer to");
  /** @type {LayerPass[]} */
  const layers = [];
  let stream = first;
  for (const block of vit.blocks) {
    const layer = through(vit.product, block, stream, tokens, dim);
    layers.push(layer);
    stream = layer.streamOut;
  }
  const final = normalise(vit.norm, stream, dim);
  const pooled = pool(vit, final, tokens);
  const logits = new Float32Array(vit.spec.classes);
  for (const [i, one] of pooled.entries()) {
    const part = linear(vit.product, vit.heads[i], normalise(vit.normPooled, one, dim), 1);
    for (let c = 0; c < logits.length; c++) logits[c] += part[c] / pooled.length;
  }
  return { tokens, layers, last: stream, final, pooled, logits, image };
}

/**
 * Patches and special tokens at their positions, (N, D), as the norm before the first block takes them, if there is one.
 * @param {Vit} vit
 * @param {Numbers} image
 */
function embed(vit, image) {
  const { dim, prefix, positions } = vit.spec;
  const patches = linear(vit.product, vit.embedding, unfold(vit, image), vit.patches);
  const tokens = new Float32Array(vit.tokens * dim);
  if (vit.prefix) tokens.set(vit.prefix, 0);
  tokens.set(patches, prefix * dim);
  if (vit.positions) {
    const begin = positions === "patches" ? prefix * dim : 0;
    for (let i = 0; i < vit.positions.length; i++) tokens[begin + i] += vit.positions[i];
  }
  return tokens;
}

/**
 * The pixels of each patch in a row: (P, channels x height x width of a patch).
 * @param {Vit} vit
 * @param {Numbers} image
 */
function unfold({ spec, rows, columns, patches }, image) {
  const { channels, height, width } = spec;
  const [high, wide] = spec.patch;
  const pixels = new Float32Array(patches * channels * high * wide);
  let to = 0;
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      for (let channel = 0; channel < channels; channel++)
        for (let y = 0; y < high; y++, to += wide) {
          const from = (channel * height + row * high + y) * width + column * wide;
          pixels.set(image.subarray(from, from + wide), to);
        }
  return pixels;
}

/**
 * @param {Numbers} tokens
 * @param {number} dim
 * @param {number} prefix
 * @param {number[]} kept
 */
function chosen(tokens, dim, prefix, kept) {
  const some = new Float32Array((prefix + kept.length) * dim);
  some.set(tokens.subarray(0, prefix * dim), 0);
  for (const [i, patch] of kept.entries()) {
    const from = (prefix + patch) * dim;
    some.set(tokens.subarray(from, from + dim), (prefix + i) * dim);
  }
  return some;
}

/**
 * One block.
 * @param {Product} product
 * @param {Block} block
 * @param {Numbers} stream
 * @param {number} tokens
 * @param {number} dim
 * @returns {LayerPass}
 */
function through(product, block, stream, tokens, dim) {
  const { heads, headDim, norms } = block;
  const width = heads * headDim;
  const qkv = linear(product, block.qkv, normalise(norms.norm1, stream, dim), tokens);
  const mixed = new Float32Array(tokens * width);
  /** @type {Numbers[][]} */
  const [q, k, v, rawQ, rawK, attention] = [[], [], [], [], [], []];
  const scale = 1 / Math.sqrt(headDim);
  for (let h = 0; h < heads; h++) {
    const [oneQ, oneK, oneV] = [0, 1, 2].map((which) =>
      columnsOf(qkv, 3 * width, which * width + h * headDim, headDim, tokens),
    );
    const scaled = normalise(norms.q, oneQ, headDim).slice();
    for (let i = 0; i < scaled.length; i++) scaled[i] *= scale;
    const keys = normalise(norms.k, oneK, headDim);
    const weights = softmax(product(scaled, transpose(keys, tokens, headDim), tokens, headDim, tokens), tokens);
    putColumns(mixed, width, h * headDim, headDim, product(weights, oneV, tokens, tokens, headDim));
    q.push(scaled);
    k.push(keys);
    v.push(oneV);
    rawQ.push(oneQ);
    rawK.push(oneK);
    attention.push(weights);
  }
  const middle = added(stream, linear(product, block.out, mixed, tokens), block.scale1);
  const hidden = linear(product, block.fc1, normalise(norms.norm2, middle, dim), tokens);
  const active = activate(block.activation, block.gate, hidden, block.fc1.out);
  const ffn = linear(product, block.fc2, active, tokens);
  if (block.scale2) multiply(ffn, block.scale2);
  const streamOut = added(middle, ffn, null);
  return { stream, middle, streamOut, q, k, v, rawQ, rawK, attention, hidden, ffn };
}

/** x + update, or x + scale update. @param {Numbers} x @param {Numbers} update @param {Numbers | null} scale */
function added(x, update, scale) {
  if (scale) multiply(update, scale);
  const sum = new Float32Array(x.length);
  for (let i = 0; i < sum.length; i++) sum[i] = x[i] + update[i];
  return sum;
}

/** Each row times a vector, in place. @param {Numbers} rows @param {Numbers} by */
function multiply(rows, by) {
  for (let at = 0; at < rows.length; at += by.length) for (let j = 0; j < by.length; j++) rows[at + j] *= by[j];
  return rows;
}

/**
 * @param {Numbers} matrix
 * @param {number} width
 * @param {number} first
 * @param {number} count
 * @param {number} rows
 */
function columnsOf(matrix, width, first, count, rows) {
  const part = new Float32Array(rows * count);
  for (let i = 0; i < rows; i++) part.set(matrix.subarray(i * width + first, i * width + first + count), i * count);
  return part;
}

/**
 * @param {Numbers} matrix
 * @param {number} width
 * @param {number} first
 * @param {number} count
 * @param {Numbers} part
 */
function putColumns(matrix, width, first, count, part) {
  for (let i = 0; i * count < part.length; i++)
    matrix.set(part.subarray(i * count, (i + 1) * count), i * width + first);
}

/**
 * What each head of the classifier reads.
 * @param {Vit} vit
 * @param {Numbers} final
 * @param {number} tokens
 */
function pool({ spec }, final, tokens) {
  const { dim, pooling } = spec;
  if (pooling === "token") return [final.slice(0, dim)];
  if (pooling === "tokens") return [final.slice(0, dim), final.slice(dim, 2 * dim)];
  const begin = pooling === "patches" ? spec.prefix : 0;
  const mean = new Float32Array(dim);
  for (let i = begin; i < tokens; i++) for (let j = 0; j < dim; j++) mean[j] += final[i * dim + j];
  for (let j = 0; j < dim; j++) mean[j] /= tokens - begin;
  return [mean];
}

/**
 * From a mixture of logits back to every attention.
 * @param {Vit} vit
 * @param {Pass} pass
 * @param {Numbers} target weight of each logit in the explained score
 * @returns {Gradients}
 */
export function backward(vit, pass, target) {
  const { dim } = vit.spec;
  const { read, dx: top } = atLast(vit, pass, pass.last, target);
  /** @type {Gradients["layers"]} */
  const layers = [];
  let dx = top;
  for (let l = vit.blocks.length - 1; l >= 0; l--) {
    const reached = l === vit.blocks.length - 1 ? readTokens(vit, pass.tokens) : pass.tokens;
    const streamOut = dx;
    const found = back(vit, vit.blocks[l], pass.layers[l], dx, pass.tokens, reached, l > 0);
    layers.unshift({ attention: found.attention, streamOut });
    dx = found.dx;
  }
  return { readout: sharesOf(read, dim), layers };
}

/**
 * The gradient at the attention of each block, where the classifier reads what that block puts out.
 * @param {Vit} vit
 * @param {Pass} pass
 * @param {Numbers} target
 * @returns {Numbers[][]}
 */
export function backwardOfEach(vit, pass, target) {
  return vit.blocks.map((block, l) => {
    const { dx } = atLast(vit, pass, pass.layers[l].streamOut, target);
    return back(vit, block, pass.layers[l], dx, pass.tokens, readTokens(vit, pass.tokens), false).attention;
  });
}

/**
 * The gradient at the normalised image's pixels, (channels, height, width).
 * @param {Vit} vit
 * @param {Pass} pass
 * @param {Numbers} target
 */
export function backwardToPixels(vit, pass, target) {
  const { dim, prefix } = vit.spec;
  let { dx } = atLast(vit, pass, pass.last, target);
  for (let l = vit.blocks.length - 1; l >= 0; l--) {
    const reached = l === vit.blocks.length - 1 ? readTokens(vit, pass.tokens) : pass.tokens;
    dx = back(vit, vit.blocks[l], pass.layers[l], dx, pass.tokens, reached, true).dx;
  }
  if (vit.normPre) dx = normaliseBack(vit.normPre, dx, embed(vit, pass.image), dim);
  return fold(vit, linearBack(vit.product, vit.embedding, dx.subarray(prefix * dim), vit.patches));
}

/** The first so many of the final tokens are all that the classifier reads. @param {Vit} vit @param {number} tokens */
const readTokens = ({ spec }, tokens) => ({ token: 1, tokens: 2, patches: tokens, all: tokens })[spec.pooling];

/**
 * The gradient at the final tokens, normalised (read) and not (dx), where they are those of a stream.
 * @param {Vit} vit
 * @param {Pass} pass
 * @param {Numbers} stream
 * @param {Numbers} target
 */
function atLast(vit, pass, stream, target) {
  const { dim, pooling, prefix } = vit.spec;
  const final = stream === pass.last ? pass.final : normalise(vit.norm, stream, dim);
  const read = new Float32Array(final.length);
  for (const [i, one] of pool(vit, final, pass.tokens).entries()) {
    const given = linearBack(vit.product, vit.heads[i], target, 1);
    for (let j = 0; j < dim; j++) given[j] /= vit.heads.length;
    const gradient = normaliseBack(vit.normPooled, given, one, dim);
    if (pooling === "token" || pooling === "tokens") {
      read.set(gradient, i * dim);
      continue;
    }
    const begin = pooling === "patches" ? prefix : 0;
    const share = gradient.map((value) => value / (pass.tokens - begin));
    for (let token = begin; token < pass.tokens; token++) read.set(share, token * dim);
  }
  return { read, dx: normaliseBack(vit.norm, read, stream, dim) };
}

/**
 * Each token's share of the gradient's length.
 * @param {Numbers} read
 * @param {number} dim
 */
function sharesOf(read, dim) {
  const shares = new Float32Array(read.length / dim);
  for (let i = 0; i < shares.length; i++) {
    let square = 0;
    for (let j = 0; j < dim; j++) square += read[i * dim + j] ** 2;
    shares[i] = Math.sqrt(square);
  }
  const sum = shares.reduce((a, b) => a + b, 0);
  return shares.map((one) => one / sum);
}

/**
 * One block: from the gradient at what it puts out to that at its attention, and at what it takes.
 * @param {Vit} vit
 * @param {Block} block
 * @param {LayerPass} layer
 * @param {Numbers} given (N, D)
 * @param {number} tokens
 * @param {number} reached in how many of the first tokens the gradient is not zero
 * @param {boolean} further whether the gradient at what the block takes is wanted
 */
function back({ product, spec }, block, layer, given, tokens, reached, further) {
  const { dim } = spec;
  const { heads, headDim, norms } = block;
  const width = heads * headDim;
  const dx = given.slice();
  const dy = given.slice(0, reached * dim);
  if (block.scale2) multiply(dy, block.scale2);
  const hidden = layer.hidden.subarray(0, reached * block.fc1.out);
  const active = linearBack(product, block.fc2, dy, reached);
  const atHidden = activateBack(block.activation, block.gate, active, hidden, block.fc1.out);
  const atMiddle = linearBack(product, block.fc1, atHidden, reached);
  const throughNorm = normaliseBack(norms.norm2, atMiddle, layer.middle.subarray(0, reached * dim), dim);
  for (let i = 0; i < throughNorm.length; i++) dx[i] += throughNorm[i];

  const update = dx.slice(0, reached * dim);
  if (block.scale1) multiply(update, block.scale1);
  const atMixed = linearBack(product, block.out, update, reached);
  /** @type {Numbers[]} */
  const attention = [];
  const atQkv = new Float32Array(further ? tokens * 3 * width : 0);
  const scale = 1 / Math.sqrt(headDim);
  for (let h = 0; h < heads; h++) {
    const atHead = columnsOf(atMixed, width, h * headDim, headDim, reached);
    const part = product(atHead, transpose(layer.v[h], tokens, headDim), reached, headDim, tokens);
    const gradient = reached === tokens ? part : filled(part, tokens * tokens);
    attention.push(gradient);
    if (!further) continue;
    const weights = layer.attention[h].subarray(0, reached * tokens);
    const atScores = softmaxBack(weights, part, tokens);
    const atQ = product(atScores, layer.k[h], reached, tokens, headDim);
    for (let i = 0; i < atQ.length; i++) atQ[i] *= scale;
    const q = layer.q[h].subarray(0, reached * headDim);
    const atK = product(transpose(atScores, reached, tokens), q, tokens, reached, headDim);
    const atV = product(transpose(weights, reached, tokens), atHead, tokens, reached, headDim);
    const rawQ = layer.rawQ[h].subarray(0, reached * headDim);
    putColumns(atQkv, 3 * width, h * headDim, headDim, normaliseBack(norms.q, atQ, rawQ, headDim));
    putColumns(atQkv, 3 * width, width + h * headDim, headDim, normaliseBack(norms.k, atK, layer.rawK[h], headDim));
    putColumns(atQkv, 3 * width, 2 * width + h * headDim, headDim, atV);
  }
  if (further) {
    const atNormed = linearBack(product, block.qkv, atQkv, tokens);
    const atStream = normaliseBack(norms.norm1, atNormed, layer.stream, dim);
    for (let i = 0; i < dx.length; i++) dx[i] += atStream[i];
  }
  return { attention, dx };
}

/** @param {Numbers} some @param {number} length */
function filled(some, length) {
  const all = new Float32Array(length);
  all.set(some);
  return all;
}

/**
 * From rows of patches to (channels, height, width), as `unfold` the other way.
 * @param {Vit} vit
 * @param {Numbers} pixels
 */
function fold({ spec, rows, columns }, pixels) {
  const { channels, height, width } = spec;
  const [high, wide] = spec.patch;
  const image = new Float32Array(channels * height * width);
  let from = 0;
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      for (let channel = 0; channel < channels; channel++)
        for (let y = 0; y < high; y++, from += wide) {
          const to = (channel * height + row * high + y) * width + column * wide;
          image.set(pixels.subarray(from, from + wide), to);
        }
  return image;
}

// The strongest paths from every patch to the readout, as tokentm/paths.py finds them: from the readout down, a layer at
// a time, keeping the best ways on from every token.

import { ascend, headMixing, lengths, steps, transformations } from "./tokentm.js";

/** @import { Asked } from "./explaining.js" */
/** @import { Numbers } from "./types.d.ts" */
/** @typedef {{ stay: Numbers, moves: Numbers[], before: Numbers }} Factors of a layer: (N), (N, N) a head, (N, N) */
/** The best K ways on from every token: values (N, K), and what each did in every layer so far. @typedef {{ values: Numbers, tokens: Int16Array[], heads: Int16Array[] }} Ways */

const STAYED = -1;

/**
 * @param {Asked} asked
 * @param {number} count
 * @param {(share: number) => void} report
 */
export function strongestPaths(asked, count, report) {
  const { vit } = asked.picture;
  const { prefix } = vit.spec;
  const size = asked.picture.pass.tokens;
  const { factors, last } = layersOf(asked);
  const depth = factors.length;
  const heads = vit.blocks[0].heads;
  const { through, stayed } = passing(factors, asked.gradients.readout);

  const first = new Float32Array(size * count);
  for (let i = 0; i < size; i++) first[i * count] = asked.gradients.readout[i];
  const here = Int16Array.from({ length: size * count }, (_, i) => Math.floor(i / count));
  /** @type {Ways} */
  let ways = { values: first, tokens: [here], heads: [] };
  for (let l = depth - 1; l >= 0; l--) {
    report((depth - 1 - l) / depth);
    ways = further(factors[l], ways, size, count);
  }
  const patches = vit.patches;
  const start = factors[0].before;
  const found = {
    tokens: new Int16Array(patches * count * (depth + 1)),
    heads: new Int16Array(patches * count * depth),
    values: new Float32Array(patches * count),
    total: new Float32Array(patches),
    through: through.slice(prefix * depth * heads),
    stayed: stayed.slice(prefix * depth),
  };
  for (let p = 0; p < patches; p++) {
    const token = prefix + p;
    for (let i = 0; i < size; i++) found.total[p] += asked.gradients.readout[i] * last[i * size + token];
    for (let k = 0; k < count; k++) {
      const way = token * count + k;
      found.values[p * count + k] = start[token * size + token] * ways.values[way];
      for (let l = 0; l <= depth; l++) found.tokens[(p * count + k) * (depth + 1) + l] = ways.tokens[l][way];
      for (let l = 0; l < depth; l++) found.heads[(p * count + k) * depth + l] = ways.heads[l][way];
    }
  }
  return { layers: depth, headCount: heads, count, ...found };
}

/**
 * Each layer's factors, and the map after the last one.
 * @param {Asked} asked
 */
function layersOf(asked) {
  const { vit, pass } = asked.picture;
  const size = pass.tokens;
  const first = lengths(pass.layers[0].stream, vit.spec.dim);
  let before = new Float32Array(size * size);
  for (let i = 0; i < size; i++) before[i * size + i] = first[i];
  const transformed = transformations(vit, pass);
  const factors = steps(vit, pass, asked.gradients).map((step, l) => {
    const growth = transformed[l].ffn.weight;
    const { attention } = pass.layers[l];
    const moves = attention.map((weights, h) => {
      const mixed = headMixing(weights, asked.gradients.layers[l].attention[h], transformed[l].heads[h].weight);
      for (let i = 0; i < size; i++) {
        const factor = (1 + growth[i]) / attention.length;
        for (let j = i * size; j < (i + 1) * size; j++) mixed[j] *= factor;
      }
      return mixed;
    });
    const one = { stay: growth.map((value) => 1 + value), moves, before };
    before = ascend(vit, before, step);
    return one;
  });
  return { factors, last: before };
}

/**
 * What moves through each head and what stays, over all paths: (N, L, H), (N, L).
 * @param {Factors[]} factors
 * @param {Numbers} readout
 */
function passing(factors, readout) {
  const [size, depth, heads] = [readout.length, factors.length, factors[0].moves.length];
  const [through, stayed] = [new Float32Array(size * depth * heads), new Float32Array(size * depth)];
  let row = readout;
  for (let l = depth - 1; l >= 0; l--) {
    const { stay, moves, before } = factors[l];
    const kept = row.map((value, i) => value * stay[i]);
    const moved = moves.map((move) => rowTimes(row, move));
    moved.forEach((one, h) => {
      rowTimes(one, before).forEach((value, i) => {
        through[(i * depth + l) * heads + h] = value;
      });
    });
    rowTimes(kept, before).forEach((value, i) => {
      stayed[i * depth + l] = value;
    });
    row = kept.map((value, i) => moved.reduce((sum, one) => sum + one[i], value));
  }
  return { through, stayed };
}

/** @param {Numbers} row @param {Numbers} matrix */
function rowTimes(row, matrix) {
  const size = row.length;
  const product = new Float32Array(size);
  for (let i = 0; i < size; i++) {
    const share = row[i];
    if (share === 0) continue;
    for (let j = 0; j < size; j++) product[j] += share * matrix[i * size + j];
  }
  return product;
}

/**
 * A layer more below the best ways.
 * @param {Factors} factors
 * @param {Ways} ways
 * @param {number} size
 * @param {number} count
 * @returns {Ways}
 */
function further({ stay, moves }, ways, size, count) {
  const { values } = ways;
  const best = new Float32Array(size * count);
  const [to, head] = [new Int16Array(size * count), new Int16Array(size * count)];
  const which = new Int32Array(size * count);
  const firsts = new Float32Array(moves.length * size);
  for (let j = 0; j < size; j++) {
    moves.forEach((move, h) => {
      for (let i = 0; i < size; i++) firsts[h * size + i] = move[i * size + j] * values[i * count];
    });
    // a way that is among the best begins with one of the best moves, each judged by the best way on from where it leads
    const candidates = [...Array(count).keys()].map((k) => ({
      value: stay[j] * values[j * count + k],
      i: j,
      h: STAYED,
      k,
    }));
    for (const at of largestOf(firsts, count)) {
      const [h, i] = [Math.floor(at / size), at % size];
      const factor = moves[h][i * size + j];
      for (let k = 0; k < count; k++) candidates.push({ value: Math.fround(factor * values[i * count + k]), i, h, k });
    }
    candidates.sort((a, b) => b.value - a.value);
    for (let k = 0; k < count; k++) {
      const one = candidates[k];
      const at = j * count + k;
      best[at] = one.value;
      to[at] = one.i;
      head[at] = one.h;
      which[at] = one.i * count + one.k;
    }
  }
  const here = Int16Array.from({ length: size * count }, (_, i) => Math.floor(i / count));
  return {
    values: best,
    tokens: [here, ...ways.tokens.map((of) => Int16Array.from(which, (way) => of[way]))],
    heads: [head, ...ways.heads.map((of) => Int16Array.from(which, (way) => of[way]))],
  };
}

/** Where the largest numbers stand, largest first. @param {Numbers} values @param {number} count */
function largestOf(values, count) {
  /** @type {number[]} */
  const top = [];
  let least = -Infinity;
  for (let i = 0; i < values.length; i++) {
    if (top.length === count && values[i] <= least) continue;
    let place = top.length;
    while (place > 0 && values[top[place - 1]] < values[i]) place -= 1;
    top.splice(place, 0, i);
    if (top.length > count) top.pop();
    least = values[top[top.length - 1]];
  }
  return top;
}

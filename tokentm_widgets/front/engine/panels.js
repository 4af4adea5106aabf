// What the layer stepper shows of a class, as tokentm_widgets/layer_panels.py makes it of a record.

import { read } from "./methods.js";
import { ascend, headMixing, lengths, steps, transformations } from "./tokentm.js";

/** @import { Asked } from "./explaining.js" */
/** @import { Numbers } from "./types.d.ts" */

/**
 * Contribution maps after every layer, (N, N) each, once asked for.
 * @type {WeakMap<Asked, Numbers[]>}
 */
const maps = new WeakMap();

/** @param {Asked} asked */
function contributions(asked) {
  const known = maps.get(asked);
  if (known) return known;
  const { vit, pass } = asked.picture;
  const first = lengths(pass.layers[0].stream, vit.spec.dim);
  let map = new Float32Array(pass.tokens ** 2);
  for (let i = 0; i < pass.tokens; i++) map[i * pass.tokens + i] = first[i];
  const made = steps(vit, pass, asked.gradients).map((step) => {
    map = ascend(vit, map, step);
    return map;
  });
  maps.set(asked, made);
  return made;
}

/**
 * What the readout takes, and the weights: the stepper's data but the rows of patches.
 * @param {Asked} asked
 */
export function panels(asked) {
  const { vit, pass } = asked.picture;
  const { prefix } = vit.spec;
  const { readout, layers } = asked.gradients;
  const transformed = transformations(vit, pass);
  const [heads, depth] = [vit.blocks[0].heads, vit.blocks.length];
  const taken = () => new Float32Array(depth * heads * vit.patches);
  const [attentionReadout, updateReadout] = [taken(), taken()];
  const contributionReadout = new Float32Array(depth * vit.patches);
  const of = Object.fromEntries(
    ["weight", "ratio", "cosine", "necc"].map((name) => [name, new Float32Array(depth * heads * pass.tokens)]),
  );
  const contribution = contributions(asked);
  pass.layers.forEach((layer, l) => {
    contributionReadout.set(read(readout, contribution[l]).subarray(prefix), l * vit.patches);
    for (let h = 0; h < heads; h++) {
      const at = l * heads + h;
      const head = transformed[l].heads[h];
      attentionReadout.set(read(readout, layer.attention[h]).subarray(prefix), at * vit.patches);
      const mixed = headMixing(layer.attention[h], layers[l].attention[h], head.weight);
      updateReadout.set(read(readout, mixed).subarray(prefix), at * vit.patches);
      for (const [name, values] of Object.entries(of))
        values.set(head[/** @type {"weight"} */ (name)], at * pass.tokens);
    }
  });
  return { layers: depth, heads, attentionReadout, updateReadout, contributionReadout, ...of };
}

/**
 * What patches take in every layer: one patch through all heads (head null), or all patches through one; see RowsData.
 * @param {Asked} asked
 * @param {number | null} head
 * @param {number | null} patch
 */
export function rows(asked, head, patch) {
  const { vit, pass } = asked.picture;
  const { prefix } = vit.spec;
  const [count, depth] = [pass.tokens, vit.blocks.length];
  const transformed = transformations(vit, pass);
  const heads = head === null ? [...Array(vit.blocks[0].heads).keys()] : [head];
  const patches = patch === null ? [...Array(vit.patches).keys()] : [patch];
  const size = depth * heads.length * patches.length * vit.patches;
  const [attention, update] = [new Float32Array(size), new Float32Array(size)];
  let to = 0;
  for (let l = 0; l < depth; l++)
    for (const h of heads)
      for (const one of patches) {
        const at = (prefix + one) * count + prefix;
        const taken = pass.layers[l].attention[h].subarray(at, at + vit.patches);
        const gradient = asked.gradients.layers[l].attention[h];
        const { weight } = transformed[l].heads[h];
        attention.set(taken, to);
        for (let p = 0; p < vit.patches; p++)
          update[to + p] = Math.max(0, gradient[at + p] * taken[p] * weight[prefix + p]);
        to += vit.patches;
      }
  const made = { indices: [0], heads, patches, attention, update };
  if (patch === null) return made;
  const contribution = new Float32Array(depth * vit.patches);
  contributions(asked).forEach((map, l) => {
    const at = (prefix + patch) * count + prefix;
    contribution.set(capped(map.slice(at, at + vit.patches), patch), l * vit.patches);
  });
  return { ...made, contribution };
}

/** A patch counts far more in itself than any other does; capped, the colours resolve the others. @param {Numbers} row @param {number} own */
function capped(row, own) {
  row[own] = 0;
  row[own] = row.reduce((a, b) => Math.max(a, b), 0);
  return row;
}

// What is known of a picture: its pass, and of each class that was asked for its gradients and maps.

import { METHODS } from "./methods.js";
import { backward, forward } from "./vit.js";

/** @import { Gradients, Numbers } from "./types.d.ts" */
/** @import { Vit } from "./vit.js" */
/** @typedef {{ layers: Numbers[], scores: Numbers }} Explained maps after every layer, and the last of them */
/** @typedef {{ picture: Picture, target: Numbers, gradients: Gradients, explained: Map<string, Explained> }} Asked */

/** A picture that was run, and what was asked of it. */
export class Picture {
  /**
   * @param {Vit} vit
   * @param {Numbers} image
   * @param {number[] | null} [kept] the patches that stay; all of them unless told
   */
  constructor(vit, image, kept = null) {
    this.vit = vit;
    this.kept = kept;
    this.pass = forward(vit, image, kept);
    /** @type {Map<number, Asked>} */
    this.asked = new Map();
  }

  /** What is kept of a class; the predicted one where none is named. @param {number | null} target */
  of(target) {
    const index = target ?? largest(this.pass.logits);
    const known = this.asked.get(index);
    if (known) return { index, asked: known };
    const weights = new Float32Array(this.vit.spec.classes);
    weights[index] = 1;
    const gradients = backward(this.vit, this.pass, weights);
    /** @type {Asked} */
    const asked = { picture: this, target: weights, gradients, explained: new Map() };
    if (this.asked.size > 3) this.asked.clear(); // attention and gradients of some classes are all that is kept
    this.asked.set(index, asked);
    return { index, asked };
  }
}

/**
 * The map of a class by one method.
 * @param {Asked} asked
 * @param {string} method
 * @returns {Explained}
 */
export function explained(asked, method) {
  const known = asked.explained.get(method);
  if (known) return known;
  const { picture, target, gradients } = asked;
  const { vit, pass, kept } = picture;
  if (kept && method === "input_x_gradient")
    throw new Error("input_x_gradient follows the gradient to all pixels: expected all patches to be there");
  const found = METHODS[method]({ vit, pass, target, gradients });
  const layers = kept ? found.map((map) => placed(map, kept, vit.patches)) : found;
  const made = { layers, scores: layers[layers.length - 1] };
  if (!made.scores.every(Number.isFinite))
    throw new Error(`the map by ${method} has numbers that are not finite, so it cannot be shown`);
  asked.explained.set(method, made);
  return made;
}

/**
 * A map of some patches on the whole grid; those that are gone have nothing.
 * @param {Numbers} map
 * @param {number[]} kept
 * @param {number} patches
 */
export function placed(map, kept, patches) {
  const whole = new Float32Array(patches);
  for (const [i, patch] of kept.entries()) whole[patch] = map[i];
  return whole;
}

/** @param {Numbers} values */
export function largest(values) {
  let most = 0;
  for (let c = 1; c < values.length; c++) if (values[c] > values[most]) most = c;
  return most;
}

// What the engine is asked, and what it answers. It keeps the pass and the gradients of the last picture, so that another
// class or view of it costs only what is new.

import { compared } from "./compared.js";
import { explained, largest, Picture } from "./explaining.js";
import { METHODS } from "./methods.js";
import { outliers } from "./outliers.js";
import { panels, rows } from "./panels.js";
import { strongestPaths } from "./paths.js";
import { fastest } from "./products.js";
import { film } from "./removal.js";
import { forward, vitOf } from "./vit.js";

/** @import { Numbers, Spec } from "./types.d.ts" */
/** @import { Vit } from "./vit.js" */

/**
 * @returns {(act: string, given: any, report: (share: number) => void) => any} which answers one question after another
 */
export function engineOf() {
  /** @type {Vit | null} */
  let vit = null;
  /** @type {Picture | null} */
  let last = null;

  /** @param {Numbers} image @param {number[] | null} kept */
  function seen(image, kept = null) {
    if (!vit) throw new Error("no model is there yet");
    const { channels, height, width } = vit.spec;
    if (image.length !== channels * height * width)
      throw new Error(`expected ${channels} x ${height} x ${width} numbers of a picture; got ${image.length}`);
    if (!last || !same(last.pass.image, image) || String(last.kept) !== String(kept))
      last = new Picture(vit, image, kept);
    return last;
  }

  /** @type {Record<string, (given: any, report: (share: number) => void) => any>} */
  const acts = {
    /** @param {{ spec: Spec, weights: Uint16Array }} given */
    open({ spec, weights }) {
      const { product, without } = fastest();
      vit = vitOf(spec, weights, product);
      last = null;
      return { without, methods: Object.keys(METHODS) };
    },
    /**
     * Logits, and the maps of one class by some methods; of a picture of whose patches only some are there, if told.
     * @param {{ image: Numbers, target: number | null, methods: string[], kept?: number[] | null }} given
     */
    explain({ image, target, methods, kept = null }) {
      const picture = seen(image, kept);
      if (!methods.length)
        return { logits: picture.pass.logits, target: target ?? largest(picture.pass.logits), maps: {} };
      const { index, asked } = picture.of(target);
      const maps = Object.fromEntries(methods.map((/** @type {string} */ name) => [name, explained(asked, name)]));
      return { logits: picture.pass.logits, target: index, maps };
    },
    /**
     * Logits of several pictures.
     * @param {{ images: Numbers[] }} given
     */
    answers({ images }, report) {
      const model = /** @type {Vit} */ (vit);
      const found = images.map((/** @type {Numbers} */ image, /** @type {number} */ i) => {
        report(i / images.length);
        return forward(model, image).logits;
      });
      return { logits: found };
    },
    outliers: ({ image }) => ({ patches: outliers(/** @type {Vit} */ (vit), seen(image).pass) }),
    layers: ({ image, target }) => panels(seen(image).of(target).asked),
    rows: ({ image, target, head, patch }) => rows(seen(image).of(target).asked, head, patch),
    methods: ({ image, target, methods }) => compared(seen(image).of(target).asked, methods),
    paths: ({ image, target, count }, report) => strongestPaths(seen(image).of(target).asked, count, report),
    removal: ({ image, target, methods, orders, counts }, report) =>
      film(seen(image).of(target).asked, methods, orders, counts, report),
  };
  return (act, given, report) => acts[act](given, report);
}

/** @param {Numbers} one @param {Numbers} other */
function same(one, other) {
  if (one.length !== other.length) return false;
  for (let i = 0; i < one.length; i++) if (one[i] !== other[i]) return false;
  return true;
}

// Take patches away in the order of several methods, most and least relevant first, and ask the model each time; as
// tokentm_widgets/perturbation_player.py with tokens dropped.

import { explained } from "./explaining.js";
import { forward } from "./vit.js";

/** @import { Asked } from "./explaining.js" */
/** @import { Numbers } from "./types.d.ts" */

/**
 * @param {Asked} asked
 * @param {string[]} methods whose maps rank the patches; "random" takes its order from `orders`
 * @param {{ shuffle: number[], random: number[] }} orders one that breaks ties, and one by chance
 * @param {number[]} counts how many patches are gone at each step
 * @param {(share: number) => void} report
 */
export function film(asked, methods, orders, counts, report) {
  const { vit, pass } = asked.picture;
  const rankings = methods.map((name) =>
    name === "random" ? orders.random : ranking(explained(asked, name).scores, orders.shuffle),
  );
  const ways = rankings.flatMap((order) => [order, order.slice().reverse()]);
  /** Logits by what is left: all orders begin and end alike. @type {Map<number, Numbers>} */
  const ends = new Map([[0, pass.logits]]);
  let done = 0;
  const logits = ways.map((order) =>
    counts.map((gone) => {
      report(done / (ways.length * counts.length));
      done += 1;
      const known = ends.get(gone);
      if (known) return known;
      const found = forward(vit, pass.image, order.slice(gone)).logits;
      if (gone === order.length) ends.set(gone, found);
      return found;
    }),
  );
  return { rankings, logits };
}

/**
 * Patches, most relevant first; ties in the order of the shuffle.
 * @param {Numbers} scores
 * @param {number[]} shuffle
 */
export const ranking = (scores, shuffle) => shuffle.slice().sort((a, b) => scores[b] - scores[a]);

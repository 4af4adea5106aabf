// Patches that were taken away: what the map had said of each, upwards, and what the model lost with it, downwards.

import { assign, element, write } from "./dom.js";
import { percent } from "./table_words.js";

/** @import { Entry } from "./table_asking.js" */

/** How many of the last patches are shown. */
const SHOWN = 40;

/** Patches that one button takes. */
export const TEN = 10;

/**
 * Heights of the bars, each half against its own largest: upwards what was said, downwards what it did; negative where
 * the probability rose.
 * @param {Entry[]} log
 */
export function mirrored(log) {
  const shown = log.slice(-SHOWN);
  const said = Math.max(0.01, ...shown.map((one) => one.said));
  const did = Math.max(0.01, ...shown.map((one) => Math.abs(one.did)));
  return { said, did, bars: shown.map((one) => ({ up: one.said / said, down: one.did / did })) };
}

/**
 * Patches to take next.
 * @param {"most" | "least" | "random"} which
 * @param {ArrayLike<number>} map
 * @param {number[]} gone
 * @param {() => number} random
 */
export function nextTen(which, map, gone, random = Math.random) {
  const left = [...Array(map.length).keys()].filter((patch) => !gone.includes(patch));
  const order =
    which === "random"
      ? left
          .map((patch) => ({ patch, at: random() }))
          .sort((a, b) => a.at - b.at)
          .map(({ patch }) => patch)
      : left.sort((a, b) => (which === "most" ? map[b] - map[a] : map[a] - map[b]));
  return order.slice(0, TEN);
}

/** The bars of all patches that are gone. */
export function mirror() {
  const [saidMost, didMost] = [element("span"), element("span")];
  const bars = element("div", { class: "pairs" });
  const node = element(
    "div",
    { class: "mirror", role: "img" },
    element(
      "div",
      { class: "sides tiny" },
      element("div", {}, "the map said", element("br"), saidMost),
      element("div", {}, "taking it away did", element("br"), didMost),
    ),
    bars,
  );
  /** @type {Entry[] | null} */
  let painted = null;
  return {
    node,
    /** @param {Entry[]} log @param {string} name */
    paint(log, name) {
      if (painted === log) return;
      painted = log;
      const { said, did, bars: pairs } = mirrored(log);
      write(saidMost, log.length ? `up to ${percent(said)}` : "");
      write(didMost, log.length ? `up to ${(100 * did).toFixed(1)} points` : "");
      bars.replaceChildren(
        ...pairs.map(({ up, down }) => {
          const [above, below] = [
            element("i", { class: "up" }),
            element("i", { class: down < 0 ? "down rose" : "down" }),
          ];
          above.style.height = `${50 * up}%`;
          below.style.height = `${50 * Math.abs(down)}%`;
          return element("span", {}, above, below);
        }),
      );
      const last = log.at(-1);
      assign(
        node,
        "aria-label",
        last
          ? `For each patch taken away: upwards what the map said, downwards what the probability lost. The last one: the map said ${percent(last.said)}, the probability of ${name} ${last.did < 0 ? "rose" : "fell"} by ${Math.abs(100 * last.did).toFixed(1)} points.`
          : "For each patch taken away: upwards what the map said, downwards what the probability lost. None is gone yet.",
      );
    },
  };
}

// After which layer the answer stays: a bar for each layer, of one class, with a line where all pictures stand.

import { assign, element, write } from "./dom.js";
import { percent, range } from "./numbers.js";

/** @import { OfClassData } from "./schema.d.ts" */

/** How many bars have room for the number of pictures above them; of more, not every layer has its number either. */
const NUMBERED = 12;

const CAUTION =
  "It is the model's own head that is asked after every layer, and it is made for the last one: what it says early may " +
  "be what it says of anything.";

/** @param {number[]} counts */
const sum = (counts) => counts.reduce((all, count) => all + count, 0);

/**
 * Of all classes together, how many pictures are decided after each layer.
 * @param {Pick<OfClassData, "decided">[]} classes
 */
export const ofAll = (classes) =>
  classes[0].decided.map((_, layer) => sum(classes.map(({ decided }) => decided[layer])));

/**
 * The first layer, counted from 1, by which half of the pictures are decided.
 * @param {number[]} decided
 */
export function halfBy(decided) {
  const until = (/** @type {number} */ layer) => sum(decided.slice(0, layer + 1));
  return 1 + decided.findIndex((_, layer) => 2 * until(layer) >= sum(decided));
}

/**
 * @param {OfClassData[]} classes
 */
export function decidedBars(classes) {
  const all = ofAll(classes);
  const total = sum(all);
  const caption = element("figcaption", {}, "After which layer its answer stays");
  const bars = all.map(() => element("i", { class: "own" }));
  const lines = all.map(() => element("i", { class: "all" }));
  const counts = all.map(() => element("span", { class: "count" }));
  const many = all.length > NUMBERED;
  const step = Math.ceil(all.length / NUMBERED);
  const chart = element(
    "div",
    { class: many ? "bars many" : "bars", role: "img" },
    ...range(all.length).map((layer) =>
      element(
        "span",
        { class: "column" },
        counts[layer],
        element("span", { class: "lane" }, bars[layer], lines[layer]),
        element("span", { class: "layer" }, layer % step ? "" : layer + 1),
      ),
    ),
  );
  const under = element("p", { class: "says" });
  const node = element("figure", { class: "decided" }, caption, chart, under);

  return {
    node,
    /** @param {OfClassData} of */
    draw({ name, pictures, decided }) {
      const shares = decided.map((count) => count / pictures);
      const common = all.map((count) => count / total);
      const most = Math.max(...shares, ...common);
      for (const layer of range(all.length)) {
        bars[layer].style.height = `${(100 * shares[layer]) / most}%`;
        lines[layer].style.bottom = `${(100 * common[layer]) / most}%`;
        write(counts[layer], decided[layer] && !many ? String(decided[layer]) : "");
        assign(
          counts[layer].parentElement ?? chart,
          "title",
          `layer ${layer + 1}: ${decided[layer]}, ${percent(shares[layer])}`,
        );
      }
      const listed = decided.map((count, layer) => `layer ${layer + 1}: ${count}`).join(", ");
      assign(chart, "aria-label", `Pictures of ${name} decided after each layer: ${listed}`);
      write(under, `Lines: all ${total} pictures, as shares. ${CAUTION}`);
    },
  };
}

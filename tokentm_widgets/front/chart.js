// Curves over the share of patches that are gone. The drawing is stretched to its place, and what must not be stretched,
// words, dots and the width of lines, is not in it. Axes and lines stand still while the film runs; only the cursor and
// its dots move.

import { hue } from "./colours.js";
import { assign, drawing, element, shareOf } from "./dom.js";
import { range } from "./numbers.js";

/** @import { Data } from "./film.js" */

/** The drawing's own units: it is as wide as it is high. */
const SIZE = 100;

/**
 * How the line of a class is drawn.
 * @param {number} k
 * @param {Pick<Data, "dashes">} data
 */
export const lineOf = (k, data) => ({
  stroke: hue(k),
  "stroke-dasharray": data.dashes[k],
  "stroke-width": 2,
  fill: "none",
  "vector-effect": "non-scaling-stroke",
});

/**
 * @param {Data} data
 * @param {string} method
 * @param {string} name as people read it
 */
export function chart(data, method, name) {
  const x = (/** @type {number} */ step) => (SIZE * data.counts[step]) / data.patches;
  const y = (/** @type {number} */ value) => (SIZE * (data.high - value)) / (data.high - data.low);
  const [axes, lines] = [drawing("g"), drawing("g")];
  const plot = drawing(
    "svg",
    { viewBox: `0 0 ${SIZE} ${SIZE}`, preserveAspectRatio: "none", role: "img", "data-panel": `chart ${method}` },
    axes,
    lines,
  );
  const cursor = element("i", { class: "cursor" });
  const dots = data.names.map((_, k) => element("i", { class: "dot", style: `background: ${hue(k)}` }));
  const ticks = [1, 0.5, 0].map((share) =>
    element("span", { class: "tick" }, data.tick(data.low + share * (data.high - data.low))),
  );
  for (const at of [0, SIZE / 2, SIZE])
    axes.append(
      drawing("line", { class: "axis", x1: 0, x2: SIZE, y1: at, y2: at, "vector-effect": "non-scaling-stroke" }),
    );
  const node = element(
    "div",
    { class: "chart" },
    element("div", { class: "ticks", "aria-hidden": "true" }, ...ticks),
    element("div", { class: "plot" }, plot, cursor, ...dots),
    element(
      "div",
      { class: "along", "aria-hidden": "true" },
      ...["0 %", "patches gone", "100 %"].map((text) => element("span", {}, text)),
    ),
  );
  return {
    node,
    plot,
    /** @param {number[][]} curves */
    lines(curves) {
      lines.replaceChildren(
        ...curves.map((values, k) => {
          const points = values.map((v, step) => `${x(step).toFixed(2)},${y(v).toFixed(2)}`).join(" ");
          return drawing("polyline", { ...lineOf(k, data), "data-class": k, points });
        }),
      );
      const ends = data.names.map((of, k) => {
        const [first, last] = [curves[k][0], curves[k][data.steps - 1]].map(data.written);
        return `${of} from ${first} to ${last}`;
      });
      assign(plot, "aria-label", `${data.title} while patches go, ${name}: ${ends.join(", ")}`);
    },
    /**
     * @param {number} step
     * @param {number[][]} curves
     */
    cursor(step, curves) {
      cursor.style.left = `${x(step)}%`;
      for (const [k, values] of curves.entries())
        dots[k].style.cssText = `background: ${hue(k)}; left: ${x(step)}%; top: ${y(values[step])}%`;
    },
    /**
     * The step nearest to the pointer.
     * @param {MouseEvent} event
     */
    under(event) {
      const at = shareOf(event, plot)[0] * SIZE;
      const away = (/** @type {number} */ step) => Math.abs(x(step) - at);
      return range(data.steps).reduce((best, step) => (away(step) < away(best) ? step : best), 0);
    },
  };
}

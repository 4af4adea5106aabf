// Curves over the share of patches that are gone. Axes and lines stand still while the film runs; only the cursor and
// its dots move.

import { hue } from "./colours.js";
import { assign, drawing, shareOf } from "./dom.js";
import { range } from "./numbers.js";

/** @import { Data } from "./film.js" */

const [WIDE, TALL, RIGHT, TOP, BOTTOM] = [260, 150, 8, 8, 30]; // in units of the view box

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
});

/**
 * @param {Data} data
 * @param {string} name
 */
export function chart(data, name) {
  const across = (/** @type {number} */ share) => data.left + share * (WIDE - data.left - RIGHT);
  const x = (/** @type {number} */ step) => across(data.counts[step] / data.patches);
  const y = (/** @type {number} */ value) =>
    TOP + ((data.high - value) / (data.high - data.low)) * (TALL - TOP - BOTTOM);
  const [axes, lines, cursor] = [drawing("g"), drawing("g"), drawing("g", { "data-cursor": "" })];
  const node = drawing(
    "svg",
    { viewBox: `0 0 ${WIDE} ${TALL}`, role: "img", "data-panel": `chart ${name}` },
    axes,
    lines,
    cursor,
  );
  for (const share of [0, 0.5, 1]) {
    const value = data.low + share * (data.high - data.low);
    const at = y(value);
    axes.append(
      drawing("line", { class: "axis", x1: data.left, x2: WIDE - RIGHT, y1: at, y2: at }),
      drawing("text", { class: "quiet", x: data.left - 5, y: at + 4, "text-anchor": "end" }, data.tick(value)),
    );
  }
  for (const [share, anchor, text] of /** @type {const} */ ([
    [0, "start", "0 %"],
    [1, "end", "100 %"],
    [0.5, "middle", "patches gone"],
  ]))
    axes.append(drawing("text", { class: "quiet", x: across(share), y: TALL - 14, "text-anchor": anchor }, text));
  return {
    node,
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
      assign(node, "aria-label", `${data.title} while patches go, ${name}: ${ends.join(", ")}`);
    },
    /**
     * @param {number} step
     * @param {number[][]} curves
     */
    cursor(step, curves) {
      const at = x(step);
      cursor.replaceChildren(
        drawing("line", { x1: at, x2: at, y1: TOP, y2: TALL - BOTTOM, stroke: "var(--quiet)" }),
        ...curves.map((values, k) => drawing("circle", { cx: at, cy: y(values[step]), r: 3.5, fill: hue(k) })),
      );
    },
    /**
     * The step nearest to the pointer.
     * @param {MouseEvent} event
     */
    under(event) {
      const at = shareOf(event, node)[0] * WIDE;
      const away = (/** @type {number} */ step) => Math.abs(x(step) - at);
      return range(data.steps).reduce((best, step) => (away(step) < away(best) ? step : best), 0);
    },
  };
}

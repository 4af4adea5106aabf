// The strongest paths, drawn over the layers from left to right. Sizes are pixels, so that text keeps its size however
// many layers there are: what is too wide scrolls. Layers in which nothing moves share a column.

import { hue } from "./colours.js";
import { drawing, element } from "./dom.js";
import { range } from "./numbers.js";
import { headNames, inWords, passed, stretches, stretchName, tokenName } from "./paths.js";

/** @import { Data, Path, Stretch } from "./paths.js" */
/** @typedef {ReturnType<typeof diagram>} Diagram */

const [LINE, TOP, EDGE] = [40, 50, 12];
/** The width of a letter, of a layer at least, and of a column that stands for many. */
const [LETTER, STEP, REST] = [6.8, 92, 112];
/** How wide a path is to the pointer. */
const REACH = 18;

/** @param {string} text */
const widthOf = (text) => LETTER * text.length;

/**
 * Where the heads' names stand: between two lines of a layer, those of all paths that move there in one place.
 * @param {Path[]} paths
 * @param {(token: number) => number} y
 * @param {number} layer
 */
function namesIn(paths, y, layer) {
  /** @type {Map<number, Set<number>>} */
  const at = new Map();
  for (const { heads, tokens } of paths) {
    if (heads[layer] < 0) continue;
    const middle = (y(tokens[layer]) + y(tokens[layer + 1])) / 2;
    at.set(middle, (at.get(middle) ?? new Set()).add(heads[layer]));
  }
  return [...at].map(([middle, heads]) => ({ middle, heads: [...heads].sort((a, b) => a - b) }));
}

/**
 * @param {Path[]} paths
 * @param {Data} data
 */
export function diagram(paths, data) {
  const order = passed(paths);
  const columns = stretches(paths, data.layers);
  const y = (/** @type {number} */ token) => TOP + order.indexOf(token) * LINE;
  const names = columns.map(({ from, moves }) => (moves ? namesIn(paths, y, from) : []));
  const widths = columns.map(({ moves }, c) =>
    moves ? Math.max(STEP, ...names[c].map(({ heads }) => widthOf(headNames(heads)) + 34)) : REST,
  );
  const x = widths.map((_, c) => EDGE + widths.slice(0, c).reduce((sum, width) => sum + width, 0));
  const height = TOP + (order.length - 1) * LINE + 20;
  const right = x[x.length - 1] + widths[widths.length - 1];

  const ends = order.map((token) => tokenName(token, data));
  const aside = Math.max(...ends.map(widthOf)) + 10;
  const labels = sized("svg", aside, height, { "aria-hidden": "true", class: "ends" });
  for (const [k, name] of ends.entries())
    labels.append(drawing("text", { x: aside - 8, y: y(order[k]) + 4, "text-anchor": "end" }, name));

  const drawn = sized("svg", right + EDGE, height, {
    role: "img",
    "data-panel": "diagram",
    "aria-label": `The strongest paths: ${paths.map((one) => inWords(one, data)).join("; ")}`,
  });
  columns.forEach((column, c) => {
    const middle = x[c] + widths[c] / 2;
    const texts = column.moves ? [stretchName(column)] : [stretchName(column), "stays"];
    texts.forEach((text, k) => {
      drawn.append(drawing("text", { class: "quiet", x: middle, y: 14 + 16 * k, "text-anchor": "middle" }, text));
    });
    const broken = column.moves ? "none" : "2 5";
    for (const token of order)
      drawn.append(
        drawing("line", {
          class: "axis",
          x1: x[c],
          x2: x[c] + widths[c],
          y1: y(token),
          y2: y(token),
          "stroke-dasharray": broken,
        }),
      );
  });
  const groups = paths.map((path, k) => lineOf(path, k, columns, x, widths, y));
  drawn.append(...[...groups].reverse()); // the strongest on top
  columns.forEach((_, c) => {
    for (const { middle, heads } of names[c])
      drawn.append(...pill(headNames(heads), x[c] + widths[c] / 2, middle, heads));
  });
  const node = element("div", { class: "drawn" });
  node.append(labels, drawn);
  return {
    node,
    groups,
    /** Which path stands out, if any. @param {number | null} strong */
    highlight(strong) {
      for (const [k, group] of groups.entries())
        group.setAttribute("opacity", strong === null || strong === k ? "0.9" : "0.15");
    },
  };
}

/**
 * A drawing in pixels.
 * @param {"svg"} tag
 * @param {number} width
 * @param {number} height
 * @param {Record<string, string>} attributes
 */
function sized(tag, width, height, attributes) {
  const made = drawing(tag, { viewBox: `0 0 ${width} ${height}`, ...attributes });
  made.style.cssText = `width: ${width}px; height: ${height}px`;
  return made;
}

/**
 * One path: where it stays as one line, its moves in the colours of their heads, and what a finger finds of both.
 * @param {Path} path
 * @param {number} k
 * @param {Stretch[]} columns
 * @param {number[]} x
 * @param {number[]} widths
 * @param {(token: number) => number} y
 */
function lineOf({ tokens, heads, share }, k, columns, x, widths, y) {
  const group = drawing("g", {
    "data-path": k,
    opacity: 0.9,
    fill: "none",
    "stroke-linecap": "round",
    "stroke-width": 1.5 + 9 * Math.sqrt(share),
  });
  let [stays, all] = ["", ""];
  for (const [c, { from, to }] of columns.entries()) {
    const [x1, x2, y1, y2] = [x[c], x[c] + widths[c], y(tokens[from]), y(tokens[to + 1])];
    const head = heads[from];
    const middle = (x1 + x2) / 2;
    const d = head < 0 ? `M${x1},${y1} H${x2} ` : `M${x1},${y1} C${middle},${y1} ${middle},${y2} ${x2},${y2} `;
    all += d;
    if (head < 0) stays += d;
    else group.append(drawing("path", { d, stroke: hue(head) }));
  }
  group.prepend(
    drawing("path", { class: "reach", d: all, "stroke-width": REACH }),
    drawing("path", { d: stays, stroke: "var(--quiet)", "stroke-opacity": 0.45 }),
  );
  return group;
}

/**
 * The name of a head on its path: colours repeat after six heads, names do not.
 * @param {string} text
 * @param {number} x
 * @param {number} y
 * @param {number[]} heads
 */
function pill(text, x, y, heads) {
  const width = widthOf(text) + 14;
  const stroke = heads.length === 1 ? hue(heads[0]) : "var(--edge)";
  const around = { x: x - width / 2, y: y - 9, width, height: 18, rx: 9 };
  return [
    drawing("rect", { ...around, fill: "var(--paper)", stroke, "stroke-width": 2, class: "pill" }),
    drawing("text", { x, y: y + 4, "text-anchor": "middle", class: "pill" }, text),
  ];
}

/** All layers through which a path moves, by head. @param {Path} path */
export const moves = ({ heads }) =>
  range(heads.length).flatMap((layer) => (heads[layer] < 0 ? [] : [`${layer} ${heads[layer]}`]));

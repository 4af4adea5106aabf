// The strongest paths, drawn over the layers from left to right.

import { hue } from "./colours.js";
import { drawing } from "./dom.js";
import { range } from "./numbers.js";
import { inWords, passed, tokenName } from "./paths.js";

/** @import { Data, Path } from "./paths.js" */

const [LEFT, STEP, LINE, TOP] = [128, 78, 34, 30]; // in units of the view box

/**
 * @param {Path[]} paths
 * @param {Data} data
 * @param {number | null} strong the path that stands out
 */
export function diagram(paths, data, strong) {
  const order = passed(paths);
  const x = (/** @type {number} */ layer) => LEFT + layer * STEP;
  const y = (/** @type {number} */ token) => TOP + order.indexOf(token) * LINE;
  const [width, height] = [x(data.layers) + 24, TOP + order.length * LINE + 14];
  const drawn = drawing("svg", {
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "data-panel": "diagram",
    "aria-label": `The strongest paths: ${paths.map((one) => inWords(one, data)).join("; ")}`,
  });
  for (const token of order) {
    drawn.append(
      drawing("line", { class: "axis", x1: x(0), x2: x(data.layers), y1: y(token), y2: y(token) }),
      drawing("text", { x: x(0) - 8, y: y(token) + 4, "text-anchor": "end" }, tokenName(token, data)),
    );
  }
  for (const layer of range(data.layers)) {
    const middle = (x(layer) + x(layer + 1)) / 2;
    const name = `layer ${layer + 1}`;
    drawn.append(drawing("text", { class: "quiet", x: middle, y: 12, "text-anchor": "middle" }, name));
  }
  /** @type {[head: number, layer: number, height: number][]} */
  const labels = [];
  for (const k of [...paths.keys()].reverse()) {
    const { tokens, heads, share } = paths[k];
    const group = drawing("g", {
      "data-path": k,
      opacity: strong === null || strong === k ? 0.9 : 0.15,
      fill: "none",
      "stroke-linecap": "round",
      "stroke-width": 1.5 + 9 * Math.sqrt(share),
    });
    let stays = ""; // all layers that leave it where it is, as one line
    heads.forEach((head, layer) => {
      const [x1, x2, y1, y2] = [x(layer), x(layer + 1), y(tokens[layer]), y(tokens[layer + 1])];
      if (head < 0) {
        stays += `M${x1},${y1} H${x2} `;
        return;
      }
      const middle = (x1 + x2) / 2;
      const d = `M${x1},${y1} C${middle},${y1} ${middle},${y2} ${x2},${y2}`;
      group.append(drawing("path", { d, stroke: hue(head) }));
      if (!labels.some(([h, l, at]) => h === head && l === layer && at === (y1 + y2) / 2))
        labels.push([head, layer, (y1 + y2) / 2]);
    });
    group.prepend(drawing("path", { d: stays, stroke: "var(--quiet)", "stroke-opacity": 0.45 }));
    drawn.append(group);
  }
  labels.forEach(([head, layer, cy], i) => {
    const beside = labels.slice(0, i).filter(([, l, at]) => l === layer && at === cy).length;
    const cx = x(layer) + STEP / 2 + 20 * beside;
    drawn.append(
      drawing("circle", { cx, cy, r: 9, fill: "var(--paper)", stroke: hue(head), "stroke-width": 2 }),
      drawing("text", { x: cx, y: cy + 4, "text-anchor": "middle" }, head + 1),
    );
  });
  return drawn;
}

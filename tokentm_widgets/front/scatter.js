// One dot a token: length ratio against NECC, coloured by the weight.

import { colourAt } from "./colours.js";
import { contextOf, element, shareOf } from "./dom.js";
import { number, range } from "./numbers.js";

/** @import { Extent, Row } from "./types.d.ts" */

const [WIDE, TALL, EDGE] = [336, 336, 34];
const HINT =
  "Every dot is a token: length kept against direction share; along a dotted line the weight is the same. Squares are class and register tokens.";

/**
 * The ends of an axis: from zero, with some room above; or from just below the values where all are far from zero.
 * @param {Extent} ends
 * @returns {Extent}
 */
export function padded([low, high]) {
  const top = high > low || high ? high * 1.06 : 1;
  return [low > 0.5 * high ? low - 0.1 * (top - low) : 0, top];
}

/**
 * Where the weight is a quarter, half, three quarters of the largest, and the largest: a dot every 6 pixels, set one by
 * one, because a dashed line is drawn as slowly as all the maps together.
 * @param {Extent} ratios
 * @param {number} largestWeight
 * @param {(necc: number) => number} y
 */
function equalWeights([from, until], largestWeight, y) {
  const path = new Path2D();
  for (const share of [0.25, 0.5, 0.75, 1]) {
    let last = [0, 0];
    for (let cx = EDGE; cx <= WIDE - 6; cx += 0.25) {
      const cy = y((share * largestWeight) / (from + ((cx - EDGE) / (WIDE - EDGE - 6)) * (until - from)));
      if (!(cy >= 6 && cy <= TALL - EDGE) || (cx - last[0]) ** 2 + (cy - last[1]) ** 2 < 36) continue;
      path.rect(cx - 1, cy - 1, 2, 2);
      last = [cx, cy];
    }
  }
  return path;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Extent} ratios
 * @param {Extent} neccs
 * @param {string} ink
 */
function drawAxes(context, ratios, neccs, ink) {
  const write = (/** @type {CanvasTextAlign} */ align, /** @type {string} */ text, /** @type {number} */ x, y = 6) => {
    context.textAlign = align;
    context.fillText(text, x, y);
  };
  context.strokeStyle = context.fillStyle = ink;
  context.lineWidth = 1;
  context.setLineDash([]);
  context.strokeRect(EDGE, 6, WIDE - EDGE - 6, TALL - EDGE - 6);
  context.font = "17px system-ui, sans-serif";
  context.textBaseline = "top";
  write("left", number(ratios[0]), EDGE, TALL - EDGE + 8);
  write("center", "length kept", WIDE / 2, TALL - EDGE + 8);
  write("right", number(ratios[1]), WIDE - 6, TALL - EDGE + 8);
  context.save();
  context.rotate(-Math.PI / 2);
  write("left", number(neccs[0]), -(TALL - EDGE));
  write("center", "direction share", -TALL / 2);
  write("right", number(neccs[1]), -6);
  context.restore();
}

/** @param {{ prefix: number }} data */
export function scatter(data) {
  const canvas = element("canvas", { width: WIDE, height: TALL, role: "img", "data-panel": "scatter" });
  const node = element("figure", {}, canvas, element("p", { class: "quiet" }, HINT));
  const context = contextOf(canvas);
  /** @type {number[][]} */
  let dots = [];
  let equal = { key: "", path: new Path2D() };

  /**
   * @param {Row} weight
   * @param {Extent} ends of the colours
   * @param {Uint8Array} colours
   * @param {string} ink its ring shows every dot, whatever its colour and the page's
   */
  function drawDots(weight, [from, to], colours, ink) {
    for (let t = dots.length - 1; t >= 0; t--) {
      // the few prefix tokens last, on top
      const [cx, cy] = dots[t];
      context.fillStyle = colourAt(colours, to > from ? (weight[t] - from) / (to - from) : 0);
      context.beginPath();
      if (t < data.prefix) context.rect(cx - 6, cy - 6, 12, 12);
      else context.arc(cx, cy, 4, 0, 2 * Math.PI);
      context.fill();
      context.strokeStyle = ink;
      context.lineWidth = 1;
      context.stroke();
      if (t >= data.prefix) continue;
      context.strokeStyle = "#000"; // seen on any paper and among any dots
      context.lineWidth = 5;
      context.stroke();
      context.strokeStyle = "#fff";
      context.lineWidth = 2;
      context.stroke();
    }
  }

  /**
   * @param {(number | null)[]} patches
   * @param {string} ink
   */
  function mark(patches, ink) {
    context.strokeStyle = ink;
    for (const patch of patches) {
      if (patch === null) continue;
      const [cx, cy] = dots[data.prefix + patch];
      context.lineWidth = 3;
      context.beginPath();
      context.arc(cx, cy, 8, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  return {
    canvas,
    node,
    /**
     * @param {Record<"ratio" | "necc" | "weight", Row>} values
     * @param {Record<"ratio" | "necc" | "weight", Extent>} ends
     * @param {(number | null)[]} marked patches
     * @param {string} ink
     * @param {Uint8Array} colours
     */
    draw({ ratio, necc, weight }, ends, marked, ink, colours) {
      const [rx, ry] = [padded(ends.ratio), padded(ends.necc)];
      const x = (/** @type {number} */ v) => EDGE + ((v - rx[0]) / (rx[1] - rx[0])) * (WIDE - EDGE - 6);
      const y = (/** @type {number} */ v) => TALL - EDGE - ((v - ry[0]) / (ry[1] - ry[0])) * (TALL - EDGE - 6);
      context.clearRect(0, 0, WIDE, TALL);
      drawAxes(context, rx, ry, ink);
      const key = [...rx, ...ry, ends.weight[1]].join(" ");
      if (equal.key !== key) equal = { key, path: equalWeights(rx, ends.weight[1], y) };
      context.globalAlpha = 0.6;
      context.fill(equal.path);
      context.globalAlpha = 1;
      dots = range(ratio.length).map((t) => [x(ratio[t]), y(necc[t])]);
      drawDots(weight, ends.weight, colours, ink);
      mark(marked, ink);
    },
    /**
     * The patch whose dot lies nearest to the pointer, within reach, or null.
     * @param {MouseEvent} event
     */
    nearest(event) {
      const [across, down] = shareOf(event, canvas);
      let best = 15 ** 2;
      /** @type {number | null} */
      let found = null;
      dots.forEach(([cx, cy], t) => {
        const distance = (cx - across * WIDE) ** 2 + (cy - down * TALL) ** 2;
        if (t >= data.prefix && distance < best) [best, found] = [distance, t - data.prefix];
      });
      return /** @type {number | null} */ (found);
    },
  };
}

// A map over a picture, and how a patch is pointed at and chosen there.

import { paintValues, ramp } from "./colours.js";
import { contextOf, element, shareOf, write } from "./dom.js";
import { cellOf, moved, panelSize, patchAt, shiftOf } from "./grid.js";
import { number } from "./numbers.js";

/** @import { Extent, Grid, Tools } from "./types.d.ts" */
/** @typedef {ReturnType<typeof mapPanel>} Panel */

/**
 * Caption, canvas, colour bar with its two ends, and the value pointed at in numbers.
 * @param {string} name
 * @param {string} title
 * @param {string} hint
 * @param {Grid} grid
 * @param {boolean} bar whether it has a colour bar
 */
export function mapPanel(name, title, hint, grid, bar = true) {
  const size = panelSize(grid);
  const canvas = element("canvas", { ...size, role: "img", "aria-label": title, "data-panel": name });
  const cells = element("canvas", { width: grid.columns, height: grid.rows });
  const [low, ramped, high] = [element("span"), element("i"), element("span")];
  const here = element("span", { class: "here" });
  const caption = element("figcaption", { title: hint }, title);
  const scale = bar ? element("div", { class: "scale" }, low, ramped, high) : "";
  const node = element("figure", {}, caption, canvas, scale, here);
  const context = contextOf(canvas);
  let bars = "";

  /** @param {HTMLCanvasElement | null | undefined} shown */
  function drawPicture(shown) {
    if (shown) return context.drawImage(shown, 0, 0); // pictures have no holes
    context.fillStyle = "#808080";
    context.fillRect(0, 0, size.width, size.height);
  }

  /**
   * @param {ArrayLike<number>} values
   * @param {Extent} ends
   * @param {Uint8Array} colours
   * @param {HTMLCanvasElement | undefined} shown
   * @param {number} opacity
   * @param {boolean} glows whether opacity follows the value, so that the picture stays visible; of a factor it does not
   */
  function drawMap(values, ends, colours, shown, opacity, glows = true) {
    const small = contextOf(cells);
    const pixels = small.createImageData(grid.columns, grid.rows);
    const over = glows && Boolean(shown);
    paintValues(values, ends, colours, pixels.data, over);
    small.putImageData(pixels, 0, 0);
    drawPicture(shown);
    context.globalAlpha = shown ? opacity : 1;
    context.imageSmoothingEnabled = false;
    const { width, height } = size;
    const [down, right] = shiftOf(grid); // a map lies where tokens look; what leaves the picture is cut off
    context.drawImage(cells, (right * width) / grid.columns, (down * height) / grid.rows, width, height);
    context.globalAlpha = 1;
    const drawn = ramp(colours, shown ? opacity : 1, over);
    if (drawn !== bars) {
      bars = drawn;
      ramped.style.background = drawn;
    }
    write(low, number(ends[0]));
    write(high, number(ends[1]));
  }

  /** Patches that are gone. @param {Iterable<number>} patches */
  function hide(patches) {
    context.fillStyle = "#808080";
    for (const patch of patches) context.fillRect(...cellOf(patch, grid, size));
  }

  /**
   * @param {number | null} patch
   * @param {boolean} dashed
   */
  function outline(patch, dashed = false) {
    if (patch === null) return;
    const [x, y, w, h] = cellOf(patch, grid, size);
    if (!w || !h) return; // looks past the edge of the picture
    context.setLineDash(dashed ? [4, 3] : []);
    for (const [colour, inset, line] of /** @type {const} */ ([
      ["#000", 0, 3],
      ["#fff", 2, 2],
    ])) {
      context.strokeStyle = colour;
      context.lineWidth = line;
      context.strokeRect(x + inset, y + inset, w - 2 * inset, h - 2 * inset);
    }
  }

  return { name, title, canvas, node, caption, here, drawPicture, drawMap, hide, outline };
}

/**
 * In place of a method's panel: why it cannot read this record.
 * @param {Record<string, string>} failures
 */
export const failed = (failures) =>
  Object.entries(failures).map(([name, reason]) =>
    element(
      "figure",
      { class: "failed", "data-failed": name },
      element("figcaption", { title: name }, name),
      element("p", {}, reason),
    ),
  );

/**
 * Calls `pointed` with the patch under the pointer, and with null when the pointer leaves.
 * @param {HTMLCanvasElement} canvas
 * @param {Grid} grid
 * @param {(patch: number | null) => void} pointed
 */
export function pointOut(canvas, grid, pointed) {
  canvas.addEventListener("pointermove", (event) => pointed(patchAt(shareOf(event, canvas), grid)));
  canvas.addEventListener("pointerleave", () => pointed(null));
}

/**
 * A click chooses the patch under it, as the trait "patch".
 * @param {HTMLCanvasElement} canvas
 * @param {Grid} grid
 * @param {Tools} tools
 */
export function pickByClick(canvas, grid, { choose }) {
  canvas.addEventListener("click", (event) => choose("patch", patchAt(shareOf(event, canvas), grid)));
}

/**
 * Makes a map's canvas the place where a patch is chosen by keyboard: arrows move, Escape lets go.
 * @param {HTMLCanvasElement} canvas
 * @param {Grid} grid
 * @param {() => number | null} current
 * @param {(patch: number | null) => void} choose
 */
export function pickByKeys(canvas, grid, current, choose) {
  canvas.setAttribute("tabindex", "0");
  canvas.setAttribute("role", "application");
  canvas.addEventListener("keydown", (event) => {
    const from = current();
    const to = moved(event.key, from, grid);
    if (to === undefined) return;
    if (to === null || to !== from) choose(to);
    event.preventDefault();
  });
}

// A map over a picture, and how a patch is pointed at and chosen there.

import { glow, paintValues, ramp, solid } from "./colours.js";
import { contextOf, element, shareOf, write } from "./dom.js";
import { aspectOf, cellOf, moved, patchAt, shiftOf } from "./grid.js";
import { number } from "./numbers.js";

/** @import { Opacity } from "./colours.js" */
/** @import { Extent, Grid, Tools } from "./types.d.ts" */
/** @typedef {ReturnType<typeof mapPanel>} Panel */

/** How much of a whole, in a style. @param {number} share */
const part = (share) => `${(100 * share).toFixed(3)}%`;

/**
 * Caption, picture with a map on it, colour bar with its two ends, and the value pointed at. The map has one pixel a
 * patch, which the browser enlarges: sharp on every screen, and nothing to draw again when the panel's size changes.
 * @param {string} name
 * @param {string} title
 * @param {string} hint
 * @param {Grid} grid
 * @param {boolean} bar whether it has a colour bar
 */
export function mapPanel(name, title, hint, grid, bar = true) {
  const canvas = element("canvas", { width: grid.columns, height: grid.rows, "data-panel": name });
  const under = element("canvas", { class: "picture", width: 1, height: 1 });
  const rings = element("span", { class: "rings" });
  const area = element(
    "div",
    { class: "map", role: "img", "aria-label": title, "data-map": name },
    under,
    canvas,
    rings,
  );
  area.style.setProperty("--ratio", String(1 / aspectOf(grid)));
  const [down, right] = shiftOf(grid); // a map lies where tokens look; what leaves the picture is cut off
  if (down || right) canvas.style.transform = `translate(${part(right / grid.columns)}, ${part(down / grid.rows)})`;
  const [low, ramped, high] = [element("span"), element("i"), element("span")];
  const here = element("span", { class: "here" });
  const caption = element("figcaption", hint ? { title: hint } : {}, title);
  const scale = bar ? element("div", { class: "scale" }, ramped, low, high) : "";
  const node = element("figure", {}, caption, area, scale, here);
  const context = contextOf(canvas);
  const pixels = context.createImageData(grid.columns, grid.rows);
  let bars = "";
  /** @type {HTMLCanvasElement | null | undefined} */
  let below = null;
  /** What is to be ringed from now on, and what is. @type {[patch: number, dashed: boolean][] | null} */
  let ringed = null;
  let drawnRings = "";

  /** @param {HTMLCanvasElement | null | undefined} shown */
  function lay(shown) {
    outlinesAnew();
    if (below === shown) return;
    below = shown;
    area.classList.toggle("bare", !shown);
    if (!shown) return;
    under.width = shown.width; // empties it
    under.height = shown.height;
    contextOf(under).drawImage(shown, 0, 0);
  }

  /** The picture alone, or grey where there is none. @param {HTMLCanvasElement | null | undefined} shown */
  function drawPicture(shown) {
    lay(shown);
    context.clearRect(0, 0, grid.columns, grid.rows);
  }

  /**
   * @param {ArrayLike<number>} values
   * @param {Extent} ends
   * @param {Uint8Array} colours
   * @param {HTMLCanvasElement | undefined} shown
   * @param {number} opacity
   * @param {Opacity} opacityOf over a picture
   * @param {(value: number) => string} written how the ends of the bar are written
   */
  function drawMap(values, ends, colours, shown, opacity, opacityOf = glow, written = number) {
    const over = shown ? opacityOf : solid;
    paintValues(values, ends, colours, pixels.data, over);
    lay(shown);
    context.putImageData(pixels, 0, 0);
    const seen = String(shown ? opacity : 1);
    if (canvas.style.opacity !== seen) canvas.style.opacity = seen;
    const drawn = ramp(colours, shown ? opacity : 1, over);
    if (drawn !== bars) {
      bars = drawn;
      ramped.style.background = drawn;
    }
    write(low, written(ends[0]));
    write(high, written(ends[1]));
  }

  /** Patches that are gone. @param {Iterable<number>} patches */
  function hide(patches) {
    pixels.data.fill(0);
    for (const patch of patches) pixels.data.set([128, 128, 128, 255], 4 * patch);
    context.putImageData(pixels, 0, 0);
  }

  /** Rings are asked for one by one after the map: they are put there when all have been. */
  function outlinesAnew() {
    if (ringed === null) queueMicrotask(putRings);
    ringed = [];
  }

  function putRings() {
    const wanted = ringed ?? [];
    ringed = null;
    const key = wanted.join(" ");
    if (key === drawnRings) return;
    drawnRings = key;
    rings.replaceChildren(
      ...wanted.map(([patch, dashed]) => {
        const ring = element("i", dashed ? { class: "pointed" } : {});
        const [x, y, w, h] = cellOf(patch, grid).map(part);
        ring.style.cssText = `left: ${x}; top: ${y}; width: ${w}; height: ${h}`;
        return ring;
      }),
    );
  }

  /**
   * @param {number | null} patch
   * @param {boolean} dashed
   */
  function outline(patch, dashed = false) {
    if (patch === null) return;
    const [, , w, h] = cellOf(patch, grid);
    if (!w || !h) return; // looks past the edge of the picture
    if (ringed === null) outlinesAnew();
    ringed?.push([patch, dashed]);
  }

  return { name, title, area, node, caption, here, drawPicture, drawMap, hide, outline };
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
 * @param {HTMLElement} area
 * @param {Grid} grid
 * @param {(patch: number | null) => void} pointed
 */
export function pointOut(area, grid, pointed) {
  area.addEventListener("pointermove", (event) => pointed(patchAt(shareOf(event, area), grid)));
  area.addEventListener("pointerleave", () => pointed(null));
}

/**
 * A click chooses the patch under it, as the trait "patch".
 * @param {HTMLElement} area
 * @param {Grid} grid
 * @param {Tools} tools
 */
export function pickByClick(area, grid, { choose }) {
  area.addEventListener("click", (event) => choose("patch", patchAt(shareOf(event, area), grid)));
}

/**
 * Makes a map the place where a patch is chosen by keyboard: arrows move, Escape clears it.
 * @param {HTMLElement} area
 * @param {Grid} grid
 * @param {() => number | null} current
 * @param {(patch: number | null) => void} choose
 */
export function pickByKeys(area, grid, current, choose) {
  area.setAttribute("tabindex", "0");
  area.setAttribute("role", "application");
  area.addEventListener("keydown", (event) => {
    const from = current();
    const to = moved(event.key, from, grid);
    if (to === undefined) return;
    if (to === null || to !== from) choose(to);
    event.preventDefault();
  });
}

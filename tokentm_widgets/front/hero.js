// The large map of one class by one method: point to read a patch, click to keep it in every view.

import { ramp } from "./colours.js";
import { assign, contextOf, element, shareOf, write } from "./dom.js";
import { cellOf, patchAt, where } from "./grid.js";
import { mapPanel, pickByKeys, pointOut } from "./map_panel.js";
import { average, patchInWords, times } from "./map_reading.js";
import { extent, floats, largest, number } from "./numbers.js";
import { loadPictures } from "./pictures.js";

/** @import { ExplorerShown } from "./schema.d.ts" */
/** @import { Row } from "./types.d.ts" */
/** @typedef {{ patch: number | null, layer: number | null, opacity: number, marked: number[] }} Now */

/**
 * @param {Uint8Array} colours
 * @param {{ choose: (patch: number | null) => void, repaint: () => void, failed: (text: string) => void }} to
 * @param {HTMLElement[]} controls
 */
export function heroOf(colours, { choose, repaint, failed }, controls) {
  const title = element("h3");
  const place = element("div", { class: "place" });
  const [low, bar, high] = [element("span"), element("i", { class: "bar" }), element("span")];
  const legend = element("div", { class: "scale ends" }, low, bar, high);
  const read = element("p", { class: "read small", "aria-live": "polite" });
  const caption = element("div", { class: "caption" }, title, ...controls);
  const node = element("section", { class: "hero" }, caption, place, legend, read);
  /** @type {ExplorerShown | null} */
  let shown = null;
  /** @type {ReturnType<typeof open> | null} */
  let screen = null;
  /** @type {number | null} */
  let pointed = null;
  let kept = /** @type {number | null} */ (null);
  let [drawn, ramped] = ["", ""];

  /** @param {ExplorerShown} now */
  function open(now) {
    const panel = mapPanel("map", "What each patch contributes", "", now, false);
    const pictures = loadPictures(
      now.picture ? [now.picture] : [],
      now,
      () => {
        drawn = "";
        repaint();
      },
      failed,
    );
    pointOut(panel.canvas, now, (patch) => {
      if (pointed === patch) return;
      pointed = patch;
      repaint();
    });
    panel.canvas.addEventListener("click", (event) => {
      const patch = patchAt(shareOf(event, panel.canvas), now);
      choose(patch === kept ? null : patch);
    });
    pickByKeys(panel.canvas, now, () => kept, choose);
    return { panel, pictures, scores: floats(now.scores), growth: now.growth ? floats(now.growth) : null };
  }

  /** The map after the chosen layer, where it grows. @param {number | null} layer */
  function valuesAt(layer) {
    if (!screen || !shown) return new Float32Array();
    if (layer === null || !screen.growth) return screen.scores;
    return screen.growth.subarray(layer * screen.scores.length, (layer + 1) * screen.scores.length);
  }

  return {
    node,
    valuesAt,
    whole: () => screen?.scores ?? new Float32Array(),
    /** Whether the picture below the map is there. */
    ready: () => Boolean(screen && (!screen.pictures.count || screen.pictures.colour[0])),
    /**
     * @param {ExplorerShown} given
     * @param {Now} now
     */
    paint(given, now) {
      if (shown !== given) {
        const same = shown && shown.picture === given.picture && shown.rows === given.rows && screen;
        const focused = place.contains(place.ownerDocument.activeElement);
        const pictures = same ? screen?.pictures : null;
        shown = given;
        screen = open(given);
        if (pictures) screen.pictures = pictures;
        place.replaceChildren(screen.panel.canvas);
        if (focused) screen.panel.canvas.focus();
        [drawn, pointed] = ["", null];
      }
      if (!screen) return;
      kept = now.patch;
      const values = valuesAt(now.layer);
      const key = JSON.stringify([now, pointed]);
      if (key !== drawn) draw(values, now);
      drawn = key;
      write(title, titleOf(given));
      const at = pointed ?? kept;
      const said = at === null ? "Point at a patch to read it; click to keep it in every view below." : "";
      if (at === null) write(read, said);
      else {
        const place = where(at, given);
        const text = `${place[0].toUpperCase()}${place.slice(1)}: ${patchInWords(values, at)}`;
        if (read.textContent !== text) {
          const [name, rest] = [text.slice(0, place.length), text.slice(place.length)];
          read.replaceChildren(element("b", {}, name), rest);
        }
      }
      assign(read, "aria-live", pointed === null ? "polite" : "off"); // not for every patch passed over
    },
  };

  /**
   * @param {Row} values
   * @param {Now} now
   */
  function draw(values, now) {
    if (!screen || !shown) return;
    const { panel, pictures } = screen;
    const ends = extent(values);
    if (ends[0] > 0 && ends[1] > ends[0]) ends[0] = 0; // nothing is the beginning of the scale
    panel.drawMap(values, ends, colours, pictures.grey[0], now.opacity);
    dots(panel.canvas, now.marked);
    panel.outline(now.patch);
    panel.outline(pointed, true);
    const over = Boolean(pictures.grey[0]);
    const ramp_ = ramp(colours, over ? now.opacity : 1, over);
    if (ramp_ !== ramped) bar.style.background = ramp_;
    ramped = ramp_;
    const mean = average(values);
    write(low, ends[0] === 0 ? "nothing" : mean ? times(ends[0] / mean) : number(ends[0]));
    write(high, mean ? `${times(ends[1] / mean)} an average patch` : "nothing");
    const top = where(largest(values), shown);
    const kept = now.patch === null ? "no patch chosen" : `chosen: ${where(now.patch, shown)}`;
    assign(
      panel.canvas,
      "aria-label",
      `${titleOf(shown)}, by ${shown.method}: largest at ${top}; ${kept}. Arrow keys choose a patch, Escape lets go.`,
    );
  }

  /**
   * Marks patches, whatever colour is below.
   * @param {HTMLCanvasElement} canvas
   * @param {number[]} patches
   */
  function dots(canvas, patches) {
    const context = contextOf(canvas);
    for (const patch of patches) {
      if (!shown) return;
      const [x, y, w, h] = cellOf(patch, shown, canvas);
      context.beginPath();
      context.arc(x + w / 2, y + h / 2, Math.min(w, h) / 5.5, 0, 7);
      context.fillStyle = "#fff";
      context.strokeStyle = "#000";
      context.lineWidth = Math.max(1, canvas.width / 300);
      context.fill();
      context.stroke();
    }
  }
}

/** @param {ExplorerShown} shown */
export const titleOf = (shown) =>
  shown.specific ? `What speaks for ${nameOf(shown)}` : "What counts, whatever the class";

/** What is explained, within a sentence. @param {ExplorerShown} shown */
export const nameOf = (shown) => `${shown.target === null ? "the " : ""}${shown.explained}`;

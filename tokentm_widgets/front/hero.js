// The large map of one class by one method: point to read a patch, click to keep it in every view.

import { away, glow, onPage, ramp, solid } from "./colours.js";
import { assign, element, shareOf, write } from "./dom.js";
import { cellOf, patchAt, where } from "./grid.js";
import { mapPanel, pickByKeys, pointOut } from "./map_panel.js";
import { patchInWords } from "./map_reading.js";
import { averageSize, extent, floats, largest, times } from "./numbers.js";
import { loadPictures } from "./pictures.js";

/** @import { ExplorerShown } from "./schema.d.ts" */
/** @import { Extent, Row } from "./types.d.ts" */
/**
 * @typedef {object} To
 * @property {(method: string) => string} called the title of a method
 * @property {() => number | null} kept the patch that is chosen now
 * @property {(patch: number | null) => void} choose
 * @property {() => void} repaint
 * @property {(text: string) => void} failed
 */
/** @typedef {{ patch: number | null, layer: number | null, opacity: number, marked: number[], dark: boolean }} Now */

/**
 * How a map is drawn: from nothing to its largest value, or on both sides of zero where patches speak against.
 * @param {Row} values
 * @param {{ colours: Uint8Array, differences: Uint8Array }} tables
 * @param {boolean} dark
 */
export function drawnAs(values, { colours, differences }, dark) {
  const [low, high] = extent(values);
  const most = Math.max(-low, high);
  return low < 0
    ? { ends: /** @type {Extent} */ ([-most, most]), table: differences, opacityOf: away }
    : { ends: /** @type {Extent} */ ([low === high ? low : 0, high]), table: onPage(colours, dark), opacityOf: glow };
}

/**
 * @param {{ colours: Uint8Array, differences: Uint8Array }} tables
 * @param {To} to
 * @param {{ above: HTMLElement, below: HTMLElement }} controls
 */
export function heroOf(tables, { called, kept, choose, repaint, failed }, controls) {
  const title = element("h3");
  const place = element("div", { class: "place" });
  const [low, bar, high] = [element("span"), element("i", { class: "bar" }), element("span")];
  const legend = element("div", { class: "scale ends" }, low, bar, high);
  const read = element("p", { class: "read small", "aria-live": "polite" });
  const caption = element("div", { class: "caption" }, title, controls.above);
  const below = element("div", { class: "below" }, read, controls.below);
  const node = element("section", { class: "hero" }, caption, place, legend, below);
  /** @type {ExplorerShown | null} */
  let shown = null;
  /** @type {ReturnType<typeof open> | null} */
  let screen = null;
  /** @type {number | null} */
  let pointed = null;
  let [drawn, ramped] = ["", ""];

  /** @param {ExplorerShown} now */
  function open(now) {
    const panel = mapPanel("map", "What each patch contributes", "", now, false);
    const marks = element("span", { class: "marks" });
    panel.area.append(marks);
    const pictures = loadPictures(
      now.picture ? [now.picture] : [],
      () => {
        drawn = "";
        repaint();
      },
      failed,
    );
    pointOut(panel.area, now, (patch) => {
      if (pointed === patch) return;
      pointed = patch;
      repaint();
    });
    panel.area.addEventListener("click", (event) => {
      const patch = patchAt(shareOf(event, panel.area), now);
      choose(patch === kept() ? null : patch);
    });
    pickByKeys(panel.area, now, kept, choose);
    return { panel, marks, pictures, scores: floats(now.scores), growth: now.growth ? floats(now.growth) : null };
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
        place.replaceChildren(screen.panel.area);
        if (focused) screen.panel.area.focus();
        [drawn, pointed] = ["", null];
      }
      if (!screen) return;
      const values = valuesAt(now.layer);
      const key = JSON.stringify([now, pointed]);
      if (key !== drawn) draw(values, now);
      drawn = key;
      write(title, titleOf(given));
      const at = pointed ?? now.patch;
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
    const { ends, table, opacityOf } = drawnAs(values, tables, now.dark);
    panel.drawMap(values, ends, table, pictures.grey[0], now.opacity, opacityOf);
    mark(now.marked);
    panel.outline(now.patch);
    panel.outline(pointed, true);
    const over = Boolean(pictures.grey[0]);
    const bars = ramp(table, over ? now.opacity : 1, over ? opacityOf : solid);
    if (bars !== ramped) bar.style.background = bars;
    ramped = bars;
    const mean = averageSize(values);
    write(low, ends[0] === 0 ? "nothing" : times(ends[0], mean));
    write(high, mean ? `${times(ends[1], mean)} an average patch` : "nothing");
    const top = where(largest(values), shown);
    const chosen = now.patch === null ? "no patch chosen" : `chosen: ${where(now.patch, shown)}`;
    assign(
      panel.area,
      "aria-label",
      `${titleOf(shown)}, by ${called(shown.method)}: largest at ${top}; ${chosen}. Arrow keys choose a patch, Escape clears it.`,
    );
  }

  /** Marks patches by dots, whatever colour is below. @param {number[]} patches */
  function mark(patches) {
    if (!screen || !shown || screen.marks.dataset.of === String(patches)) return;
    const grid = shown;
    screen.marks.dataset.of = String(patches);
    screen.marks.replaceChildren(
      ...patches.map((patch) => {
        const [x, y, w, h] = cellOf(patch, grid);
        const dot = element("i");
        dot.style.cssText = `left: ${100 * (x + w / 2)}%; top: ${100 * (y + h / 2)}%`;
        return dot;
      }),
    );
  }
}

/** @param {ExplorerShown} shown */
export const titleOf = (shown) =>
  shown.specific ? `What speaks for ${nameOf(shown)}` : "What counts, whatever the class";

/** What is explained, within a sentence: the class, or a score of it or of none. @param {ExplorerShown} shown */
export const nameOf = ({ explained, named }) => (explained === named ? named : `the ${explained}`);

/** The class that it is about, whose probability is measured; of no class, the score. @param {ExplorerShown} shown */
export const measuredOf = (shown) => shown.named || nameOf(shown);

// Layers across, heads down: how much of a contribution moves there, as coloured cells. Digits stand in cells that have
// room for them; any cell is read by pointing, or by arrow keys.

import { cellStyle, faint, onPage } from "./colours.js";
import { element, write } from "./dom.js";
import { percent, range } from "./numbers.js";
import { scrolling } from "./scrolling.js";
import { layersAcross, walked } from "./walked_cells.js";

/** @import { Data } from "./paths.js" */
/** @typedef {{ cell: HTMLTableCellElement, digits: HTMLElement, layer: number, head: number | null, value: number }} Place */

/** Cells of less than 28 pixels, 30 with the space beside them, have no digits. */
const ROOM = 30;
const [NAMES, WIDEST, LEAST] = [64, 64, 26]; // of a layer, with the space beside it

const UNREAD =
  "Point at a cell to read it, or go through them by the arrow keys. No number: less than half a per cent.";

/** Whole per cents; what rounds to none leaves its cell to the colour. @param {number} share */
export const short = (share) => (share < 0.005 ? "" : String(Math.round(100 * share)));

/** @param {Data} data */
export function pathTable(data) {
  const [layers, heads] = [range(data.layers), range(data.headCount)];
  const reading = element("p", { class: "reading", "aria-live": "polite" });
  /** The cell pointed at, or reached by keys. @type {Place | null} */
  let read = null;

  /**
   * @param {number} layer
   * @param {number | null} head
   * @returns {Place}
   */
  function placeOf(layer, head) {
    const digits = element("span", { class: "digits" });
    const cell = element("td", { tabindex: -1 }, digits);
    if (head === null) cell.dataset.stays = String(layer);
    else cell.dataset.cell = `${layer} ${head}`;
    return { cell, digits, layer, head, value: 0 };
  }

  const rows = [...heads.map((h) => layers.map((l) => placeOf(l, h))), layers.map((l) => placeOf(l, null))];
  rows[0][0].cell.tabIndex = 0;
  const names = [...heads.map((h) => `head ${h + 1}`), "stays"];
  const title = "Where its contribution moves, over all paths, in %";
  const table = layersAcross(title, layers, names, rows);
  const scrolls = scrolling(title, fit, table);
  const node = element("figure", { class: "through" }, element("figcaption", {}, title), scrolls.node, reading);

  /** As many pixels a layer as there is room for. @param {number} width */
  function fit(width) {
    const each = Math.max(LEAST, Math.min(WIDEST, Math.floor((width - NAMES - 4) / data.layers)));
    table.style.width = `${NAMES + each * data.layers}px`;
    table.classList.toggle("narrow", each < ROOM);
  }

  /** @param {Place | null} place */
  function say(place) {
    read = place;
    if (!place) return write(reading, UNREAD);
    const { layer, head, value } = place;
    const where = head === null ? `Layer ${layer + 1}` : `Layer ${layer + 1}, head ${head + 1}`;
    write(reading, `${where}: ${percent(value)} of its contribution ${head === null ? "stays" : "moves here"}.`);
  }

  walked(table, rows, say);
  say(null);

  return {
    node,
    close: scrolls.close,
    /**
     * @param {number} index
     * @param {number} patch
     * @param {boolean} dark
     */
    draw(index, patch, dark) {
      const at = index * data.patches + patch;
      const total = data.total[at];
      const share = (/** @type {number} */ value) => (total > 0 ? value / total : 0);
      for (const place of rows.flat()) {
        const layer = at * data.layers + place.layer;
        place.value = share(
          place.head === null ? data.stayed[layer] : data.through[layer * data.headCount + place.head],
        );
        place.cell.dataset.value = String(place.value);
        write(place.digits, short(place.value));
        if (place.head === null) place.cell.style.background = `rgb(128 128 128 / ${(0.3 * place.value).toFixed(2)})`;
      }
      const most = Math.max(...rows.slice(0, -1).flatMap((row) => row.map(({ value }) => value)), 1e-12);
      const table = onPage(data.colours, dark);
      for (const { cell, value } of rows.slice(0, -1).flat()) {
        const style = cellStyle(table, value / most, faint(value / most), dark);
        if (cell.dataset.style === style) continue;
        cell.dataset.style = style;
        cell.style.cssText = style;
      }
      say(read);
    },
    /** The cells that a path moves through. @param {Set<string> | null} cells */
    mark(cells) {
      for (const { cell } of rows.slice(0, -1).flat())
        cell.classList.toggle("on", Boolean(cells?.has(cell.dataset.cell ?? "")));
    },
  };
}

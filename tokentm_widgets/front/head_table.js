// Layers across, heads down: a number of every head as a coloured cell, read by pointing or by arrow keys.

import { cellStyle, onPage, ramp } from "./colours.js";
import { element, write } from "./dom.js";
import { extent, range } from "./numbers.js";
import { scrolling } from "./scrolling.js";
import { layersAcross, walked } from "./walked_cells.js";

/** @import { StatisticData } from "./schema.d.ts" */
/** @typedef {{ cell: HTMLTableCellElement, digits: HTMLElement, layer: number, head: number }} Place */

/** Cells narrower than this have no digits; of a layer, with the space beside it. */
const ROOM = 40;
const [NAMES, WIDEST, LEAST] = [64, 64, 26];

const UNREAD = "Point at a cell to read it, or go through them by the arrow keys.";

/**
 * A number with its unit.
 * @param {number} value
 * @param {Pick<StatisticData, "digits" | "unit">} of
 */
export const measured = (value, { digits, unit }) => `${value.toFixed(digits)} ${unit}`;

/**
 * One head in words.
 * @param {StatisticData} of
 * @param {number} layer
 * @param {number} head
 * @param {number} count pictures
 */
export function headInWords(of, layer, head, count) {
  const [mean, spread] = [of.means[layer][head], of.deviations[layer][head]];
  const over = count > 1 ? `, give or take ${spread.toFixed(of.digits)} from picture to picture` : "";
  const alike = `A head that looks everywhere alike: ${measured(of.alike, of)}.`;
  return `Layer ${layer + 1}, head ${head + 1}: ${measured(mean, of)}${over}. ${alike}`;
}

/**
 * @param {{ layers: number, heads: number, count: number, colours: Uint8Array }} data
 */
export function headTable(data) {
  const [layers, heads] = [range(data.layers), range(data.heads)];
  const caption = element("figcaption");
  const says = element("p", { class: "says" });
  const reading = element("p", { class: "reading", "aria-live": "polite" });
  const [low, ramped, high] = [element("span"), element("i"), element("span")];
  /** The cell pointed at, or reached by keys. @type {Place | null} */
  let read = null;
  /** @type {StatisticData | null} */
  let shown = null;
  let drawn = "";

  /**
   * @param {number} layer
   * @param {number} head
   * @returns {Place}
   */
  function placeOf(layer, head) {
    const digits = element("span", { class: "digits" });
    return { cell: element("td", { tabindex: -1, "data-cell": `${layer} ${head}` }, digits), digits, layer, head };
  }

  const rows = heads.map((h) => layers.map((l) => placeOf(l, h)));
  rows[0][0].cell.tabIndex = 0;
  const table = layersAcross(
    "Layers across, heads down",
    layers,
    heads.map((h) => `head ${h + 1}`),
    rows,
  );
  const scrolls = scrolling("Table of heads", fit, table);
  const scale = element("div", { class: "scale" }, ramped, low, high);
  const node = element("figure", { class: "heads" }, caption, says, scrolls.node, scale, reading);

  /** As many pixels a layer as there is room for. @param {number} width */
  function fit(width) {
    const each = Math.max(LEAST, Math.min(WIDEST, Math.floor((width - NAMES - 4) / data.layers)));
    table.style.width = `${NAMES + each * data.layers}px`;
    scale.style.maxWidth = table.style.width;
    table.classList.toggle("narrow", each < ROOM);
  }

  /** @param {Place | null} place */
  function say(place) {
    read = place;
    write(reading, place && shown ? headInWords(shown, place.layer, place.head, data.count) : UNREAD);
  }

  walked(table, rows, say);

  return {
    node,
    close: scrolls.close,
    /**
     * @param {StatisticData} of
     * @param {boolean} dark
     */
    draw(of, dark) {
      if (drawn === `${of.name} ${dark}`) return;
      drawn = `${of.name} ${dark}`;
      shown = of;
      const [from, to] = extent(of.means.flat());
      const colours = onPage(data.colours, dark);
      for (const { cell, digits, layer, head } of rows.flat()) {
        const value = of.means[layer][head];
        cell.dataset.value = String(value);
        write(digits, value.toFixed(of.digits));
        cell.style.cssText = cellStyle(colours, to > from ? (value - from) / (to - from) : 0, 1, dark);
      }
      ramped.style.background = ramp(colours);
      write(low, measured(from, of));
      write(high, measured(to, of));
      write(caption, `${of.title} of every head, in ${of.unit}`);
      write(says, of.says);
      say(read);
    },
  };
}

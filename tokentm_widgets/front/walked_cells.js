// A table with layers across, whose cells are read by pointing, or by walking over them with the arrow keys.

import { element } from "./dom.js";

const MOVES = /** @type {Record<string, [number, number]>} */ ({
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
});

/**
 * Say which cell is read. One cell at a time takes part in the order of the Tab key.
 * @template {{ cell: HTMLTableCellElement }} Place
 * @param {HTMLElement} table
 * @param {Place[][]} rows
 * @param {(place: Place | null) => void} say hears of the cell that is read, null when none is
 */
export function walked(table, rows, say) {
  for (const [r, row] of rows.entries())
    for (const [c, place] of row.entries()) {
      place.cell.addEventListener("pointerenter", () => say(place));
      place.cell.addEventListener("focus", () => {
        for (const other of rows.flat()) other.cell.tabIndex = other === place ? 0 : -1;
        say(place);
      });
      place.cell.addEventListener("keydown", (event) => {
        const step = Object.hasOwn(MOVES, event.key) ? MOVES[event.key] : null;
        const to = step ? rows[r + step[0]]?.[c + step[1]] : undefined;
        if (step) event.preventDefault();
        to?.cell.focus();
      });
    }
  table.addEventListener("pointerleave", () => say(null));
  table.addEventListener("focusout", (event) => {
    if (!table.contains(/** @type {Node | null} */ (event.relatedTarget))) say(null);
  });
}

/**
 * The table of such cells, layers counted from 1.
 * @template {{ cell: HTMLTableCellElement }} Place
 * @param {string} label
 * @param {number[]} layers
 * @param {string[]} names of the rows
 * @param {Place[][]} rows
 */
export function layersAcross(label, layers, names, rows) {
  const numbers = layers.map((l) => element("th", { scope: "col" }, l + 1));
  return element(
    "table",
    { "aria-label": label },
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "layer"), ...numbers)),
    element(
      "tbody",
      {},
      ...rows.map((row, r) =>
        element("tr", {}, element("th", { scope: "row" }, names[r]), ...row.map(({ cell }) => cell)),
      ),
    ),
  );
}

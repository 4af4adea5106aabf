// How alike methods rank the patches: every two of them, in an order in which neighbours are alike.

import { cellStyle } from "./colours.js";
import { byLikeness } from "./comparing.js";
import { element } from "./dom.js";
import { scrolling } from "./scrolling.js";

/**
 * @param {string[]} names
 * @param {Uint8Array} colours from -1 to 1
 */
export function agreementTable(names, colours) {
  const title = "How alike two methods order the patches";
  const table = element("table", { "aria-label": title });
  const scrolls = scrolling(title, () => {}, table);
  const says =
    "1: the same order. 0: nothing in common. Below 0: the other way round. Neighbours in the list are alike.";
  const node = element(
    "figure",
    { class: "alike" },
    element("figcaption", {}, title),
    scrolls.node,
    element("p", { class: "says" }, says),
  );
  let before = "";

  return {
    node,
    close: scrolls.close,
    /**
     * @param {number} index
     * @param {(a: number, b: number) => number} alike
     * @param {boolean} dark
     */
    draw(index, alike, dark) {
      if (before === `${index} ${dark}`) return;
      before = `${index} ${dark}`;
      const order = byLikeness(alike, names.length);
      const head = order.map((m, k) => element("th", { scope: "col", title: names[m] }, k + 1));
      const rows = order.map((a, k) => {
        const cells = order.map((b) => cellOf(a, b, alike(a, b), dark));
        return element("tr", {}, element("th", { scope: "row" }, `${k + 1} ${names[a]}`), ...cells);
      });
      table.replaceChildren(
        element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "method"), ...head)),
        element("tbody", {}, ...rows),
      );
      scrolls.look();
    },
  };

  /**
   * @param {number} a
   * @param {number} b
   * @param {number} rho
   * @param {boolean} dark
   */
  function cellOf(a, b, rho, dark) {
    if (a === b) return element("td", { class: "same" });
    const text = Number.isNaN(rho) ? "–" : rho.toFixed(2).replace("-", "−");
    const cell = element("td", { "data-cell": `${a} ${b}`, title: `${names[a]} and ${names[b]}` }, text);
    if (!Number.isNaN(rho)) cell.style.cssText = cellStyle(colours, (rho + 1) / 2, Math.abs(rho), dark);
    return cell;
  }
}

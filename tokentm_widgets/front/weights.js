// The numbers of all pairs: the formula of one, a table of all, and NECC as shares.

import { hue } from "./colours.js";
import { drawing, element, write } from "./dom.js";
import { range } from "./numbers.js";
import { bounds, ceiling, fixed } from "./pairs.js";

/** @import { Child } from "./dom.js" */
/** @import { Measured } from "./pairs.js" */

/** Name, title and digits. @type {["from" | "to" | "ratio" | "cosine" | "necc" | "weight", string, number][]} */
export const COLUMNS = [
  ["from", "L(E)", 2],
  ["to", "L(T)", 2],
  ["ratio", "ratio", 2],
  ["cosine", "cosine", 2],
  ["necc", "NECC", 3],
  ["weight", "W", 3],
];

/** Several things in one cell, or one. @param {Child | Child[]} part */
const cell = (part) => element("span", {}, ...[part].flat());
/** @param {string | number} n */
const lowered = (n) => element("sub", {}, n);
/**
 * @param {string} letter
 * @param {number} n
 */
const symbol = (letter, n) => cell([element("i", {}, letter), lowered(n)]);
/**
 * @param {Child | Child[]} above
 * @param {Child | Child[]} under
 */
const fraction = (above, under) => element("span", { class: "fraction" }, cell(above), cell(under));

/**
 * Symbols, their numbers, the two factors and their product, each under the other.
 * @param {Measured} row
 * @param {number} n
 * @param {string} normaliser
 */
export function formula(row, n, normaliser) {
  const [label, sum] = [n + 1, normaliser === "sum" ? "Σ" : "mean"];
  const [ratio, share, weight] = [fixed(row.ratio, 2), fixed(row.necc, 3), fixed(row.weight, 3)];
  const lengths = /** @type {const} */ ([fixed(row.to, 2), fixed(row.from, 2)]);
  const raised = /** @type {const} */ ([fixed(Math.exp(row.cosine), 2), fixed(row.below, 2)]);
  const said =
    `W${label} = L(T${label})/L(E${label}) × exp(cos${label})/${sum} exp(cos) = ` +
    `${lengths.join("/")} × ${raised.join("/")} = ${ratio} × ${share} = ${weight}`;
  const length = fraction(["L(", symbol("T", label), ")"], ["L(", symbol("E", label), ")"]);
  const direction = fraction(["exp cos", lowered(label)], [`${sum} exp cos`, lowered("k")]);
  const bold = (/** @type {string} */ text) => element("b", {}, text);
  const cells = [
    ...[symbol("W", label), "=", length, "×", direction],
    ...["", "=", fraction(...lengths), "×", fraction(...raised)],
    ...[bold(weight), "=", bold(ratio), "×", bold(share)],
    ...["weight", "", "length", "", "direction: NECC"],
  ];
  return element("div", { class: "formula", role: "math", "aria-label": said }, ...cells.map(cell));
}

/**
 * @param {number} count
 * @param {(n: number) => void} choose
 */
export function weightsTable(count, choose) {
  const end = element("span");
  const lines = range(count).map((n) => lineOf(n, choose));
  const titles = COLUMNS.map(([, title]) => element("th", { scope: "col" }, title));
  const ends = element("div", {}, element("span", {}, "0"), end);
  const head = [
    element("th", { scope: "col" }, "pair"),
    ...titles,
    element("th", { scope: "col", "aria-label": "bar of W" }, ends),
  ];
  const node = element(
    "table",
    { class: "weights" },
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...lines.map((line) => line.node)),
  );
  return {
    node,
    /**
     * @param {Measured[]} rows
     * @param {number} chosen
     */
    draw(rows, chosen) {
      const top = ceiling(Math.max(...rows.map((row) => row.weight)));
      write(end, String(top));
      for (const [n, { node, pick, values, bar }] of lines.entries()) {
        node.className = n === chosen ? "chosen" : "";
        pick.setAttribute("aria-pressed", String(n === chosen));
        for (const [c, [name, , digits]] of COLUMNS.entries()) {
          values[c].value = String(rows[n][name]);
          write(values[c], fixed(rows[n][name], digits));
        }
        bar.style.width = `${(100 * rows[n].weight) / top}%`;
      }
    },
  };
}

/**
 * One pair's line of the table.
 * @param {number} n
 * @param {(n: number) => void} choose
 */
function lineOf(n, choose) {
  const sample = drawing(
    "svg",
    { viewBox: "0 0 34 14", "aria-hidden": "true", stroke: hue(n), "stroke-width": 2.5 },
    drawing("line", { x1: 0, x2: 34, y1: 4, y2: 4 }),
    drawing("line", { x1: 0, x2: 34, y1: 11, y2: 11, "stroke-dasharray": "6 4" }),
  );
  const attributes = { type: "button", name: `pair${n}`, "aria-label": `Pair ${n + 1}` };
  const pick = element("button", attributes, n + 1, sample);
  pick.addEventListener("click", () => choose(n));
  const values = COLUMNS.map(() => element("data"));
  const bar = element("i", { style: `background: ${hue(n)}` });
  const node = element(
    "tr",
    {},
    element("th", { scope: "row" }, pick),
    ...values.map((value) => element("td", {}, value)),
    element("td", { class: "bar" }, bar),
  );
  return { node, pick, values, bar };
}

/**
 * NECC as what it is: shares of one whole, or of as many wholes as there are tokens.
 * @param {number} count
 */
export function shares(count) {
  const parts = range(count).map((n) => element("span", { style: `--own: ${hue(n)}` }, n + 1));
  const strip = element("div", { class: "strip", role: "img" }, ...parts);
  const caption = element("figcaption", {});
  return {
    node: element("figure", {}, caption, strip),
    /**
     * @param {Measured[]} rows
     * @param {number} chosen
     * @param {string} normaliser
     */
    draw(rows, chosen, normaliser) {
      const [low, high] = bounds(count, normaliser).map((end) => fixed(end, 3));
      caption.textContent = `NECC: shares of ${normaliser === "sum" ? 1 : count} `;
      caption.append(element("span", { class: "quiet" }, `each between ${low} and ${high}`));
      for (const [n, part] of parts.entries()) {
        part.style.flexGrow = String(rows[n].necc);
        part.className = n === chosen ? "chosen" : "";
      }
      strip.setAttribute("aria-label", rows.map((row, n) => `pair ${n + 1}: ${fixed(row.necc, 3)}`).join(", "));
    },
  };
}

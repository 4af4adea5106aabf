// What the layer stepper says: of a layer, of the strongest patch, and of one patch in the formula.

import { element } from "./dom.js";
import { where } from "./grid.js";
import { rowsOf } from "./layer_rows.js";
import { averageSize, largest, number, range, times } from "./numbers.js";
import { rounded, writtenFor } from "./terms.js";
import { contributionOf } from "./thumbs.js";
import { tableOf } from "./why.js";

/** @import { Child } from "./dom.js" */
/** @import { Data, Shown } from "./layer_rows.js" */
/** @import { Term, TermName } from "./terms.js" */
/** @typedef {ReturnType<typeof rowsOf>} Rows */

/** With a capital letter. @param {string} text */
const begun = (text) => `${text[0].toUpperCase()}${text.slice(1)}`;

/**
 * What this layer has done to the map, in words.
 * @param {Data} data
 * @param {Shown} now
 */
export function story(data, { index, layer, patch }) {
  if (patch !== null) return "";
  const sums = range(data.layers).map((l) => contributionOf(data, index, l).reduce((sum, one) => sum + one, 0));
  const [all, upTo] = [sums[data.layers - 1], sums[layer]];
  if (!(all > 0)) return "";
  const added = (upTo - (layer ? sums[layer - 1] : 0)) / all;
  const explained = data.names[index];
  const adds = layer ? `Layer ${layer + 1} adds ${rounded(added)} of the final map for ${explained}` : "";
  const heads = range(data.heads).map((head) => {
    const at = ((index * data.layers + layer) * data.heads + head) * data.patches;
    return data.updateReadout.subarray(at, at + data.patches).reduce((sum, one) => sum + one, 0);
  });
  const top = largest(heads);
  const most = data.heads > 1 && heads[top] > 0 ? `its largest update comes from head ${top + 1}` : "";
  const there =
    layer === data.layers - 1 ? "The map is complete." : `${rounded(upTo / all)} of the final map is there now.`;
  const first = [adds, most].filter(Boolean).join("; ");
  return `${first ? `${begun(first)}. ` : ""}${there}`;
}

/**
 * Which patch counts most, in words.
 * @param {Data} data
 * @param {Shown} now
 * @param {Rows} rows
 */
export function strongest(data, now, rows) {
  if (!rows.contribution) return "";
  const top = largest(rows.contribution, now.patch);
  const many = writtenFor(rows.contribution, now.patch)(rows.contribution[top]);
  const place = where(top, data);
  const said = `${begun(place)} counts most`;
  return many === "none" ? "No patch counts yet." : `${said}: ${many.replace("×", " times")} an average patch.`;
}

/**
 * What is told of each head in the note of a term: the head of a column, and whose numbers stand in it.
 * @type {Partial<Record<TermName, [title: string, name: keyof Rows][]>>}
 */
const COLUMNS = {
  attention: [["A", "attention"]],
  ratio: [["length kept", "ratio"]],
  necc: [
    ["cosine", "cosine"],
    ["share", "necc"],
  ],
  product: [
    ["A", "attention"],
    ["length", "ratio"],
    ["share", "necc"],
    ["A · W", "product"],
  ],
  update: [
    ["A · W", "product"],
    ["update", "update"],
  ],
};

/**
 * The numbers of one patch head by head, where they are known: in what the readout takes.
 * @param {Term} term
 * @param {Data} data
 * @param {Shown} now
 * @param {number} patch
 */
function perHead({ name }, data, { index, layer, patch: from }, patch) {
  const columns = COLUMNS[name];
  if (from !== null || !columns) return [];
  const rows = range(data.heads).map((head) => rowsOf(data, undefined, { layer, head, index, patch: null }));
  const numbers = rows.map((row, head) => [head + 1, ...columns.map(([, of]) => number(row[of]?.[patch] ?? 0))]);
  return [tableOf(["head", ...columns.map(([title]) => title)], numbers)];
}

/**
 * What "?" opens: the formula, and one patch's numbers in it: those of the kept patch, or of the largest.
 * @param {Term} term
 * @param {Data} data
 * @param {{ now: Shown, rows: Rows, kept: number | null }} seen
 * @returns {Child[]}
 */
export function noteOf(term, data, { now, rows, kept }) {
  const values = rows[term.name];
  const heading = [element("strong", {}, term.title), element("p", { class: "equation" }, term.formula)];
  const parts = [...heading, element("p", {}, term.more(data))];
  if (values) {
    const patch = kept ?? largest(values, term.name === "contribution" ? now.patch : null);
    const average = averageSize(values);
    const said =
      `${begun(where(patch, data))}, layer ${now.layer + 1}: ${number(values[patch])}. The average patch has ` +
      `${number(average)}, so this one has ${times(values[patch], average)}.`;
    parts.push(...perHead(term, data, now, patch), element("p", {}, said));
  }
  return [...parts, element("p", { class: "quiet" }, `More in the course, notebook ${term.section}.`)];
}

// Small multiples of methods on one scale, or their differences from a chosen one.

import { bind, button, choices, labelled, slider } from "./controls.js";
import { assign, element, write } from "./dom.js";
import { where } from "./grid.js";
import { failed, mapPanel, pickByClick, pickByKeys, pointOut } from "./map_panel.js";
import { bytes, extent, extentOf, floats, largest, named, number, range } from "./numbers.js";
import { loadPictures } from "./pictures.js";
import { widget } from "./view.js";

/** @import { MethodComparisonData } from "./schema.d.ts" */
/** @import { Build, Extent, Row } from "./types.d.ts" */
/** @typedef {ReturnType<typeof read>} Data */
/** @typedef {"share" | "rank"} Unit */

const UNITS = {
  share: "Share: a score over the mean size of its map's scores, so an average patch has size 1.",
  rank: "Rank: the share of patches that score less; 1 is the top.",
};

/** @param {MethodComparisonData} sent */
function read(sent) {
  return {
    ...sent,
    patches: sent.rows * sent.columns,
    count: sent.methods.length,
    colours: bytes(sent.colours),
    differences: bytes(sent.differences),
    scores: floats(sent.scores),
    share: floats(sent.share),
    rank: floats(sent.rank),
    agreement: floats(sent.agreement),
  };
}

/**
 * One method's numbers for one image.
 * @param {Data} data
 * @param {"scores" | Unit} name
 * @param {number} method
 * @param {number} index
 */
function row(data, name, method, index) {
  const at = (method * data.names.length + index) * data.patches;
  return data[name].subarray(at, at + data.patches);
}

/**
 * What is drawn: maps, or their differences from one of them; and the ends of each one's colours. All that is compared
 * has one scale; the reference itself keeps its own.
 * @param {Row[]} maps
 * @param {number} against which map they are compared with, -1 for none
 * @returns {{ values: Row, ends: Extent, difference: boolean }[]}
 */
export function compared(maps, against) {
  const base = maps[against];
  if (!base) {
    const ends = extentOf(maps);
    return maps.map((values) => ({ values, ends, difference: false }));
  }
  const differences = maps.map((values) => values.map((v, p) => v - base[p]));
  const most = Math.max(...extentOf(differences.filter((_, m) => m !== against)).map(Math.abs));
  return maps.map((values, m) =>
    m === against
      ? { values, ends: extent(values), difference: false }
      : { values: differences[m], ends: [-most, most], difference: true },
  );
}

/**
 * @param {Data} data
 * @param {number} index
 * @param {number} beside
 * @param {number} m
 */
function agreementOf(data, index, beside, m) {
  const rho = data.agreement[(index * data.count + beside) * data.count + m];
  if (m === beside) return "";
  if (Number.isNaN(rho)) return "ranks nothing to compare";
  return `rank correlation ${rho.toFixed(2)} with ${data.methods[beside]}`;
}

/** @type {Build} */
export function build(root, tools) {
  const { model, choose, repaint, follow } = tools;
  const data = read(model.get("_data"));
  const controls = {
    index: choices(
      "index",
      data.names.map((_, i) => named(data, i)),
    ),
    unit: choices("unit", ["share", "rank"], ["share", "rank"]),
    reference: choices(
      "reference",
      ["the maps", ...data.methods.map((name) => `difference from ${name}`)],
      [null, ...data.methods],
    ),
    opacity: slider("opacity", 0, 1, 0.05),
  };
  for (const [trait, control] of Object.entries(controls)) bind(control, trait, tools);
  const reset = button("reset", "Let go", "Let go of the chosen patch");
  const status = element("div", { class: "status", "aria-live": "polite" });
  const image = mapPanel("image", "Image", "Click or use the arrow keys to choose a patch", data, false);
  const panels = data.methods.map((name) => {
    const panel = { ...mapPanel(name, name, name, data), agreement: element("span", { class: "here quiet" }) };
    panel.node.append(panel.agreement);
    return panel;
  });
  root.append(
    element(
      "div",
      { class: "controls" },
      labelled("Explained", controls.index),
      labelled("Unit", controls.unit),
      labelled("Show", controls.reference),
      reset,
    ),
    element("div", { class: "panels" }, image.node, ...panels.map((panel) => panel.node), ...failed(data.failures)),
    status,
    element("div", { class: "controls" }, labelled("Opacity", controls.opacity)),
  );
  let failure = "";
  const pictures = loadPictures(data.pictures, repaint, (text) => {
    failure = text;
    repaint();
  });
  /** @type {number | null} */
  let pointed = null;

  function paint() {
    /** @type {[number, Unit, number | null]} */
    const [index, unit, chosen] = [model.get("index"), model.get("unit"), model.get("patch")];
    const against = data.methods.indexOf(model.get("reference")); // -1: the maps themselves
    const patch = pointed ?? chosen;
    const picture = pictures.count === 1 ? 0 : index;
    const drawn = compared(
      range(data.count).map((m) => row(data, unit, m, index)),
      against,
    );
    image.drawPicture(pictures.colour[picture]);
    panels.forEach((panel, m) => {
      const { values, ends, difference } = drawn[m];
      const colours = difference ? data.differences : data.colours;
      panel.drawMap(values, ends, colours, pictures.grey[picture], model.get("opacity"), !difference);
      panel.outline(chosen);
      panel.outline(pointed, true);
      write(panel.caption, m === against ? `${panel.name} (itself)` : panel.name);
      write(panel.here, patch === null ? "" : hereOf(m, index, patch, values[patch], difference));
      write(panel.agreement, agreementOf(data, index, Math.max(against, 0), m));
      const top = where(largest(values), data);
      assign(panel.area, "aria-label", `${panel.caption.textContent}: largest at ${top}`);
    });
    image.outline(chosen);
    image.outline(pointed, true);
    write(image.here, patch === null ? "" : where(patch, data));
    const picked = chosen === null ? "No patch chosen" : where(chosen, data);
    assign(image.area, "aria-label", `Patch picker: arrow keys move, Escape lets go. ${picked}`);
    const shown =
      against < 0
        ? "All maps on one scale."
        : `Shown: the ${unit} a method gives to a patch, less that of ${data.methods[against]}.`;
    write(status, [UNITS[unit], shown].concat(failure || []).join(" "));
    root.dataset.painted = [index, chosen, unit, against, Boolean(pictures.colour[picture])].join(" ");
  }

  /**
   * @param {number} m
   * @param {number} index
   * @param {number} patch
   * @param {number} value
   * @param {boolean} difference
   */
  function hereOf(m, index, patch, value, difference) {
    const sign = difference && value > 0 ? "+" : "";
    return `here ${sign}${number(value)}, score ${number(row(data, "scores", m, index)[patch])}`;
  }

  bind(reset, "patch", tools, null);
  reset.addEventListener("click", () => image.area.focus());
  follow("patch");
  for (const { area } of [image, ...panels]) {
    pickByClick(area, data, tools);
    pointOut(area, data, (patch) => {
      if (pointed === patch) return;
      pointed = patch;
      repaint();
    });
  }
  pickByKeys(
    image.area,
    data,
    () => model.get("patch"),
    (patch) => choose("patch", patch),
  );
  return { paint };
}

export default widget("TokenTM method comparison", build);

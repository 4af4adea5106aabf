// Small multiples of methods, on one scale or each on its own, or their differences from a chosen one.

import { agreementTable } from "./agreement.js";
import { away, glow, onPage } from "./colours.js";
import { agreeing, compared, likeness, writtenAs } from "./comparing.js";
import { bind, button, choices, chooser, labelled, press, slider } from "./controls.js";
import { assign, element, write } from "./dom.js";
import { where } from "./grid.js";
import { answersOf, choiceOf, headed } from "./headed.js";
import { failed, mapPanel, pickByClick, pickByKeys, pointOut } from "./map_panel.js";
import { averageSize, bytes, floats, largest, number, range } from "./numbers.js";
import { loadPictures } from "./pictures.js";
import { widget } from "./view.js";
import { notesOf } from "./why.js";

/** @import { Unit } from "./comparing.js" */
/** @import { MethodComparisonData } from "./schema.d.ts" */
/** @import { Build } from "./types.d.ts" */
/** @typedef {ReturnType<typeof read>} Data */

const UNITS = {
  share: "“22×” is 22 times the score of an average patch on the same map.",
  rank: "“Top 3 %” is among the three of a hundred patches that score most, whatever their scores are.",
};

/** @param {MethodComparisonData} sent */
function read(sent) {
  return {
    ...sent,
    patches: sent.rows * sent.columns,
    count: sent.methods.length,
    names: sent.names,
    called: sent.methods.map((name) => sent.titles[name].name),
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
 * The rank correlation of every two methods, for one image.
 * @param {Data} data
 * @param {number} index
 */
const alikeIn = (data, index) => (/** @type {number} */ a, /** @type {number} */ b) =>
  data.agreement[(index * data.count + a) * data.count + b];

/**
 * @param {Data} data
 * @param {number} index
 * @param {number} beside
 * @param {number} m
 */
function agreementOf(data, index, beside, m) {
  const rho = alikeIn(data, index)(beside, m);
  if (m === beside) return "";
  if (Number.isNaN(rho)) return "puts no patch before another";
  return `${rho.toFixed(2).replace("-", "−")}: order of all patches, against ${data.called[beside]}`;
}

/** @type {Build} */
export function build(root, tools) {
  const { model, choose, repaint, follow, theme } = tools;
  const data = read(model.get("_data"));
  const notes = notesOf(root, repaint);
  const head = headed(answersOf(data, choiceOf(data), tools));
  const unit = chooser("unit", "Unit", ["× average", "Rank"], ["share", "rank"], tools);
  const scale = chooser("scale", "Colours", ["One scale", "Each its own"], ["one", "own"], tools);
  const reference = choices(
    "reference",
    ["each map as it is", ...data.called.map((name) => `difference from ${name}`)],
    [null, ...data.methods],
  );
  const opacity = slider("opacity", 0, 1, 0.05);
  for (const [trait, control] of Object.entries({ reference, opacity })) bind(control, trait, tools);
  const reset = button("reset", "Clear selection", "No patch chosen");
  const status = element("div", { class: "status", "aria-live": "polite" });
  const image = mapPanel("image", "Picture", "", data, false);
  const panels = data.methods.map((name, m) => methodPanel(name, m));
  const alike = agreementTable(data.called, data.differences);
  const known = Object.fromEntries(Object.entries(data.failures).map(([name, why]) => [data.titles[name].name, why]));
  root.append(
    head.node,
    element("div", { class: "controls" }, unit, scale, labelled("Show", reference), reset),
    status,
    element("div", { class: "panels comparison" }, image.node, ...panels.map((panel) => panel.node), ...failed(known)),
    alike.node,
    element("div", { class: "controls" }, labelled("Opacity", opacity)),
  );
  alike.node.hidden = data.count < 2;
  let failure = "";
  const pictures = loadPictures(data.pictures, repaint, (text) => {
    failure = text;
    repaint();
  });
  /** @type {number | null} */
  let pointed = null;

  /**
   * @param {string} name
   * @param {number} m
   */
  function methodPanel(name, m) {
    const { name: title, source, says } = data.titles[name];
    const panel = mapPanel(name, title, "", data);
    const why = notes.about(title, () => [
      element("strong", {}, title),
      ...(says ? [element("p", {}, says)] : []),
      ...(source ? [element("p", { class: "quiet" }, source)] : []),
      element("p", {}, rawOf(m)),
    ]);
    const agreement = element("span", { class: "here quiet" });
    const against = button("against", "Compare with this");
    assign(against, "data-value", name);
    against.addEventListener("click", () => choose("reference", model.get("reference") === name ? null : name));
    panel.caption.replaceChildren(element("span", {}, title), why.button);
    panel.node.append(agreement, against, why.note);
    panel.caption.after(element("span", { class: "source" }, source));
    return { ...panel, title, why, agreement, against };
  }

  /**
   * The numbers behind a method's map: of the chosen patch, or of its strongest.
   * @param {number} m
   */
  function rawOf(m) {
    const scores = row(data, "scores", m, model.get("index"));
    const patch = model.get("patch") ?? largest(scores);
    const average = number(averageSize(scores));
    return `The patch at ${where(patch, data)} scores ${number(scores[patch])}; an average patch has ${average}.`;
  }

  function paint() {
    /** @type {[number, Unit, number | null]} */
    const [index, unit, chosen] = [model.get("index"), model.get("unit"), model.get("patch")];
    const { dark } = theme();
    const against = data.methods.indexOf(model.get("reference")); // -1: the maps themselves
    const patch = pointed ?? chosen;
    const picture = pictures.count === 1 ? 0 : index;
    const maps = range(data.count).map((m) => row(data, unit, m, index));
    const drawn = compared(maps, against, data.chance, model.get("scale") === "own");
    image.drawPicture(pictures.colour[picture]);
    panels.forEach((panel, m) => {
      const { values, ends, difference } = drawn[m];
      const colours = difference ? data.differences : onPage(data.colours, dark);
      const opacityOf = difference ? away : glow;
      const written = (/** @type {number} */ value) => writtenAs(value, unit, difference, data.patches);
      panel.drawMap(values, ends, colours, pictures.grey[picture], model.get("opacity"), opacityOf, written);
      panel.outline(chosen);
      panel.outline(pointed, true);
      write(panel.here, patch === null ? "" : hereOf(m, index, patch, values[patch], unit, difference));
      write(panel.agreement, agreementOf(data, index, Math.max(against, 0), m));
      press(panel.against, m === against);
      write(panel.against, m === against ? "Compared with this" : "Compare with this");
      assign(panel.area, "aria-label", `${panel.title}: largest at ${where(largest(values), data)}`);
      panel.why.draw();
    });
    image.outline(chosen);
    image.outline(pointed, true);
    write(image.here, patch === null ? "" : where(patch, data));
    const picked = chosen === null ? "No patch chosen" : where(chosen, data);
    assign(image.area, "aria-label", `Patch picker: arrow keys move, Escape clears. ${picked}`);
    alike.draw(index, alikeIn(data, index), dark);
    paintWords(index, unit, against);
    root.dataset.painted = [index, chosen, unit, against, Boolean(pictures.colour[picture])].join(" ");
  }

  /**
   * @param {number} index
   * @param {Unit} unit
   * @param {number} against
   */
  function paintWords(index, unit, against) {
    const base = Math.max(against, 0);
    const methods = data.count === 1 ? "by one method" : `by ${data.count} methods`;
    const ranks = range(data.count).map((m) => row(data, "rank", m, index));
    const top = largest(row(data, "scores", base, index));
    const { among, all, top: best } = agreeing(ranks, top, data.chance);
    const sees =
      data.count === 1
        ? `${data.called[base]} sees most at ${where(top, data)}.`
        : `${data.called[base]} sees most at ${where(top, data)}; ${among} of ${all} ${all === 1 ? "method has" : "methods have"} it in the ${best}.`;
    const like = likeness(alikeIn(data, index), base, data.called, data.chance);
    head.write(["What speaks for ", data.names[index], `, ${methods}`], [sees, like]);
    const difference =
      unit === "share"
        ? `how much more a method gives to a patch than ${data.called[base]} does, in multiples of an average patch.`
        : `how much further up a method ranks a patch than ${data.called[base]} does, in % of all patches.`;
    const shown = against < 0 ? UNITS[unit] : `Shown: ${difference}`;
    const without =
      model.get("scale") === "own"
        ? "Every map has a scale of its own."
        : data.chance.some(Boolean)
          ? "One scale for all; random does not set it."
          : "One scale for all.";
    write(status, [shown, data.count > 1 ? without : "", failure].filter(Boolean).join(" "));
  }

  /**
   * @param {number} m
   * @param {number} index
   * @param {number} patch
   * @param {number} value
   * @param {Unit} unit
   * @param {boolean} difference
   */
  function hereOf(m, index, patch, value, unit, difference) {
    if (difference) return writtenAs(value, unit, true, data.patches);
    const [share, rank] = [row(data, "share", m, index)[patch], row(data, "rank", m, index)[patch]];
    return [writtenAs(share, "share", false, data.patches), writtenAs(rank, "rank", false, data.patches)].join(", ");
  }

  bind(reset, "patch", tools, null);
  reset.addEventListener("click", () => image.area.focus());
  for (const trait of ["index", "unit", "scale", "patch"]) follow(trait);
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
  return { paint, close: alike.close };
}

export default widget("TokenTM method comparison", build);

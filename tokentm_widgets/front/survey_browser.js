// A survey of many pictures: heads in a table, deciding layers of a class, and the patches that drive it.

import { onPage } from "./colours.js";
import { bind, chooser, labelled, slider } from "./controls.js";
import { decidedBars, halfBy, ofAll } from "./decided_bars.js";
import { assign, element, write } from "./dom.js";
import { drivingGallery } from "./driving_gallery.js";
import { where } from "./grid.js";
import { headTable, measured } from "./head_table.js";
import { headed } from "./headed.js";
import { mapPanel } from "./map_panel.js";
import { averageSize, bytes, codedRows, extent, range, times } from "./numbers.js";
import { loadPictures } from "./pictures.js";
import { widget } from "./view.js";

/** @import { DrivenData, OfClassData, StatisticData, SurveyBrowserData } from "./schema.d.ts" */
/** @import { Build, Pictures } from "./types.d.ts" */

/** How many classes are offered beside each other; more are a list. */
const BESIDE = 4;

/** What the buttons of the statistics say. @type {Record<string, string>} */
const SHORT = { distance: "Distance", entropy: "Entropy", object: "On the object" };

/**
 * The head whose mean is largest, in words; where objects are known, which looks at them most.
 * @param {StatisticData[]} statistics
 */
export function lookingMost(statistics) {
  const of = statistics.find(({ name }) => name === "object");
  if (!of) return "";
  const flat = of.means.flatMap((heads, layer) => heads.map((value, head) => ({ value, layer, head })));
  const best = flat.reduce((most, one) => (one.value > most.value ? one : most));
  return (
    `Head ${best.head + 1} of layer ${best.layer + 1} looks most at the object: ${measured(best.value, of)} of what it ` +
    `takes, where objects cover ${measured(of.alike, of)}.`
  );
}

/** @type {Build} */
export function build(root, tools) {
  const { model, choose, repaint, follow, theme } = tools;
  /** @type {SurveyBrowserData} */
  const sent = model.get("_data");
  const data = { ...sent, colours: bytes(sent.colours) };
  const maps = codedRows(sent.maps);
  const patches = data.rows * data.columns;
  const called = data.classes.map(({ name, pictures }) => `${name} (${pictures})`);
  const head = headed(
    called.length > 1
      ? chooser("chosen", "Class", called, range(called.length), tools, BESIDE)
      : element("span", { class: "answered" }, called[0]),
  );
  const statistic = chooser(
    "statistic",
    "Number of each head",
    data.statistics.map(({ name }) => SHORT[name]),
    data.statistics.map(({ name }) => name),
    tools,
  );
  const table = headTable(data);
  const bars = decidedBars(data.classes);
  const gallery = drivingGallery(data, (rank) => choose("rank", rank));
  const map = mapPanel("driving", "Its picture", "", data);
  const told = element("p", { class: "says", "aria-live": "polite" });
  const opacity = slider("opacity", 0, 1, 0.05);
  bind(opacity, "opacity", tools);
  const status = element("div", { class: "status", role: "status" });
  root.append(
    head.node,
    element(
      "div",
      { class: "survey" },
      element(
        "div",
        { class: "picture" },
        map.node,
        told,
        element("div", { class: "controls" }, labelled("Opacity", opacity)),
      ),
      element(
        "figure",
        { class: "patches" },
        element("figcaption", {}, "Patches that contribute most, over all pictures"),
        gallery.node,
        element("p", { class: "says" }, "In % of what the strongest contributes. Press one to see it in its picture."),
      ),
      bars.node,
      element("section", { class: "of-heads" }, element("div", { class: "controls" }, statistic), table.node),
    ),
    status,
  );
  /** The pictures that were looked at, by number. @type {Map<number, Pictures>} */
  const loaded = new Map();
  let failure = "";

  /** @param {number} picture */
  function pictureOf(picture) {
    const known = loaded.get(picture);
    if (known) return known;
    const made = loadPictures([data.pictures[picture]], repaint, (text) => {
      failure = text;
      repaint();
    });
    loaded.set(picture, made);
    return made;
  }

  const most = lookingMost(data.statistics);
  const layer = halfBy(ofAll(data.classes));

  /** @param {OfClassData} of */
  function settled({ name, pictures, decided }) {
    const half = halfBy(decided);
    const others = half === layer ? "as of all pictures" : `of all pictures, layer ${layer}`;
    return (
      `The model answers ${pictures} of them with ${name}; of half of these the answer stays from layer ${half} of ` +
      `${data.layers} on (${others}).`
    );
  }

  function paint() {
    const { dark } = theme();
    const of = data.statistics.find(({ name }) => name === model.get("statistic")) ?? data.statistics[0];
    const at = model.get("chosen");
    const shown = data.classes[at];
    const rank = Math.min(model.get("rank"), shown.driving.length - 1);
    const one = shown.driving[rank];
    table.draw(of, dark);
    bars.draw(shown);
    gallery.draw(shown.driving, shown.name, rank);
    const seen = one.picture === null ? null : pictureOf(one.picture);
    paintMap(one, seen, dark);
    head.write(["What drives ", shown.name, `, over ${data.count} pictures`], [settled(shown), most]);
    write(told, inWords(one, shown.name));
    write(status, failure);
    root.dataset.painted = [of.name, at, rank, Boolean(seen?.colour[0])].join(" ");
  }

  /**
   * @param {DrivenData} one
   * @param {Pictures | null} seen
   * @param {boolean} dark
   */
  function paintMap(one, seen, dark) {
    map.node.hidden = one.picture === null;
    if (one.picture === null) return;
    const values = maps(one.picture, patches);
    const average = averageSize(values);
    const [low, high] = extent(values);
    const colours = onPage(data.colours, dark);
    const written = (/** @type {number} */ value) => times(value, average);
    map.drawMap(values, [Math.min(0, low), high], colours, seen?.grey[0], model.get("opacity"), undefined, written);
    map.outline(one.patch);
    assign(map.area, "aria-label", `Contributions in ${one.source}; ringed is ${where(one.patch, data)}`);
  }

  /**
   * @param {DrivenData} one
   * @param {string} name
   */
  function inWords(one, name) {
    const label = one.label === null ? "" : ` It is labelled ${one.label}, and answered with ${name}.`;
    const without = one.picture === null ? " Its picture is not kept here." : "";
    return `${one.source}, ${where(one.patch, data)}: ${times(one.times, 1)} an average patch of this picture.${label}${without}`;
  }

  for (const trait of ["rank", "opacity"]) follow(trait);
  return { paint, close: table.close };
}

export default widget("TokenTM survey browser", build);

// The paths of one patch: the strongest drawn over the layers, and how much moves through each head over all paths.

import { onPage } from "./colours.js";
import { bind, button, press } from "./controls.js";
import { assign, element, write } from "./dom.js";
import { where } from "./grid.js";
import { answersOf, choiceOf, headed } from "./headed.js";
import { mapPanel, pickByClick, pickByKeys } from "./map_panel.js";
import { averageSize, extent, largest, range, times } from "./numbers.js";
import { diagram, moves } from "./path_diagram.js";
import { pathTable } from "./path_table.js";
import { inWords, pathOf, read, told } from "./paths.js";
import { loadPictures } from "./pictures.js";
import { scrolling } from "./scrolling.js";
import { widget } from "./view.js";

/** @import { Diagram } from "./path_diagram.js" */
/** @import { Path } from "./paths.js" */
/** @import { Build } from "./types.d.ts" */

/** @type {Build} */
export function build(root, tools) {
  const { model, choose, repaint, follow, theme } = tools;
  const data = read(model.get("_data"));
  const head = headed(answersOf(data, choiceOf(data), tools));
  const reset = button("reset", "Strongest patch", "Show again the patch that contributes most");
  const clear = button("clear", "Clear selection", "Show all paths alike again");
  const status = element("div", { class: "status", role: "status" });
  const spoken = element("div", { class: "spoken", "aria-live": "polite" });
  const image = mapPanel("image", "Picture", "", data, false);
  const map = mapPanel("contribution", "Contribution", "", data);
  const says = element(
    "p",
    { class: "says" },
    "How much each patch contributes, over all paths. Click a patch to see its own paths.",
  );
  const lines = scrolling("Drawing of the strongest paths", () => {});
  const list = element("ol", { class: "list" });
  const through = pathTable(data);
  root.append(
    head.node,
    element(
      "div",
      { class: "paths" },
      element("div", { class: "side" }, image.node, map.node, says, element("div", { class: "controls" }, reset)),
      element(
        "div",
        { class: "main" },
        element(
          "figure",
          {},
          element("figcaption", {}, "The strongest paths, from the first layer to the last"),
          lines.node,
        ),
        element(
          "div",
          { class: "titled" },
          element("strong", {}, "Each path, with its part of the contribution"),
          clear,
        ),
        list,
        through.node,
      ),
    ),
    status,
    spoken,
  );
  let failure = "";
  const pictures = loadPictures(data.pictures, repaint, (text) => {
    failure = text;
    repaint();
  });
  /** The path chosen, and the one pointed at. @type {[kept: number | null, pointed: number | null]} */
  let [kept, pointed] = [null, null];
  /** What the diagram and the list were made for, and the table. */
  let [drawnFor, coloured] = ["", ""];
  /** @type {Diagram | null} */
  let drawn = null;
  /** @type {HTMLButtonElement[]} */
  let items = [];

  function paint() {
    /** @type {number} */
    const index = model.get("index");
    const { dark } = theme();
    const totals = data.total.subarray(index * data.patches, (index + 1) * data.patches);
    /** @type {number} */
    const patch = model.get("patch") ?? largest(totals);
    const picture = pictures.count === 1 ? 0 : index;
    const paths = range(data.count)
      .map((k) => pathOf(data, index, patch, k))
      .filter((one) => one.share > 0);
    const average = averageSize(totals);
    const written = (/** @type {number} */ value) => times(value, average);
    paintPaths(index, patch, paths, dark);
    const strong = pointed ?? kept;
    image.drawPicture(pictures.colour[picture]);
    const [low, high] = extent(totals);
    const colours = onPage(data.colours, dark);
    const ends = /** @type {[number, number]} */ ([Math.min(0, low), high]);
    map.drawMap(totals, ends, colours, pictures.grey[picture], model.get("opacity"), undefined, written);
    for (const panel of [image, map]) panel.outline(patch);
    // where the strongest paths, or the one that stands out, pass on their way
    const passing = strong === null ? paths : paths.slice(strong, strong + 1);
    for (const token of new Set(passing.flatMap((one) => [...one.tokens])))
      if (token >= data.prefixNames.length && token - data.prefixNames.length !== patch)
        image.outline(token - data.prefixNames.length, true);
    drawn?.highlight(strong);
    through.mark(strong === null ? null : new Set(moves(paths[strong])));
    for (const [k, item] of items.entries()) press(item, k === kept);
    clear.disabled = kept === null;
    const place = where(patch, data);
    write(map.here, `${place}: ${written(totals[patch])}`);
    head.write([`How ${place} speaks for `, data.names[index], ""], told(paths, totals, patch, data));
    write(status, failure);
    write(spoken, `${place}: ${written(totals[patch])} an average patch`);
    assign(image.area, "aria-label", `Patch picker: arrow keys move, Escape returns to the strongest. ${place}`);
    assign(map.area, "aria-label", `Contribution of each patch: largest at ${where(largest(totals), data)}`);
    root.dataset.painted = [index, model.get("patch"), Boolean(pictures.colour[picture])].join(" ");
  }

  /**
   * Diagram, list and table, where they are not drawn already. They stay as they are under a pointer.
   * @param {number} index
   * @param {number} patch
   * @param {Path[]} paths
   * @param {boolean} dark
   */
  function paintPaths(index, patch, paths, dark) {
    const key = `${index} ${patch}`;
    if (coloured !== `${key} ${dark}`) through.draw(index, patch, dark);
    coloured = `${key} ${dark}`;
    if (key === drawnFor) return;
    drawnFor = key;
    [kept, pointed] = [null, null];
    drawn = paths.length ? diagram(paths, data) : null;
    lines.box.replaceChildren(drawn?.node ?? "");
    drawn?.groups.forEach(handle);
    items = paths.map((path, k) => {
      const item = button("path", inWords(path, data));
      assign(item, "data-path", k);
      handle(item, k);
      return item;
    });
    list.replaceChildren(...items.map((item) => element("li", {}, item)));
    requestAnimationFrame(lines.look);
  }

  /**
   * A path stands out while it is pointed at, and after a click, until it is clicked again.
   * @param {Element} node
   * @param {number} k
   */
  function handle(node, k) {
    const point = (/** @type {number | null} */ to) => {
      if (pointed === to) return;
      pointed = to;
      repaint();
    };
    node.addEventListener("pointerenter", (event) => {
      if (/** @type {PointerEvent} */ (event).pointerType !== "touch") point(k); // a tap chooses, and leaves nothing
    });
    node.addEventListener("pointerleave", () => point(null));
    node.addEventListener("click", () => {
      kept = kept === k ? null : k;
      if (kept === null) pointed = null;
      repaint();
    });
  }

  bind(reset, "patch", tools, null);
  reset.addEventListener("click", () => image.area.focus());
  clear.addEventListener("click", () => {
    kept = null;
    list.querySelector("button")?.focus(); // this button is about to be disabled
    repaint();
  });
  list.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    kept = null;
    repaint();
  });
  for (const trait of ["index", "patch", "opacity"]) follow(trait);
  for (const { area } of [image, map]) pickByClick(area, data, tools);
  pickByKeys(
    image.area,
    data,
    () => model.get("patch"),
    (patch) => choose("patch", patch),
  );
  return {
    paint,
    close() {
      lines.close();
      through.close();
    },
  };
}

export default widget("TokenTM path explorer", build);

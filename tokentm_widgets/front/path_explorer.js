// The paths of one patch: the strongest drawn over the layers, and the share of all paths through each head.

import { colourAt } from "./colours.js";
import { bind, button, choices, labelled } from "./controls.js";
import { assign, element, write } from "./dom.js";
import { where } from "./grid.js";
import { mapPanel, pickByClick, pickByKeys } from "./map_panel.js";
import { extent, largest, named, number, percent, range } from "./numbers.js";
import { diagram } from "./path_diagram.js";
import { inWords, pathOf, read } from "./paths.js";
import { loadPictures } from "./pictures.js";
import { widget } from "./view.js";

/** @import { Child } from "./dom.js" */
/** @import { Data, Path } from "./paths.js" */
/** @import { Build } from "./types.d.ts" */

/**
 * Layers across, heads down: the share of all paths that moves there.
 * @param {Data} data
 */
function table(data) {
  const layers = range(data.layers);
  const cells = range(data.headCount).map((h) => layers.map((l) => element("td", { "data-cell": `${l} ${h}` })));
  const stays = layers.map((l) => element("td", { "data-stays": l }));
  /** As written last. @type {[texts: string[][], styles: string[][]]} */
  const [texts, styles] = [cells.map(() => []), cells.map(() => [])];
  const line = (/** @type {string} */ name, /** @type {Child[]} */ cells) =>
    element("tr", {}, element("th", { scope: "row" }, name), ...cells);
  const heads = layers.map((l) => element("th", { scope: "col" }, l + 1));
  const node = element(
    "table",
    {},
    element("caption", {}, "% of the contribution that moves through each head, over all paths"),
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "layer"), ...heads)),
    element("tbody", {}, ...cells.map((row, h) => line(`head ${h + 1}`, row)), line("stays", stays)),
  );

  /**
   * @param {number} h
   * @param {number} l
   * @param {number} value
   * @param {number} part of the largest
   */
  function fill(h, l, value, part) {
    const text = (100 * value).toFixed(1);
    // viridis is light only at its upper end
    const style = `background: ${colourAt(data.colours, part)}; color: ${part > 0.6 ? "#000" : "#fff"}`;
    if (texts[h][l] !== text) cells[h][l].textContent = text;
    if (styles[h][l] !== style) cells[h][l].style.cssText = style;
    [texts[h][l], styles[h][l]] = [text, style];
  }

  return {
    node,
    /**
     * @param {number} index
     * @param {number} patch
     */
    draw(index, patch) {
      const at = index * data.patches + patch;
      const total = data.total[at];
      const share = (/** @type {number} */ value) => (total > 0 ? value / total : 0);
      const rows = cells.map((_, h) =>
        layers.map((l) => share(data.through[(at * data.layers + l) * data.headCount + h])),
      );
      const most = Math.max(...rows.flat(), 1e-12);
      for (const [h, row] of rows.entries()) for (const [l, value] of row.entries()) fill(h, l, value, value / most);
      for (const [l, cell] of stays.entries()) write(cell, (100 * share(data.stayed[at * data.layers + l])).toFixed(1));
    },
  };
}

/** @type {Build} */
export function build(root, tools) {
  const { model, choose, repaint, follow } = tools;
  const data = read(model.get("_data"));
  const explained = choices(
    "index",
    data.names.map((_, i) => named(data, i)),
  );
  const reset = button("reset", "Largest", "Show again the patch that contributes most");
  const status = element("div", { class: "status", "aria-live": "polite" });
  const image = mapPanel("image", "Image", "Click or use the arrow keys to choose a patch", data, false);
  const map = mapPanel("contribution", "Contribution", "TokenTM: what each patch contributes over all paths", data);
  const drawn = element("div", { class: "diagram" });
  const list = element("ol");
  const through = table(data);
  const shares = element(
    "div",
    { class: "shares", tabindex: 0, role: "group", "aria-label": "Share of each head in each layer" },
    through.node,
  );
  root.append(
    element("div", { class: "controls" }, labelled("Explained", explained), reset),
    element(
      "div",
      { class: "paths" },
      element("div", { class: "side" }, image.node, map.node),
      element("div", { class: "main" }, drawn, list, shares),
    ),
    status,
  );
  let failure = "";
  const pictures = loadPictures(data.pictures, repaint, (text) => {
    failure = text;
    repaint();
  });
  /** The path pointed at. @type {number | null} */
  let strong = null;
  let before = "";

  function paint() {
    /** @type {number} */
    const index = model.get("index");
    const totals = data.total.subarray(index * data.patches, (index + 1) * data.patches);
    /** @type {number} */
    const patch = model.get("patch") ?? largest(totals);
    const picture = pictures.count === 1 ? 0 : index;
    const paths = range(data.count)
      .map((k) => pathOf(data, index, patch, k))
      .filter((one) => one.share > 0);
    image.drawPicture(pictures.colour[picture]);
    map.drawMap(totals, extent(totals), data.colours, pictures.grey[picture], model.get("opacity"));
    for (const panel of [image, map]) panel.outline(patch);
    // where the strongest paths pass on their way
    for (const token of new Set(paths.flatMap((one) => [...one.tokens])))
      if (token >= data.prefixNames.length) image.outline(token - data.prefixNames.length, true);
    write(map.here, `here ${number(totals[patch])}`);
    paintPaths(index, patch, paths);
    const place = where(patch, data);
    const carried = paths.reduce((sum, one) => sum + one.share, 0);
    const said =
      totals[patch] > 0
        ? `The patch at ${place} contributes ${number(totals[patch])} to ${data.names[index]}; ` +
          `its ${paths.length} strongest paths carry ${percent(carried)} of that.`
        : `The patch at ${place} contributes nothing to ${data.names[index]}.`;
    write(status, [said].concat(failure || []).join(" "));
    assign(image.area, "aria-label", `Patch picker: arrow keys move, Escape returns to the largest. ${place}`);
    const top = where(largest(totals), data);
    assign(map.area, "aria-label", `Contribution of each patch: largest at ${top}`);
    root.dataset.painted = [index, model.get("patch"), Boolean(pictures.colour[picture])].join(" ");
  }

  /**
   * Diagram, list and table, where they are not drawn already.
   * @param {number} index
   * @param {number} patch
   * @param {Path[]} paths
   */
  function paintPaths(index, patch, paths) {
    const key = `${index} ${patch} ${strong}`;
    if (key === before) return;
    drawn.replaceChildren(paths.length ? diagram(paths, data, strong) : "");
    if (!before.startsWith(`${index} ${patch} `)) {
      list.replaceChildren(...paths.map(itemOf));
      through.draw(index, patch);
    }
    before = key;
  }

  /**
   * @param {Path} path
   * @param {number} k
   */
  function itemOf(path, k) {
    const item = element("li", {}, inWords(path, data));
    const point = (/** @type {number | null} */ to) => () => {
      strong = to;
      repaint();
    };
    item.addEventListener("pointerenter", point(k));
    item.addEventListener("pointerleave", point(null));
    return item;
  }

  bind(explained, "index", tools);
  bind(reset, "patch", tools, null);
  reset.addEventListener("click", () => image.area.focus());
  for (const trait of ["patch", "opacity"]) follow(trait);
  for (const { area } of [image, map]) pickByClick(area, data, tools);
  pickByKeys(
    image.area,
    data,
    () => model.get("patch"),
    (patch) => choose("patch", patch),
  );
  return { paint };
}

export default widget("TokenTM path explorer", build);

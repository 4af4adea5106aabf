// The whole model at one look: what has been contributed after each layer, and what each head of each layer adds.

import { faint, glow, paintValues } from "./colours.js";
import { contextOf, element, write } from "./dom.js";
import { aspectOf } from "./grid.js";
import { extent, range } from "./numbers.js";

/** @import { Opacity } from "./colours.js" */
/** @import { Child } from "./dom.js" */
/** @import { Data } from "./layer_rows.js" */
/** @import { Extent, Grid, Row, Theme, Tools } from "./types.d.ts" */

/** The common scale of all heads ends at this largest value, so that one patch does not hide all others. */
const NINTH = 9;
/** Pixels of the longer side of the picture under a small map. */
const SIDE = 96;
/** With more layers than this there is no room for words. */
const MANY = 14;

/**
 * A small map of one pixel a patch.
 * @param {Grid} grid
 */
function thumb(grid) {
  const canvas = element("canvas", { width: grid.columns, height: grid.rows });
  const under = element("canvas", { class: "picture", width: 1, height: 1 });
  const area = element("span", { class: "map" }, under, canvas);
  area.style.setProperty("--ratio", String(1 / aspectOf(grid)));
  const context = contextOf(canvas);
  return {
    node: area,
    /** @param {HTMLCanvasElement | undefined} picture */
    lay(picture) {
      area.classList.toggle("bare", !picture);
      if (!picture) return;
      const scale = SIDE / Math.max(picture.width, picture.height);
      [under.width, under.height] = [picture.width * scale, picture.height * scale].map(Math.round);
      contextOf(under).drawImage(picture, 0, 0, under.width, under.height);
    },
    /**
     * @param {ArrayLike<number>} values
     * @param {Extent} ends
     * @param {Uint8Array} colours
     * @param {Opacity} opacityOf
     */
    draw(values, ends, colours, opacityOf) {
      const pixels = context.createImageData(grid.columns, grid.rows);
      paintValues(values, ends, colours, pixels.data, opacityOf);
      context.putImageData(pixels, 0, 0);
    },
  };
}

/**
 * The k-th largest of many numbers.
 * @param {ArrayLike<number>} values
 * @param {number} k
 */
export function largestOf(values, k) {
  /** @type {number[]} */
  const top = [];
  for (let p = 0; p < values.length; p++) {
    if (top.length === k && values[p] <= top[k - 1]) continue;
    let at = top.length;
    while (at > 0 && top[at - 1] < values[p]) at--;
    top.splice(at, 0, values[p]);
    if (top.length > k) top.pop();
  }
  return top.at(-1) ?? 0;
}

/**
 * What each head of each layer adds to the readout, as a share of all that is added.
 * @param {Data} data
 * @param {number} index
 */
export function headShares(data, index) {
  const sums = range(data.layers).map((layer) =>
    range(data.heads).map((head) => {
      let sum = 0;
      for (const value of updateOf(data, index, layer, head)) sum += value;
      return sum;
    }),
  );
  const all = sums.flat().reduce((total, one) => total + one, 0);
  return sums.map((row) => row.map((one) => (all > 0 ? one / all : 0)));
}

/**
 * @param {Data} data
 * @param {number} index
 * @param {number} layer
 * @param {number} head
 */
function updateOf(data, index, layer, head) {
  const at = ((index * data.layers + layer) * data.heads + head) * data.patches;
  return data.updateReadout.subarray(at, at + data.patches);
}

/**
 * @param {Data} data
 * @param {number} index
 * @param {number} layer
 * @returns {Row}
 */
export function contributionOf(data, index, layer) {
  const at = (index * data.layers + layer) * data.patches;
  return data.contributionReadout.subarray(at, at + data.patches);
}

/**
 * The strip of layers, with the slider as its track, and the table of heads. Pointing chooses; the same is done with
 * the slider and the choice of a head by keyboard.
 * @param {Data} data
 * @param {HTMLInputElement} slider of the layers
 * @param {Tools} tools
 */
export function wholeModel(data, slider, { choose }) {
  const wide = data.layers <= MANY;
  const layers = range(data.layers).map((layer) => {
    const small = thumb(data);
    const attributes = { type: "button", tabindex: -1, "data-layer": layer, "aria-label": `Layer ${layer + 1}` };
    const made = element("button", attributes, small.node);
    return { ...small, made };
  });
  const names = range(data.layers).map((layer) =>
    element("span", { class: "name" }, wide ? `Layer ${layer + 1}` : layer + 1),
  );
  const heads = range(data.heads).map((head) =>
    range(data.layers).map((layer) => {
      const small = thumb(data);
      const share = element("span", { class: "share" });
      const attributes = { type: "button", tabindex: -1, "data-layer": layer, "data-head": head };
      const made = element("button", attributes, small.node, ...(wide ? [share] : []));
      return { ...small, made, share };
    }),
  );
  const track = element("div", { class: "track" }, slider);
  const line = (/** @type {Child[]} */ ...said) => element("span", { class: "line" }, ...said);
  const rows = [
    [line(element("strong", {}, "Contribution"), " so far"), ...layers.map((one) => one.made)],
    [element("span"), track],
    [line("Updates"), ...names],
    ...heads.map((row, head) => [line(`Head ${head + 1}`), ...row.map((one) => one.made)]),
  ];
  for (const [k, parts] of rows.entries())
    for (const [l, part] of parts.entries()) if (part !== track) part.style.gridArea = `${k + 1} / ${l + 1}`;
  const node = element(
    "div",
    { class: "whole", role: "group", "aria-label": "The whole model at one look" },
    ...rows.flat(),
  );
  node.style.setProperty("--layers", String(data.layers));
  node.classList.toggle("many", !wide);
  let key = "";
  let marked = "";
  /** The column of heads that is marked, the one that is to be, and whether that is under way. */
  let [column, wanted, due] = [-1, -1, false];

  /** Cell by cell: one box below all of them would have every small map drawn again. */
  function markColumn() {
    due = false;
    for (const row of heads) {
      row[column]?.made.classList.remove("at");
      row[wanted]?.made.classList.add("at");
    }
    column = wanted;
  }

  node.addEventListener("click", (event) => {
    const at = /** @type {HTMLElement} */ (event.target).closest("button");
    if (!at) return;
    choose("layer", Number(at.dataset.layer));
    const head = Number(at.dataset.head);
    if (at.dataset.head !== undefined && (data.offered ?? [head]).includes(head)) choose("head", head);
  });
  node.addEventListener("pointermove", (event) => {
    if (event.buttons !== 1 || event.pointerType === "touch") return;
    const at = /** @type {HTMLElement} */ (event.target).closest("button");
    if (at && at.dataset.head === undefined) choose("layer", Number(at.dataset.layer));
  });

  /**
   * All small maps: once for each explained score, picture and theme.
   * @param {number} index
   * @param {Uint8Array} colours
   * @param {HTMLCanvasElement | undefined} picture
   */
  function drawAll(index, colours, picture) {
    const shares = headShares(data, index);
    for (const [layer, one] of layers.entries()) {
      const values = contributionOf(data, index, layer);
      one.lay(picture);
      one.draw(values, extent(values), colours, glow);
    }
    const size = data.layers * data.heads * data.patches;
    const all = data.updateReadout.subarray(index * size, (index + 1) * size);
    const most = Math.max(largestOf(all, NINTH), Number.MIN_VALUE);
    for (const [head, row] of heads.entries())
      for (const [layer, one] of row.entries()) {
        one.draw(updateOf(data, index, layer, head), [0, most], colours, faint);
        const share = shares[layer][head];
        write(one.share, share >= 0.005 ? `${Math.round(100 * share)} %` : "");
        one.made.title = `layer ${layer + 1}, head ${head + 1}: ${(100 * share).toFixed(1)} % of all updates`;
      }
  }

  return {
    node,
    /**
     * @param {{ index: number, layer: number, head: number | null }} now
     * @param {Uint8Array} colours
     * @param {HTMLCanvasElement | undefined} picture
     * @param {Theme} theme
     */
    draw({ index, layer, head }, colours, picture, theme) {
      const now = [index, Boolean(picture), theme.dark].join(" ");
      if (now !== key) drawAll(index, colours, picture);
      key = now;
      wanted = layer;
      if (!due) requestAnimationFrame(() => setTimeout(markColumn)); // a frame later: the panels come first
      due = true;
      const at = `${layer} ${head}`;
      if (at === marked) return;
      const [was, wasHead] = marked.split(" ");
      marked = at;
      for (const [l, on] of /** @type {const} */ ([
        [Number(was), false],
        [layer, true],
      ])) {
        layers[l]?.made.classList.toggle("on", on);
        names[l]?.classList.toggle("on", on);
      }
      heads[Number(wasHead)]?.[Number(was)]?.made.classList.remove("on");
      if (head !== null) heads[head][layer].made.classList.add("on");
    },
  };
}

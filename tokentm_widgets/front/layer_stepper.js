// Layers x heads x classes: attention, transformation and its two factors, update, contribution so far.
// The traits are the state; this draws it and writes the user's choices back. Only the patch rows of a single head are
// asked from the kernel; everything else arrived with the widget (see LayerStepperData in layer_stepper.py for the shapes).

import { bind, button, choices, labelled, playButton, slider } from "./controls.js";
import { assign, element, write } from "./dom.js";
import { where } from "./grid.js";
import { headsOf } from "./heads.js";
import { read, rowsOf, tokens } from "./layer_rows.js";
import { mapPanel, pickByClick, pickByKeys, pointOut } from "./map_panel.js";
import { extent, extentOf, largest, named, number, range, union } from "./numbers.js";
import { loadPictures } from "./pictures.js";
import { playingOver } from "./playing.js";
import { scatter } from "./scatter.js";
import { widget } from "./view.js";

/** @import { Data, Held, Shown } from "./layer_rows.js" */
/** @import { Build, Extent, Tools } from "./types.d.ts" */
/** @typedef {ReturnType<typeof rowsOf>} Panels */
/** @typedef {"attention" | "weight" | "product" | "update" | "contribution" | "ratio" | "necc"} PanelName */

/** @type {[PanelName, string, string][]} */
const PANELS = [
  ["attention", "Attention A", "How much is taken from each patch in this layer"],
  ["weight", "Transformation W", "Length ratio times NECC of each patch's transformed token"],
  ["product", "A · W", "Attention weighted by the transformation"],
  ["update", "Update", "A · W where the gradient says that it speaks for the class: what this layer adds"],
  [
    "contribution",
    "Contribution so far",
    "TokenTM up to this layer. A chosen patch's own cell is left out of the scale.",
  ],
  ["ratio", "Length ratio", "L(T) / L(E): how much longer the transformed token is"],
  ["necc", "NECC", "Direction kept: the normalized exponential cosine correlation"],
];
const SCATTERED = /** @type {const} */ (["ratio", "necc", "weight"]);

/** Of a factor, little says as much as a lot. @param {PanelName} name */
const isFactor = (name) => SCATTERED.some((one) => one === name);

/** A chosen patch counts far more in itself than in any other: it is left out of the contribution's scale. */
const asideOf = (/** @type {string} */ name, /** @type {Shown} */ now) => (name === "contribution" ? now.patch : null);

/**
 * What is seen, in words.
 * @param {Data} data
 * @param {Shown} now
 * @param {Panels} rows
 * @param {boolean | undefined} late whether the kernel has not answered in time
 */
function describe(data, now, rows, late) {
  const from = now.patch === null ? `the readout (${data.readout})` : `the patch at ${where(now.patch, data)}`;
  const top = where(largest(rows.contribution, now.patch), data);
  const said = [
    `Layer ${now.layer + 1} of ${data.layers}, seen from ${from}.`,
    `Largest contribution ${now.patch === null ? "" : "of another patch "}so far: ${top}.`,
  ];
  if (now.patch !== null) {
    const [weight, ratio, necc, cosine] = [rows.weight, rows.ratio, rows.necc, rows.cosine].map((row) =>
      number(row[now.patch ?? 0]),
    );
    said.push(`This patch: W ${weight} = length ratio ${ratio} × NECC ${necc} (cosine ${cosine}).`);
  }
  if (!rows.attention)
    said.push(
      late
        ? "The kernel does not answer; without it a single head shows only what the readout takes."
        : `Asking the kernel for head ${(now.head ?? 0) + 1} …`,
    );
  return said.join(" ");
}

/**
 * The ends of every panel's colours over all layers, kept while only the layer changes.
 * @param {Data} data
 */
function commonEnds(data) {
  let known = "";
  /** @type {Partial<Record<PanelName, Extent>>} */
  let ends = {};
  return (/** @type {Shown} */ now, /** @type {Held | undefined} */ held) => {
    const key = [now.head, now.index, now.patch, Boolean(held)].join(" ");
    if (known === key) return ends;
    const layers = range(data.layers).map((layer) => rowsOf(data, held, { ...now, layer }));
    [known, ends] = [key, {}];
    for (const [name] of PANELS)
      if (layers[0][name]) ends[name] = union(layers.map((rows) => extent(rows[name] ?? [], asideOf(name, now))));
    return ends;
  };
}

/**
 * The controls, bound to their traits.
 * @param {Data} data
 * @param {Tools} tools
 */
function controlsOf(data, tools) {
  const heads = range(data.heads);
  const made = {
    index: choices(
      "index",
      data.names.map((_, i) => named(data, i)),
    ),
    head: choices("head", [`mean of ${data.heads} heads`, ...heads.map((h) => `head ${h + 1}`)], [null, ...heads]),
    layer: slider("layer", 0, data.layers - 1),
    playing: playButton(),
    speed: choices("speed", ["½ layer/s", "1 layer/s", "2 layers/s", "4 layers/s"], [0.5, 1, 2, 4]),
    scale: choices("scale", ["of each layer", "of all layers"], ["layer", "common"]),
    opacity: slider("opacity", 0, 1, 0.05),
  };
  for (const [trait, control] of Object.entries(made)) bind(control, trait, tools);
  return made;
}

/** @type {Build} */
export function build(root, tools) {
  const { model, choose, repaint, follow } = tools;
  const data = read(model.get("_data"));
  const controls = controlsOf(data, tools);
  const shownLayer = element("span", { class: "shown" });
  const reset = button("reset", "Readout", "Show again what the readout takes");
  const status = element("div", { class: "status", "aria-live": "polite" });
  const image = mapPanel(
    "image",
    "Image",
    "Hover, click or use the arrow keys to see what one patch takes",
    data,
    false,
  );
  const panels = PANELS.map(([name, title, hint]) => ({ ...mapPanel(name, title, hint, data), name }));
  const dots = scatter(data);
  const picker = image.canvas;
  root.append(
    element(
      "div",
      { class: "controls" },
      labelled(data.choice, controls.index),
      labelled("Head", controls.head),
      element("label", { class: "long" }, "Layer", controls.layer, shownLayer),
      controls.playing,
      reset,
    ),
    element("div", { class: "panels" }, image.node, ...panels.map((panel) => panel.node), dots.node),
    status,
    element(
      "div",
      { class: "controls" },
      labelled("Speed", controls.speed),
      labelled("Scale", controls.scale),
      labelled("Opacity", controls.opacity),
    ),
  );
  let failure = "";
  /** The patch whose row is looked at while the pointer is on the picture. @type {number | null} */
  let seen = null;
  /** The patch pointed at in a map: its value is read in every panel. @type {number | null} */
  let pointed = null;
  const pictures = loadPictures(data.pictures, data, repaint, (text) => {
    failure = text;
    repaint();
  });
  const held = headsOf(model, data, repaint);
  const common = commonEnds(data);

  /** @returns {Shown} */
  const state = () => ({
    layer: model.get("layer"),
    head: model.get("head"),
    index: model.get("index"),
    patch: seen ?? model.get("patch"),
  });

  function paint() {
    const now = state();
    const ink = getComputedStyle(root).color; // before anything is written: styles are still known
    const answer = now.patch === null ? undefined : held.get(now.head, now.index);
    const rows = rowsOf(data, answer, now);
    const picture = pictures.count === 1 ? 0 : now.index;
    image.drawPicture(pictures.colour[picture]);
    paintPanels(now, rows, model.get("scale") === "common" ? common(now, answer) : {}, pictures.grey[picture]);
    image.outline(now.patch);
    image.outline(pointed, true);
    write(image.here, pointed === null ? "" : where(pointed, data));
    paintScatter(now, ink);
    assign(controls.layer, "aria-valuetext", `layer ${now.layer + 1} of ${data.layers}`);
    write(shownLayer, `${now.layer + 1} of ${data.layers}`);
    // spoken when something was chosen; not for every patch passed over, nor at every beat
    assign(status, "aria-live", seen !== null || model.get("playing") ? "off" : "polite");
    reset.disabled = now.patch === null;
    const chosen = now.patch === null ? "No patch chosen" : where(now.patch, data);
    assign(picker, "aria-label", `Patch picker: arrow keys move, Escape returns to the readout. ${chosen}`);
    write(status, [describe(data, now, rows, held.late(now.head, now.index))].concat(failure || []).join(" "));
    const drawn = Boolean(pictures.colour[picture]);
    root.dataset.painted = [now.layer, now.head, now.index, now.patch, drawn].join(" ");
    root.dataset.complete = String(Boolean(rows.attention));
  }

  /**
   * @param {Shown} now
   * @param {Panels} rows
   * @param {Partial<Record<PanelName, Extent>>} shared
   * @param {HTMLCanvasElement | undefined} grey
   */
  function paintPanels(now, rows, shared, grey) {
    for (const panel of panels) {
      const values = rows[panel.name];
      panel.node.classList.toggle("waiting", !values);
      if (!values) {
        panel.drawPicture(null);
        write(panel.here, "");
        continue;
      }
      const aside = asideOf(panel.name, now);
      const ends = shared[panel.name] ?? extent(values, aside);
      panel.drawMap(values, ends, data.colours, grey, model.get("opacity"), !isFactor(panel.name));
      panel.outline(now.patch);
      panel.outline(pointed, true);
      write(panel.here, pointed === null ? "" : `here ${number(values[pointed])}`);
      const top = where(largest(values, aside), data);
      assign(panel.canvas, "aria-label", `${panel.title}, layer ${now.layer + 1}: largest at ${top}`);
    }
  }

  /**
   * @param {Shown} now
   * @param {string} ink
   */
  function paintScatter(now, ink) {
    const of = (/** @type {"ratio" | "necc" | "weight"} */ name, /** @type {number} */ layer) =>
      tokens(data, name, data.imageOf[now.index], layer, now.head);
    const layers = model.get("scale") === "common" ? range(data.layers) : [now.layer];
    const values = { ratio: of("ratio", now.layer), necc: of("necc", now.layer), weight: of("weight", now.layer) };
    const [ratio, necc, weight] = SCATTERED.map((name) => extentOf(layers.map((layer) => of(name, layer))));
    dots.draw(values, { ratio, necc, weight }, [now.patch, pointed], ink);
    const nameOf = (/** @type {number} */ t) =>
      t < data.prefix ? `prefix token ${t + 1}` : where(t - data.prefix, data);
    const [top, low] = [largest(values.weight), largest(values.weight.map((w) => -w))].map(nameOf);
    assign(
      dots.canvas,
      "aria-label",
      `Length ratio against NECC of all tokens, layer ${now.layer + 1}: ` +
        `the weight is largest for ${top}, smallest for ${low}`,
    );
  }

  // ---- the user's hands ----

  const look = (/** @type {number | null} */ patch) => {
    if (seen === patch) return;
    seen = patch;
    repaint();
  };
  const point = (/** @type {number | null} */ patch) => {
    if (pointed === patch) return;
    pointed = patch;
    repaint();
  };
  reset.addEventListener("click", () => {
    seen = null;
    choose("patch", null);
    picker.focus();
    repaint();
  });
  follow("patch");
  pointOut(picker, data, look);
  pickByKeys(
    picker,
    data,
    () => model.get("patch"),
    (patch) => {
      seen = null;
      choose("patch", patch);
    },
  );
  for (const { canvas } of panels) pointOut(canvas, data, point);
  for (const { canvas } of [image, ...panels]) pickByClick(canvas, data, tools);
  dots.canvas.addEventListener("pointermove", (event) => point(dots.nearest(event)));
  dots.canvas.addEventListener("pointerleave", () => point(null));
  dots.canvas.addEventListener("click", (event) => choose("patch", dots.nearest(event)));

  return { paint, close: held.close };
}

export default widget(
  "TokenTM layer stepper",
  build,
  playingOver("layer", (data) => data.layers),
);

// The perturbation test as a film: a picture for each method loses patches, a chart shows what the model still
// believes: probabilities, or the explained score where there are none.

import { chart, lineOf } from "./chart.js";
import { bind, choices, labelled, playButton, slider } from "./controls.js";
import { assign, drawing, element, write } from "./dom.js";
import { curveOf, gone, ORDERS, read } from "./film.js";
import { failed, mapPanel } from "./map_panel.js";
import { loadPictures } from "./pictures.js";
import { playingOver } from "./playing.js";
import { widget } from "./view.js";

/** @import { Data } from "./film.js" */
/** @import { Build } from "./types.d.ts" */

const REMOVED = /** @type {Record<string, string>} */ ({
  drop: "Patches gone are dropped: their tokens leave the sequence. Grey only marks where they were.",
  zero: "Patches gone are filled with the mean colour of the training set (zero, normalised); grey marks them.",
  mean: "Patches gone are filled with the mean colour of this image; grey marks them.",
  blur: "Patches gone are replaced by the image blurred over one patch; grey marks them.",
});

/**
 * @param {Data} data
 * @param {number} m
 */
function methodView(data, m) {
  const name = data.methods[m];
  const picture = mapPanel(name, name, name, data, false);
  const drawn = chart(data, name);
  const values = data.names.map(() => element("output"));
  const entries = data.names.map((of, k) => {
    const line = drawing("line", { x1: 0, x2: 24, y1: 4, y2: 4, ...lineOf(k, data) });
    const sample = drawing("svg", { viewBox: "0 0 24 8", "aria-hidden": "true" }, line);
    return element("li", {}, sample, element("span", {}, of), values[k]);
  });
  picture.here.before(drawn.node, element("ul", { class: "legend" }, ...entries));
  /** @type {number[][]} */
  let curves = [];
  /** The order whose lines are drawn. @type {number | null} */
  let shown = null;
  return {
    node: picture.node,
    drawn,
    /**
     * @param {number} order
     * @param {number} step
     * @param {HTMLCanvasElement | undefined} backdrop
     */
    paint(order, step, backdrop) {
      if (shown !== order) {
        shown = order;
        curves = data.names.map((_, k) => curveOf(data, m, order, k));
        drawn.lines(curves);
      }
      const away = gone(data, m, order, step);
      picture.drawPicture(backdrop);
      picture.hide(away);
      assign(picture.area, "aria-label", `The picture as ${name} takes patches: ${away.length} gone`);
      drawn.cursor(step, curves);
      for (const [k, all] of curves.entries()) write(values[k], data.written(all[step]));
      write(picture.here, `area of ${data.names[0]} ${data.area(data.areas[m * 2 + order])}`);
    },
  };
}

/** @type {Build} */
export function build(root, tools) {
  const { model, choose, repaint } = tools;
  const data = read(model.get("_data"));
  const speeds = [1, 2, 4, 8];
  const controls = {
    step: slider("step", 0, data.steps - 1),
    playing: playButton(),
    order: choices("order", ["most relevant", "least relevant"], ORDERS),
    speed: choices(
      "speed",
      speeds.map((n) => `${n} step${n > 1 ? "s" : ""}/s`),
      speeds,
    ),
  };
  for (const [trait, control] of Object.entries(controls)) bind(control, trait, tools);
  const shownStep = element("span", { class: "shown" });
  const status = element("div", { class: "status" });
  const views = data.methods.map((_, m) => methodView(data, m));
  root.append(
    element(
      "div",
      { class: "controls" },
      element("label", { class: "long" }, "Patches gone", controls.step, shownStep),
      controls.playing,
      labelled("First go the", controls.order),
      labelled("Speed", controls.speed),
    ),
    element("div", { class: "panels films" }, ...views.map((view) => view.node), ...failed(data.failures)),
    status,
  );
  let failure = "";
  const pictures = loadPictures(data.pictures, repaint, (text) => {
    failure = text;
    repaint();
  });

  function paint() {
    /** @type {[number, number]} */
    const [at, which] = [model.get("step"), ORDERS.indexOf(model.get("order"))];
    for (const view of views) view.paint(which, at, pictures.colour[0]);
    const count = `${data.counts[at]} of ${data.patches}`;
    assign(controls.step, "aria-valuetext", `${count} patches gone`);
    write(shownStep, count);
    const better =
      which === 0
        ? "the lower, the earlier the ranking found what the model reads"
        : "the higher, the less the ranking took of what the model reads";
    const said =
      `Explained: ${data.explained}. ${REMOVED[data.replace]} Area of ${data.names[0]}: its ${data.mean} ` +
      `along the way; ${better}.`;
    write(status, [said].concat(failure || []).join(" "));
    root.dataset.painted = [at, ORDERS[which], Boolean(pictures.colour[0])].join(" ");
  }

  for (const { drawn } of views) {
    const follow = (/** @type {MouseEvent} */ event) => choose("step", drawn.under(event));
    drawn.node.addEventListener("pointerdown", follow);
    drawn.node.addEventListener("pointermove", (event) => {
      if (event.buttons) follow(event);
    });
  }
  return { paint };
}

export default widget(
  "TokenTM perturbation player",
  build,
  playingOver("step", (data) => data.counts.length),
);

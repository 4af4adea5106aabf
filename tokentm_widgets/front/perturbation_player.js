// The perturbation test as a film: a picture for each method loses patches, a chart shows what the model still
// believes: probabilities, or the explained score where there are none.

import { chart, lineOf } from "./chart.js";
import { bind, choices, chooser, labelled, playButton, slider } from "./controls.js";
import { assign, drawing, element, write } from "./dom.js";
import { curveOf, gone, ORDERS, read } from "./film.js";
import { headed } from "./headed.js";
import { failed, mapPanel } from "./map_panel.js";
import { loadPictures } from "./pictures.js";
import { playingOver } from "./playing.js";
import { widget } from "./view.js";
import { verdict } from "./winner.js";

/** @import { Data } from "./film.js" */
/** @import { Build } from "./types.d.ts" */

const REMOVED = /** @type {Record<string, string>} */ ({
  drop: "Patches gone are dropped: their tokens leave the sequence. Grey only marks where they were.",
  zero: "Patches gone are filled with the mean colour of the training set (zero, normalised); grey marks them.",
  mean: "Patches gone are filled with the mean colour of this image; grey marks them.",
  blur: "Patches gone are replaced by the image blurred over one patch; grey marks them.",
});

/**
 * One method: its picture, and its chart with what each line is.
 * @param {Data} data
 * @param {number} m
 */
function methodView(data, m) {
  const method = data.methods[m];
  const { name, source } = data.titles[method];
  const picture = mapPanel(method, name, "", data, false);
  picture.node.dataset.method = method;
  const drawn = chart(data, method, name);
  const values = data.names.map(() => element("output"));
  const entries = data.names.map((of, k) => {
    const line = drawing("line", { x1: 0, x2: 24, y1: 4, y2: 4, ...lineOf(k, data) });
    const sample = drawing("svg", { viewBox: "0 0 24 8", "aria-hidden": "true" }, line);
    return element("li", {}, sample, element("span", {}, of), values[k]);
  });
  const area = element("span", { class: "area" });
  const curvesOf = element(
    "figure",
    { class: "curves", "data-method": method },
    element("figcaption", source ? { title: source } : {}, name),
    drawn.node,
    element("ul", { class: "legend" }, ...entries),
    area,
  );
  /** @type {number[][]} */
  let curves = [];
  /** The order whose lines are drawn. @type {number | null} */
  let shown = null;
  return {
    picture: picture.node,
    curves: curvesOf,
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
      write(picture.here, data.written(curves[0][step]));
      write(area, `mean over all steps ${data.area(data.areas[m * 2 + order])}`);
    },
  };
}

/** @type {Build} */
export function build(root, tools) {
  const { model, choose, repaint, follow } = tools;
  const data = read(model.get("_data"));
  const speeds = [1, 2, 4, 8];
  const head = headed();
  const controls = {
    step: slider("step", 0, data.steps - 1),
    playing: playButton(),
    speed: choices(
      "speed",
      speeds.map((n) => `${n} step${n > 1 ? "s" : ""}/s`),
      speeds,
    ),
  };
  for (const [trait, control] of Object.entries(controls)) bind(control, trait, tools);
  const order = chooser(
    "order",
    "Which patches go first",
    ["Most relevant first", "Least relevant first"],
    ORDERS,
    tools,
  );
  const shownStep = element("span", { class: "shown" });
  const status = element("div", { class: "status" });
  const views = data.methods.map((_, m) => methodView(data, m));
  const called = data.methods.map((name) => data.titles[name].name);
  const known = Object.fromEntries(Object.entries(data.failures).map(([name, why]) => [data.titles[name].name, why]));
  root.append(
    element(
      "div",
      { class: "player" },
      head.node,
      element("div", { class: "controls" }, order, labelled("Speed", controls.speed)),
      element(
        "div",
        { class: "controls run" },
        controls.playing,
        element(
          "label",
          { class: "long" },
          element("span", { class: "name" }, "Patches gone"),
          controls.step,
          shownStep,
        ),
      ),
      element("div", { class: "films" }, ...views.map((view) => view.picture)),
      element("div", { class: "charts" }, ...views.map((view) => view.curves), ...failed(known)),
      status,
    ),
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
        ? "the lower, the earlier the order found what the model reads"
        : "the higher, the less the order took of what the model reads";
    head.write(["What is left of ", data.explained, " when patches go"], [verdict(data, which, called)]);
    const along = `Mean along the way: the ${data.mean} of ${data.names[0]} over the whole film; ${better}.`;
    write(status, [`Explained: ${data.explained}.`, REMOVED[data.replace], along, failure].filter(Boolean).join(" "));
    root.dataset.painted = [at, ORDERS[which], Boolean(pictures.colour[0])].join(" ");
  }

  follow("order");
  for (const { drawn } of views) {
    const scrub = (/** @type {MouseEvent} */ event) => choose("step", drawn.under(event));
    drawn.plot.addEventListener("pointerdown", scrub);
    drawn.plot.addEventListener("pointermove", (event) => {
      if (event.buttons) scrub(event);
    });
  }
  return { paint };
}

export default widget(
  "TokenTM perturbation player",
  build,
  playingOver("step", (data) => data.counts.length),
);

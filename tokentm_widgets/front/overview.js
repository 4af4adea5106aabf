// The head of the explorer: gallery and upload, the model's answer, the map of one class by one method, and what to open.
// It computes nothing. Every choice is a trait; the kernel answers with "shown", "busy" and "error".

import { barsOf, entry, found, listed } from "./classes.js";
import { bind, button, choices, labelled, press, slider } from "./controls.js";
import { assign, element, write } from "./dom.js";
import { where } from "./grid.js";
import { mapPanel, pickByKeys, pointOut } from "./map_panel.js";
import { bytes, extent, floats, largest, number, percent } from "./numbers.js";
import { loadPictures } from "./pictures.js";
import { widget } from "./view.js";

/** @import { Panel } from "./map_panel.js" */
/** @import { OverviewData, OverviewShown } from "./schema.d.ts" */
/** @import { Build, Model, Pictures } from "./types.d.ts" */

/** Milliseconds after which a choice that nobody took up is called unanswered. */
const ASK = 3000;
/** Bytes of an uploaded file. */
const LARGEST = 20 * 2 ** 20;
/** What the answer is called, one of its numbers, and the one explained by itself. */
const WORDS = /** @type {Record<string, string[]>} */ ({
  softmax: ["The model's answer", "class", "The predicted class"],
  probabilities: ["The model's answer", "class", "The predicted class"],
  sigmoid: ["The model's answer: independent labels", "label", "The most probable label"],
  none: ["The model's outputs", "output", "The largest output"],
});
let lists = 0; // every view needs a name of its own for its list of classes

/**
 * Questions to the kernel: it takes one up by being busy, or is said not to answer.
 * @param {Model} model
 * @param {() => void} repaint
 */
function questions(model, repaint) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let waiting;
  const state = {
    said: "",
    waiting: () => waiting !== undefined,
    settle() {
      clearTimeout(waiting);
      waiting = undefined;
      state.said = "";
    },
    expect() {
      state.settle();
      state.said = "Asking the kernel …";
      waiting = setTimeout(() => {
        waiting = undefined;
        state.said =
          "The kernel does not answer: it is busy with another cell, or closed. What is on the screen is the last answer.";
        repaint();
      }, ASK);
      repaint();
    },
    /** @param {string} text */
    say(text) {
      state.said = text;
      repaint();
    },
    close() {
      clearTimeout(waiting);
      model.off("change:busy", state.settle);
    },
  };
  model.on("change:busy", state.settle);
  return state;
}

/**
 * A class's bar, and where zero is.
 * @param {ReturnType<typeof barsOf>[number]} bar
 * @param {boolean} below
 */
function barNodes({ left, width, zero }, below) {
  const bar = element("i", below ? { class: "below" } : {});
  bar.style.left = `${100 * left}%`;
  bar.style.width = `${100 * width}%`;
  if (zero === null) return [bar];
  const line = element("i", { class: "zero" });
  line.style.left = `${100 * zero}%`;
  return [bar, line];
}

/** @type {Build} */
function build(root, tools) {
  const { model, choose, repaint, follow } = tools;
  /** @type {OverviewData} */
  const data = model.get("_data");
  const colours = bytes(data.colours);
  const kernel = questions(model, repaint);
  const ask = (/** @type {string} */ name, /** @type {unknown} */ value) => {
    if (model.get(name) === value) return;
    kernel.expect();
    choose(name, value);
  };
  const thumbs = element("div", { class: "thumbs", role: "group", "aria-label": "Gallery" });
  const file = element("input", { type: "file", name: "upload", accept: "image/*" });
  const method = choices("method", data.methods, data.methods);
  const opacity = slider("opacity", 0, 1, 0.05);
  lists += 1;
  const classList = element(
    "datalist",
    { id: `tokentm-classes-${lists}` },
    ...(data.chosen === null ? [] : [element("option", { value: data.chosen })]),
    ...data.classes.map((_, c) => element("option", { value: entry(data.classes, c) })),
  );
  const search = element("input", {
    type: "text",
    name: "target",
    list: classList.id,
    placeholder: "number or name",
    autocomplete: "off",
  });
  const predicted = button("predicted", "", "Explain whatever the model predicts, also for the next picture");
  const answer = element("div", { class: "answer" });
  const panels = element("div", { class: "overview" });
  const views = Object.entries(data.views).map(([name, text]) => button(name, text));
  const status = element("div", { class: "status", "aria-live": "polite" });
  const error = element("div", { class: "error", role: "alert" });
  root.append(
    thumbs,
    element(
      "div",
      { class: "controls" },
      labelled("Your picture", file),
      labelled("Method", method),
      labelled("Opacity", opacity),
    ),
    panels,
    error,
    status,
    element("div", { class: "controls", role: "group", "aria-label": "Open below" }, "Open below", ...views),
  );

  /** What is on the screen: made anew only when `shown` has changed. @type {Screen | null} */
  let screen = null;
  /** @type {OverviewShown | object | null} */
  let drawnFor = null;
  /** @type {unknown} */
  let gallery = null;
  /** @type {number | null} */
  let pointed = null;
  let failure = "";

  // ---- parts that are made anew only when what they show has changed ----

  function paintGallery() {
    if (gallery !== model.get("gallery")) {
      const focused = [...thumbs.children].indexOf(/** @type {Element} */ (root.ownerDocument.activeElement));
      /** @type {{ name: string, url: string }[]} */
      const pictures = model.get("gallery");
      gallery = pictures;
      thumbs.replaceChildren(
        ...pictures.map(({ name, url }, i) => {
          const made = element("button", { type: "button", title: name }, element("img", { src: url, alt: name }));
          made.addEventListener("click", () => ask("picture", i));
          return made;
        }),
      );
      /** @type {HTMLElement | undefined} */ (thumbs.children[focused])?.focus();
    }
    const pressed = model.get("picture");
    for (const [i, thumb] of [...thumbs.children].entries()) press(thumb, i === pressed);
  }

  /** @param {OverviewShown | { scores?: undefined }} shown */
  function paintShown(shown) {
    if (drawnFor === shown) return;
    drawnFor = shown;
    pointed = null;
    if (!shown.scores) {
      // nothing to show is better than the map of another class
      screen = null;
      panels.replaceChildren();
      return;
    }
    const focus = /** @type {HTMLElement | null} */ (root.ownerDocument.activeElement);
    const [focusPanel, focusClass] = [focus?.dataset?.panel, focus?.dataset?.class];
    const selected = root.contains(focus);
    screen = screenOf(shown);
    answer.replaceChildren(...answerOf(shown, screen));
    panels.replaceChildren(screen.image.node, screen.map.node, answer);
    const again = (/** @type {string} */ selector) =>
      /** @type {HTMLElement | null} */ (panels.querySelector(selector))?.focus();
    if (selected && focusPanel) again(`[data-panel=${focusPanel}]`);
    if (selected && focusClass) again(`[data-class="${focusClass}"]`);
  }

  /**
   * @param {OverviewShown} shown
   * @returns {Screen}
   */
  function screenOf(shown) {
    const image = mapPanel("image", "What the model sees", "Point at a patch, or use the arrow keys", shown, false);
    const map = mapPanel("map", "", "What each patch contributes", shown);
    const pictures = loadPictures(shown.picture ? [shown.picture] : [], repaint, (text) => {
      failure = text;
      repaint();
    });
    for (const { area } of [image, map]) pointOut(area, shown, point);
    pickByKeys(image.area, shown, () => pointed, point);
    return { shown, image, map, pictures, values: floats(shown.values), scores: floats(shown.scores), chips: [] };
  }

  /**
   * The model's answer: its classes as buttons, the others by search.
   * @param {OverviewShown} shown
   * @param {Screen} screen
   */
  function answerOf(shown, screen) {
    const { unit, target } = shown;
    const { values } = screen;
    const order = listed(unit, target, values);
    const bars = barsOf(
      unit,
      order.map((c) => values[c]),
    );
    const written = unit === "none" ? number : percent;
    screen.chips = order.map((c, i) => {
      const nodes = barNodes(bars[i], values[c] < 0);
      return chip(c, data.classes[c], entry(data.classes, c), written(values[c]), nodes);
    });
    if (data.chosen !== null) {
      const value = target === null ? number(shown.score) : "";
      const hint = "The function of the logits that was given";
      screen.chips.unshift(chip(data.chosen, data.chosen, hint, value, []));
    }
    const [heading, one, best] = WORDS[unit];
    const alone = values.length === 1;
    const some = `those farthest from zero, of ${values.length}`;
    write(predicted, best);
    return [
      element("strong", {}, alone && unit === "sigmoid" ? "The model's answer: yes / no" : heading),
      ...(unit === "none" && order.length < values.length ? [element("span", { class: "quiet" }, some)] : []),
      ...screen.chips,
      ...(alone ? [] : [labelled(`Other ${one}`, search), classList]),
      ...(data.predicts && !(alone && data.chosen === null) ? [predicted] : []),
    ];
  }

  /**
   * @param {number | string} target
   * @param {string} text
   * @param {string} hint
   * @param {string} value
   * @param {Node[]} bar
   */
  function chip(target, text, hint, value, bar) {
    const odds = element("span", { class: "odds" }, value);
    const attributes = { type: "button", "data-class": target, title: hint };
    const made = element("button", attributes, element("span", {}, text), odds, ...bar);
    made.addEventListener("click", () => ask("target", target));
    return made;
  }

  function paint() {
    /** @type {OverviewShown | { target?: undefined, method?: undefined, note?: undefined, scores?: undefined }} */
    const shown = model.get("shown");
    paintGallery();
    paintShown(shown);
    const busy = model.get("busy");
    if (screen) paintScreen(screen, busy);
    for (const view of views) press(view, view.name === model.get("view"));
    write(error, [failure, model.get("error")].filter(Boolean).join(" "));
    write(status, busy ? `Working: ${busy} …` : kernel.said || shown.note || (screen ? whatIsShown(screen.shown) : ""));
    const drawn = Boolean(screen?.pictures.colour[0]);
    root.dataset.painted = [
      model.get("picture"),
      shown.target,
      shown.method,
      model.get("view"),
      Boolean(busy),
      drawn,
    ].join(" ");
  }

  /**
   * @param {Screen} screen
   * @param {string} busy
   */
  function paintScreen({ shown, image, map, pictures, scores, chips }, busy) {
    image.drawPicture(pictures.colour[0]);
    map.drawMap(scores, extent(scores), colours, pictures.grey[0], model.get("opacity"));
    const value = shown.target === null ? ` (${number(shown.score)})` : "";
    write(map.caption, `${shown.method}: ${shown.explained}${value}`);
    for (const panel of [image, map]) panel.outline(pointed, true);
    write(image.here, pointed === null ? "" : where(pointed, shown));
    write(map.here, pointed === null ? "" : `here ${number(scores[pointed])}`);
    const top = where(largest(scores), shown);
    assign(map.area, "aria-label", `${map.caption.textContent}: largest at ${top}`);
    assign(image.area, "aria-label", "What the model sees: arrow keys point at a patch, Escape lets go");
    for (const one of chips) press(one, one.dataset.class === String(shown.target ?? data.chosen));
    press(predicted, model.get("target") === null);
    panels.classList.toggle("waiting", Boolean(busy) || kernel.waiting());
  }

  // ---- the user's hands ----

  /** @param {number | null} patch */
  function point(patch) {
    if (pointed === patch) return;
    pointed = patch;
    repaint();
  }

  bind(method, "method", { ...tools, choose: ask });
  bind(opacity, "opacity", tools);
  for (const trait of ["picture", "target", "view", "busy", "error", "gallery", "shown"]) follow(trait);
  predicted.addEventListener("click", () => ask("target", null));
  for (const view of views)
    view.addEventListener("click", () => ask("view", model.get("view") === view.name ? null : view.name));
  search.addEventListener("change", () => {
    const wanted = search.value.trim();
    const target = found(wanted, data.classes, data.chosen);
    assign(search, "aria-invalid", target === -1);
    if (target === -1)
      return kernel.say(`There is no class ${wanted}: choose one of the ${data.classes.length} from the list.`);
    search.value = "";
    ask("target", target);
  });
  file.addEventListener("change", async () => {
    const chosen = file.files?.[0];
    if (!chosen) return;
    if (chosen.size > LARGEST) {
      const [size, most] = [Math.ceil(chosen.size / 2 ** 20), LARGEST / 2 ** 20];
      return kernel.say(`${chosen.name} has ${size} MB; a picture of at most ${most} MB can be sent.`);
    }
    kernel.expect();
    model.send({ kind: "upload", name: chosen.name }, undefined, [await chosen.arrayBuffer()]);
    file.value = "";
  });
  return { paint, close: kernel.close };
}

/**
 * @typedef {object} Screen
 * @property {OverviewShown} shown
 * @property {Panel} image
 * @property {Panel} map
 * @property {Pictures} pictures
 * @property {Float32Array} values
 * @property {Float32Array} scores
 * @property {HTMLButtonElement[]} chips
 */

/** @param {OverviewShown} shown */
const whatIsShown = (shown) =>
  `What each patch contributes to ${shown.target === null ? "the " : ""}${shown.explained}, by ${shown.method}. ` +
  "Numbers compare patches of one map.";

export default widget("TokenTM explorer", build);

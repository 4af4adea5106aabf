// A widget as its hosts want it, and the life of one view.

import { element } from "./dom.js";
import { userOf } from "./user.js";

/** @import { Build, Model, Shared, Theme, Tools, View } from "./types.d.ts" */
/** @typedef {{ model: Model, el: HTMLElement }} Place */

/**
 * What a widget's module exports as its default. Hosts call it once for each widget, and hand every view of it a model
 * object of its own. `build` fills the root of a view, and is called again when the widget gets other data.
 * @param {string} label
 * @param {Build} build
 * @param {(given: { model: Model }) => (() => void)} [initialize]
 */
export const widget = (label, build, initialize) => () => {
  /** @type {Shared} */
  const shared = {};
  return { initialize, render: (/** @type {Place} */ place) => mount(place, shared, label, build) };
};

/** The themes of hosts are attributes of these. */
const THEMES = ["class", "theme", "data-jp-theme-light", "data-jp-theme-name"];

/**
 * @param {Place} place
 * @param {Shared} shared
 * @param {string} label
 * @param {Build} build
 */
export function mount({ model, el }, shared, label, build) {
  const root = element("div", { class: "tokentm", role: "group", "aria-label": label });
  el.replaceChildren(root, ...hidingOf(model.get("_still")));
  /** @type {View | null} */
  let view = null;
  /** @type {Set<string>} */
  const followed = new Set();
  /** @type {(() => void)[]} */
  let shows = [];
  const painter = paintingOf(root, () => {
    view?.paint();
    for (const show of shows) show();
  });
  /** @type {Theme | null} */
  let theme = null;
  const user = userOf(shared, model);
  const changed = () => {
    user.insist();
    painter.repaint();
  };
  /** @type {Tools} */
  const tools = {
    model,
    choose: user.choose,
    repaint: painter.repaint,
    theme: () => {
      theme ??= themeOf(root);
      return theme;
    },
    follow(trait, show) {
      if (!followed.has(trait)) model.on(`change:${trait}`, changed);
      followed.add(trait);
      if (show) shows.push(show);
    },
  };
  const close = () => {
    for (const trait of followed) model.off(`change:${trait}`, changed);
    followed.clear();
    shows = [];
    view?.close?.();
  };
  const rebuild = () => {
    close();
    user.forget(); // it was chosen among other data
    delete root.dataset.painted;
    root.replaceChildren();
    view = build(root, tools);
    painter.inFrame();
  };
  const endings = [
    keepKeys(root),
    onTheme(() => {
      theme = null;
      painter.inFrame();
    }),
  ];
  shared.views = (shared.views ?? 0) + 1;
  model.on("change:_data", rebuild);
  rebuild();
  return () => {
    painter.stop();
    for (const end of endings) end();
    model.off("change:_data", rebuild);
    close();
    shared.views = (shared.views ?? 1) - 1;
    if (!shared.views && model.get("playing")) user.choose("playing", false); // nobody is looking any more
    user.save();
  };
}

/**
 * A notebook holds a still picture of every widget for the time when no view lives; as long as one does, it hides the
 * still by a style beside it. See still.py.
 * @param {string | undefined} key of the widget's stills; pages without a notebook have none
 */
function hidingOf(key) {
  if (!key) return [];
  const still = `.tokentm-still[data-of~="${key}"]`;
  const output = `.jp-OutputArea-child:has(> .jp-OutputArea-output > ${still})`;
  return [element("style", {}, `${still} { display: none; } ${output} { display: none; }`)];
}

/**
 * When a view is drawn: in the task of the key press, before the browser's next frame, so that waiting for it is not
 * lost; what else changes until then is drawn once, in the frame. At first, and with a new theme, only the frame knows
 * the styles.
 * @param {HTMLElement} root
 * @param {() => void} paint
 */
function paintingOf(root, paint) {
  let [queued, drawn, stopped] = [false, false, false]; // drawn: since the last frame
  const draw = () => {
    queued = false;
    if (stopped) return;
    drawn = true;
    requestAnimationFrame(() => {
      drawn = false;
    });
    paint();
  };
  const inFrame = () => {
    if (queued) return;
    queued = true;
    requestAnimationFrame(draw);
  };
  return {
    inFrame,
    repaint() {
      if (drawn || !root.isConnected) return inFrame();
      if (queued) return;
      queued = true;
      queueMicrotask(draw);
    },
    stop() {
      stopped = true;
    },
  };
}

/**
 * Arrow keys, Escape and letters are the widget's own. JupyterLab listens behind it and takes what it lets pass;
 * Notebook 7 listens before it and takes what is not marked.
 * @param {HTMLElement} root
 */
function keepKeys(root) {
  const own = (/** @type {KeyboardEvent} */ event) =>
    !event.ctrlKey && !event.metaKey && !(event.shiftKey && event.key === "Enter");
  const mark = (/** @type {KeyboardEvent} */ event) => {
    const target = /** @type {Element} */ (event.target);
    if (root.contains(target)) target.toggleAttribute("data-lm-suppress-shortcuts", own(event));
  };
  addEventListener("keydown", mark, { capture: true });
  root.addEventListener("keydown", (event) => {
    if (own(event)) event.stopPropagation();
  });
  return () => removeEventListener("keydown", mark, { capture: true });
}

/**
 * The colours of the page that a view is on. Reading them makes the browser compute styles: once a theme.
 * @param {HTMLElement} root
 * @returns {Theme}
 */
function themeOf(root) {
  const ink = getComputedStyle(root).color;
  const [red, green, blue] = (ink.match(/[\d.]+/g) ?? ["0", "0", "0"]).map(Number);
  return { ink, dark: 0.3 * red + 0.6 * green + 0.1 * blue > 128 };
}

/**
 * What is written on a canvas keeps its colour until it is drawn again; hosts switch themes by attributes.
 * @param {() => void} changed
 */
function onTheme(changed) {
  const themes = new MutationObserver(changed);
  for (const node of [document.documentElement, document.body]) themes.observe(node, { attributeFilter: THEMES });
  const wish = matchMedia("(prefers-color-scheme: dark)");
  wish.addEventListener("change", changed);
  return () => {
    themes.disconnect();
    wish.removeEventListener("change", changed);
  };
}

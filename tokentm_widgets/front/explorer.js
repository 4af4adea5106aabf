// The explorer: which picture, class and method, what the model answers, the map, how far to trust it, and the views as
// tabs. It computes nothing. Every choice is a trait; the kernel answers with "shown", "trust" and the views' data, and
// says how far it has come. In an exported page all answers are there, see offline.js.

import { answerOf } from "./answer.js";
import { bind, button, choices, labelled, slider } from "./controls.js";
import { element, write } from "./dom.js";
import { galleryOf } from "./gallery.js";
import { heroOf, nameOf } from "./hero.js";
import { questions } from "./kernel.js";
import { build as buildLayers } from "./layer_stepper.js";
import { liveOf } from "./live_source.js";
import { inWords, soFar } from "./map_reading.js";
import { build as buildMethods } from "./method_comparison.js";
import { bytes } from "./numbers.js";
import { offlineOf } from "./offline.js";
import { partOf } from "./part.js";
import { build as buildPaths } from "./path_explorer.js";
import { build as buildRemoval } from "./perturbation_player.js";
import { playingOver } from "./playing.js";
import { tabsOf } from "./tabs.js";
import { trustOf } from "./trust.js";
import { widget } from "./view.js";

/** @import { ExplorerData, ExplorerShown } from "./schema.d.ts" */
/** @import { Build, Model } from "./types.d.ts" */

const BUILDS = { layers: buildLayers, methods: buildMethods, removal: buildRemoval, paths: buildPaths };
/** What plays in a view, and how many there are of it. */
const PLAYING = {
  layers: playingOver("layer", (data) => data.layers),
  removal: playingOver("step", (data) => data.counts.length),
};

/** The explorer's model, or what stands for it in an exported page. @param {Model} model */
function sourceOf(model) {
  const data = model.get("_data");
  if (data.live) return liveOf(model, data.live);
  return data.offline ? offlineOf(model, data.offline, data.parts) : model;
}

/** @type {Build} */
export function build(root, tools) {
  const { choose, repaint, follow, theme } = tools;
  const model = sourceOf(tools.model);
  /** @type {ExplorerData} */
  const data = model.get("_data");
  const alone = Boolean(data.offline);
  const tables = { colours: bytes(data.colours), differences: bytes(data.differences) };
  const kernel = questions(model, repaint, Boolean(data.live));
  const ask = (/** @type {string} */ name, /** @type {unknown} */ value) => {
    if (model.get(name) === value) return;
    if (!alone) kernel.expect();
    choose(name, value);
  };
  const send = (/** @type {object} */ message, /** @type {ArrayBuffer[]} */ buffers = []) => {
    kernel.expect();
    try {
      model.send(message, undefined, buffers);
    } catch {
      // JupyterLab throws where the kernel was shut down; that it does not answer is said in time
    }
  };
  /** Patches that are marked on the map, such as those shared with another class. @type {number[]} */
  let marked = [];
  let failure = "";

  const title = element("h2");
  const lead = element("p", { class: "lead" });
  const error = element("div", { class: "error", role: "alert" });
  const methods = data.offline?.methods ?? data.methods;
  const called = (/** @type {string} */ name) => data.titles[name]?.name ?? name;
  const method = choices("method", methods.map(called), methods);
  const source = element("span", { class: "small quiet source" });
  const opacity = slider("opacity", 0, 1, 0.05);
  const answer = answerOf(data, (target) => ask("target", target), kernel.say);
  const gallery = galleryOf(root, alone, data.live ? (data.live.engine.preparing ? "first" : "not") : "also", {
    ask: (picture) => ask("picture", picture),
    send: async (file) => send({ kind: "upload", name: file.name }, [await file.arrayBuffer()]),
    say: kernel.say,
  });
  const hero = heroOf(
    tables,
    {
      called,
      kept: () => model.get("patch"),
      choose: (patch) => choose("patch", patch),
      repaint,
      failed(text) {
        failure = text;
        repaint();
      },
    },
    { above: labelled("Method", method, source), below: labelled("Opacity", opacity) },
  );
  const trust = trustOf(tables, alone, {
    called,
    check: () => send({ kind: "check" }),
    mark(patches) {
      marked = patches;
      repaint();
    },
    repaint,
  });
  const tabs = tabsOf(model, data, BUILDS, { open: (view) => ask("tab", view), choose });
  const status = element("div", { class: "status", "aria-live": "polite" });
  const share = element("progress", { max: 1, "aria-label": "Share done" });
  const stop = button("stop", "Stop");
  const work = element("div", { class: "work" }, status, share, stop);
  const top = element("div", { class: "upper" }, element("div", { class: "rail" }, gallery.node, answer.node));
  const heading = element("div", { class: "heading" }, title, lead, error);
  const kind = `explorer${data.live ? " live" : ""}${data.view ? " of-one-view" : ""}`;
  const node = element("div", { class: kind }, heading, top, tabs.node, work);
  if (data.view) heading.replaceChildren(error);
  else top.append(hero.node, trust.node);
  root.append(node);

  function paint() {
    /** @type {ExplorerShown | { scores?: undefined, target?: undefined, method?: undefined }} */
    const shown = model.get("shown");
    const busy = model.get("busy");
    const waiting = Boolean(busy) || kernel.waiting();
    const there = shown.scores !== undefined;
    // nothing to show is better than the map of another class
    for (const node of [answer.node, hero.node, trust.node, tabs.node]) node.hidden = !there;
    gallery.paint(there ? shown : {}, model.get("gallery"), model.get("picture"));
    if (there) paintMap(shown, waiting);
    else {
      write(title, "Nothing to show");
      write(lead, "");
    }
    tabs.paint(there ? shown : null, waiting);
    const said = [failure, model.get("note"), model.get("error")].filter(Boolean).join(" ");
    const news = said !== error.textContent && said !== "";
    write(error, said);
    error.hidden = !said;
    if (news) error.scrollIntoView({ block: "nearest" }); // whoever chose something further down has to see it
    paintWork(busy);
    root.dataset.painted = [
      model.get("picture"),
      shown.target,
      shown.method,
      model.get("tab"),
      Boolean(busy),
      there && hero.ready(),
    ].join(" ");
  }

  /**
   * @param {ExplorerShown} shown
   * @param {boolean} waiting
   */
  function paintMap(shown, waiting) {
    const { dark } = theme();
    const layer = shown.growth ? model.get("layer") : null;
    const partial = layer !== null && layer < shown.layers - 1;
    const found = model.get("trust");
    hero.paint(shown, { patch: model.get("patch"), layer, opacity: model.get("opacity"), marked, dark });
    const values = hero.valuesAt(layer);
    const after = partial ? `${soFar(values, hero.whole(), layer, shown.layers)} ` : "";
    write(lead, after + inWords(values, shown, shown.specific ? nameOf(shown) : ""));
    const asked = shown.unit === "none" && shown.target !== null ? `this value of ${shown.explained}` : nameOf(shown);
    if (title.textContent !== `Why ${asked}?`) title.replaceChildren("Why ", element("b", {}, asked), "?");
    write(source, data.titles[shown.method]?.source ?? "");
    answer.paint(shown, model.get("target"));
    trust.paint(shown, found, partial ? layer : null, waiting, dark);
    top.classList.toggle("waiting", waiting);
  }

  /** @param {string} busy */
  function paintWork(busy) {
    const part = model.get("progress") ?? 0;
    const done = part > 0 ? ` ${Math.round(100 * part)} %` : "";
    write(status, busy ? `Working: ${busy} …${done}` : kernel.said);
    work.hidden = !status.textContent;
    share.hidden = !busy;
    if (part > 0) share.value = part;
    else share.removeAttribute("value");
    stop.hidden = !busy;
  }

  bind(method, "method", { model, follow, choose: ask });
  bind(opacity, "opacity", { model, follow, choose });
  const traits = ["picture", "target", "tab", "busy", "progress", "error", "note", "gallery", "shown", "trust"];
  for (const trait of [...traits, "patch", "layer", "head"]) follow(trait);
  for (const view of Object.keys(BUILDS)) follow(`_${view}`);
  stop.addEventListener("click", () => {
    try {
      model.send({ kind: "stop" });
    } catch {
      // there is no kernel any more to be stopped
    }
  });
  return {
    paint,
    close() {
      kernel.close();
      gallery.close();
      tabs.close();
    },
  };
}

/** Views play whether one or several views of the explorer are open. @param {{ model: Model }} given */
function initialize({ model }) {
  const source = sourceOf(model);
  const ends = Object.entries(PLAYING).map(([view, play]) => {
    const part = partOf(source, view);
    const end = play({ model: part });
    return () => {
      end();
      part.close();
    };
  });
  return () => {
    for (const end of ends) end();
  };
}

export default widget("TokenTM explorer", build, initialize);

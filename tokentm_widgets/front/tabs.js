// The views as tabs, of which only the open one is there, and what is chosen in all of them.

import { assign, element, write } from "./dom.js";
import { where } from "./grid.js";
import { partOf } from "./part.js";
import { mount } from "./view.js";

/** @import { ExplorerData, ExplorerShown } from "./schema.d.ts" */
/** @import { Build, Model } from "./types.d.ts" */

/** The views that take TokenTM apart, whatever method the large map is by. */
const OF_TOKENTM = ["layers", "paths"];

let panels = 0; // every explorer needs names of its own for what its tabs control

/**
 * @param {Model} model
 * @param {ExplorerData} data
 * @param {Record<string, Build>} builds
 * @param {{ open: (view: string | null) => void, choose: (trait: string, value: unknown) => void }} to
 */
export function tabsOf(model, data, builds, { open, choose }) {
  panels += 1;
  const id = `tokentm-views-${panels}`;
  const names = Object.keys(data.views);
  const tabs = names.map((name) => {
    const attributes = { type: "button", role: "tab", name, id: `${id}-${name}`, "aria-controls": id, tabindex: -1 };
    return element("button", attributes, data.views[name]);
  });
  const list = element("div", { role: "tablist", "aria-label": "Views" }, ...tabs);
  const chips = element("div", { class: "chips", role: "group", "aria-label": "Chosen" });
  const panel = element("div", { class: "panel", role: "tabpanel", id, tabindex: 0 });
  const always = element("p", { class: "small quiet" });
  const node = element("section", { class: "views" }, element("div", { class: "tabs" }, list, chips), always, panel);
  /** What is open, and on which data. @type {{ name: string, data: object, close: () => void } | null} */
  let opened = null;
  let chosen = "";

  for (const tab of tabs)
    tab.addEventListener("click", () => open(isOpen(tab.name) && !data.offline ? null : tab.name));
  const isOpen = (/** @type {string} */ name) => model.get("tab") === name;
  list.addEventListener("keydown", (event) => {
    const at = tabs.indexOf(/** @type {HTMLButtonElement} */ (event.target));
    const to = /** @type {Record<string, number>} */ ({
      ArrowLeft: at - 1,
      ArrowRight: at + 1,
      Home: 0,
      End: tabs.length - 1,
    })[event.key];
    if (to === undefined || at < 0) return;
    const next = tabs[(to + tabs.length) % tabs.length];
    event.preventDefault();
    next.focus();
    open(next.name);
  });

  function close() {
    if (!opened) return;
    panel.style.minHeight = `${panel.offsetHeight}px`; // what is below stays where it is until the next one is there
    opened.close();
    opened = null;
    panel.replaceChildren();
  }

  /**
   * @param {string | null} name
   * @param {boolean} busy
   */
  function paintPanel(name, busy) {
    const sent = name === null ? {} : (model.get(`_${name}`) ?? {});
    const there = Object.keys(sent).length > 0;
    if (opened && (opened.name !== name || opened.data !== sent)) close();
    if (name && there && !opened) {
      const part = partOf(model, name);
      const place = element("div");
      panel.replaceChildren(place);
      const end = mount({ model: part, el: place }, {}, data.views[name], builds[name]);
      opened = {
        name,
        data: sent,
        close() {
          end();
          part.close();
        },
      };
      panel.style.minHeight = "";
    }
    if (opened) return;
    const why = name ? model.get("_data").parts?.[name]?.why : "";
    const text = why || (busy && name ? "" : name ? "" : "Open a view of this map:");
    if (name === null && !busy) panel.style.minHeight = "";
    if (panel.dataset.said === `${text} ${name}`) return;
    panel.dataset.said = `${text} ${name}`;
    panel.replaceChildren(
      ...(text && !name ? [element("dl", { class: "small quiet" }, ...names.flatMap(described))] : [text]),
    );
  }

  const described = (/** @type {string} */ name) => [
    element("dt", {}, data.views[name]),
    element("dd", {}, data.says[name]),
  ];

  /** @param {ExplorerShown} shown */
  function paintChips(shown) {
    const [patch, layer, head] = ["patch", "layer", "head"].map((name) => model.get(name));
    const now = JSON.stringify([shown.explained, patch, layer, head, shown.layers, shown.heads]);
    if (now === chosen) return;
    chosen = now;
    const focused = /** @type {HTMLElement | null} */ (chips.ownerDocument.activeElement)?.dataset?.lets;
    chips.replaceChildren(
      element("span", { class: "quiet" }, "Chosen:"),
      chip(shown.explained, null, true),
      patch === null ? chip("all patches", null, false) : chip(where(patch, shown), "patch", true),
      layer === null ? chip(`all ${shown.layers} layers`, null, false) : chip(`layer ${layer + 1}`, "layer", true),
      head === null ? chip(`all ${shown.heads} heads`, null, false) : chip(`head ${head + 1}`, "head", true),
    );
    if (focused) (chips.querySelector("button") ?? tabs.find((tab) => tab.tabIndex === 0))?.focus();
  }

  /**
   * @param {string} text
   * @param {string | null} trait that × clears
   * @param {boolean} on
   */
  function chip(text, trait, on) {
    const made = element("span", { class: on ? "chip" : "chip all" }, text);
    if (trait === null) return made;
    const clear = element("button", { type: "button", "data-lets": trait, "aria-label": `Clear ${text}` }, "×");
    clear.addEventListener("click", () => choose(trait, null));
    made.append(clear);
    return made;
  }

  return {
    node,
    close,
    /**
     * @param {ExplorerShown | null} shown
     * @param {boolean} busy
     */
    paint(shown, busy) {
      const name = model.get("tab") ?? null;
      for (const [i, tab] of tabs.entries()) {
        assign(tab, "aria-selected", tab.name === name);
        tab.tabIndex = tab.name === name || (name === null && i === 0) ? 0 : -1;
      }
      if (name) assign(panel, "aria-labelledby", `${id}-${name}`);
      else panel.removeAttribute("aria-labelledby");
      if (name === null) assign(panel, "aria-label", "Views");
      else panel.removeAttribute("aria-label");
      if (shown) paintChips(shown);
      const own = shown && name && OF_TOKENTM.includes(name) && !shown.method.startsWith("tokentm");
      write(always, own ? "This view takes TokenTM apart, whatever the method of the map above." : "");
      paintPanel(shown ? name : null, busy);
    },
  };
}

// An exported page: what a widget needs of a model, without a kernel to ask; its state in the address, and what helps to
// share it. See export.py for what stands in the page.

import { asked, unsaid, written } from "./address.js";
import { fitFrame } from "./framed.js";
import { snapshot } from "./snapshot.js";

/** @import { Model } from "./types.d.ts" */
/** @import { Choice, State } from "./address.js" */

/** Milliseconds between two changes of the address: browsers refuse many in a short time. */
const PAUSE = 300;

/** @param {string} id */
const textOf = (id) => document.getElementById(id)?.textContent ?? "";

/**
 * The page's binary data, packed by zlib and written in base64.
 * @param {string} text
 */
function unpacked(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
}

/**
 * The traits, and who listens to them.
 * @param {State} state
 * @param {() => void} changed
 */
function modelOf(state, changed) {
  /** @type {Record<string, (() => void)[]>} */
  const listeners = {};
  /** @type {Model} */
  const model = {
    get: (name) => state[name],
    set(name, value) {
      if (state[name] === value) return;
      state[name] = value;
      for (const listener of [...(listeners[`change:${name}`] ?? [])]) listener();
      changed();
    },
    save_changes() {},
    send() {},
    on(event, listener) {
      listeners[event] ??= [];
      listeners[event].push(listener);
    },
    off(event, listener) {
      listeners[event] = (listeners[event] ?? []).filter((one) => one !== listener);
    },
  };
  return { model, listeners };
}

/**
 * Keeps the state in the address, a little after it has changed.
 * @param {State} state
 * @param {State} initial
 * @param {Record<string, Choice>} choices
 */
function addressOf(state, initial, choices) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let waiting;
  const write = () => {
    clearTimeout(waiting);
    waiting = undefined;
    const hash = written((name) => state[name], initial, choices);
    if (hash === location.hash.replace("#", "")) return;
    try {
      history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
    } catch {
      // a page inside another that has no address of its own
    }
  };
  return {
    write,
    changed() {
      waiting ??= setTimeout(write, PAUSE);
    },
  };
}

/**
 * "Copy picture" and "Copy link", and what came of it.
 * @param {HTMLElement} footer
 * @param {HTMLElement} main
 * @param {() => void} beforeLink
 * @param {() => boolean} hasOwn whether its reader's own picture is shown, which no link can hold
 */
function sharing(footer, main, beforeLink, hasOwn) {
  const said = document.createElement("output");
  /**
   * @param {string} text
   * @param {() => Promise<string>} act gives what is said
   */
  const button = (text, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.addEventListener("click", async () => {
      said.textContent = await act().catch((error) => `That did not work: ${error.message}`);
    });
    return made;
  };
  footer.append(
    button("Copy picture", () => copyPicture(main)),
    button("Copy link", async () => {
      beforeLink();
      try {
        await navigator.clipboard.writeText(location.href);
        if (hasOwn()) return "The link is copied. It opens this page without your picture, which stays with you.";
        return location.protocol === "file:"
          ? "The link is copied. It opens this file as you see it; to others, send the file, too."
          : "The link is copied; it opens this page as you see it.";
      } catch {
        return "The browser does not let this page copy: take the link from the address bar.";
      }
    }),
    said,
  );
}

/** @param {HTMLElement} main */
async function copyPicture(main) {
  const picture = snapshot(main);
  try {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
    return "The picture is copied.";
  } catch {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await picture);
    link.download = "picture.png";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    return "The browser does not let this page copy pictures: it is saved as picture.png instead.";
  }
}

/**
 * @param {(address: string) => Promise<any>} load how a module is loaded, which only the page's own script can say
 */
async function openPage(load) {
  const main = /** @type {HTMLElement} */ (document.querySelector("main"));
  if (!globalThis.DecompressionStream) {
    main.textContent = "This page needs a browser of 2023 or newer.";
    return;
  }
  const data = await unpacked(textOf("bytes"));
  /** @type {State} */
  const initial = JSON.parse(textOf("state"), (_name, value) =>
    value?.$bytes === undefined ? value : new DataView(data, value.$bytes[0], value.$bytes[1]),
  );
  /** @type {Record<string, Choice>} */
  const choices = JSON.parse(textOf("choices"));
  const state = { ...initial, ...asked(location.hash, choices) };
  const address = addressOf(state, initial, choices);
  const { model, listeners } = modelOf(state, address.changed);
  addEventListener("hashchange", () => {
    const wanted = { ...initial, ...asked(location.hash, choices) };
    for (const name of Object.keys(choices)) model.set(name, wanted[name]);
  });

  const [first, length] = JSON.parse(textOf("module")).$bytes;
  const module = URL.createObjectURL(new Blob([new DataView(data, first, length)], { type: "text/javascript" }));
  const widget = (await load(module)).default();
  URL.revokeObjectURL(module);
  const stop = widget.initialize?.({ model });
  // an object of its own for every view, as in Jupyter
  const show = (/** @type {HTMLElement} */ el) => widget.render({ model: Object.create(model), el });
  const close = show(main);
  const footer = document.querySelector("footer");
  if (footer) sharing(footer, main, address.write, () => unsaid((name) => state[name], choices).includes("picture"));
  if (window.parent !== window) fitFrame(window.parent);
  Object.assign(globalThis, { tokentm: { model, listeners, show, stop, close } });
}

export default openPage;

// A first walk through a widget: some steps, each of which shows a part and says what it is.

import { button } from "./controls.js";
import { element, write } from "./dom.js";

/** @typedef {{ at: () => HTMLElement, says: string }} Stop */

/**
 * Offered at first sight, and again by a button; the browser remembers that it was taken or declined.
 * @param {string} name under which it is remembered
 * @param {Stop[]} stops
 */
export function tour(name, stops) {
  const said = element("p", { "aria-live": "polite" });
  const [next, end] = [button("next", "Next"), button("end", "Not now")];
  const node = element("div", { class: "tour", role: "group", "aria-label": "Tour" }, said, next, end);
  const again = button("tour", "Tour", `A walk of ${stops.length} steps`);
  /** @type {number | null} */
  let at = null;
  node.hidden = remembered(name);

  const light = (/** @type {number | null} */ to) => {
    node.classList.toggle("walking", to !== null);
    if (at !== null) stops[at].at().classList.remove("lit");
    at = to;
    if (at === null) return;
    stops[at].at().classList.add("lit");
    stops[at].at().scrollIntoView({ block: "center", behavior: "smooth" });
  };
  const invite = () => {
    write(said, `New here? ${stops.length} steps show how to read this.`);
    write(next, "Show me");
    end.hidden = false;
    write(end, "Not now");
  };
  const go = (/** @type {number} */ to) => {
    node.hidden = false;
    light(to);
    write(said, `${to + 1} of ${stops.length}. ${stops[to].says}`);
    write(next, to + 1 < stops.length ? "Next" : "Done");
    write(end, "End tour");
    end.hidden = to + 1 === stops.length;
  };
  const close = () => {
    light(null);
    node.hidden = true;
    remember(name);
  };
  next.addEventListener("click", () => {
    const to = at === null ? 0 : at + 1;
    if (to < stops.length) go(to);
    else close();
  });
  end.addEventListener("click", close);
  again.addEventListener("click", () => {
    go(0);
    next.focus();
  });
  invite();
  return { node, again };
}

/** Pages from files and strict hosts may keep nothing: then the tour is offered again. @param {string} name */
function remembered(name) {
  try {
    return localStorage.getItem(name) !== null;
  } catch {
    return false;
  }
}

/** @param {string} name */
function remember(name) {
  try {
    localStorage.setItem(name, "seen");
  } catch {
    // offered again next time, which harms nobody
  }
}

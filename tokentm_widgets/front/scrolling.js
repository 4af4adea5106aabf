// A box of its own for what may be wider than its place: it scrolls sideways, and says so where it does.

import { assign, element } from "./dom.js";

/** @import { Child } from "./dom.js" */

/**
 * @param {string} label what is in it, to be read out
 * @param {(width: number) => void} resized hears of the box's width
 * @param {Child[]} children
 */
export function scrolling(label, resized, ...children) {
  const box = element("div", { class: "scrolls", role: "group", "aria-label": label }, ...children);
  const hint = element("p", { class: "hint" }, "Wider than this place: scroll or swipe it sideways →");
  hint.hidden = true;
  const node = element("div", { class: "scrolling" }, box, hint);

  function look() {
    const wide = box.scrollWidth > box.clientWidth + 1;
    if (hint.hidden === wide) hint.hidden = !wide;
    // what scrolls must be reached by keys; what does not is no stop on the way
    if (wide) assign(box, "tabindex", 0);
    else box.removeAttribute("tabindex");
    const left = box.scrollWidth - box.clientWidth - box.scrollLeft;
    node.classList.toggle("more", wide && left > 1);
  }

  const sizes = new ResizeObserver(() => {
    if (!box.clientWidth) return; // nobody sees it
    resized(box.clientWidth);
    look();
  });
  sizes.observe(box);
  box.addEventListener("scroll", look, { passive: true });
  return { node, box, look, close: () => sizes.disconnect() };
}

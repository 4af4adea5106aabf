// What the model sees, and what else it may be shown: the gallery, and pictures of the reader's own by a click, dropped
// or pasted.

import { press } from "./controls.js";
import { assign, element, write } from "./dom.js";
import { pictureInput } from "./picture_input.js";

/** @import { ExplorerShown } from "./schema.d.ts" */
/** @typedef {{ name: string, url: string }} Entry */

/** Bytes of a file that can be sent. */
const LARGEST = 20 * 2 ** 20;

/**
 * @param {HTMLElement} root where files may be dropped and pasted
 * @param {boolean} alone whether there is nobody to ask about another picture
 * @param {"first" | "also" | "not"} invited whether a picture of one's own is what the page is for, or cannot be taken
 * @param {{ ask: (picture: number) => void, send: (file: File) => void, say: (text: string) => void }} to
 */
export function galleryOf(root, alone, invited, { ask, send, say }) {
  const seen = element("img", { class: "seen", alt: "The picture as the model sees it" });
  const note = element("p", { class: "small quiet" });
  const file = element("input", { type: "file", name: "upload", accept: "image/*", class: "spoken" });
  const own = element("label", { class: "own", title: "A picture of your own: click, drop it here, or paste it" });
  own.classList.toggle("inviting", invited === "first");
  own.append(
    element("span", { "aria-hidden": "true" }, "+"),
    element("span", { class: invited === "first" ? "" : "spoken" }, "Your picture"),
    file,
  );
  const thumbs = element("div", { class: "thumbs", role: "group", "aria-label": "Gallery" });
  const node = element("section", { class: "gallery" }, element("h3", {}, "What the model sees"), seen, note);
  if (!alone) node.append(thumbs);
  /** @type {unknown} */
  let drawnFor = null;

  /** @param {File} chosen */
  function take(chosen) {
    if (invited === "first" || chosen.size <= LARGEST)
      return Promise.resolve(send(chosen)).catch(() => say(`${chosen.name} could not be read: choose it again.`));
    const [size, most] = [Math.ceil(chosen.size / 2 ** 20), LARGEST / 2 ** 20];
    say(`${chosen.name} has ${size} MB; a picture of at most ${most} MB can be sent.`);
  }

  const end = alone
    ? () => {}
    : pictureInput(root, file, invited === "first", {
        take,
        over: (on) => root.classList.toggle("dropping", on),
      });
  return {
    node,
    close: end,
    /**
     * @param {ExplorerShown | { picture?: undefined, note?: undefined }} shown
     * @param {Entry[]} pictures
     * @param {number} pressed
     */
    paint(shown, pictures, pressed) {
      seen.hidden = !shown.picture;
      if (shown.picture && seen.getAttribute("src") !== shown.picture) assign(seen, "src", shown.picture);
      write(note, shown.note ?? "");
      note.hidden = !shown.note;
      if (drawnFor !== pictures) {
        drawnFor = pictures;
        const focused = [...thumbs.children].indexOf(/** @type {Element} */ (root.ownerDocument.activeElement));
        thumbs.replaceChildren(...pictures.map(thumb), ...(invited === "not" ? [] : [own]));
        /** @type {HTMLElement | undefined} */ (thumbs.children[focused])?.focus();
      }
      for (const [i, one] of [...thumbs.querySelectorAll("button")].entries()) press(one, i === pressed);
    },
  };

  /**
   * @param {Entry} picture
   * @param {number} i
   */
  function thumb({ name, url }, i) {
    const made = element("button", { type: "button", title: name }, element("img", { src: url, alt: name }));
    made.addEventListener("click", () => ask(i));
    return made;
  }
}

// What the model sees, and what else it may be shown: the gallery, and pictures of the reader's own by a click, dropped
// or pasted.

import { press } from "./controls.js";
import { assign, element, write } from "./dom.js";

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
  /** @type {(() => void)[]} */
  const ends = [];
  /** @type {unknown} */
  let drawnFor = null;

  /** @param {File | null | undefined} chosen */
  function take(chosen) {
    if (!chosen) return;
    if (invited === "first" || chosen.size <= LARGEST)
      return Promise.resolve(send(chosen)).catch(() => say(`${chosen.name} could not be read: choose it again.`));
    const [size, most] = [Math.ceil(chosen.size / 2 ** 20), LARGEST / 2 ** 20];
    say(`${chosen.name} has ${size} MB; a picture of at most ${most} MB can be sent.`);
  }

  /** @param {DataTransfer | null} given */
  const pictureIn = (given) => [...(given?.files ?? [])].find((one) => one.type.startsWith("image/"));
  const dragged = (/** @type {boolean} */ over) => root.classList.toggle("dropping", over);
  if (!alone) {
    file.addEventListener("change", () => {
      take(file.files?.[0]);
      file.value = "";
    });
    root.addEventListener("dragover", (event) => {
      if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
      event.preventDefault();
      dragged(true);
    });
    root.addEventListener("dragleave", () => dragged(false));
    root.addEventListener("drop", (event) => {
      event.preventDefault();
      dragged(false);
      const [first] = event.dataTransfer?.files ?? [];
      if (first && !pictureIn(event.dataTransfer)) return say(`${first.name} is no picture: drop a PNG, JPEG or WebP.`);
      take(pictureIn(event.dataTransfer));
    });
    // a page that computes has nothing else that could be meant; a notebook has
    const where = invited === "first" ? root.ownerDocument : root;
    const pasted = (/** @type {Event} */ event) => take(pictureIn(/** @type {ClipboardEvent} */ (event).clipboardData));
    where.addEventListener("paste", pasted);
    ends.push(() => where.removeEventListener("paste", pasted));
  }
  return {
    node,
    close() {
      for (const end of ends) end();
    },
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

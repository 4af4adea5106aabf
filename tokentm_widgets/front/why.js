// "?": what a panel means, with the numbers of one patch put in. One is open at a time; Escape closes it.

import { assign, element } from "./dom.js";

/** @import { Child } from "./dom.js" */

let notes = 0; // every note needs a name of its own for its button

/**
 * Notes that open under what they are about.
 * @param {HTMLElement} root
 * @param {() => void} changed
 */
export function notesOf(root, changed) {
  /** @type {{ button: HTMLButtonElement, note: HTMLElement } | null} */
  let open = null;

  function close(back = false) {
    if (!open) return;
    const { button, note } = open;
    open = null;
    note.hidden = true;
    assign(button, "aria-expanded", false);
    if (back) button.focus();
    changed();
  }

  root.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !open) return;
    event.stopPropagation();
    close(true);
  });
  root.addEventListener("pointerdown", (event) => {
    const at = /** @type {Node} */ (event.target);
    if (open && !open.note.contains(at) && !open.button.contains(at)) close();
  });
  return {
    close,
    /**
     * A note and its button; `fill` writes it whenever it is open and something has changed.
     * @param {string} title
     * @param {() => Child[]} fill
     */
    about(title, fill) {
      notes += 1;
      const note = element("div", { class: "note", id: `tokentm-note-${notes}`, role: "region", "aria-label": title });
      note.hidden = true;
      const button = element(
        "button",
        {
          type: "button",
          class: "why",
          "aria-expanded": "false",
          "aria-controls": note.id,
          "aria-label": `What is ${title}?`,
        },
        "?",
      );
      button.addEventListener("click", () => {
        const again = open?.button === button;
        close();
        if (again) return;
        open = { button, note };
        note.hidden = false;
        assign(button, "aria-expanded", true);
        changed();
        requestAnimationFrame(() => note.scrollIntoView({ block: "nearest", behavior: "smooth" }));
      });
      return {
        button,
        note,
        draw() {
          if (open?.note === note) note.replaceChildren(.../** @type {(Node | string)[]} */ (fill()));
        },
      };
    },
  };
}

/**
 * A table of numbers.
 * @param {string[]} head
 * @param {(string | number)[][]} rows the first of each names it
 */
export const tableOf = (head, rows) =>
  element(
    "table",
    {},
    element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))),
    element(
      "tbody",
      {},
      ...rows.map(([name, ...cells]) =>
        element("tr", {}, element("th", { scope: "row" }, name), ...cells.map((cell) => element("td", {}, cell))),
      ),
    ),
  );

// The shelf of drawings: a click puts one on the table, and so does dragging it there.

import { contextOf, element } from "./dom.js";

/** @typedef {[x: number, y: number]} Point in pixels of the scene */
/**
 * @typedef {object} To
 * @property {(k: number, at: Point | null) => boolean} add a drawing of a class; whether there was room
 * @property {(at: Point) => void} move the drawing that was just added
 * @property {(event: MouseEvent) => Point | null} pointOf where on the scene, if there
 */

/** How far a pointer goes before it drags. */
const FAR = 8;

/**
 * @param {string[]} classes
 * @param {To} to
 */
export function shelfOf(classes, { add, move, pointOf }) {
  const canvases = classes.map(() => element("canvas", { width: 76, height: 76 }));
  const buttons = classes.map((name, k) => {
    const made = element("button", { type: "button", "aria-label": `Add: ${name}` }, canvases[k], name);
    /** Where it was taken, and whether it lies on the table by now. @type {{ x: number, y: number, laid: boolean } | null} */
    let held = null;
    let dragged = false;
    made.addEventListener("click", () => {
      if (!dragged) add(k, null);
      dragged = false;
    });
    made.addEventListener("pointerdown", ({ clientX: x, clientY: y, button, pointerId, pointerType }) => {
      if (button !== 0) return;
      if (pointerType === "mouse") made.setPointerCapture(pointerId); // a finger may still scroll the shelf
      held = { x, y, laid: false };
      dragged = false;
    });
    made.addEventListener("pointermove", (event) => {
      if (!held || (!held.laid && Math.hypot(event.clientX - held.x, event.clientY - held.y) < FAR)) return;
      made.setPointerCapture(event.pointerId);
      const at = pointOf(event);
      if (!at) return;
      if (held.laid) return move(at);
      held.laid = add(k, at);
      dragged = true;
      if (!held.laid) held = null;
    });
    for (const name of ["pointerup", "pointercancel"])
      made.addEventListener(name, () => {
        held = null;
      });
    return made;
  });
  const node = element("div", { class: "shelf", role: "group", "aria-label": "Add a drawing" }, ...buttons);
  return {
    node,
    buttons,
    /** @param {(k: number) => HTMLCanvasElement} firstOf the first drawing of a class */
    fill(firstOf) {
      for (const [k, canvas] of canvases.entries()) contextOf(canvas).drawImage(firstOf(k), 0, 0, 76, 76);
    },
  };
}

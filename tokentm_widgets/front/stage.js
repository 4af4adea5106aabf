// The table's stage: drawings under the hand and the keys, and a brush that takes patches away.

import { assign, element, shareOf, write } from "./dom.js";
import { range } from "./numbers.js";
import { acted, changed, keyed, pulled } from "./placing.js";
import { SIZE } from "./scene_drawing.js";
import { ACROSS } from "./table_painting.js";
import { whereabouts } from "./table_words.js";

/** @import { Act, Lying } from "./placing.js" */
/** @import { Placed } from "./scene_drawing.js" */
/** @typedef {[x: number, y: number]} Point in pixels of the scene */
/**
 * @typedef {object} To
 * @property {() => Placed[]} objects
 * @property {(objects: Placed[]) => void} place
 * @property {() => boolean} taking whether patches are taken away
 * @property {() => number[]} gone
 * @property {(patches: number[], back: boolean) => void} take
 * @property {(sprite: string) => string} another of the same class
 * @property {(sprite: string) => string} called
 * @property {() => void} repaint
 * @property {() => void} emptied the last drawing went, and the focus with it
 */

/** Where the handle of a drawing is: by its corner, as far as that is on the scene. @param {Placed} placed @returns {Point} */
function cornerOf({ x, y, size, angle }) {
  const turn = (angle * Math.PI) / 180 + Math.PI / 4;
  const reach = size / Math.SQRT2;
  const within = (/** @type {number} */ value) => Math.min(SIZE - HANDLE, Math.max(HANDLE, value));
  return [within(x + reach * Math.cos(turn)), within(y + reach * Math.sin(turn))];
}
/** How far the handle stays from the edge, in pixels of the scene. */
const HANDLE = 3;

/** @param {Point} point */
const patchAt = ([x, y]) => {
  const [column, row] = [x, y].map((value) => Math.min(ACROSS - 1, Math.max(0, Math.floor((value / SIZE) * ACROSS))));
  return row * ACROSS + column;
};

/** Patches under a stroke from one point to another. @param {Point} from @param {Point} to */
export function stroke(from, to) {
  const steps = Math.max(1, Math.ceil((Math.hypot(to[0] - from[0], to[1] - from[1]) / SIZE) * ACROSS * 2));
  const found = range(steps + 1).map((i) =>
    patchAt([from[0] + ((to[0] - from[0]) * i) / steps, from[1] + ((to[1] - from[1]) * i) / steps]),
  );
  return [...new Set(found)];
}

/** @type {Record<string, [row: number, column: number]>} */
const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

/** @param {string} key @param {number} patch */
export function steppedTo(key, patch) {
  if (!Object.hasOwn(ARROWS, key)) return null;
  const [row, column] = [Math.floor(patch / ACROSS) + ARROWS[key][0], (patch % ACROSS) + ARROWS[key][1]];
  return Math.min(ACROSS - 1, Math.max(0, row)) * ACROSS + Math.min(ACROSS - 1, Math.max(0, column));
}

const LABEL =
  "The scene. Tab to a drawing; arrow keys move it, plus and minus resize it, comma and full stop turn it, Delete removes it.";

/** @param {To} to */
export function stageOf(to) {
  const canvas = element("canvas", { "aria-hidden": "true" });
  const drawings = element("div", { class: "drawings" });
  const cursor = element("button", { type: "button", class: "cursor spoken" });
  const corner = element("i", { class: "corner", hidden: true });
  const hinted = element("div", { class: "hint" });
  const tip = element("div", { class: "tip", hidden: true });
  const node = element(
    "div",
    { class: "stage", role: "group", "aria-label": LABEL },
    canvas,
    drawings,
    corner,
    cursor,
    hinted,
    tip,
  );
  let selected = -1;
  let patch = Math.floor(ACROSS / 2) * (ACROSS + 1);
  /** Fingers on the stage. @type {Map<number, Point>} */
  const fingers = new Map();
  /**
   * What the hand does: the drawing as it was taken, or the brush.
   * @type {{ from: Placed, grip: "move" | "corner" | "pinch", at: Point[] } | { back: boolean, last: Point } | null}
   */
  let held = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let fading;

  /** @param {MouseEvent} event @returns {Point} */
  const at = (event) => {
    const [x, y] = shareOf(event, canvas);
    return [x * SIZE, y * SIZE];
  };
  const lying = () => ({ objects: to.objects(), selected });
  /** @param {Lying} next */
  function lay(next) {
    const same = next.objects === to.objects();
    selected = next.selected;
    if (same) to.repaint();
    else to.place(next.objects);
  }
  const buttons = () => /** @type {HTMLElement[]} */ ([...drawings.children]);

  /** @param {Act} act */
  function doIt(act) {
    lay(acted(lying(), act, to.another));
    if (act === "remove") {
      if (to.objects().length) focusLater = true;
      else to.emptied();
    }
    if (act === "front") focusLater = true;
  }
  /** The buttons of drawings follow in the next painting; the focus goes there then. */
  let focusLater = false;

  node.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const point = at(event);
    fingers.set(event.pointerId, point);
    if (to.taking()) {
      event.preventDefault();
      node.setPointerCapture(event.pointerId);
      patch = patchAt(point);
      cursor.focus({ preventScroll: true });
      held = { back: to.gone().includes(patch), last: point };
      to.take([patch], held.back);
      return;
    }
    const all = to.objects();
    if (fingers.size === 2 && all[selected]) {
      event.preventDefault();
      node.setPointerCapture(event.pointerId);
      held = { from: all[selected], grip: "pinch", at: [...fingers.values()] };
      return;
    }
    const target = /** @type {Element} */ (event.target);
    const button = target === corner ? buttons()[selected] : target.closest(".drawing");
    if (!button) {
      selected = -1;
      to.repaint();
      return;
    }
    event.preventDefault();
    selected = buttons().indexOf(/** @type {HTMLElement} */ (button));
    node.setPointerCapture(event.pointerId);
    /** @type {HTMLElement} */ (button).focus({ preventScroll: true });
    held = { from: all[selected], grip: target === corner ? "corner" : "move", at: [point] };
    hint("", 0);
    to.repaint();
  });
  node.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const point = at(event);
    fingers.set(event.pointerId, point);
    if (!held) return;
    if ("back" in held) {
      to.take(stroke(held.last, point), held.back);
      patch = patchAt(point);
      held.last = point;
      placeTip(event);
      return;
    }
    const now = held.grip === "pinch" ? [...fingers.values()] : [point];
    if (now.length < held.at.length) return;
    lay(changed(lying(), pulled(held.from, held.grip, held.at, now)));
  });
  for (const name of /** @type {const} */ (["pointerup", "pointercancel", "lostpointercapture"]))
    node.addEventListener(name, (event) => {
      if (!fingers.delete(event.pointerId)) return;
      held = null;
      to.repaint();
    });
  node.addEventListener("pointerleave", () => {
    tip.hidden = true;
  });
  node.addEventListener(
    "wheel",
    (event) => {
      if (to.taking() || !(/** @type {Element} */ (event.target).closest(".drawing.selected"))) return;
      event.preventDefault();
      doIt(event.deltaY < 0 ? "bigger" : "smaller");
    },
    { passive: false },
  );
  drawings.addEventListener("focusin", (event) => {
    const found = buttons().indexOf(/** @type {HTMLElement} */ (event.target));
    if (found < 0 || found === selected) return;
    selected = found;
    to.repaint();
  });
  drawings.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const next = keyed(lying(), event, to.another);
    if (!next) return;
    event.preventDefault();
    hint("", 0);
    const fewer = next.objects.length < to.objects().length;
    focusLater = fewer || next.selected !== selected;
    lay(next);
    if (fewer && !next.objects.length) to.emptied();
  });
  cursor.addEventListener("keydown", (event) => {
    const next = steppedTo(event.key, patch);
    if (next !== null) patch = next;
    else if (event.key === " " || event.key === "Enter") to.take([patch], to.gone().includes(patch));
    else return;
    event.preventDefault();
    to.repaint();
  });
  for (const name of ["focus", "blur"]) cursor.addEventListener(name, to.repaint);

  /** @param {MouseEvent} event */
  function placeTip(event) {
    const box = node.getBoundingClientRect();
    tip.style.left = `${Math.min(box.width - 160, event.clientX - box.left + 14)}px`;
    tip.style.top = `${Math.max(4, event.clientY - box.top - 48)}px`;
  }

  /**
   * A word above the scene; nothing takes it away.
   * @param {string} text
   * @param {number} milliseconds until it goes; 0 for good
   */
  function hint(text, milliseconds = 2600) {
    clearTimeout(fading);
    if (text) write(hinted, text);
    hinted.classList.toggle("faded", !text);
    if (text && milliseconds) fading = setTimeout(() => hinted.classList.add("faded"), milliseconds);
  }

  return {
    node,
    canvas,
    hint,
    act: doIt,
    selected: () => selected,
    /** @param {number} k */
    select(k) {
      selected = k;
    },
    /** Where an event is, in pixels of the scene; null outside. @param {MouseEvent} event @returns {Point | null} */
    pointOf(event) {
      const [x, y] = at(event);
      return x > 0 && y > 0 && x < SIZE && y < SIZE ? [x, y] : null;
    },
    /** The patch that keys would take, where they reach the scene. */
    cursor: () => (to.taking() && cursor.ownerDocument.activeElement === cursor ? patch : null),
    /** Beside the brush: what was just measured. @param {string[]} lines */
    say(lines) {
      const painting = held !== null && "back" in held;
      tip.hidden = !painting || !lines.length;
      if (painting) tip.replaceChildren(...lines.map((line) => element("div", {}, line)));
    },
    close: () => clearTimeout(fading),
    /** @param {(patch: number) => string} valued what the map says of a patch, in words */
    paint(valued) {
      const [objects, taking] = [to.objects(), to.taking()];
      if (selected >= objects.length) selected = objects.length - 1;
      if (taking) selected = -1;
      node.classList.toggle("taking", taking);
      node.classList.toggle("dragging", held !== null && "grip" in held && held.grip === "move");
      while (drawings.children.length > objects.length) drawings.lastChild?.remove();
      while (drawings.children.length < objects.length)
        drawings.append(element("button", { type: "button", class: "drawing" }));
      for (const [i, one] of buttons().entries()) {
        const { x, y, size, angle, sprite } = objects[i];
        const [left, top, side] = [x - size / 2, y - size / 2, size].map((value) => `${(100 * value) / SIZE}%`);
        one.style.cssText = `left: ${left}; top: ${top}; width: ${side}; height: ${side}; transform: rotate(${angle}deg)`;
        one.classList.toggle("selected", i === selected);
        assign(one, "aria-label", whereabouts(objects[i], to.called(sprite), SIZE));
      }
      const one = objects[selected];
      corner.hidden = !one || (held !== null && "grip" in held && held.grip === "move");
      if (one) {
        const [x, y] = cornerOf(one).map((value) => `${(100 * value) / SIZE}%`);
        corner.style.cssText = `left: ${x}; top: ${y}`;
      }
      cursor.tabIndex = taking ? 0 : -1;
      cursor.hidden = !taking;
      const place = `Row ${Math.floor(patch / ACROSS) + 1}, column ${(patch % ACROSS) + 1}`;
      const does = to.gone().includes(patch) ? "It is gone; Space puts it back." : "Space takes it away.";
      assign(cursor, "aria-label", `${place}${valued(patch)}. ${does}`);
      if (focusLater) buttons()[selected]?.focus({ preventScroll: true });
      focusLater = false;
    },
  };
}

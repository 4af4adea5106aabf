// The patches that drive a class, each in its piece of the picture with a ring around it: pressed to see the picture.

import { press } from "./controls.js";
import { assign, element } from "./dom.js";
import { aspectOf, shiftOf, where } from "./grid.js";

/** @import { DrivenData } from "./schema.d.ts" */
/** @import { Grid } from "./types.d.ts" */

/**
 * Where a patch's token looks, in shares of the piece that is shown around it: left, top, width, height.
 * @param {Pick<DrivenData, "patch" | "window">} one
 * @param {Grid} grid
 */
export function ringOf({ patch, window: [top, left, height, width] }, grid) {
  const [down, right] = shiftOf(grid);
  const [row, column] = [Math.floor(patch / grid.columns) + down, (patch % grid.columns) + right];
  return [(column - left) / width, (row - top) / height, 1 / width, 1 / height];
}

/**
 * Width over height of a piece.
 * @param {Pick<DrivenData, "window">} one
 * @param {Grid} grid
 */
export const shapeOf = ({ window: [, , height, width] }, grid) =>
  (width * grid.rows) / (height * grid.columns * aspectOf(grid));

/** How much of the strongest patch's contribution. @param {number} share */
export const ofStrongest = (share) => `${Math.round(100 * share)} %`;

/**
 * @param {Grid} grid
 * @param {(rank: number) => void} choose
 */
export function drivingGallery(grid, choose) {
  const node = element("div", { class: "driving", role: "group" });
  /** @type {HTMLButtonElement[]} */
  let buttons = [];
  /** @type {DrivenData[] | null} */
  let drawn = null;

  node.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const to = buttons.indexOf(/** @type {HTMLButtonElement} */ (event.target)) + step;
    if (!buttons[to]) return;
    buttons[to].focus();
    choose(to);
  });

  /**
   * @param {DrivenData} one
   * @param {number} rank
   */
  function buttonOf(one, rank) {
    const ring = element("i");
    const [x, y, w, h] = ringOf(one, grid).map((share) => `${(100 * share).toFixed(2)}%`);
    ring.style.cssText = `left: ${x}; top: ${y}; width: ${w}; height: ${h}`;
    const picture = element("img", { src: one.crop, alt: "" });
    picture.style.aspectRatio = String(shapeOf(one, grid));
    const label = `${rank + 1}: ${one.source}, ${where(one.patch, grid)}, ${ofStrongest(one.ofLargest)}`;
    const made = element(
      "button",
      { type: "button", "data-rank": rank, "aria-label": label, title: label },
      element("span", { class: "piece rings" }, picture, ring),
      element("span", { class: "share" }, ofStrongest(one.ofLargest)),
    );
    made.addEventListener("click", () => choose(rank));
    return made;
  }

  return {
    node,
    /**
     * @param {DrivenData[]} driving
     * @param {string} name
     * @param {number} rank
     */
    draw(driving, name, rank) {
      if (drawn !== driving) {
        drawn = driving;
        buttons = driving.map(buttonOf);
        node.replaceChildren(...buttons);
        assign(node, "aria-label", `Patches that contribute most to ${name}, the strongest first`);
      }
      for (const [k, one] of buttons.entries()) {
        press(one, k === rank);
        one.tabIndex = k === rank ? 0 : -1;
      }
    },
  };
}

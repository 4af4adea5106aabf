// Four small maps of the scene beside each other: each adds something to the one before, the last says what.

import { glow, ramp } from "./colours.js";
import { press } from "./controls.js";
import { contextOf, element, write } from "./dom.js";
import { MUCH_LESS, mute, paintHoles, paintMap } from "./table_painting.js";
import { MAPS, percent } from "./table_words.js";

/** @import { Maps } from "./table_asking.js" */

/** Side of a small map in its pixels. */
export const LITTLE = 224;

/**
 * @param {{ colours: Uint8Array, differences: Uint8Array }} tables
 * @param {(method: string) => void} choose
 */
export function mapsOf(tables, choose) {
  const title = element("h3");
  const bar = element("i");
  bar.style.background = ramp(tables.colours, 0.92, glow);
  const each = Object.entries(MAPS).map(([method, { title: called, what }]) => {
    const canvas = element("canvas", { width: LITTLE, height: LITTLE, "data-map": method });
    const [value, on, level] = [element("b"), element("span"), element("i")];
    const said = element("span", { class: "value" }, value, on);
    const track = element("span", { class: "track" }, level);
    const button = element(
      "button",
      { type: "button", name: "map", "data-value": method },
      canvas,
      element("span", {}, element("strong", {}, called), element("span", { class: "what" }, what), said, track),
    );
    button.addEventListener("click", () => choose(method));
    return { method, canvas, value, on, level, said, track, button };
  });
  const legend = element("span", { class: "tiny legend" }, "little", bar, "much");
  const node = element(
    "section",
    { class: "why" },
    element("div", { class: "head" }, title, legend),
    element(
      "div",
      { class: "maps", role: "group", "aria-label": "The map on the scene" },
      ...each.map((one) => one.button),
    ),
  );
  return {
    node,
    /**
     * @param {Maps} maps
     * @param {string} name what is asked about
     * @param {string} chosen
     * @param {((map: Float32Array) => number) | null} shareOf of a map on the object; null where none is seen
     * @param {CanvasImageSource} scene
     * @param {number[]} gone
     */
    paint(maps, name, chosen, shareOf, scene, gone) {
      write(title, `Why ${name}?`);
      for (const { method, canvas, value, on, level, said, track, button } of each) {
        const context = contextOf(canvas);
        context.imageSmoothingQuality = "high";
        context.drawImage(scene, 0, 0, LITTLE, LITTLE);
        mute(context, LITTLE, MUCH_LESS);
        const signed = method === "difference";
        paintMap(context, LITTLE, maps[method], signed ? tables.differences : tables.colours, signed);
        paintHoles(context, LITTLE, gone);
        press(button, method === chosen);
        const share = shareOf && !signed ? shareOf(maps[method]) : null;
        said.hidden = share === null;
        track.hidden = signed;
        track.style.visibility = share === null ? "hidden" : "";
        if (share === null) continue;
        write(value, percent(share));
        if (on.dataset.name !== name) {
          on.dataset.name = name;
          on.replaceChildren(element("span", { class: "long" }, " of it lies"), ` on the ${name}`);
        }
        level.style.transform = `scaleX(${share.toFixed(4)})`;
      }
    },
  };
}

// What the model says: every class with its probability, in an order that stays. A class is chosen to ask why.

import { press } from "./controls.js";
import { assign, element, write } from "./dom.js";
import { percent } from "./table_words.js";

/** Below this a probability is only a dot. */
const HARDLY = 0.005;

/**
 * @param {string[]} classes
 * @param {(k: number | null) => void} choose a class; null for the model's answer
 */
export function answerOf(classes, choose) {
  const rows = classes.map((name, k) => {
    const [called, bar, number] = [
      element("span", { class: "called" }, name),
      element("i"),
      element("span", { class: "number" }, "·"),
    ];
    const button = element(
      "button",
      { type: "button", name: "class" },
      called,
      element("span", { class: "track" }, bar),
      number,
    );
    button.addEventListener("click", () => choose(button.getAttribute("aria-pressed") === "true" ? null : k));
    return { called, bar, number, button };
  });
  const back = element("button", { type: "button", class: "link", name: "back" }, "back to its answer");
  back.addEventListener("click", () => choose(null));
  const list = element("ul", { class: "classes" }, ...rows.map(({ button }) => element("li", {}, button)));
  const node = element(
    "section",
    { class: "answers" },
    element("div", { class: "head" }, element("h3", {}, "The model says"), back),
    list,
    element("p", { class: "tiny" }, "Choose a class to ask why. Underlined: on the table."),
  );
  return {
    node,
    /**
     * @param {Float32Array} odds
     * @param {number} asked which class is asked about
     * @param {boolean} chosen whether it was chosen
     * @param {(k: number) => boolean} there whether a class is on the table
     */
    paint(odds, asked, chosen, there) {
      for (const [k, { called, bar, number, button }] of rows.entries()) {
        bar.style.transform = `scaleX(${odds[k].toFixed(4)})`;
        write(number, odds[k] < HARDLY ? "·" : percent(odds[k]));
        called.classList.toggle("there", there(k));
        press(button, k === asked);
        assign(button, "aria-label", `${classes[k]}, ${percent(odds[k])}${there(k) ? ", on the table" : ""}`);
      }
      back.hidden = !chosen;
    },
  };
}

// The model's answer: its classes as bars that are buttons, the others by search.

import { barsOf, entry, found, listed, suggested } from "./classes.js";
import { button, press } from "./controls.js";
import { assign, element, write } from "./dom.js";
import { floats, number, percent } from "./numbers.js";

/** @import { ExplorerData, ExplorerShown } from "./schema.d.ts" */

/** What the answer is called, one of its numbers, and the one explained by itself. */
const WORDS = /** @type {Record<string, string[]>} */ ({
  softmax: ["The model's answer", "class", "classes", "The predicted class"],
  probabilities: ["The model's answer", "class", "classes", "The predicted class"],
  sigmoid: ["The model's answer: independent labels", "label", "labels", "The most probable label"],
  none: ["The model's outputs", "output", "outputs", "The largest output"],
});
let lists = 0; // every view needs a name of its own for its list of classes

/** A small probability is written as small. @param {number} value */
const odds = (value) => (value > 0 && value < 0.0005 ? "< 0.1 %" : percent(value));

/**
 * @param {ExplorerData} data
 * @param {(target: number | string | null) => void} ask
 * @param {(text: string) => void} say
 */
export function answerOf(data, ask, say) {
  const { offline } = data;
  lists += 1;
  const heading = element("h3");
  const hint = element("p", { class: "small quiet" });
  const classes = element("div", { class: "answers" });
  const suggestions = element("datalist", { id: `tokentm-classes-${lists}` });
  const search = element("input", {
    type: "text",
    name: "target",
    list: suggestions.id,
    "aria-label": "Find a class",
    autocomplete: "off",
  });
  const predicted = button("predicted", "", "Explain whatever the model predicts, also for the next picture");
  const more = element("div", { class: "find" }, search, suggestions, predicted);
  const node = element("section", { class: "answer" }, heading, hint, classes, more);
  /** @type {HTMLButtonElement[]} */
  let chips = [];
  /** @type {ExplorerShown | null} */
  let drawnFor = null;

  /**
   * @param {number | string} target
   * @param {string} text
   * @param {string} title
   * @param {string} value
   * @param {Node[]} bar
   */
  function chip(target, text, title, value, bar) {
    const track = element("span", { class: "lane" }, ...bar);
    const attributes = { type: "button", "data-class": target, title };
    const name = element("span", { class: "name" }, text);
    const made = element("button", attributes, name, track, element("span", { class: "odds" }, value));
    made.addEventListener("click", () => ask(target));
    return made;
  }

  /** @param {ExplorerShown} shown */
  function draw(shown) {
    const { unit, target } = shown;
    const values = floats(shown.values);
    const alone = values.length === 1;
    const order = offline
      ? offline.offered.flatMap((one) => (one.target === null ? [] : [one.target]))
      : listed(unit, target, values);
    const bars = barsOf(
      unit,
      order.map((c) => values[c]),
    );
    const written = unit === "none" ? number : odds;
    chips = order.map((c, i) =>
      chip(c, data.classes[c], entry(data.classes, c), written(values[c]), barNodes(bars[i], values[c] < 0)),
    );
    if (data.chosen !== null && (!offline || target === null)) {
      const value = target === null ? number(shown.score) : "";
      chips.unshift(chip(data.chosen, data.chosen, "The function of the logits that was given", value, []));
    }
    const [title, one, several, best] = WORDS[unit];
    write(heading, alone && unit === "sigmoid" ? "The model's answer: yes / no" : title);
    const some =
      unit === "none" && order.length < values.length ? ` Those farthest from zero, of ${values.length}.` : "";
    write(
      hint,
      alone && data.chosen === null
        ? ""
        : `Choose ${one === "output" ? "an" : "a"} ${one} to see what speaks for it.${some}`,
    );
    write(predicted, best);
    assign(search, "placeholder", `Find one of ${values.length} ${several}`);
    search.hidden = alone || Boolean(offline);
    predicted.hidden = !data.predicts || Boolean(offline) || (alone && data.chosen === null);
    classes.replaceChildren(...chips);
  }

  const suggest = () => {
    const wanted = suggested(search.value, data.classes, data.chosen);
    suggestions.replaceChildren(
      ...wanted.map((c) => element("option", { value: typeof c === "string" ? c : entry(data.classes, c) })),
    );
  };
  suggest();
  search.addEventListener("input", () => {
    assign(search, "aria-invalid", false);
    suggest();
  });
  search.addEventListener("change", () => {
    const wanted = search.value.trim();
    if (!wanted) return;
    const target = found(wanted, data.classes, data.chosen);
    assign(search, "aria-invalid", target === -1);
    if (target === -1)
      return say(`There is no class ${wanted}: choose one of the ${data.classes.length} from the list.`);
    search.value = "";
    suggest();
    ask(target);
  });
  predicted.addEventListener("click", () => ask(null));
  return {
    node,
    /**
     * @param {ExplorerShown} shown
     * @param {number | string | null} asked
     */
    paint(shown, asked) {
      if (drawnFor !== shown) {
        drawnFor = shown;
        const focused = /** @type {HTMLElement | null} */ (node.ownerDocument.activeElement);
        const again = classes.contains(focused) ? focused?.dataset.class : undefined;
        draw(shown);
        if (again !== undefined) chips.find((one) => one.dataset.class === again)?.focus();
      }
      for (const one of chips) press(one, one.dataset.class === String(shown.target ?? data.chosen));
      press(predicted, asked === null);
    },
  };
}

/**
 * A class's bar, and where zero is.
 * @param {ReturnType<typeof barsOf>[number]} bar
 * @param {boolean} below
 */
function barNodes({ left, width, zero }, below) {
  const bar = element("i", { class: below ? "fill below" : "fill" });
  bar.style.left = `${100 * left}%`;
  bar.style.width = `${100 * width}%`;
  if (zero === null) return [bar];
  const line = element("i", { class: "zero" });
  line.style.left = `${100 * zero}%`;
  return [bar, line];
}

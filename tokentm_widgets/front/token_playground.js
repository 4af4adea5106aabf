// Tokens E and their transformed tokens T as arrows on a disc: tips are dragged, and the weight's formula follows.

import { bind, button, choices, labelled } from "./controls.js";
import { disc, pointAt } from "./disc.js";
import { assign, element, write } from "./dom.js";
import { headed } from "./headed.js";
import { ACTIONS, advice, fixed, hindrance, measure, placed, stepped } from "./pairs.js";
import { widget } from "./view.js";
import { COLUMNS, formula, shares, weightsTable } from "./weights.js";

/** @import { Tip } from "./disc.js" */
/** @import { Kind, Measured, Pairs, Point } from "./pairs.js" */
/** @import { TokenPlaygroundData } from "./schema.d.ts" */
/** @import { Build } from "./types.d.ts" */

/** The traits that hold the points. */
const TRAITS = { E: "tokens", T: "transformed" };

/**
 * All numbers of a pair, to be read out.
 * @param {Measured} row
 * @param {number} n
 */
const spokenOf = (row, n) =>
  `Pair ${n + 1}: ${COLUMNS.slice(2)
    .map(([name, title, digits]) => `${title} ${fixed(row[name], digits)}`)
    .join(", ")}.`;

/**
 * How the weight comes about, in a sentence.
 * @param {Measured} row
 */
const inBrief = ({ ratio, necc, weight }) =>
  `T is ${fixed(ratio, 2)} times as long as E, and its direction counts ${fixed(necc, 3)}: ` +
  `together they weigh ${fixed(weight, 3)}.`;

/** @type {Build} */
export function build(root, tools) {
  const { model, choose, repaint, follow } = tools;
  /** @type {TokenPlaygroundData} */
  const { limit, shortest, initial } = model.get("_data");
  const count = initial.tokens.length;
  const plane = disc(count, limit);
  const numbers = weightsTable(count, (n) => choose("chosen", n));
  const strip = shares(count);
  const normaliser = choices("normaliser", ["sum over tokens", "mean over tokens"], ["sum", "mean"]);
  const whose = element("b");
  const buttons = ACTIONS.map(([name, text, hint]) => button(name, text, hint));
  const reset = button("reset", "Start over", "The arrows as they were at first");
  const head = headed();
  const shown = element("div");
  const said = element("div", { class: "status" });
  const spoken = element("div", { class: "spoken", "aria-live": "polite" });
  root.append(
    head.node,
    element(
      "div",
      { class: "controls" },
      element("span", { class: "actions" }, whose, ...buttons),
      labelled("Direction (NECC)", normaliser),
      reset,
    ),
    element(
      "div",
      { class: "playground" },
      element(
        "figure",
        {},
        plane.node,
        element(
          "p",
          { class: "quiet" },
          "Drag a tip, or press Tab to reach it and arrow keys to move it; Shift makes larger steps.",
        ),
      ),
      element("div", { class: "main" }, shown, element("div", { class: "shares" }, numbers.node), strip.node, said),
    ),
    spoken,
  );
  /** The tip in the hand: which, by which pointer, how far beside it. @type {{ tip: Tip, pointer: number, beside: Point } | null} */
  let held = null;

  /** @returns {Pairs} */
  const pairs = () => ({ E: model.get("tokens"), T: model.get("transformed") });

  /**
   * Both lists in one task, so that nobody sees E turned and T not yet.
   * @param {number} n
   * @param {Partial<Record<Kind, Point>>} points
   */
  function place(n, points) {
    for (const [kind, point] of Object.entries(points)) {
      const trait = TRAITS[/** @type {Kind} */ (kind)];
      choose(
        trait,
        model.get(trait).map((/** @type {Point} */ old, /** @type {number} */ k) => (k === n ? point : old)),
      );
    }
  }

  /**
   * @param {Tip} tip
   * @param {Point} wish
   */
  function move({ kind, n }, wish) {
    const before = pairs()[kind][n];
    const point = placed(wish, before, kind === "E" ? shortest : 0, limit);
    if (point[0] !== before[0] || point[1] !== before[1]) place(n, { [kind]: point });
  }

  function paint() {
    const now = pairs();
    /** @type {[number, string]} */
    const [chosen, by] = [model.get("chosen"), model.get("normaliser")];
    const rows = measure(now.E, now.T, by);
    plane.draw(now, rows, chosen);
    plane.node.classList.toggle("held", held !== null);
    shown.replaceChildren(formula(rows[chosen], chosen, by));
    numbers.draw(rows, chosen);
    strip.draw(rows, chosen, by);
    head.write(["How pair ", String(chosen + 1), " gets its weight"], [inBrief(rows[chosen])]);
    write(said, advice(rows, chosen, by));
    write(whose, `Pair ${chosen + 1}:`);
    for (const [k, [name, , hint]] of ACTIONS.entries()) {
      const why = hindrance(name, now.T[chosen], { limit, shortest });
      assign(buttons[k], "aria-disabled", why !== "");
      buttons[k].title = why || hint;
    }
    // spoken when the hand has come to rest, not for every place passed over
    if (held === null) write(spoken, spokenOf(rows[chosen], chosen));
    root.dataset.painted = JSON.stringify([now.E, now.T, chosen, by]);
  }

  // ---- the user's hands ----

  plane.node.addEventListener("pointerdown", (event) => {
    const at = plane.placeOf(event);
    const tip = event.button === 0 && held === null ? plane.nearest(at, model.get("chosen")) : null;
    if (!tip) return;
    event.preventDefault(); // no text is selected on the way
    tip.node.focus({ preventScroll: true });
    plane.node.setPointerCapture(event.pointerId);
    held = { tip, pointer: event.pointerId, beside: [tip.at[0] - at[0], tip.at[1] - at[1]] };
    repaint();
  });
  plane.node.addEventListener("pointermove", (event) => {
    if (held === null || event.pointerId !== held.pointer) return;
    const [x, y] = plane.placeOf(event);
    move(held.tip, pointAt([x + held.beside[0], y + held.beside[1]]));
  });
  plane.node.addEventListener("lostpointercapture", () => {
    held = null;
    repaint();
  });
  for (const tip of plane.tips) {
    // a finger on a tip does not scroll the page; touch-action would have to cover the whole drawing
    tip.node.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    tip.node.addEventListener("focus", () => {
      if (model.get("chosen") !== tip.n) choose("chosen", tip.n);
    });
    tip.node.addEventListener("keydown", (event) => {
      const to = stepped(event, pairs()[tip.kind][tip.n]);
      if (!to) return;
      event.preventDefault();
      move(tip, to);
    });
  }
  for (const [k, [name, , , act]] of ACTIONS.entries())
    buttons[k].addEventListener("click", () => {
      const n = model.get("chosen");
      const { E, T } = pairs();
      if (!hindrance(name, T[n], { limit, shortest })) place(n, act(E[n], T[n]));
    });
  reset.addEventListener("click", () => {
    choose("tokens", initial.tokens);
    choose("transformed", initial.transformed);
  });
  bind(normaliser, "normaliser", tools);
  for (const trait of ["tokens", "transformed", "chosen"]) follow(trait);
  return { paint };
}

export default widget("TokenTM token playground", build);

// The plane of the playground: rings a unit of length apart, arrows, and on their tips what is grabbed.

import { hue } from "./colours.js";
import { assign, drawing, shareOf } from "./dom.js";
import { range } from "./numbers.js";
import { degrees, fixed, scaled } from "./pairs.js";

/** @import { Kind, Measured, Pairs, Point } from "./pairs.js" */
/** @typedef {{ kind: Kind, n: number, node: SVGGElement, at: Point }} Tip */

const [SIZE, UNIT] = [440, 66]; // the view box, and how much of it is one unit of length
const REACH = 16; // how near to a tip it can be grabbed
const WEDGE = 36; // the radius at which the angle between E and T is drawn
const MIDDLE = SIZE / 2;
/** @type {Kind[]} */
const KINDS = ["E", "T"];
const SPOKEN = { E: "Token E", T: "Transformed token T" };

/** @param {Point} point @returns {Point} */
const place = ([x, y]) => [MIDDLE + UNIT * x, MIDDLE - UNIT * y];

/** The point of the plane at a place of the view box. @param {Point} place @returns {Point} */
export const pointAt = ([x, y]) => [(x - MIDDLE) / UNIT, (MIDDLE - y) / UNIT];

/**
 * @param {number} count
 * @param {number} limit
 */
export function disc(count, limit) {
  const hidden = { "aria-hidden": "true" }; // the handles and the table say it in words
  const [ground, arrows, handles] = [groundOf(limit), drawing("g", hidden), drawing("g")];
  const node = drawing(
    "svg",
    {
      viewBox: `0 0 ${SIZE} ${SIZE}`,
      role: "group",
      "data-panel": "plane",
      "aria-label": "Arrows from the origin: tokens E solid, transformed tokens T dashed",
    },
    ground,
    arrows,
    handles,
  );
  const tips = range(count).flatMap((n) => KINDS.map((kind) => handle(kind, n, limit)));
  handles.append(...tips.map((tip) => tip.node));
  return {
    node,
    tips,
    /**
     * @param {Pairs} pairs
     * @param {Measured[]} rows
     * @param {number} chosen
     */
    draw(pairs, rows, chosen) {
      const others = range(count).filter((n) => n !== chosen);
      arrows.replaceChildren(
        ...others.map((n) => pair(pairs, n, false)),
        angle(pairs, chosen, rows[chosen]),
        pair(pairs, chosen, true),
      );
      for (const tip of tips) {
        const point = pairs[tip.kind][tip.n];
        const [x, y, length] = [...point, Math.hypot(...point)].map((value) => fixed(value, 2));
        tip.at = place(point);
        assign(tip.node, "transform", `translate(${tip.at.map((v) => v.toFixed(2))})`);
        assign(tip.node, "aria-valuenow", x.replace("−", "-"));
        assign(tip.node, "aria-valuetext", `x ${x}, y ${y}, length ${length}`);
      }
    },
    /** Where in the view box a pointer is. @param {MouseEvent} event */
    placeOf: (event) => shareOf(event, node).map((share) => share * SIZE),
    /**
     * The tip grabbed there: the nearest; of several on one another that of the chosen pair, T by its small head and E
     * by what shows around it.
     * @param {Point} at
     * @param {number} chosen
     * @returns {Tip | null}
     */
    nearest([x, y], chosen) {
      /** @type {[Tip | null, number]} */
      let [found, least] = [null, REACH];
      for (const tip of tips) {
        const away = Math.hypot(tip.at[0] - x, tip.at[1] - y);
        const preferred = (tip.n === chosen ? 0.1 : 0) + (tip.kind === (away < 6 ? "T" : "E") ? 0.05 : 0);
        if (away - preferred < least) [found, least] = [tip, away - preferred];
      }
      return found;
    },
  };
}

/**
 * @param {Kind} kind
 * @param {number} n
 * @param {number} limit
 * @returns {Tip}
 */
function handle(kind, n, limit) {
  const attributes = {
    class: "handle",
    tabindex: 0,
    role: "slider",
    "data-handle": `${kind} ${n}`,
    "aria-roledescription": "2-D slider",
    "aria-label": `${SPOKEN[kind]} of pair ${n + 1}`,
    "aria-valuemin": -limit,
    "aria-valuemax": limit,
  };
  return { kind, n, node: drawing("g", attributes, drawing("circle", { r: REACH })), at: [0, 0] };
}

/** Axes, rings and legend. @param {number} limit */
function groundOf(limit) {
  const ground = drawing("g", { "aria-hidden": "true" });
  for (const axis of [
    [1, 0],
    [0, 1],
  ]) {
    const [[x1, y1], [x2, y2]] = [-limit, limit].map((end) => place(scaled(axis, end)));
    ground.append(drawing("line", { class: "axis faint", x1, y1, x2, y2 }));
  }
  for (const radius of range(Math.floor(limit)).map((k) => k + 1)) {
    const [, y] = place([0, -radius]);
    const weight = radius === limit ? "axis" : "axis faint";
    ground.append(
      drawing("circle", { class: weight, cx: MIDDLE, cy: MIDDLE, r: UNIT * radius }),
      drawing("text", { class: "quiet halo", x: MIDDLE + 4, y: y - 4 }, radius),
    );
  }
  ground.append(
    drawing(
      "g",
      { stroke: "var(--ink)", "stroke-width": 2, fill: "none" },
      ...legend("E", "token", SIZE - 26, "", "var(--ink)"),
      ...legend("T", "transformed", SIZE - 8, "7 5", "var(--paper)"),
    ),
  );
  return ground;
}

/**
 * @param {Kind} letter
 * @param {string} name
 * @param {number} y
 * @param {string} dash
 * @param {string} fill
 */
const legend = (letter, name, y, dash, fill) => [
  drawing("line", { x1: 4, x2: 30, y1: y - 4, y2: y - 4, "stroke-dasharray": dash }),
  drawing("path", { d: `M40,${y - 4} l-11,-4.5 v9 Z`, fill, "stroke-width": 1.5 }),
  drawing("text", { x: 46, y, stroke: "none" }, `${letter} ${name}`),
];

/**
 * @param {Pairs} pairs
 * @param {number} n
 * @param {boolean} chosen
 */
function pair(pairs, n, chosen) {
  const [e, t] = [pairs.E[n], pairs.T[n]];
  const side = e[0] * t[1] - e[1] * t[0] >= 0 ? 1 : -1; // which way it is from E to T: names stand on the outside
  return drawing(
    "g",
    { "data-pair": n, stroke: hue(n), fill: "none", class: chosen ? "chosen" : "" },
    ...arrow("E", n, e, -side, chosen),
    ...arrow("T", n, t, side, chosen),
  );
}

/**
 * @param {Kind} kind
 * @param {number} n
 * @param {Point} point
 * @param {number} side
 * @param {boolean} chosen
 */
function arrow(kind, n, point, side, chosen) {
  const [x, y] = place(point);
  const length = Math.hypot(...point);
  const [ux, uy] = length === 0 ? [0, 1] : [point[0] / length, -point[1] / length]; // along it, on the screen
  const name = drawing(
    "text",
    {
      class: "halo",
      x: x + 12 * ux + 16 * side * uy,
      y: y + 12 * uy - 16 * side * ux + 4,
      "text-anchor": "middle",
      stroke: "none",
    },
    kind,
    drawing("tspan", { dy: 3 }, n + 1),
  );
  if (length === 0) return [drawing("circle", { cx: x, cy: y, r: 5, fill: "var(--paper)", "stroke-width": 2 }), name];
  const [long, half] = { E: chosen ? [21, 9.5] : [17, 7.5], T: chosen ? [13, 5] : [11, 4.5] }[kind];
  const [bx, by] = [x - ux * long, y - uy * long];
  const thin = chosen ? 2.5 : 1.8;
  const shaft = (/** @type {Record<string, string | number>} */ attributes) =>
    drawing("line", { x1: MIDDLE, y1: MIDDLE, x2: bx, y2: by, "stroke-width": thin, ...attributes });
  const shafts =
    kind === "E"
      ? [shaft({ "stroke-width": 2 * thin })]
      : [shaft({ stroke: "var(--paper)" }), shaft({ "stroke-dasharray": "7 5" })]; // T shows also where it lies on E
  const head = drawing("path", {
    "stroke-linejoin": "round",
    "stroke-width": kind === "E" ? 1 : 2,
    d: `M${x},${y} L${bx - uy * half},${by + ux * half} L${bx + uy * half},${by - ux * half} Z`,
    fill: kind === "E" ? hue(n) : "var(--paper)",
  });
  return [...(UNIT * length > long ? shafts : []), head, name];
}

/**
 * The angle whose cosine counts, and that cosine in the corner that the disc leaves free.
 * @param {Pairs} pairs
 * @param {number} n
 * @param {Pick<Measured, "to" | "cosine">} row
 */
function angle(pairs, n, { to, cosine }) {
  if (to === 0) return "";
  const [from, until] = [pairs.E[n], pairs.T[n]].map(([x, y]) => Math.atan2(y, x));
  const turn = Math.atan2(Math.sin(until - from), Math.cos(until - from));
  const on = (/** @type {number} */ at) => place(scaled([Math.cos(at), Math.sin(at)], WEDGE / UNIT));
  const d = `M${MIDDLE},${MIDDLE} L${on(from)} A${WEDGE},${WEDGE} 0 0 ${turn > 0 ? 0 : 1} ${on(until)} Z`;
  return drawing(
    "g",
    {},
    drawing("path", { class: "wedge", d, fill: hue(n), stroke: hue(n) }),
    drawing("text", { class: "corner", x: 4, y: 18 }, `cos ${degrees(cosine)} = ${fixed(cosine, 2)}`),
  );
}

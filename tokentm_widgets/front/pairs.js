// Tokens E and their transformed tokens T as numbers: the formula, as in tokentm/transformation.py, and where a tip may be.

/** @typedef {number[]} Point [x, y] */
/** @typedef {"E" | "T"} Kind */
/** @typedef {Record<Kind, Point[]>} Pairs */
/** @typedef {ReturnType<typeof measure>[number]} Measured */
/** @typedef {{ limit: number, shortest: number }} Bounds */

const GRID = 20; // moves by hand end on whole multiples of 1/20: T can be laid exactly on E
const TURN = Math.PI / 12;

/**
 * @param {Point[]} tokens
 * @param {Point[]} transformed
 * @param {string} normaliser
 */
export function measure(tokens, transformed, normaliser) {
  const rows = tokens.map(([x, y], n) => {
    const [tx, ty] = transformed[n];
    const [from, to] = [Math.hypot(x, y), Math.hypot(tx, ty)];
    const cosine = to > 0 ? Math.min(1, Math.max(-1, (x * tx + y * ty) / (from * to))) : 0;
    return { from, to, ratio: to / from, cosine };
  });
  const { values, below } = necc(
    rows.map((row) => row.cosine),
    normaliser,
  );
  return rows.map((row, n) => ({ ...row, below, necc: values[n], weight: row.ratio * values[n] }));
}

/**
 * @param {number[]} cosines
 * @param {string} normaliser
 */
export function necc(cosines, normaliser) {
  const raised = cosines.map(Math.exp);
  const below = raised.reduce((sum, value) => sum + value, 0) / (normaliser === "sum" ? 1 : raised.length);
  return { values: raised.map((value) => value / below), below };
}

/**
 * The least and the most that NECC can be among so many tokens: one against its E and all others along theirs, and the
 * other way round.
 * @param {number} count
 * @param {string} normaliser
 */
export const bounds = (count, normaliser) =>
  [-1, 1].map((own) => necc([own, ...Array(count - 1).fill(-own)], normaliser).values[0]);

/**
 * @param {Point} point
 * @param {number} factor
 */
export const scaled = ([x, y], factor) => [x * factor, y * factor];

/**
 * @param {Point} point
 * @param {number} angle
 */
export const turned = ([x, y], angle) => [
  x * Math.cos(angle) - y * Math.sin(angle),
  x * Math.sin(angle) + y * Math.cos(angle),
];

/**
 * The place nearest to a wish: on the disc, and E never so short that it has no length to divide by.
 * @param {Point} wish
 * @param {Point} before
 * @param {number} shortest
 * @param {number} limit
 */
export function placed(wish, before, shortest, limit) {
  const point = wish.map((value) => Math.round(value * GRID) / GRID + 0); // + 0 takes the sign off a zero
  const length = Math.hypot(...point);
  if (length > limit) return scaled(point, limit / length);
  if (length >= shortest) return point;
  const towards = length > 0 ? point : before;
  return scaled(towards, shortest / Math.hypot(...towards));
}

/**
 * What the buttons do with the chosen pair: name, text, hint, and the new points.
 * @type {[string, string, string, (e: Point, t: Point) => Partial<Record<Kind, Point>>][]}
 */
export const ACTIONS = [
  ["same", "T = E", "Lay T on E: length ratio 1, cosine 1", (e) => ({ T: [...e] })],
  ["reverse", "Reverse T", "Same length, opposite direction", (_, t) => ({ T: scaled(t, -1) })],
  ["double", "Double T", "Same direction, twice the length", (_, t) => ({ T: scaled(t, 2) })],
  ["halve", "Halve T", "Same direction, half the length", (_, t) => ({ T: scaled(t, 0.5) })],
  ["turn", "Turn T 15°", "Same length, another direction", (_, t) => ({ T: turned(t, TURN) })],
  [
    "both",
    "Turn both 15°",
    "E and T together, as a rotation of the space does",
    (e, t) => ({ E: turned(e, TURN), T: turned(t, TURN) }),
  ],
];

/**
 * Why an action on T cannot be done now, or nothing.
 * @param {string} name
 * @param {Point} t
 * @param {Bounds} bounds
 */
export function hindrance(name, t, { limit, shortest }) {
  const length = Math.hypot(...t);
  if (length === 0 && name !== "same" && name !== "both") return "T has no length";
  if (name === "double" && 2 * length > limit * (1 + 1e-9)) return "T would leave the plane";
  return name === "halve" && length < 2 * shortest ? "T is short already" : "";
}

/**
 * @param {number} value
 * @param {number} digits
 */
export function fixed(value, digits) {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
}

/** @param {number} cosine */
export const degrees = (cosine) => `${Math.round((Math.acos(cosine) * 180) / Math.PI)}°`;

/**
 * What would raise or lower the weight of a pair.
 * @param {Pick<Measured, "ratio" | "cosine" | "to">[]} rows
 * @param {number} n
 * @param {string} normaliser
 */
export function advice(rows, n, normaliser) {
  const { ratio, cosine, to } = rows[n];
  if (to === 0)
    return "T has no length: it has no direction either, its cosine counts as 0, and W is 0. Any length raises W.";
  const now =
    `T is ${fixed(ratio, 2)} times as long as E and ${degrees(cosine)} away from it. ` +
    "A longer T raises W in proportion, a longer E lowers it.";
  if (rows.length === 1) return `${now} A token alone has NECC 1, whatever the direction.`;
  const [against, along] = [-1, 1].map((own) => {
    const cosines = rows.map((row, k) => (k === n ? own : row.cosine));
    return ratio * necc(cosines, normaliser).values[n];
  });
  return (
    `${now} Turning T alone moves W between ${fixed(against, 3)} (against E) and ${fixed(along, 3)} ` +
    "(along E). W falls when another T turns towards its own E, for all share in one NECC."
  );
}

/**
 * The next round number, so that bars stand still while a weight moves below it.
 * @param {number} value
 */
export function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, value)));
  return [1, 2, 5, 10].map((times) => times * power).find((end) => end >= value) ?? Infinity;
}

/**
 * Where an arrow key moves a tip; undefined for any other key.
 * @param {{ key: string, shiftKey: boolean }} event
 * @param {Point} point
 */
export function stepped({ key, shiftKey }, [x, y]) {
  const moves = /** @type {Record<string, Point>} */ ({
    ArrowLeft: [-1, 0],
    ArrowRight: [1, 0],
    ArrowUp: [0, 1],
    ArrowDown: [0, -1],
  });
  if (!Object.hasOwn(moves, key)) return undefined;
  const step = shiftKey ? 0.5 : 0.1;
  return [x + moves[key][0] * step, y + moves[key][1] * step];
}

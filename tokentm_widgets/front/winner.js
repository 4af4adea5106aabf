// Who finds what the model reads: in whose order the first curve falls half of its way the soonest, or the latest.

import { curveOf } from "./film.js";
import { range } from "./numbers.js";

/** @import { Data } from "./film.js" */
/** @typedef {{ name: string, gone: number | null }} Fallen */

/**
 * Where half of the way is: half of a probability; of a score, the middle between the whole picture and none of it.
 * Nothing where the curve does not go down.
 * @param {number[]} curve
 * @param {Pick<Data, "unit">} data
 */
export function halfOf(curve, { unit }) {
  const [first, last] = [curve[0], curve[curve.length - 1]];
  if (unit === "probability") return first > 0 ? first / 2 : null;
  return first > last ? (first + last) / 2 : null;
}

/**
 * How many patches are gone when a curve is first at half or below; nothing where it never is.
 * @param {number[]} curve
 * @param {number[]} counts
 * @param {number} half
 */
export function fallenAt(curve, counts, half) {
  const step = curve.findIndex((value) => value <= half);
  return step < 0 ? null : counts[step];
}

/** "a", "a and b", "a, b and c". @param {string[]} names */
const listed = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);

/** @param {number} count */
const patches = (count) => `${count} ${count === 1 ? "patch" : "patches"}`;

/**
 * One sentence: who wins, and by how much. With the most relevant patches first, who needs the fewest; with the least
 * relevant first, who can do without the most.
 * @param {Data} data
 * @param {number} order 0: the most relevant first
 * @param {string[]} called the methods, as people read them
 */
export function verdict(data, order, called) {
  const curves = range(called.length).map((m) => curveOf(data, m, order, 0));
  const half = halfOf(curves[0], data); // all curves begin alike, with the whole picture
  const what = data.unit === "probability" ? `the probability of ${data.names[0]}` : data.names[0];
  if (half === null) return `${begun(what)} does not go down when patches go.`;
  const falls = data.unit === "probability" ? "halves" : "falls half of its way";
  /** @type {Fallen[]} */
  const fallen = curves.map((curve, m) => ({ name: called[m], gone: fallenAt(curve, data.counts, half) }));
  const asked = (/** @type {Fallen} */ one) => one.gone ?? Infinity;
  const ordered = [...fallen].sort((a, b) => (order === 0 ? asked(a) - asked(b) : asked(b) - asked(a)));
  const best = ordered[0].gone;
  const winners = ordered.filter(({ gone }) => gone === best).map(({ name }) => name);
  const others = ordered.slice(winners.length);
  const does = data.unit === "probability" ? `halves ${what}` : `takes ${what} half of its way down`;
  const first =
    order === 0 && best === null
      ? never(what, falls)
      : order === 0
        ? soonest(winners, Number(best), others, does)
        : latest(winners, best, others, what, falls);
  return `${first}${byMean(data, order, called, winners)}`;
}

/**
 * Who is ahead over the whole film, where that is somebody else.
 * @param {Data} data
 * @param {number} order
 * @param {string[]} called
 * @param {string[]} winners
 */
function byMean(data, order, called, winners) {
  const means = called.map((name, m) => ({ name, mean: data.areas[2 * m + order] }));
  const [ahead] = means.sort((a, b) => (order === 0 ? a.mean - b.mean : b.mean - a.mean));
  const beaten = means.find(({ name }) => name === winners[0]);
  if (winners.includes(ahead.name) || !beaten || ahead.mean === beaten.mean) return "";
  return ` By the mean over all steps ${ahead.name} is ahead: ${data.area(ahead.mean)} against ${data.area(beaten.mean)}.`;
}

/** @param {string} text */
const begun = (text) => text[0].toUpperCase() + text.slice(1);

/**
 * @param {string} what
 * @param {string} falls
 */
const never = (what, falls) => `${begun(what)} never ${falls}, in nobody's order.`;

/**
 * @param {string[]} winners
 * @param {number} best
 * @param {Fallen[]} others
 * @param {string} does what taking patches away does
 */
function soonest(winners, best, others, does) {
  const whose =
    winners.length === 1
      ? `${winners[0]}'s first ${patches(best)}`
      : `the first ${patches(best)} of ${listed(winners)}`;
  const rest = others.map(({ name, gone }) => (gone === null ? `${name} never does` : `${name} needs ${gone}`));
  return `${[`Taking away ${whose} ${does}`, ...rest].join("; ")}.`;
}

/**
 * @param {string[]} winners
 * @param {number | null} best
 * @param {Fallen[]} others
 * @param {string} what
 * @param {string} falls
 */
function latest(winners, best, others, what, falls) {
  const whose = `in the order of ${listed(winners)}`;
  const first =
    best === null
      ? `The least relevant first, ${what} never ${falls} ${whose}`
      : `The least relevant first, ${what} ${falls} only at ${patches(best)} ${whose}`;
  const rest = others.map(({ name, gone }) => `at ${gone} in that of ${name}`);
  return `${[first, ...rest].join("; ")}.`;
}

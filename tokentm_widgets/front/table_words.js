// What the scene table says, in words.

/** @import { Entry, Result } from "./table_asking.js" */
/** @typedef {{ on: number, area: number }} Lies which share of a map lies on an object, and which share of the picture that is */

/** Without a line break before its sign. @param {number} share */
export function percent(share) {
  if (share >= 0.995) return "100\u00a0%";
  return `${share >= 0.0995 ? Math.round(100 * share) : (100 * share).toFixed(1)}\u00a0%`;
}

/** A change of a probability. @param {number} fall */
export const points = (fall) => `${fall < 0 ? "+" : "−"}${Math.abs(100 * fall).toFixed(1)} points`;

/** The maps, in the order in which each adds something to the one before. @type {Record<string, { title: string, what: string, whose: string }>} */
export const MAPS = {
  rollout: {
    title: "Attention only",
    what: "Where tokens look, through all layers. It knows no class.",
    whose: "attention map",
  },
  generic_attention: {
    title: "Attention × gradient",
    what: "The same, but only what speaks for this class.",
    whose: "attention × gradient map",
  },
  tokentm: {
    title: "TokenTM",
    what: "And weighed by what each token carries once transformed.",
    whose: "TokenTM map",
  },
  difference: {
    title: "The difference",
    what: "What the last step changed. Orange: TokenTM gives more. Violet: less.",
    whose: "TokenTM map",
  },
};

/** Pieces of a sentence; every other one stands out, from the second on. @typedef {string[]} Pieces */

/**
 * What the map has to do with the object that is asked about.
 * @param {string} method
 * @param {string} name
 * @param {Lies | null} lies null where no such object is seen
 * @param {string} top what the model says
 * @param {boolean} own whether the picture is the reader's
 * @returns {Pieces}
 */
export function verdictOf(method, name, lies, top, own) {
  if (lies?.area) {
    const chance = (lies.on / lies.area).toFixed(1);
    return [
      "",
      percent(lies.on),
      ` of the ${MAPS[method].whose} lies on the ${name}, which covers ${percent(lies.area)} of the picture: ${chance}\u00a0times chance.`,
    ];
  }
  if (own) return ["No mask is known for your picture. The model says ", top, "; the map shows what it held on to."];
  return [`There is no ${name} on the table. The map shows what would speak for it.`];
}

/**
 * What patches were worth to the map, and to the model.
 * @param {Entry[]} log
 * @param {string} name
 * @param {number} before the probability with all patches there
 * @param {number} now
 * @param {number} patches of the picture
 * @returns {Pieces}
 */
export function lossOf(log, name, before, now, patches) {
  if (!log.length)
    return [
      "Paint over the picture. For each patch you see what the map said it matters, and what taking it out of the model really did.",
    ];
  const said = log.reduce((sum, { first }) => sum + first, 0);
  return [
    "",
    `${log.length} of ${patches} patches gone.`,
    " The map had given them ",
    percent(said),
    ` of the reason; the probability of ${name} went from `,
    percent(before),
    " to ",
    percent(now),
    ".",
  ];
}

/**
 * The two likeliest classes.
 * @param {Pick<Result, "odds">} result
 * @param {string[]} classes
 */
export function likeliest({ odds }, classes) {
  const two = [...odds.keys()].sort((a, b) => odds[b] - odds[a]).slice(0, 2);
  return `It says ${two.map((c) => `${classes[c]} ${percent(odds[c])}`).join(", ")}.`;
}

/**
 * How fast answers come.
 * @param {number} milliseconds of an answer with its maps, typically
 * @param {number} lately answers in the last second
 */
export function speedOf(milliseconds, lately) {
  const each = Math.round(milliseconds);
  return lately > 2
    ? `${lately} updates in the last second, ${each} ms each, on your machine`
    : `Answer and maps in ${each} ms, on your machine`;
}

/**
 * @param {{ x: number, y: number, size: number }} placed
 * @param {string} name
 * @param {number} side of the scene
 */
export const whereabouts = ({ x, y, size }, name, side) =>
  `${name}, ${Math.round((100 * x) / side)} % from the left, ${Math.round((100 * y) / side)} % from the top, size ${Math.round(size)}`;

/**
 * What to do first.
 * @param {string[]} there classes on the table, those behind first
 */
export function invitation(there) {
  const [one, other] = new Set(there);
  if (other) return `Drag the ${one} behind the ${other}`;
  return one ? `Drag the ${one}, turn it, put something beside it` : "Put something on the table";
}

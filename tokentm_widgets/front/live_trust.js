// How far to trust a map, measured in the page by the live engine: the four checks of tokentm_widgets/trust.py.

import { correlation, rank } from "./engine/compared.js";

/** @import { Engine } from "./engine_client.js" */
/** @import { Numbers } from "./engine/types.d.ts" */
/** @import { LivePage } from "./schema.d.ts" */

/** Shares of the strongest patches, and of the other methods, at which a verdict changes; as in trust.py. */
const [FEW, MANY, ALL, SOME] = [5 / 20, 14 / 20, 0.8, 0.4];

/** Share of a map, and how many times their share of the patches, from which on outliers dominate it; as in tokens.py. */
const [QUARTER, TIMES] = [0.25, 4];

/**
 * The strongest patches, strongest first.
 * @param {Numbers} scores
 * @param {number} count
 */
export function strongest(scores, count) {
  return [...scores.keys()].sort((a, b) => scores[b] - scores[a]).slice(0, count);
}

/**
 * @param {Numbers} scores
 * @param {Numbers} others
 * @param {number} count how many patches are called strongest
 */
export function classVerdict(scores, others, count) {
  const top = strongest(scores, count);
  const also = new Set(strongest(others, count));
  const shared = top.filter((patch) => also.has(patch)).sort((a, b) => a - b);
  const part = shared.length / top.length;
  const same = correlation(rank(scores), rank(others));
  return {
    ...{ verdict: part <= FEW ? "Yes" : part <= MANY ? "Partly" : "Hardly", shared, count: top.length },
    correlation: Number.isNaN(same) ? null : same,
  };
}

/**
 * @param {string} unit "probability" or "score"
 * @param {number} whole
 * @param {number} without
 * @param {number} random
 */
export function removalVerdict(unit, whole, without, random) {
  if (without >= whole) return "No";
  const matters =
    unit === "probability"
      ? without < whole / 2 && without < random / 2
      : whole - without >= 2 * Math.abs(whole - random);
  return matters ? "Yes" : "Not clearly";
}

/**
 * @param {Numbers} scores
 * @param {Record<string, Numbers>} others
 * @param {number} count
 */
export function methodVerdict(scores, others, count) {
  const top = new Set(strongest(scores, count));
  const names = Object.keys(others);
  const agreeing = names.filter(
    (name) => 2 * strongest(others[name], count).filter((patch) => top.has(patch)).length >= top.size,
  );
  const part = agreeing.length / names.length;
  return {
    verdict: part >= ALL ? "Yes" : part >= SOME ? "Mostly" : "Hardly",
    agreeing,
    others: names,
    count: top.size,
  };
}

/**
 * What share of a map's positive mass lies on some patches; 0 for a map that has none.
 * @param {Numbers} scores
 * @param {number[]} patches
 */
export function shareOn(scores, patches) {
  const positive = (/** @type {number} */ score) => Math.max(score, 0);
  const total = scores.reduce((sum, score) => sum + positive(score), 0);
  return total > 0 ? patches.reduce((sum, patch) => sum + positive(scores[patch]), 0) / total : 0;
}

/**
 * @param {Numbers} scores
 * @param {number[]} patches those of outlier tokens
 */
export function outlierVerdict(scores, patches) {
  const share = shareOn(scores, patches);
  const dominated = patches.length > 0 && share >= QUARTER && share >= (TIMES * patches.length) / scores.length;
  return { verdict: dominated ? "No" : patches.length ? "Mostly" : "Yes", patches, count: scores.length, share };
}

/**
 * The normalised image with patches painted over in its mean colour.
 * @param {Numbers} image
 * @param {number[]} patches
 * @param {{ channels: number, height: number, width: number, patch: [number, number] }} spec
 */
export function paintedOver(image, patches, { channels, height, width, patch }) {
  const painted = image.slice();
  const [high, wide] = patch;
  const columns = width / wide;
  for (let c = 0; c < channels; c++) {
    const at = c * height * width;
    const mean = image.subarray(at, at + height * width).reduce((a, b) => a + b, 0) / (height * width);
    for (const one of patches) {
      const [top, left] = [Math.floor(one / columns) * high, (one % columns) * wide];
      for (let y = top; y < top + high; y++) painted.fill(mean, at + y * width + left, at + y * width + left + wide);
    }
  }
  return painted;
}

/** Which methods one is compared with: no other reading of the same one. @param {string} method @param {string[]} all */
const othersOf = (method, all) =>
  all.filter((name) => name !== method && !(method.startsWith("tokentm") && name.startsWith("tokentm")));

/**
 * The checks that are made when they are asked for.
 * @param {Engine} engine
 * @param {LivePage} live
 * @param {{ image: Numbers, method: string, target: number, scores: Numbers, logits: Numbers }} shown
 * @param {(logits: Numbers) => Numbers} valuesOf probabilities, or logits where there are none
 * @param {(share: number) => void} report
 */
export async function measured(engine, live, { image, method, target, scores, logits }, valuesOf, report) {
  const count = live.draws[0].length; // as many as Python says
  const top = strongest(scores, count);
  const images = [top, ...live.draws].map((patches) =>
    paintedOver(image, patches, /** @type {any} */ (live.engine.spec)),
  );
  const answers = await engine.ask("answers", { images }, (share) => report(0.2 + 0.6 * share));
  const [without, ...randoms] = answers.logits.map((/** @type {Numbers} */ one) => valuesOf(one)[target]);
  const whole = valuesOf(logits)[target];
  const random = randoms.reduce((/** @type {number} */ a, /** @type {number} */ b) => a + b, 0) / randoms.length;
  const unit = live.unit === "none" ? "score" : "probability";
  const names = othersOf(method, live.others);
  const others = await mapsOf(engine, { image, target }, names);
  const none = { verdict: "–", agreeing: [], others: [], count: 0, why: "No other method can read this model." };
  return {
    removal: {
      ...{ why: "", verdict: removalVerdict(unit, whole, without, random), unit, whole, strongest: without, random },
      ...{ count: top.length, draws: live.draws.length },
    },
    methods: Object.keys(others).length ? { why: "", ...methodVerdict(scores, others, count) } : none,
  };
}

/**
 * The check that stands beside every map: whether it changes with the class.
 * @param {Engine} engine
 * @param {LivePage} live
 * @param {{ image: Numbers, method: string, target: number, scores: Numbers, logits: Numbers }} shown
 * @param {(logits: Numbers) => Numbers} valuesOf
 */
export async function comparedClasses(engine, live, { image, method, target, scores, logits }, valuesOf) {
  const none = { verdict: "–", other: "", value: 0, scores: null, correlation: null, shared: [], count: 0 };
  if (!live.specific[method]) return { ...none, why: `${live.titles[method].name} gives every class the same map.` };
  if (logits.length < 2) return { ...none, why: "The model has one output: there is no other class to compare with." };
  let other = -1;
  for (let c = 0; c < logits.length; c++) if (c !== target && (other < 0 || logits[c] < logits[other])) other = c;
  /** @type {Numbers} */
  let compared;
  try {
    compared = (await engine.ask("explain", { image, target: other, methods: [method] })).maps[method].scores;
  } catch (error) {
    return { ...none, why: error instanceof Error ? error.message : String(error) }; // the map itself stays
  }
  return {
    ...{ why: "", other: live.engine.classes[other], value: valuesOf(logits)[other] },
    ...{ scores: new DataView(compared.buffer, compared.byteOffset, compared.byteLength) },
    ...classVerdict(scores, compared, live.draws[0].length),
  };
}

/**
 * Whether the map is free of outlier tokens.
 * @param {Engine} engine
 * @param {LivePage} live
 * @param {{ image: Numbers, method: string, target: number, scores: Numbers }} shown
 */
export async function freeOfOutliers(engine, live, { image, method, target, scores }) {
  const { patches } = await engine.ask("outliers", { image });
  const found = outlierVerdict(scores, patches);
  if (found.verdict !== "No") return { ...found, advice: "" };
  const names = live.weighted.filter((name) => name !== method);
  const maps = await mapsOf(engine, { image, target }, names);
  const shares = Object.entries(maps).map(([name, map]) => ({ name, share: shareOn(map, patches) }));
  return { ...found, advice: adviceOf(live.registers, shares) };
}

/**
 * What helps, as tokens.py says it.
 * @param {string} registers
 * @param {{ name: string, share: number }[]} others
 */
export function adviceOf(registers, others) {
  const [best] = others.slice().sort((a, b) => a.share - b.share);
  const put = best && (best.share > 0 && best.share < 0.005 ? "less than 1 %" : `${Math.round(100 * best.share)} %`);
  const then = !best
    ? ""
    : best.share < QUARTER
      ? ` ${best.name}, which weighs attention by the gradient, puts ${put} there.`
      : ` Other methods that weigh attention by the gradient put ${put} there or more.`;
  return `${registers}${then} Or leave these patches out of the map: tokentm.tokens.left_out.`;
}

/**
 * Maps by those methods that can read the model.
 * @param {Engine} engine
 * @param {{ image: Numbers, target: number }} asked
 * @param {string[]} names
 */
async function mapsOf(engine, asked, names) {
  const { methods, scores } = await engine.ask("methods", { ...asked, methods: names });
  const length = scores.length / methods.length;
  /** @type {Record<string, Numbers>} */
  const found = {};
  for (const [m, name] of methods.entries()) found[name] = scores.slice(m * length, (m + 1) * length);
  return found;
}

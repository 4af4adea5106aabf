// How far to trust the map: four checks. The first and the last stand beside every map; the others are measured on demand,
// and read "–" before.

import { button } from "./controls.js";
import { element, write } from "./dom.js";
import { drawnAs, measuredOf, nameOf } from "./hero.js";
import { mapPanel } from "./map_panel.js";
import { floats, number, percent } from "./numbers.js";
import { loadPictures } from "./pictures.js";

/** @import { CheckedClasses, CheckedMethods, CheckedOutliers, CheckedRemoval, ExplorerShown, TrustData } from "./schema.d.ts" */

/** @param {number} value */
const short = (value) => (value < 0.001 ? "< 0.1 %" : value < 0.0995 ? percent(value) : `${Math.round(100 * value)} %`);

/**
 * A question, its verdict, and what was measured.
 * @param {string} question
 */
function checkOf(question) {
  const verdict = element("b", { class: "verdict" });
  const body = element("div", { class: "found" });
  const node = element("div", { class: "check" }, element("p", { class: "question" }, question, verdict), body);
  return {
    node,
    /**
     * @param {string} word
     * @param {(Node | string)[]} found
     */
    fill(word, ...found) {
      write(verdict, word);
      verdict.dataset.verdict = word === "Yes" || word === "Mostly" ? "good" : word === "–" ? "" : "warn";
      body.replaceChildren(...found);
    },
  };
}

const said = (/** @type {string} */ text) => element("p", { class: "small quiet" }, text);

/**
 * @param {{ colours: Uint8Array, differences: Uint8Array }} tables
 * @param {boolean} alone whether there is nobody to ask for a check
 * @param {{ called: (method: string) => string, check: () => void, mark: (patches: number[]) => void, repaint: () => void }} to
 */
export function trustOf(tables, alone, { called, check, mark, repaint }) {
  const what = element("p");
  const measure = button("check", "Check", "Measure the two others: this runs the model some times");
  const whole = element("span", { class: "small quiet" });
  const head = element("div", { class: "head" }, element("h3", {}, "How far to trust it"), whole);
  if (!alone) head.append(measure);
  const [classes, removal, methods, outliers] = [
    "Does it change with the class?",
    "Do these patches matter?",
    "Do other methods agree?",
    "Is it free of outlier tokens?",
  ].map(checkOf);
  const ticks = ["mark", "mark outliers"].map((name) => {
    const box = element("input", { type: "checkbox", name });
    const text = element("span");
    /** @type {number[]} */
    const patches = [];
    return { box, text, patches, node: element("label", { class: "tick small" }, box, text) };
  });
  const [shared, outlying] = ticks;
  const node = element(
    "section",
    { class: "trust" },
    element("div", { class: "what" }, element("h3", {}, "What this map says"), what),
    element("div", { class: "checks" }, head, classes.node, removal.node, methods.node, outliers.node),
  );
  const markTicked = () => mark(ticks.flatMap(({ box, patches }) => (box.checked ? patches : [])));
  for (const { box } of ticks) box.addEventListener("change", markTicked);
  measure.addEventListener("click", check);
  /** @type {[unknown, unknown]} */
  let drawnFor = [null, null];
  /** @type {() => void} */
  let drawPair = () => {};
  let dark = false;

  function untick() {
    if (!ticks.some(({ box }) => box.checked)) return;
    for (const { box } of ticks) box.checked = false;
    mark([]);
  }

  /** Patches that can be marked on the large map. @param {typeof shared} tick @param {number[]} patches */
  function offer(tick, patches) {
    tick.patches.splice(0, tick.patches.length, ...patches);
    write(tick.text, `Mark ${patches.length === 1 ? "this one" : `these ${patches.length}`} on the large map`);
  }

  /**
   * What the large map says, and up to which layer.
   * @param {ExplorerShown} shown
   * @param {number | null} layer
   */
  function whatIs(shown, layer) {
    const itself = shown.explained === shown.named && shown.unit !== "none";
    const score = itself ? `the score of ${shown.named}` : nameOf(shown);
    const added =
      shown.growth && layer !== null
        ? `, added up over layers 1 to ${layer + 1} of ${shown.layers}`
        : shown.growth
          ? `, added up over all ${shown.layers} layers`
          : "";
    if (!shown.specific)
      return `How much each patch counts by ${called(shown.method)}, which gives every class the same map${added}.`;
    const by = `How much each patch contributed to ${score}, by ${called(shown.method)}${added}.`;
    return `${by} It shows where the evidence lay, not what the model saw in it.`;
  }

  /**
   * @param {CheckedClasses} found
   * @param {ExplorerShown} shown
   */
  function fillClasses(found, shown) {
    if (found.why || !found.scores) return classes.fill(shown.specific ? "–" : "No", said(found.why));
    const name = measuredOf(shown);
    const value = shown.target === null ? shown.score : floats(shown.values)[shown.target];
    const written = shown.unit === "none" ? number : short;
    const pair = [
      { title: name, value: written(value), scores: floats(shown.scores) },
      { title: found.other, value: written(found.value), scores: floats(found.scores) },
    ].map((one) => {
      const panel = mapPanel("compared", one.title, "", shown, false);
      const text = element("figcaption", {}, element("b", {}, one.title), ` ${one.value}`);
      return { ...one, panel, node: element("figure", {}, panel.area, text) };
    });
    drawPair = () => {
      for (const { panel, scores } of pair) {
        const { ends, table, opacityOf } = drawnAs(scores, tables, dark);
        panel.drawMap(scores, ends, table, pictures.grey[0], 0.8, opacityOf);
      }
    };
    const pictures = loadPictures(shown.picture ? [shown.picture] : [], drawPair, () => {});
    drawPair();
    for (const [i, { panel, title }] of pair.entries())
      panel.area.setAttribute("aria-label", `${i ? "For comparison: the" : "The"} map for ${title}`);
    const least = shown.unit === "none" ? "the lowest output" : "the class the model finds least likely";
    const same =
      found.correlation === null
        ? ""
        : ` The two maps' rank correlation is ${found.correlation.toFixed(2)}; it is 1 for the same order of patches.`;
    const also = `${found.shared.length} of the ${found.count} strongest patches are also among the strongest for ${found.other}, ${least}.`;
    const so = {
      Yes: `The map is about ${name}.`,
      Partly: `They count for ${found.other}, too, so they do not single out ${name}.`,
      Hardly: `The map says hardly anything about ${name} in particular.`,
    }[found.verdict];
    offer(shared, found.shared);
    classes.fill(
      found.verdict,
      element("div", { class: "pair" }, ...pair.map((one) => one.node)),
      said(`${also} ${so}${same}`),
      ...(found.shared.length ? [shared.node] : []),
    );
  }

  /**
   * @param {CheckedRemoval | null} found
   * @param {ExplorerShown} shown
   */
  function fillRemoval(found, shown) {
    if (!found) return removal.fill("–");
    if (found.why) return removal.fill("–", said(found.why));
    const probability = found.unit === "probability";
    const written = probability ? short : number;
    const rows = /** @type {[string, number, string][]} */ ([
      ["as it is", found.whole, ""],
      [`without ${found.count} strongest`, found.strongest, "on"],
      [`without ${found.count} random`, found.random, ""],
    ]);
    const bars = rows.flatMap(([text, value, kind]) => {
      const bar = element("i", { class: `fill ${kind}` });
      bar.style.width = `${100 * Math.max(0, Math.min(1, value))}%`;
      const track = element("span", { class: "lane" }, ...(probability ? [bar] : []));
      return [element("span", {}, text), track, element("output", {}, written(value))];
    });
    const of = probability ? `Probability of ${measuredOf(shown)}` : `Score of ${nameOf(shown)}`;
    const random = `random: mean of ${found.draws} draws`;
    removal.fill(
      found.verdict,
      element("div", { class: "drop" }, ...bars),
      said(`${of} when patches are painted over with the picture's mean colour; ${random}.`),
    );
  }

  /** @param {CheckedMethods | null} found */
  function fillMethods(found) {
    if (!found) return methods.fill("–");
    if (found.why) return methods.fill("–", said(found.why));
    const [yes, all] = [found.agreeing.length, found.others.length];
    const who = yes && yes < all ? ` (${found.agreeing.map(called).join(", ")})` : "";
    methods.fill(
      found.verdict,
      said(
        `${yes} of ${all} other methods, those that run the model no further, share at least half of the ${found.count} strongest ` +
          `patches${who}. Agreement is no proof: methods can be wrong together.`,
      ),
    );
  }

  /** @param {CheckedOutliers} found */
  function fillOutliers({ verdict, patches, count, share, advice }) {
    if (!patches.length) return outliers.fill(verdict);
    offer(outlying, patches);
    const [one, few] = [patches.length === 1, patches.length < count / 200];
    const part = few ? "less than 1 %" : `${Math.round((100 * patches.length) / count)} %`;
    const held = `${short(share)} of the map lies on ${patches.length} of ${count} patches (${part})`;
    const tokens = one ? "its token is an outlier" : "their tokens are outliers";
    const so =
      verdict === "No"
        ? " Such tokens keep what a model knows of the whole picture, so the map may not show where the evidence lay."
        : "";
    outliers.fill(
      verdict,
      said(`${held}: ${tokens}, far longer than the others and unlike ${one ? "its" : "their"} neighbours.${so}`),
      ...(advice ? [said(advice)] : []),
      outlying.node,
    );
  }

  return {
    node,
    /**
     * @param {ExplorerShown} shown
     * @param {TrustData | Record<string, never>} found
     * @param {number | null} layer of the large map; null where it is that of all layers
     * @param {boolean} busy
     * @param {boolean} night whether the page is dark
     */
    paint(shown, found, layer, busy, night) {
      const partial = layer !== null;
      measure.disabled = busy || Boolean(found.removal);
      write(whole, partial ? "the map of all layers" : "");
      const turned = dark !== night;
      dark = night;
      if (turned) drawPair();
      for (const { box } of ticks) box.disabled = partial; // what they mark was found in the map of all layers
      if (partial) untick();
      write(what, whatIs(shown, layer));
      if (drawnFor[0] === shown && drawnFor[1] === found) return;
      drawnFor = [shown, found];
      drawPair = () => {};
      untick();
      if ("classes" in found) {
        fillClasses(found.classes, shown);
        fillRemoval(found.removal, shown);
        fillMethods(found.methods);
        fillOutliers(found.outliers);
      } else for (const one of [classes, removal, methods, outliers]) one.fill("–");
      repaint();
    },
  };
}

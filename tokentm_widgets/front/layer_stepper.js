// TokenTM's formula with maps as its terms: attention, what the layer does to a token, what arrives, the update, and the
// contribution so far; below it the whole model at one look. The traits are the state; this draws it and writes the
// user's choices back (see LayerStepperData in layer_stepper.py for what is sent).

import { away, glow, onPage } from "./colours.js";
import { bind, button, choices, chooser, labelled, playButton, slider } from "./controls.js";
import { assign, element, shareOf, write } from "./dom.js";
import { glossary } from "./glossary.js";
import { patchAt, where } from "./grid.js";
import { answersOf, writeTitle } from "./headed.js";
import { read, rowsOf, tokens } from "./layer_rows.js";
import { mapPanel, pickByKeys, pointOut } from "./map_panel.js";
import { averageSize, bytes, extent, extentOf, largest, range, times, union } from "./numbers.js";
import { loadPictures } from "./pictures.js";
import { playingOver } from "./playing.js";
import { rowSource } from "./rows.js";
import { scatter } from "./scatter.js";
import { againstAverage, factorEnds, factorWritten, isFactor, TERMS, writtenFor } from "./terms.js";
import { noteOf, story, strongest } from "./terms_in_words.js";
import { wholeModel } from "./thumbs.js";
import { tour } from "./tour.js";
import { widget } from "./view.js";
import { notesOf } from "./why.js";

/** @import { Data, Shown, Taken } from "./layer_rows.js" */
/** @import { TermName } from "./terms.js" */
/** @import { Build, Extent, Row } from "./types.d.ts" */
/** @typedef {ReturnType<typeof rowsOf>} Rows */

const SCATTERED = /** @type {const} */ (["ratio", "necc", "weight"]);

/** A chosen patch counts far more in itself than in any other: it is left out of the contribution's scale. */
const asideOf = (/** @type {string} */ name, /** @type {Shown} */ now) => (name === "contribution" ? now.patch : null);

/**
 * What one term's panel draws: its numbers, between which ends, and how the ends are written.
 * @param {TermName} name
 * @param {Row} values
 * @param {Shown} now
 * @param {Extent | undefined} shared ends over all layers
 */
function drawnOf(name, values, now, shared) {
  const aside = asideOf(name, now);
  const [low, high] = shared ?? extent(values, aside);
  return { values, ends: /** @type {Extent} */ ([Math.min(0, low), high]), written: writtenFor(values, aside) };
}

/**
 * The ends of every term's colours over all layers, kept while only the layer changes.
 * @param {Data} data
 */
function commonEnds(data) {
  let known = "";
  /** @type {Partial<Record<TermName, Extent>>} */
  let ends = {};
  return (/** @type {Shown} */ now, /** @type {Taken | undefined} */ taken) => {
    const key = [now.head, now.index, now.patch, Boolean(taken?.attention)].join(" ");
    if (known === key) return ends;
    const layers = range(data.layers).map((layer) => rowsOf(data, taken, { ...now, layer }));
    [known, ends] = [key, {}];
    for (const { name } of TERMS)
      if (layers[0][name])
        ends[name] = isFactor(name)
          ? factorEnds(layers.map((rows) => againstAverage(rows[name] ?? new Float32Array())))
          : union(layers.map((rows) => extent(rows[name] ?? [], asideOf(name, now))));
    return ends;
  };
}

/** @type {Build} */
export function build(root, tools) {
  const { model, choose, repaint, follow, theme } = tools;
  const data = read(model.get("_data"));
  const factors = bytes(model.get("_data").factors);
  const notes = notesOf(root, repaint);

  // ---- the formula: panels are its terms, operators stand between them ----

  const panels = TERMS.map((term) => {
    const panel = mapPanel(term.name, term.title, "", data);
    const says = element("p", { class: "says" });
    const why = notes.about(term.title, () => (last ? noteOf(term, data, { ...last, kept: kept() }) : []));
    panel.caption.append(" ", why.button);
    panel.node.append(says, why.note);
    panel.node.classList.add("term");
    panel.node.dataset.term = term.name;
    return { ...panel, term, says, why };
  });
  const of = /** @type {Record<TermName, typeof panels[number]>} */ (
    Object.fromEntries(panels.map((panel) => [panel.term.name, panel]))
  );
  const picker = of.contribution.area;
  const operator = (/** @type {string} */ sign, /** @type {string} */ name, says = "") =>
    element("span", { class: `operator ${name}` }, ...(says ? [element("small", {}, says)] : []), sign);
  const before = element("small");
  const weigh = element("p", { class: "bracket" }, "The weight: what the layer does to a token");
  const formula = element(
    "div",
    { class: "terms" },
    of.attention.node,
    operator("×", "times"),
    element("div", { class: "weight" }, of.ratio.node, operator("×", "times"), of.necc.node, weigh),
    operator("=", "equals"),
    of.product.node,
    operator("→", "flow", data.gradient ? "what the gradient says raises it" : "added up"),
    of.update.node,
  );
  const title = element("h2");
  const said = element("p", { class: "story" });
  const status = element("p", { class: "status", "aria-live": "polite" });
  const index = answersOf(data, data.choice, tools);
  const taker = element("div", { class: "segments", role: "group", "aria-label": "Seen from" });
  const [asReadout, asPatch] = [button("reset", data.readout), button("from-patch", "")];
  taker.append(asReadout, asPatch);
  const from = element("div", { class: "from" }, "Seen from", taker);

  // ---- the whole model, and what is chosen there ----

  const layer = slider("layer", 0, data.layers - 1);
  bind(layer, "layer", tools);
  const shownLayer = element("span", { class: "shown" });
  assign(layer, "aria-label", "Layer");
  const whole = wholeModel(data, layer, tools);
  const heads = data.offered ?? range(data.heads);
  const head = chooser("head", "Head", ["All heads", ...heads.map((h) => h + 1)], [null, ...heads], tools, 9);
  const playing = playButton();
  const speed = choices("speed", ["½ layer/s", "1 layer/s", "2 layers/s", "4 layers/s"], [0.5, 1, 2, 4]);
  const scale = choices("scale", ["of each layer", "of all layers"], ["layer", "common"]);
  const opacity = slider("opacity", 0, 1, 0.05);
  for (const [trait, control] of Object.entries({ playing, speed, scale, opacity })) bind(control, trait, tools);
  const dots = scatter(data);
  const tokensShown = element("details", {}, element("summary", {}, "All tokens: length against direction"), dots.node);
  tokensShown.addEventListener("toggle", repaint);
  const walk = tour("tokentm tour of the layer stepper", [
    { at: () => of.attention.node, says: "Attention says from which patches the class token takes in this layer." },
    {
      at: () => of.ratio.node.parentElement ?? formula,
      says: "Before a patch is passed on, the layer changes it. How much of its length and direction is kept is its weight.",
    },
    { at: () => of.product.node, says: "Attention times weight is what really arrives from each patch." },
    {
      at: () => of.contribution.node,
      says: "What speaks for the answer is added up, layer by layer. Click a patch to read it in every panel.",
    },
    {
      at: () => whole.node,
      says: "Every layer and head of the model. Click one, drag along the layers, or play them.",
    },
  ]);
  root.append(
    element(
      "div",
      { class: "stepper" },
      walk.node,
      element(
        "div",
        { class: "top" },
        element("div", { class: "intro" }, element("div", { class: "titled" }, title, index), said, status),
        formula,
        operator("→", "sum", ""),
        of.contribution.node,
      ),
      element(
        "div",
        { class: "controls" },
        element("strong", {}, "The whole model at one look"),
        shownLayer,
        head,
        playing,
        from,
      ),
      whole.node,
      element(
        "div",
        { class: "controls more" },
        labelled("Speed", speed),
        labelled("Colours", scale),
        labelled("Opacity", opacity),
        walk.again,
      ),
      tokensShown,
      glossary(),
    ),
  );
  formula.parentElement?.querySelector(".sum")?.prepend(before, "+ ");
  let failure = "";
  /** The patch whose row is looked at while the pointer is on a map and rows are shown. @type {number | null} */
  let seen = null;
  /** The patch pointed at: its value is read in every panel. @type {number | null} */
  let pointed = null;
  const pictures = loadPictures(data.pictures, repaint, (text) => {
    failure = text;
    repaint();
  });
  const source = rowSource(model, data, repaint);
  const common = commonEnds(data);
  /** What was painted last, for the notes. @type {{ now: Shown, rows: Rows } | null} */
  let last = null;

  /** @returns {Shown} */
  const state = () => ({
    layer: model.get("layer"),
    head: model.get("head"),
    index: model.get("index"),
    patch: seen ?? model.get("patch"),
  });
  /** The patch that is read in every panel: pointed at, kept, or the one seen from. */
  const kept = () => model.get("kept") ?? model.get("patch");

  function paint() {
    const now = state();
    const { ink, dark } = theme(); // before anything is written: styles are still known
    const taken = source.get(now);
    const rows = rowsOf(data, taken, now);
    last = { now, rows };
    const picture = pictures.count === 1 ? 0 : now.index;
    const colours = onPage(data.colours, dark);
    const shared = model.get("scale") === "common" ? common(now, taken) : {};
    for (const panel of panels) paintTerm(panel, now, rows, shared, colours, pictures.grey[picture]);
    whole.draw(now, colours, pictures.grey[picture], theme());
    if (tokensShown.open) paintScatter(now, colours, ink);
    paintWords(now, rows, source.waiting(now, taken));
    for (const panel of panels) panel.why.draw();
    const drawn = Boolean(pictures.colour[picture]);
    root.dataset.painted = [now.layer, now.head, now.index, now.patch, drawn].join(" ");
    root.dataset.complete = String(Boolean(rows.attention));
  }

  /**
   * @param {typeof panels[number]} panel
   * @param {Shown} now
   * @param {Rows} rows
   * @param {Partial<Record<TermName, Extent>>} shared
   * @param {Uint8Array} colours
   * @param {HTMLCanvasElement | undefined} grey
   */
  function paintTerm(panel, now, rows, shared, colours, grey) {
    const { name } = panel.term;
    const values = rows[name];
    panel.node.classList.toggle("waiting", !values);
    if (!values) {
      panel.drawPicture(grey);
      panel.outline(kept());
      write(panel.here, "");
      return;
    }
    if (isFactor(name)) {
      const powers = againstAverage(values);
      const both = factorEnds([powers, againstAverage(rows[name === "ratio" ? "necc" : "ratio"])]);
      const ends = shared.ratio && shared.necc ? union([shared.ratio, shared.necc]) : both;
      panel.drawMap(powers, ends, factors, grey, model.get("opacity"), away, factorWritten);
    } else {
      const drawn = drawnOf(name, values, now, shared[name]);
      panel.drawMap(drawn.values, drawn.ends, colours, grey, model.get("opacity"), glow, drawn.written);
    }
    panel.outline(kept());
    panel.outline(pointed, true);
    const reads = pointed ?? kept();
    write(panel.here, reads === null ? "" : `${where(reads, data)}: ${readingOf(name, rows, now, reads)}`);
    const top = where(largest(values, asideOf(name, now)), data);
    const label = `${panel.title}, layer ${now.layer + 1}: largest at ${top}`;
    if (panel !== of.contribution) assign(panel.area, "aria-label", label);
    else {
      const chosen = kept() === null ? "No patch chosen" : `${where(kept(), data)} chosen`;
      assign(panel.area, "aria-label", `${label}. ${chosen}; arrow keys move, Escape clears`);
    }
    const seenAs = { explained: data.names[now.index], taker: takerOf(now), layer: now.layer, patch: now.patch };
    write(panel.says, `${panel.term.says(seenAs, data)}${isFactor(name) ? spread(values) : ""}`);
  }

  /** @param {Row} values */
  function spread(values) {
    const [average, [low, high]] = [averageSize(values), extent(values)];
    const even = low > 0.8 * average && high < 1.25 * average ? ", almost no difference" : "";
    return `: here ${times(low, average)} to ${times(high, average)} the average${even}.`
      .replace("× to", " to")
      .replace("×", " times");
  }

  /**
   * A patch's number in one panel.
   * @param {TermName} name
   * @param {Rows} rows
   * @param {Shown} now
   * @param {number} patch
   */
  function readingOf(name, rows, now, patch) {
    const values = rows[name];
    if (!values) return "";
    if (isFactor(name)) return times(values[patch], averageSize(values));
    return writtenFor(values, asideOf(name, now))(values[patch]);
  }

  /** @param {Shown} now */
  const takerOf = ({ patch }) =>
    patch === null ? (data.readout === "class token" ? "the class token" : `the ${data.readout}`) : where(patch, data);

  /**
   * @param {Shown} now
   * @param {Rows} rows
   * @param {string} waiting what is awaited
   */
  function paintWords(now, rows, waiting) {
    const explained = data.names[now.index];
    writeTitle(title, ["How ", explained, ` came about: layer ${now.layer + 1} of ${data.layers}`]);
    write(said, [story(data, now), strongest(data, now, rows)].filter(Boolean).join(" "));
    const chosen = kept();
    const rowOf =
      now.patch === null ? "" : `Seen from ${where(now.patch, data)}: the panels show what this patch takes.`;
    const through = now.head === null ? "" : `Head ${now.head + 1} alone; the contribution is that of all heads.`;
    // spoken when something was chosen; not for every patch passed over, nor at every beat
    assign(status, "aria-live", pointed !== null || model.get("playing") ? "off" : "polite");
    write(status, [rowOf, through, waiting, failure].filter(Boolean).join(" "));
    assign(layer, "aria-valuetext", `layer ${now.layer + 1} of ${data.layers}`);
    write(shownLayer, `${now.layer + 1} of ${data.layers}`);
    write(before, now.layer ? `layers 1${now.layer > 1 ? ` to ${now.layer}` : ""}` : "at first");
    from.hidden = chosen === null;
    write(asPatch, chosen === null ? "" : where(chosen, data));
    for (const [one, on] of /** @type {const} */ ([
      [asReadout, model.get("patch") === null],
      [asPatch, model.get("patch") !== null],
    ]))
      assign(one, "aria-pressed", on);
  }

  /**
   * @param {Shown} now
   * @param {Uint8Array} colours
   * @param {string} ink
   */
  function paintScatter(now, colours, ink) {
    const of = (/** @type {"ratio" | "necc" | "weight"} */ name, /** @type {number} */ layer) =>
      tokens(data, name, data.imageOf[now.index], layer, now.head);
    const layers = model.get("scale") === "common" ? range(data.layers) : [now.layer];
    const values = { ratio: of("ratio", now.layer), necc: of("necc", now.layer), weight: of("weight", now.layer) };
    const [ratio, necc, weight] = SCATTERED.map((name) => extentOf(layers.map((layer) => of(name, layer))));
    dots.draw(values, { ratio, necc, weight }, [kept(), pointed], ink, colours);
    const nameOf = (/** @type {number} */ t) =>
      t < data.prefix ? `prefix token ${t + 1}` : where(t - data.prefix, data);
    const [top, low] = [largest(values.weight), largest(values.weight.map((w) => -w))].map(nameOf);
    assign(
      dots.canvas,
      "aria-label",
      `Length kept against direction share of all tokens, layer ${now.layer + 1}: ` +
        `the weight is largest for ${top}, smallest for ${low}`,
    );
  }

  // ---- the user's hands ----

  const point = (/** @type {number | null} */ patch) => {
    const look = model.get("patch") === null ? null : patch; // rows are shown: look at the row of what is pointed at
    if (pointed === patch && seen === look) return;
    [pointed, seen] = [patch, look];
    repaint();
  };
  const keep = (/** @type {number | null} */ patch) => {
    const again = patch !== null && patch === kept();
    const to = again ? null : patch;
    seen = null;
    if (model.get("patch") !== null) choose("patch", to);
    choose("kept", to);
  };
  for (const trait of ["patch", "kept"]) follow(trait);
  for (const { area } of panels) {
    pointOut(area, data, point);
    area.addEventListener("click", (event) => keep(patchAt(shareOf(event, area), data)));
  }
  pickByKeys(picker, data, kept, (patch) => {
    seen = null;
    if (model.get("patch") !== null) choose("patch", patch);
    choose("kept", patch);
  });
  asReadout.addEventListener("click", () => choose("patch", null));
  asPatch.addEventListener("click", () => choose("patch", kept()));
  dots.canvas.addEventListener("pointermove", (event) => point(dots.nearest(event)));
  dots.canvas.addEventListener("pointerleave", () => point(null));
  dots.canvas.addEventListener("click", (event) => keep(dots.nearest(event)));

  return { paint, close: source.close };
}

export default widget(
  "TokenTM layer stepper",
  build,
  playingOver("layer", (data) => data.layers),
);

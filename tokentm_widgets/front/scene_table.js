// A table with drawings on it, and a model in the page that looks at it: things are moved or patches taken away, and the
// answer, its maps and what they are worth follow.

import { press } from "./controls.js";
import { assign, contextOf, element, write } from "./dom.js";
import { normalised } from "./engine/preparing.js";
import { engineClient } from "./engine_client.js";
import { writeTitle } from "./headed.js";
import { bytes } from "./numbers.js";
import { seenIn } from "./own_picture.js";
import { pictureInput } from "./picture_input.js";
import { added, changed, MOST } from "./placing.js";
import { composed, coverOf, layerOf, SIZE, shareOn } from "./scene_drawing.js";
import { canvasOf, sheetOf } from "./scene_sheet.js";
import { shelfOf } from "./shelf.js";
import { stageOf } from "./stage.js";
import { answerOf } from "./table_answer.js";
import { askingOf } from "./table_asking.js";
import { LITTLE, mapsOf } from "./table_maps.js";
import { ACROSS, LESS, mute, paintFrame, paintHoles, paintMap, paintScene } from "./table_painting.js";
import { drawingTools, modes, takingTools } from "./table_tools.js";
import { invitation, likeliest, lossOf, percent, points, speedOf, verdictOf } from "./table_words.js";
import { mirror, nextTen } from "./taking_away.js";
import { widget } from "./view.js";

/** @import { Preparing } from "./engine/preparing.js" */

/** @import { Drawn, Layer, Placed } from "./scene_drawing.js" */
/** @import { Sheet } from "./scene_sheet.js" */
/** @import { SceneTableData } from "./schema.d.ts" */
/** @import { Result } from "./table_asking.js" */
/** @import { Build } from "./types.d.ts" */
/** What the model was shown. @typedef {{ key: string, objects: Placed[], drawn: Drawn }} Shown */

const ASKED = ["rollout", "generic_attention", "tokentm"];
/** Milliseconds of rest before a sentence is read out. */
const REST = 900;
/** Drawings that the model was trained on at a time. */
const TRAINED = 3;

/** @type {Build} */
export function build(root, tools) {
  const { model, choose, repaint, follow } = tools;
  /** @type {SceneTableData} */
  const data = model.get("_data");
  const { classes } = data.live;
  const preparing = /** @type {Preparing} */ (data.live.preparing);
  const tables = { colours: bytes(data.colours), differences: bytes(data.differences) };
  const engine = engineClient(data.live);
  const classOf = (/** @type {string} */ sprite) => data.drawings.findIndex((row) => row.includes(sprite));
  const called = (/** @type {string} */ sprite) => classes[classOf(sprite)];
  /** @type {Sheet | null} */
  let sheet = null;
  /** A picture of the reader's, as it is, and what the model sees of it. @type {Awaited<ReturnType<typeof seenIn>> | null} */
  let own = null;
  let [ready, closed, trouble] = [false, false, ""];
  /** How long answers took, and when they came. */
  const speed = { took: /** @type {number[]} */ ([]), came: /** @type {number[]} */ ([]) };

  /** @returns {Placed[]} */
  const objects = () => model.get("objects");
  /** @returns {number[]} */
  const gone = () => model.get("gone");
  const taking = () => model.get("mode") === "take";
  /** The method whose map says what a patch is worth. */
  const measure = () => (model.get("method") === "difference" ? "tokentm" : model.get("method"));
  const chosen = () => (model.get("target") === null ? null : classes.indexOf(model.get("target")));

  // ---- what the model is shown ----

  /** @type {WeakMap<Placed, Layer>} */
  const layers = new WeakMap();
  /** @type {WeakMap<DataView, { number: number, pixels: Uint8Array, canvas: HTMLCanvasElement }>} */
  const given = new WeakMap();
  let pictures = 0;
  /** The picture in place of a background, if there is one. */
  function picture() {
    /** @type {DataView | null} */
    const view = model.get("picture") ?? null;
    if (!view) return null;
    const known = given.get(view);
    if (known) return known;
    pictures += 1;
    const pixels = bytes(view);
    const made = { number: pictures, pixels, canvas: canvasOf(pixels) };
    given.set(view, made);
    return made;
  }
  const keyNow = () => JSON.stringify([objects(), model.get("background"), picture()?.number ?? 0]);
  /** @type {Shown | null} */
  let shown = null;
  /** The scene now, pixel by pixel; drawings that stayed where they were are not drawn anew. @param {Sheet} from */
  function sceneNow(from) {
    const key = keyNow();
    if (shown?.key === key) return shown;
    const all = objects();
    const parts = all.map((one) => {
      const layer = layers.get(one) ?? layerOf(from.drawing(one.sprite).numbers, one);
      layers.set(one, layer);
      return layer;
    });
    const below = picture()?.pixels ?? from.background(model.get("background")).pixels;
    shown = { key, objects: all, drawn: composed(below, parts) };
    return shown;
  }

  const asking = askingOf({
    wanted: () => (ready && sheet ? { key: keyNow(), target: chosen(), gone: gone() } : null),
    measure,
    async ask({ taken, target, maps }) {
      const scene = sceneNow(/** @type {Sheet} */ (sheet));
      const pixels = { data: scene.drawn.pixels, width: SIZE, height: SIZE };
      const image = normalised(pixels, preparing);
      const kept = taken.length ? [...Array(ACROSS ** 2).keys()].filter((patch) => !taken.includes(patch)) : null;
      const start = performance.now();
      const answer = await engine.ask("explain", { image, target, methods: maps ? ASKED : [], kept });
      const now = performance.now();
      if (maps) speed.took = [...speed.took.slice(-14), now - start];
      speed.came = [...speed.came.filter((one) => one > now - 1000), now];
      about = scene;
      return answer;
    },
    answered() {
      answered = about;
      trouble = "";
      setTimeout(() => !closed && repaint()); // the next question goes out first, and is worked on meanwhile
    },
    failed(error) {
      trouble = error.message;
      if (!closed) repaint();
    },
  });
  /** The scene that was asked about last, and that of the last answer. @type {Shown | null} */
  let about = null;
  /** @type {Shown | null} */
  let answered = null;

  // ---- what is on the page ----

  /** @param {Placed[]} next */
  const place = (next) => choose("objects", next);
  const stage = stageOf({
    objects,
    place,
    taking,
    gone,
    take(patches, back) {
      const now = gone();
      const next = back
        ? now.filter((patch) => !patches.includes(patch))
        : [...now, ...patches.filter((one) => !now.includes(one))];
      if (next.length !== now.length) choose("gone", next);
    },
    another,
    called,
    repaint,
    emptied: () => shelf.buttons[0].focus({ preventScroll: true }),
  });

  /** The next drawing of a class; those that the model never saw come last. @param {string} sprite */
  function another(sprite) {
    const row = data.drawings[classOf(sprite)];
    const at = (row.indexOf(sprite) + 1) % row.length;
    if (at >= data.seen[classOf(sprite)]) stage.hint("The model never saw this drawing");
    return row[at];
  }

  const shelf = shelfOf(classes, {
    add(k, at) {
      const before = objects();
      if (before.length >= MOST) {
        stage.hint("Six things are enough for one table");
        return false;
      }
      const seen = data.drawings[k].slice(0, data.seen[k]);
      const next = added(before, seen[Math.floor(Math.random() * seen.length)], at);
      stage.select(next.selected);
      place(next.objects);
      if (before.length >= TRAINED) stage.hint("The model was trained on one to three things at a time");
      else stage.hint("", 0);
      return true;
    },
    move: ([x, y]) => place(changed({ objects: objects(), selected: stage.selected() }, { x, y }).objects),
    pointOf: stage.pointOf,
  });

  const answer = answerOf(classes, (k) => {
    if (gone().length) choose("gone", []);
    choose("target", k === null ? null : classes[k]);
  });
  const maps = mapsOf(tables, (method) => {
    choose("method", method);
    choose("show_map", true);
  });
  const lost = mirror();
  const file = element("input", { type: "file", name: "picture", accept: "image/*", hidden: true });
  const choosing = element(
    "button",
    { type: "button", name: "own", title: "Choose a picture, drop one here, or paste it" },
    "Your picture",
  );
  choosing.addEventListener("click", () => file.click());
  const endInput = pictureInput(root, file, true, {
    take,
    over: (on) => stage.node.classList.toggle("dropping", on),
  });
  const drawn = drawingTools(stage.act);
  const mode = modes((name) => {
    if (name === model.get("mode")) return;
    choose("mode", name);
    if (name === "move" && gone().length) choose("gone", []);
    if (name === "take") stage.hint("Paint over what you think matters");
    else stage.hint("", 0);
  });
  const away = takingTools((which) => {
    const base = asking.result();
    if (which === "back") choose("gone", []);
    else if (base) choose("gone", [...gone(), ...nextTen(which, base.maps[measure()], gone())]);
  });
  const swatches = data.backgrounds.map((name) => {
    const made = element(
      "button",
      {
        type: "button",
        class: "swatch",
        name: "background",
        "data-value": name,
        "aria-label": `Background: ${name}`,
        title: name,
      },
      element("canvas", { width: 56, height: 56 }),
    );
    made.addEventListener("click", () => {
      if (model.get("picture")) choose("picture", null);
      choose("background", name);
    });
    return made;
  });
  const grounds = element("div", { class: "grounds moving", role: "group", "aria-label": "Background" }, ...swatches);
  const hide = element("button", { type: "button", name: "show_map" });
  hide.addEventListener("click", () => choose("show_map", !model.get("show_map")));

  const title = element("h2");
  const first = invitation(objects().map(({ sprite }) => called(sprite)));
  const lead = element(
    "p",
    { class: "lead" },
    `${first}, and watch the model change its mind, and its reasons. It is a real Vision Transformer, and it runs inside this page.`,
  );
  const [says, verdict, loss] = [
    element("span", { class: "says" }),
    element("p", { class: "verdict" }),
    element("p", { class: "verdict" }),
  ];
  const [pace, alarm] = [element("p", { class: "tiny pace" }), element("p", { class: "alarm", role: "alert" })];
  const spoken = element("p", { class: "spoken", "aria-live": "polite" });
  root.append(
    element(
      "div",
      { class: "scene-table" },
      title,
      lead,
      element(
        "div",
        { class: "table" },
        element("div", { class: "place" }, stage.node),
        answer.node,
        maps.node,
        element("div", { class: "found" }, verdict, loss, pace, alarm, spoken),
        element(
          "div",
          { class: "tools" },
          element(
            "div",
            { class: "bar" },
            mode.node,
            drawn.node,
            away.node,
            element("span", { class: "gap" }),
            grounds,
            choosing,
            file,
            hide,
          ),
          shelf.node,
          lost.node,
        ),
      ),
    ),
  );

  // ---- drawing ----

  const little = element("canvas", { width: LITTLE, height: LITTLE });
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let speaking;
  let lastSaid = "";

  /** What lies below the drawings, as sharp as it is known. @param {Sheet} from */
  function groundNow(from) {
    const below = picture();
    if (!below) return from.background(model.get("background")).canvas;
    const same = own?.seen.data.every((value, i) => value === below.pixels[i]);
    return own && same ? own.bitmap : below.canvas;
  }

  /** @param {Sheet} from @param {Result | null} result */
  function paintStage(from, result) {
    const side = Math.round(stage.canvas.clientWidth * Math.min(2, devicePixelRatio || 1));
    if (!side) return;
    if (stage.canvas.width !== side) [stage.canvas.width, stage.canvas.height] = [side, side];
    const context = contextOf(stage.canvas);
    paintScene(context, side, groundNow(from), objects(), (sprite) => from.drawing(sprite).canvas);
    if (result && model.get("show_map")) {
      const signed = model.get("method") === "difference";
      mute(context, side, LESS);
      paintMap(context, side, result.maps[model.get("method")], signed ? tables.differences : tables.colours, signed);
    }
    paintHoles(context, side, gone());
    const cursor = stage.cursor();
    if (cursor !== null) paintFrame(context, side, cursor);
  }

  /** What the answer was painted for: while a drawing is dragged, the scene changes more often than the answer. @type {unknown[]} */
  let paintedFor = [];

  /** @param {Sheet} from @param {Result} result @param {Shown} about */
  function paintAnswer(from, result, about) {
    const now = [result, about, model.get("method"), model.get("target"), gone(), asking.log(), picture()];
    if (now.every((one, i) => one === paintedFor[i])) return;
    paintedFor = now;
    const base = asking.base() ?? result;
    const name = classes[result.index];
    const cover = coverOf(about.drawn.owner, (k) => classOf(about.objects[k].sprite) === result.index);
    const there = new Set(about.objects.map(({ sprite }) => classOf(sprite)));
    const asked = result.index === result.top ? ["Why did it say ", name, "?"] : ["What speaks for ", name, "?"];
    writeTitle(title, /** @type {[string, string, string]} */ (asked));
    answer.paint(result.odds, result.index, model.get("target") !== null, (k) => there.has(k));
    const on = cover.area ? (/** @type {Float32Array} */ map) => shareOn(map, cover.patches) : null;
    paintScene(contextOf(little), LITTLE, groundNow(from), about.objects, (sprite) => from.drawing(sprite).canvas);
    maps.paint(result.maps, name, model.get("method"), on, little, gone());
    const lies = cover.area ? { on: shareOn(result.maps[measure()], cover.patches), area: cover.area } : null;
    write(says, `${likeliest(result, classes)} `);
    writePieces(verdict, verdictOf(model.get("method"), name, lies, classes[result.top], picture() !== null));
    verdict.prepend(says);
    const log = asking.log();
    writePieces(loss, lossOf(log, classes[base.index], base.odds[base.index], result.odds[base.index], ACROSS ** 2));
    lost.paint(log, classes[base.index]);
    const last = log.at(-1);
    stage.say(last ? [`map said ${percent(last.said)}`, `${classes[base.index]} ${points(last.did)}`] : []);
    const sorted = [...speed.took].sort((a, b) => a - b);
    if (sorted.length) write(pace, speedOf(sorted[sorted.length >> 1], speed.came.length));
  }

  function paint() {
    const result = asking.result();
    const inMode = taking();
    mode.paint(model.get("mode"));
    for (const [node, on] of /** @type {[HTMLElement, boolean][]} */ ([
      [away.node, inMode],
      [loss, inMode],
      [lost.node, inMode],
      [drawn.node, !inMode],
      [grounds, !inMode],
      [shelf.node, !inMode],
      [verdict, !inMode],
      [pace, !inMode],
    ]))
      node.hidden = !on;
    for (const [k, one] of swatches.entries())
      press(one, !picture() && data.backgrounds[k] === model.get("background"));
    write(hide, model.get("show_map") ? "Hide map" : "Show map");
    press(hide, model.get("show_map"));
    const now = asking.result();
    stage.paint((patch) => (now ? `, ${percent(now.maps[measure()][patch])} of the map` : ""));
    drawn.paint(stage.selected() >= 0);
    if (sheet) {
      paintStage(sheet, result);
      if (result && answered) paintAnswer(sheet, result, answered);
    }
    write(alarm, trouble);
    alarm.hidden = !trouble;
    asking.drive();
    speakLater();
    root.dataset.painted = JSON.stringify([objects(), model.get("background"), model.get("method"), gone()]);
    assign(root, "data-settled", asking.settled());
  }

  /** Reads out what has come to rest, not every state that is passed over. */
  function speakLater() {
    clearTimeout(speaking);
    speaking = setTimeout(() => {
      const text = (taking() ? loss : verdict).textContent ?? "";
      if (!asking.settled() || text === lastSaid) return;
      lastSaid = text;
      write(spoken, text);
    }, REST);
  }

  // ---- the reader's own picture, and the start ----

  /** @param {File} file */
  async function take(file) {
    try {
      const seen = await seenIn({ name: file.name, file }, preparing);
      own?.bitmap.close();
      own = seen;
    } catch (error) {
      trouble = error instanceof Error ? error.message : String(error);
      return repaint();
    }
    trouble = "";
    const view = new DataView(Uint8Array.from(own.seen.data).buffer);
    if (gone().length) choose("gone", []);
    choose("target", null);
    choose("objects", []);
    choose("picture", view);
    stage.hint(`It knows drawings of ${classes.length} things. Here it guesses.`, 4000);
  }

  const sizes = new ResizeObserver(repaint);
  sizes.observe(stage.node);
  for (const trait of ["objects", "background", "picture", "target", "method", "mode", "gone", "show_map"])
    follow(trait);

  stage.hint("Loading the model", 0);
  sheetOf(data)
    .then((opened) => {
      sheet = opened;
      shelf.fill((k) => opened.drawing(data.drawings[k][0]).canvas);
      for (const [k, one] of swatches.entries()) {
        const [canvas] = one.getElementsByTagName("canvas");
        contextOf(canvas).drawImage(opened.background(data.backgrounds[k]).canvas, 0, 0, 56, 56);
      }
      repaint();
      if (closed) return { without: "" }; // nobody is looking any more
      return engine.open();
    })
    .then(({ without }) => {
      ready = true;
      if (without)
        stage.hint("This browser computes without WebAssembly: each answer takes several times as long", 8000);
      else if (!taking()) stage.hint(first, 0);
      repaint();
    })
    .catch((error) => {
      trouble = error.message;
      stage.hint("", 0);
      repaint();
    });
  return {
    paint,
    close() {
      closed = true;
      sizes.disconnect();
      clearTimeout(speaking);
      stage.close();
      endInput();
      engine.close();
    },
  };
}

/**
 * A sentence whose every other piece stands out.
 * @param {HTMLElement} node
 * @param {string[]} pieces
 */
function writePieces(node, pieces) {
  if (node.dataset.pieces === pieces.join("|")) return;
  node.dataset.pieces = pieces.join("|");
  node.replaceChildren(...pieces.map((piece, i) => (i % 2 ? element("b", {}, piece) : piece)));
}

export default widget("TokenTM scene table", build);

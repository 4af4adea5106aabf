// The layer stepper. The traits are the state; this module draws it and writes the user's choices back.
// Nothing here waits for the kernel: all maps arrive once, as bytes (see payload.py for their shapes).

const CELLS = 336; // canvas pixels along the longer side
const STEP_MS = 800; // one layer while playing
const HEAT = 0.8; // opacity of a map over the picture

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
// float32 data may start at any byte of a message; a copy is aligned
const floats = (view) => new Float32Array(bytes(view).slice().buffer);

function readData(model) {
  const get = (name) => model.get(name);
  return {
    ...get("_meta"),
    colours: bytes(get("_colours")),
    attention: bytes(get("_attention")),
    attentionScale: floats(get("_attention_scale")),
    weight: floats(get("_weight")),
    lengthRatio: floats(get("_length_ratio")),
    cosine: floats(get("_cosine")),
    contribution: bytes(get("_contribution")),
    contributionScale: floats(get("_contribution_scale")),
  };
}

// ---- from bytes to rows over the patches; row 0 is the readout, row 1 + p is patch p ----

function decode(codes, scales, row, patches) {
  const factor = scales[row] / 255;
  return Float32Array.from(codes.subarray(row * patches, (row + 1) * patches), (code) => code * factor);
}

function mean(rows) {
  return rows[0].map((_, p) => rows.reduce((sum, row) => sum + row[p], 0) / rows.length);
}

function rowsOf(data, { layer, head, index, row }) {
  const patches = data.rows * data.columns;
  const image = data.imageOf[index];
  const heads = head === null ? [...Array(data.heads).keys()] : [head];
  const perHead = (values, h) => {
    const at = (image * data.layers + layer) * data.weightHeads + Math.min(h, data.weightHeads - 1);
    return values.subarray(at * patches, (at + 1) * patches);
  };
  const attention = heads.map((h) => {
    const at = ((image * data.layers + layer) * data.heads + h) * (patches + 1) + row;
    return decode(data.attention, data.attentionScale, at, patches);
  });
  const weight = heads.map((h) => perHead(data.weight, h));
  return {
    attention: mean(attention),
    weight: mean(weight),
    product: mean(attention.map((values, k) => values.map((value, p) => value * weight[k][p]))),
    contribution: decode(
      data.contribution, data.contributionScale, (index * data.layers + layer) * (patches + 1) + row, patches),
    lengthRatio: mean(heads.map((h) => perHead(data.lengthRatio, h))),
    cosine: mean(heads.map((h) => perHead(data.cosine, h))),
  };
}

const number = (value) =>
  value === 0 ? "0" : Math.abs(value) >= 0.01 && Math.abs(value) < 1000 ? value.toPrecision(2) : value.toExponential(1);

// ---- one panel: caption, canvas, colour bar with its two ends in numbers ----

function panel(name, title, hint, data) {
  const scale = Math.min(CELLS / data.columns, CELLS / (data.columns / data.aspect));
  const canvas = element("canvas", {
    width: Math.round(data.columns * scale), height: Math.round((data.columns / data.aspect) * scale),
    role: "img", "data-panel": name,
  });
  const [low, bar, high] = [element("span"), element("i"), element("span")];
  if (name !== "image") {
    const stops = [0, 64, 128, 192, 255].map((c) => `rgb(${data.colours.subarray(3 * c, 3 * c + 3).join(",")})`);
    bar.style.background = `linear-gradient(to right, ${stops.join(",")})`;
  }
  const caption = element("figcaption", { title: hint }, title);
  const cells = element("canvas", { width: data.columns, height: data.rows });
  return { name, title, canvas, cells, low, high, node: element(
    "figure", {}, caption, canvas, element("div", { class: "scale" }, low, ...(name === "image" ? [] : [bar]), high)) };
}

// A picture at the size of a panel, drawn once; grey, so that all colour in a panel means a number.
function backdrop(picture, { width, height }, grey) {
  const canvas = element("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0, width, height);
  if (grey) {
    context.globalCompositeOperation = "saturation"; // Safari has no canvas filters
    context.fillStyle = "#808080";
    context.fillRect(0, 0, width, height);
  }
  return canvas;
}

function drawBackdrop(context, shown) {
  context.fillStyle = "#808080";
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  if (shown) context.drawImage(shown, 0, 0);
}

function drawMap(view, values, shown, data) {
  const context = view.canvas.getContext("2d");
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const small = view.cells.getContext("2d");
  const pixels = small.createImageData(data.columns, data.rows);
  const range = high > low ? 255 / (high - low) : 0;
  values.forEach((value, p) => {
    const colour = 3 * Math.round((value - low) * range);
    pixels.data.set(data.colours.subarray(colour, colour + 3), 4 * p);
    pixels.data[4 * p + 3] = 255;
  });
  small.putImageData(pixels, 0, 0);
  drawBackdrop(context, shown);
  context.globalAlpha = shown ? HEAT : 1;
  context.imageSmoothingEnabled = false;
  context.drawImage(view.cells, 0, 0, view.canvas.width, view.canvas.height);
  context.globalAlpha = 1;
  view.low.textContent = number(low);
  view.high.textContent = number(high);
}

function outline(canvas, patch, data) {
  if (patch === null) return;
  const [w, h] = [canvas.width / data.columns, canvas.height / data.rows];
  const [x, y] = [(patch % data.columns) * w, Math.floor(patch / data.columns) * h];
  const context = canvas.getContext("2d");
  for (const [colour, inset, width] of [["#000", 0, 3], ["#fff", 2, 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.strokeRect(x + inset, y + inset, w - 2 * inset, h - 2 * inset);
  }
}

// the patch with the largest value; `aside` is the patch left out, or null
function largest(values, aside) {
  return values.reduce((top, value, p) => (p !== aside && (top < 0 || value > values[top]) ? p : top), -1);
}

function where(patch, data) {
  return `row ${Math.floor(patch / data.columns) + 1}, column ${(patch % data.columns) + 1}`;
}

// ---- playing belongs to the model: two views of one widget must not step twice ----

const viewsOf = new WeakMap();

function initialize({ model }) {
  let timer = null;
  const step = () => {
    model.set("layer", (model.get("layer") + 1) % model.get("_meta").layers);
    model.save_changes();
  };
  const follow = () => {
    clearInterval(timer);
    timer = model.get("playing") ? setInterval(step, STEP_MS) : null;
  };
  model.on("change:playing", follow);
  follow();
  return () => {
    clearInterval(timer);
    model.off("change:playing", follow);
  };
}

// ---- one view ----

function render({ model, el }) {
  const data = readData(model);
  const patches = data.rows * data.columns;
  const root = element("div", { class: "tokentm", role: "group", "aria-label": "TokenTM layer stepper" });

  const option = (value, text) => element("option", { value }, text);
  const chance = (i) => (data.probabilities ? ` (${(100 * data.probabilities[i]).toFixed(1)} %)` : "");
  const explained = element("select", { name: "index" }, ...data.names.map((name, i) => option(i, name + chance(i))));
  const head = element("select", { name: "head" }, option("", `mean of ${data.heads} heads`),
    ...[...Array(data.heads).keys()].map((h) => option(h, `head ${h + 1}`)));
  const slider = element("input", { type: "range", name: "layer", min: 0, max: data.layers - 1, step: 1 });
  const shownLayer = element("span", { class: "shown" });
  const play = element("button", { type: "button", name: "play" });
  const reset = element("button", { type: "button", name: "reset", title: "Show again what the readout takes" }, "Readout");
  const status = element("div", { class: "status", "aria-live": "polite" });
  const views = [
    panel("image", "Image", "The picture. Hover, click or use the arrow keys to see the row of one patch.", data),
    panel("attention", "Attention A", "How much each patch is attended to in this layer", data),
    panel("weight", "Transformation W", "Length ratio times direction weight of each patch's transformed token", data),
    panel("product", "Product A · W", "Attention weighted by the transformation, before the gradient picks out what speaks for the class", data),
    panel("contribution", "Contribution so far", "TokenTM from the first layer up to this one. A chosen patch's own cell is left out of the scale.", data),
  ];
  const picker = views[0].canvas;
  picker.setAttribute("tabindex", "0");
  picker.setAttribute("role", "application");
  root.append(
    element("div", { class: "controls" },
      element("label", {}, data.choice, explained), element("label", {}, "Head", head),
      element("label", { class: "layer" }, "Layer", slider, shownLayer), play, reset),
    element("div", { class: "panels" }, ...views.map((view) => view.node)), status);
  el.replaceChildren(root);

  // pictures arrive as data URLs; maps are drawn without them until they are decoded
  const colour = [];
  const grey = [];
  model.get("_pictures").forEach((url, i) => {
    const picture = new Image();
    picture.src = url;
    picture.decode().then(() => {
      colour[i] = backdrop(picture, picker, false);
      grey[i] = backdrop(picture, picker, true);
      repaint();
    }, (error) => { status.textContent = `The picture could not be shown: ${error.message}`; });
  });

  let hovered = null;
  let queued = 0;
  const state = () => {
    const patch = hovered ?? model.get("patch");
    return { layer: model.get("layer"), head: model.get("head"), index: model.get("index"), patch,
      row: patch === null ? 0 : patch + 1 };
  };

  function describe(now, maps) {
    const at = now.patch;
    const from = at === null ? `the readout (${data.readout})` : `the patch at ${where(at, data)}`;
    const top = largest(maps.contribution, at);
    const parts = [`Layer ${now.layer + 1} of ${data.layers}, seen from ${from}. ` +
      `Largest contribution ${at === null ? "" : "of another patch "}so far: ${where(top, data)}.`];
    if (at !== null) parts.push(`This patch: transformation weight ${number(maps.weight[at])} ` +
      `(length ratio ${number(maps.lengthRatio[at])}, cosine ${number(maps.cosine[at])}).`);
    return parts.join(" ");
  }

  function paint() {
    queued = 0;
    const now = state();
    const maps = rowsOf(data, now);
    const shown = model.get("_pictures").length === 1 ? 0 : now.index;
    drawBackdrop(picker.getContext("2d"), colour[shown]);
    for (const view of views.slice(1)) {
      drawMap(view, maps[view.name], grey[shown], data);
      const top = largest(maps[view.name], view.name === "contribution" ? now.patch : null);
      view.canvas.setAttribute("aria-label", `${view.title}, layer ${now.layer + 1}: largest at ${where(top, data)}`);
    }
    for (const view of views) outline(view.canvas, now.patch, data);
    slider.value = now.layer;
    slider.setAttribute("aria-valuetext", `layer ${now.layer + 1} of ${data.layers}`);
    shownLayer.textContent = `${now.layer + 1} of ${data.layers}`;
    head.value = now.head === null ? "" : now.head;
    explained.value = now.index;
    play.textContent = model.get("playing") ? "❚❚ Pause" : "▶ Play";
    // spoken when something was chosen; not for every patch passed over, nor at every beat
    status.setAttribute("aria-live", hovered !== null || model.get("playing") ? "off" : "polite");
    reset.disabled = now.patch === null;
    picker.setAttribute("aria-label", "Patch picker: arrow keys move, Escape returns to the readout. " +
      (now.patch === null ? "No patch chosen" : where(now.patch, data)));
    const text = describe(now, maps);
    if (status.textContent !== text) status.textContent = text;
    root.dataset.painted = [now.layer, now.head, now.index, now.patch, Boolean(colour[shown])].join(" ");
  }

  function repaint() {
    queued ||= requestAnimationFrame(paint);
  }

  function choose(name, value) {
    model.set(name, value);
    model.save_changes();
  }

  // ---- the user's hands ----
  slider.addEventListener("input", () => choose("layer", Number(slider.value)));
  head.addEventListener("change", () => choose("head", head.value === "" ? null : Number(head.value)));
  explained.addEventListener("change", () => choose("index", Number(explained.value)));
  play.addEventListener("click", () => choose("playing", !model.get("playing")));
  reset.addEventListener("click", () => { hovered = null; choose("patch", null); picker.focus(); repaint(); });

  const under = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * data.columns);
    const row = Math.floor(((event.clientY - box.top) / box.height) * data.rows);
    const inside = column >= 0 && row >= 0 && column < data.columns && row < data.rows;
    return inside ? row * data.columns + column : null;
  };
  for (const { canvas } of views) {
    canvas.addEventListener("pointermove", (event) => {
      if (hovered !== under(event)) { hovered = under(event); repaint(); }
    });
    canvas.addEventListener("pointerleave", () => { hovered = null; repaint(); });
    canvas.addEventListener("click", (event) => choose("patch", under(event)));
  }
  picker.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -data.columns, ArrowDown: data.columns };
    if (event.key === "Escape") choose("patch", null);
    else if (event.key in moves) {
      const from = model.get("patch");
      const to = from === null ? Math.floor(data.rows / 2) * data.columns + Math.floor(data.columns / 2)
        : from + moves[event.key];
      const sideways = Math.abs(moves[event.key]) === 1;
      const leaves = from !== null && sideways && Math.floor(to / data.columns) !== Math.floor(from / data.columns);
      if (to >= 0 && to < patches && !leaves) choose("patch", to);
    } else return;
    event.preventDefault();
  });
  // JupyterLab takes arrow keys, Escape and letters for itself unless they stay inside the widget
  root.addEventListener("keydown", (event) => {
    if (!event.ctrlKey && !event.metaKey && !(event.shiftKey && event.key === "Enter")) event.stopPropagation();
  });

  // ---- the state, from wherever it changes ----
  const followed = ["layer", "head", "index", "patch", "playing"];
  for (const name of followed) model.on(`change:${name}`, repaint);
  viewsOf.set(model, (viewsOf.get(model) ?? 0) + 1);
  repaint();
  return () => {
    cancelAnimationFrame(queued);
    viewsOf.set(model, viewsOf.get(model) - 1);
    if (!viewsOf.get(model) && model.get("playing")) choose("playing", false); // nobody is looking any more
    for (const name of followed) model.off(`change:${name}`, repaint);
  };
}

export default { initialize, render };

// What all widgets share: elements, numbers, maps over a picture, playing, and the life of a view.
// Every widget's file follows this one in the same module (see front_end in base.py).

function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function drawing(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const range = (count) => [...Array(count).keys()];

// Text and values that are the same already are left alone: the browser lays out again whatever is written.
const write = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const put = (control, value) => { if (control.value !== String(value)) control.value = value; };

// ---- from bytes to numbers ----

const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
// numbers of several bytes may start anywhere in a message; a copy is aligned
const floats = (view) => new Float32Array(bytes(view).slice().buffer);
const shorts = (view) => new Int16Array(bytes(view).slice().buffer);

// rows sent as bytes between the exact ends of each row (see quantise in payload.py)
function codedRows({ codes, low, high }) {
  const coded = { codes: bytes(codes), low: floats(low), high: floats(high) };
  return (row, length) => {
    const [from, step] = [coded.low[row], (coded.high[row] - coded.low[row]) / 255];
    const values = new Float32Array(length);
    for (let p = 0; p < length; p++) values[p] = from + coded.codes[row * length + p] * step;
    return values;
  };
}

function mean(rows) {
  if (rows.length === 1) return rows[0];
  const sum = new Float32Array(rows[0].length);
  for (const row of rows) for (let p = 0; p < sum.length; p++) sum[p] += row[p] / rows.length;
  return sum;
}

const number = (value) => value === 0 ? "0"
  : Math.abs(value) >= 0.01 && Math.abs(value) < 1000 ? value.toPrecision(3) : value.toExponential(1);
const percent = (share) => `${(100 * share).toFixed(1)} %`;

// lowest and highest value; `aside` is an index left out, or null
function extent(values, aside = null) {
  let [low, high] = [Infinity, -Infinity];
  for (let p = 0; p < values.length; p++) {
    if (p === aside) continue;
    if (values[p] < low) low = values[p];
    if (values[p] > high) high = values[p];
  }
  return [low, high];
}

const extentOf = (rows) => rows.reduce(
  ([low, high], values) => { const [a, b] = extent(values); return [Math.min(low, a), Math.max(high, b)]; },
  [Infinity, -Infinity]);

function largest(values, aside = null) {
  let top = -1;
  for (let p = 0; p < values.length; p++) if (p !== aside && (top < 0 || values[p] > values[top])) top = p;
  return top;
}

// what was explained, with its probability where there is one, else with the score itself
const named = (data, index) => `${data.names[index]} (` +
  `${data.probabilities ? percent(data.probabilities[index]) : number(data.answers[index])})`;

const where = (patch, grid) => `row ${Math.floor(patch / grid.columns) + 1}, column ${(patch % grid.columns) + 1}`;

// ---- colours: 256 of them, 3 bytes each ----

const colourAt = (table, share) => {
  const at = 3 * Math.round(255 * Math.min(1, Math.max(0, share)));
  return `rgb(${table[at]},${table[at + 1]},${table[at + 2]})`;
};

const ramp = (table) =>
  `linear-gradient(to right, ${range(9).map((i) => colourAt(table, i / 8)).join(",")})`;

// ---- pictures ----

// The pictures of a widget, decoded once and drawn once at the size of a panel: in colour and in grey, so that all
// colour over the grey one means a number. `ready` is called whenever one more can be drawn.
function loadPictures(urls, grid, ready, failed) {
  const { width, height } = panelSize(grid);
  const loaded = { colour: [], grey: [], count: urls.length };
  urls.forEach((url, i) => {
    const picture = new Image();
    picture.src = url;
    picture.decode().then(() => {
      loaded.colour[i] = backdrop(picture, width, height, false);
      loaded.grey[i] = backdrop(picture, width, height, true);
      ready();
    }, (error) => failed(`The picture could not be shown: ${error.message}`));
  });
  return loaded;
}

// Canvas pixels: what no screen shows costs time in every frame. The longer side has 16 to a patch, within bounds.
function panelSize({ rows, columns, aspect }) {
  const longer = globalThis.devicePixelRatio > 1 ? 336 : Math.min(336, Math.max(224, 16 * Math.max(rows, columns)));
  const scale = longer / Math.max(columns, columns * (aspect ?? rows / columns));
  return { width: Math.round(columns * scale), height: Math.round(columns * (aspect ?? rows / columns) * scale) };
}

function backdrop(picture, width, height, grey) {
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

// ---- a map: caption, canvas, colour bar with its two ends and the value pointed at, in numbers ----

function mapPanel(name, title, hint, grid, bar = true) {
  const { width, height } = panelSize(grid);
  const canvas = element("canvas", { width, height, role: "img", "aria-label": title, "data-panel": name });
  const cells = element("canvas", { width: grid.columns, height: grid.rows });
  const [low, ramped, high, here] = [element("span"), element("i"), element("span"), element("span", { class: "here" })];
  const caption = element("figcaption", { title: hint }, title);
  const node = element("figure", {}, caption, canvas, bar ? element("div", { class: "scale" }, low, ramped, high) : "", here);
  const context = canvas.getContext("2d");
  let table = null;
  return {
    name, title, canvas, node, caption, here,
    drawPicture(shown) {
      if (shown) return context.drawImage(shown, 0, 0); // pictures have no holes
      context.fillStyle = "#808080";
      context.fillRect(0, 0, width, height);
    },
    drawMap(values, [from, to], colours, shown, opacity) {
      const small = cells.getContext("2d");
      const pixels = small.createImageData(grid.columns, grid.rows);
      const factor = to > from ? 255 / (to - from) : 0;
      for (let p = 0; p < values.length; p++) {
        const at = 3 * Math.min(255, Math.max(0, Math.round((values[p] - from) * factor)));
        pixels.data[4 * p] = colours[at];
        pixels.data[4 * p + 1] = colours[at + 1];
        pixels.data[4 * p + 2] = colours[at + 2];
        pixels.data[4 * p + 3] = 255;
      }
      small.putImageData(pixels, 0, 0);
      this.drawPicture(shown);
      context.globalAlpha = shown ? opacity : 1;
      context.imageSmoothingEnabled = false;
      const [down, right] = shiftOf(grid); // a map lies where tokens look; what leaves the picture is cut off
      context.drawImage(cells, (right * width) / grid.columns, (down * height) / grid.rows, width, height);
      context.globalAlpha = 1;
      if (table !== colours) ramped.style.background = ramp(table = colours);
      write(low, number(from));
      write(high, number(to));
    },
    // patches that are gone
    hide(patches) {
      context.fillStyle = "#808080";
      for (const patch of patches) context.fillRect(...cell(patch));
    },
    outline(patch, dashed = false) {
      if (patch === null) return;
      const [x, y, w, h] = cell(patch);
      if (!w || !h) return; // looks past the edge of the picture
      context.setLineDash(dashed ? [4, 3] : []);
      for (const [colour, inset, line] of [["#000", 0, 3], ["#fff", 2, 2]]) {
        context.strokeStyle = colour;
        context.lineWidth = line;
        context.strokeRect(x + inset, y + inset, w - 2 * inset, h - 2 * inset);
      }
    },
    cell,
    context,
  };

  function cell(patch) {
    const [down, right] = shiftOf(grid);
    const [left, top] = [((patch % grid.columns) + right) / grid.columns,
      (Math.floor(patch / grid.columns) + down) / grid.rows];
    const across = (share) => Math.round(Math.min(1, Math.max(0, share)) * width);
    const downwards = (share) => Math.round(Math.min(1, Math.max(0, share)) * height);
    const [x, y] = [across(left), downwards(top)];
    return [x, y, across(left + 1 / grid.columns) - x, downwards(top + 1 / grid.rows) - y];
  }
}

// in place of a method's panel: why it cannot read this record
const failed = (data) => Object.entries(data.failures).map(([name, reason]) => element("figure",
  { class: "failed", "data-failed": name }, element("figcaption", { title: name }, name), element("p", {}, reason)));

// how far down and to the right of its patch a token looks, in patches
const shiftOf = (grid) => grid.offset ?? [0, 0];

// the patch whose token looks at the place under the pointer, or null
function under(event, grid) {
  const box = event.currentTarget.getBoundingClientRect();
  const [down, right] = shiftOf(grid);
  const column = Math.floor(((event.clientX - box.left) / box.width) * grid.columns - right);
  const row = Math.floor(((event.clientY - box.top) / box.height) * grid.rows - down);
  const inside = column >= 0 && row >= 0 && column < grid.columns && row < grid.rows;
  return inside ? row * grid.columns + column : null;
}

// Makes a map's canvas the place where a patch is chosen by keyboard: arrows move, Escape lets go.
function pickByKeys(canvas, grid, current, choose) {
  canvas.setAttribute("tabindex", "0");
  canvas.setAttribute("role", "application");
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.columns, ArrowDown: grid.columns };
    if (event.key === "Escape") choose(null);
    else if (event.key in moves) {
      const from = current();
      const to = from === null ? Math.floor(grid.rows / 2) * grid.columns + Math.floor(grid.columns / 2)
        : from + moves[event.key];
      const sideways = Math.abs(moves[event.key]) === 1 && grid.columns > 1;
      const leaves = from !== null && sideways && Math.floor(to / grid.columns) !== Math.floor(from / grid.columns);
      if (to >= 0 && to < grid.rows * grid.columns && !leaves) choose(to);
    } else return;
    event.preventDefault();
  });
}

// ---- controls ----

function labelled(text, control, ...after) {
  return element("label", {}, text, control, ...after);
}

function choices(name, texts, values = range(texts.length)) {
  return element("select", { name }, ...texts.map((text, i) => element("option", { value: values[i] }, text)));
}

function slider(name, min, max, step = 1) {
  return element("input", { type: "range", name, min, max, step });
}

function button(name, text, hint = "") {
  return element("button", { type: "button", name, ...(hint && { title: hint }) }, text);
}

const playing = (model) => (model.get("playing") ? "❚❚ Pause" : "▶ Play");

// ---- playing belongs to the model, not to a view: two views of one widget must not step twice ----

function beat(model, step) {
  let timer = null;
  const follow = () => {
    clearInterval(timer);
    timer = model.get("playing") ? setInterval(step, 1000 / model.get("speed")) : null;
  };
  for (const name of ["playing", "speed"]) model.on(`change:${name}`, follow);
  follow();
  return () => {
    clearInterval(timer);
    for (const name of ["playing", "speed"]) model.off(`change:${name}`, follow);
  };
}

// ---- what the user chose belongs to the widget, too ----

// The kernel hears of it after the next frame, since its answers keep JupyterLab busy. Until then a choice outlives
// what comes in between: the kernel's echo of the choice before would set the view back.
function userOf(widget, model) {
  if (widget.user) return widget.user;
  const chosen = new Map();
  let saving = 0;
  const user = {
    choose(name, value) {
      chosen.set(name, value);
      model.set(name, value);
      saving ||= setTimeout(user.save, 25);
    },
    insist() {
      for (const [name, value] of chosen) if (model.get(name) !== value) model.set(name, value);
    },
    forget: () => chosen.clear(),
    save() {
      if (!saving) return;
      clearTimeout(saving);
      saving = 0;
      chosen.clear();
      model.save_changes();
    },
  };
  return (widget.user = user);
}

// ---- the life of one view ----

// `build(root, tools)` fills the root and returns {followed, paint}: the names of the traits that are drawn, and the
// function that draws them. It is called again when the widget gets other data. `widget` is what all views of one widget
// share: each view has a model object of its own.
function mount({ model, el, widget }, label, build) {
  const root = element("div", { class: "tokentm", role: "group", "aria-label": label });
  el.replaceChildren(root);
  let [queued, drawn, closed] = [false, false, false]; // drawn: since the last frame
  let view = null;
  // Drawn in the task of the key press, before the browser's next frame, so that waiting for it is not lost; what else
  // changes until then is drawn once, in the frame. At first, and with a new theme, only the frame knows the styles.
  const inFrame = () => {
    if (queued) return;
    queued = true;
    requestAnimationFrame(draw);
  };
  const draw = () => {
    queued = false;
    if (closed) return;
    drawn = true;
    requestAnimationFrame(() => { drawn = false; });
    view?.paint();
  };
  const user = userOf(widget, model);
  const tools = {
    choose: user.choose,
    repaint() {
      if (drawn || !root.isConnected) return inFrame();
      if (queued) return;
      queued = true;
      queueMicrotask(draw);
    },
  };
  const changed = () => {
    user.insist();
    tools.repaint();
  };
  const close = () => {
    for (const name of view?.followed ?? []) model.off(`change:${name}`, changed);
    view?.close?.();
  };
  const rebuild = () => {
    close();
    user.forget(); // it was chosen among other data
    delete root.dataset.painted;
    root.replaceChildren();
    view = build(root, tools);
    for (const name of view.followed) model.on(`change:${name}`, changed);
    inFrame();
  };
  // Arrow keys, Escape and letters are the widget's own. JupyterLab listens behind it and takes what it lets pass;
  // Notebook 7 listens before it and takes what is not marked.
  const own = (event) => !event.ctrlKey && !event.metaKey && !(event.shiftKey && event.key === "Enter");
  const mark = (event) => {
    if (root.contains(event.target)) event.target.toggleAttribute("data-lm-suppress-shortcuts", own(event));
  };
  addEventListener("keydown", mark, { capture: true });
  root.addEventListener("keydown", (event) => { if (own(event)) event.stopPropagation(); });
  // what is written on a canvas keeps its colour until it is drawn again; hosts switch themes by attributes
  const themes = new MutationObserver(inFrame);
  const watched = ["class", "theme", "data-jp-theme-light", "data-jp-theme-name"];
  for (const node of [document.documentElement, document.body]) themes.observe(node, { attributeFilter: watched });
  const wish = matchMedia("(prefers-color-scheme: dark)");
  wish.addEventListener("change", inFrame);
  widget.views = (widget.views ?? 0) + 1;
  model.on("change:_data", rebuild);
  rebuild();
  return () => {
    closed = true;
    removeEventListener("keydown", mark, { capture: true });
    themes.disconnect();
    wish.removeEventListener("change", inFrame);
    model.off("change:_data", rebuild);
    close();
    widget.views -= 1;
    if (!widget.views && model.get("playing")) user.choose("playing", false); // nobody is looking any more
    user.save();
  };
}

// Layers x heads x classes: attention, transformation and its two factors, update, contribution so far.
// The traits are the state; this draws it and writes the user's choices back. Only the patch rows of a single head are
// asked from the kernel; everything else arrived with the widget (see payload.py for the shapes).

const LayerStepper = (() => {
  const ASK = 3000; // milliseconds after which an unanswered question is called unanswered

  const PANELS = [
    ["attention", "Attention A", "How much is taken from each patch in this layer"],
    ["weight", "Transformation W", "Length ratio times NECC of each patch's transformed token"],
    ["product", "A · W", "Attention weighted by the transformation"],
    ["update", "Update", "A · W where the gradient says that it speaks for the class: what this layer adds"],
    ["contribution", "Contribution so far", "TokenTM up to this layer. A chosen patch's own cell is left out of the scale."],
    ["ratio", "Length ratio", "L(T) / L(E): how much longer the transformed token is"],
    ["necc", "NECC", "Direction kept: the normalized exponential cosine correlation"],
  ];

  function read(model) {
    const sent = model.get("_data");
    const data = { ...sent, colours: bytes(sent.colours), patches: sent.rows * sent.columns, means: {} };
    for (const name of ["attention", "product", "update", "contribution"]) data[name] = codedRows(sent[name]);
    for (const name of ["attentionReadout", "updateReadout", "contributionReadout", "weight", "ratio", "cosine", "necc"])
      data[name] = floats(sent[name]);
    return data;
  }

  // ---- rows over the patches ----

  // one quantity of one layer, for the tokens (prefix first) or the patches alone; the mean over heads is kept
  function tokens(data, name, image, layer, head) {
    const count = data.prefix + data.patches;
    const of = (h) => {
      const at = ((image * data.layers + layer) * data.weightHeads + h) * count;
      return data[name].subarray(at, at + count);
    };
    if (head !== null) return of(Math.min(head, data.weightHeads - 1));
    return (data.means[[name, image, layer]] ??= mean(range(data.weightHeads).map(of)));
  }

  function readout(data, name, index, layer, head) {
    const heads = head === null ? range(data.heads) : [head];
    return heads.map((h) => {
      const at = ((index * data.layers + layer) * data.heads + h) * data.patches;
      return data[name].subarray(at, at + data.patches);
    });
  }

  const times = (a, b) => a.map((value, p) => value * b[p]);

  // The row of every panel, seen from the readout (patch null) or from a patch; undefined where it has not arrived.
  function rowsOf(data, held, { layer, head, index, patch }) {
    const image = data.imageOf[index];
    const of = (name) => tokens(data, name, image, layer, head).subarray(data.prefix);
    const rows = { weight: of("weight"), ratio: of("ratio"), necc: of("necc"), cosine: of("cosine") };
    const weights = (h) => tokens(data, "weight", image, layer, h).subarray(data.prefix);
    if (patch === null) {
      const attention = readout(data, "attentionReadout", image, layer, head);
      rows.attention = mean(attention);
      rows.product = mean(attention.map((row, h) => times(row, weights(head ?? h))));
      rows.update = mean(readout(data, "updateReadout", index, layer, head));
      const at = (index * data.layers + layer) * data.patches;
      rows.contribution = data.contributionReadout.subarray(at, at + data.patches);
      return rows;
    }
    const row = (k) => (k * data.layers + layer) * data.patches + patch;
    rows.contribution = data.contribution(row(index), data.patches);
    if (head === null) {
      rows.attention = data.attention(row(image), data.patches);
      rows.product = data.product(row(image), data.patches);
      rows.update = data.update(row(index), data.patches);
    } else if (held) {
      rows.attention = held.attention(row(0), data.patches);
      rows.product = times(rows.attention, rows.weight);
      rows.update = held.update(row(0), data.patches);
    }
    return rows;
  }

  // ---- single heads: with an exported page all are there; otherwise the kernel is asked, once each ----

  const answers = new WeakMap(); // data as sent -> {key: rows}, shared by the views of one widget

  function heads(model, data, changed) {
    const shared = answers.get(model.get("_data")) ?? {};
    answers.set(model.get("_data"), shared);
    const late = {};
    const key = (head, index) => `${head} ${index}`;
    const listen = (message, buffers) => {
      if (message?.kind !== "head") return;
      const [codes, low, high, updateCodes, updateLow, updateHigh] = buffers;
      shared[key(message.head, message.index)] = {
        attention: codedRows({ codes, low, high }),
        update: codedRows({ codes: updateCodes, low: updateLow, high: updateHigh }),
      };
      changed();
    };
    model.on("msg:custom", listen);
    return {
      get(head, index) {
        const at = key(head, index);
        if (head === null || shared[at]) return shared[at];
        const sent = data.held?.[at];
        if (sent) return (shared[at] = { attention: codedRows(sent.attention), update: codedRows(sent.update) });
        if (!(at in late)) {
          late[at] = false;
          try {
            model.send({ kind: "head", head, index });
            setTimeout(() => { late[at] = !shared[at]; changed(); }, ASK);
          } catch {
            late[at] = true; // JupyterLab throws where the kernel was shut down
          }
        }
        return undefined;
      },
      late: (head, index) => late[key(head, index)] && !shared[key(head, index)],
      close: () => model.off("msg:custom", listen),
    };
  }

  // ---- the scatter: one dot a token, length ratio against NECC, coloured by the weight ----

  const [WIDE, TALL, EDGE] = [336, 336, 34];

  // Where the weight is a quarter, half, three quarters of the largest, and the largest: a dot every 6 pixels, set one
  // by one, because a dashed line is drawn as slowly as all the maps together.
  function equalWeights([from, until], largestWeight, y) {
    const path = new Path2D();
    for (const share of [0.25, 0.5, 0.75, 1]) {
      let last = [0, 0];
      for (let cx = EDGE; cx <= WIDE - 6; cx += 0.25) {
        const cy = y((share * largestWeight) / (from + ((cx - EDGE) / (WIDE - EDGE - 6)) * (until - from)));
        if (!(cy >= 6 && cy <= TALL - EDGE) || (cx - last[0]) ** 2 + (cy - last[1]) ** 2 < 36) continue;
        path.rect(cx - 1, cy - 1, 2, 2);
        last = [cx, cy];
      }
    }
    return path;
  }

  function scatter(data) {
    const canvas = element("canvas", { width: WIDE, height: TALL, role: "img", "data-panel": "scatter" });
    const here = element("span", { class: "here" });
    const node = element("figure", {}, element("figcaption", {
      title: "Length ratio against NECC; along a dotted line the weight is the same. Squares are class and register tokens.",
    }, "W = ratio × NECC"), canvas, element("div", { class: "scale" }, "a dot a token, dotted: equal W"), here);
    let dots = [];
    let equal = {};
    return {
      canvas, node,
      draw(ratio, necc, weight, [from, to], ranges, marked, ink) {
        const context = canvas.getContext("2d");
        context.clearRect(0, 0, WIDE, TALL);
        const padded = ranges.map(([low, high]) => [0, high > low || high ? high * 1.06 : 1]).map((r, i) =>
          ranges[i][0] > 0.5 * ranges[i][1] ? [ranges[i][0] - 0.1 * (r[1] - ranges[i][0]), r[1]] : r);
        const [rx, ry] = padded;
        const x = (v) => EDGE + ((v - rx[0]) / (rx[1] - rx[0])) * (WIDE - EDGE - 6);
        const y = (v) => TALL - EDGE - ((v - ry[0]) / (ry[1] - ry[0])) * (TALL - EDGE - 6);
        context.strokeStyle = context.fillStyle = ink;
        context.lineWidth = 1;
        context.setLineDash([]);
        context.strokeRect(EDGE, 6, WIDE - EDGE - 6, TALL - EDGE - 6);
        context.font = "17px system-ui, sans-serif";
        context.textBaseline = "top";
        context.textAlign = "left";
        context.fillText(number(rx[0]), EDGE, TALL - EDGE + 8);
        context.textAlign = "center";
        context.fillText("length ratio", WIDE / 2, TALL - EDGE + 8);
        context.textAlign = "right";
        context.fillText(number(rx[1]), WIDE - 6, TALL - EDGE + 8);
        context.save();
        context.rotate(-Math.PI / 2);
        context.textAlign = "left";
        context.fillText(number(ry[0]), -(TALL - EDGE), 6);
        context.textAlign = "center";
        context.fillText("NECC", -TALL / 2, 6);
        context.textAlign = "right";
        context.fillText(number(ry[1]), -6, 6);
        context.restore();
        const key = [...rx, ...ry, to].join(" ");
        if (equal.key !== key) equal = { key, path: equalWeights(rx, to, y) };
        context.globalAlpha = 0.6;
        context.fill(equal.path);
        context.globalAlpha = 1;
        dots = range(ratio.length).map((t) => [x(ratio[t]), y(necc[t])]);
        for (let t = ratio.length - 1; t >= 0; t--) { // the few prefix tokens last, on top
          const [cx, cy] = dots[t];
          context.fillStyle = colourAt(data.colours, to > from ? (weight[t] - from) / (to - from) : 0);
          context.beginPath();
          if (t < data.prefix) context.rect(cx - 6, cy - 6, 12, 12);
          else context.arc(cx, cy, 4, 0, 2 * Math.PI);
          context.fill();
          if (t >= data.prefix) continue;
          for (const [colour, line] of [["#000", 5], ["#fff", 2]]) { // seen on any paper and among any dots
            context.strokeStyle = colour;
            context.lineWidth = line;
            context.stroke();
          }
        }
        context.strokeStyle = ink;
        for (const patch of marked) {
          if (patch === null) continue;
          const [cx, cy] = dots[data.prefix + patch];
          context.lineWidth = 3;
          context.beginPath();
          context.arc(cx, cy, 8, 0, 2 * Math.PI);
          context.stroke();
        }
      },
      // the patch whose dot lies nearest to the pointer, within reach, or null
      nearest(event) {
        const box = canvas.getBoundingClientRect();
        const at = [((event.clientX - box.left) / box.width) * WIDE, ((event.clientY - box.top) / box.height) * TALL];
        let [best, found] = [15 ** 2, null];
        dots.forEach(([cx, cy], t) => {
          const distance = (cx - at[0]) ** 2 + (cy - at[1]) ** 2;
          if (t >= data.prefix && distance < best) [best, found] = [distance, t - data.prefix];
        });
        return found;
      },
    };
  }

  // ---- one view ----

  function build(model, root, { choose, repaint }) {
    const data = read(model);
    const explained = choices("index", data.names.map((_, i) => named(data, i)));
    const head = choices("head", [`mean of ${data.heads} heads`, ...range(data.heads).map((h) => `head ${h + 1}`)],
      ["", ...range(data.heads)]);
    const layer = slider("layer", 0, data.layers - 1);
    const shownLayer = element("span", { class: "shown" });
    const play = button("play", "");
    const reset = button("reset", "Readout", "Show again what the readout takes");
    const speed = choices("speed", ["½ layer/s", "1 layer/s", "2 layers/s", "4 layers/s"], [0.5, 1, 2, 4]);
    const scale = choices("scale", ["of each layer", "of all layers"], ["layer", "common"]);
    const opacity = slider("opacity", 0, 1, 0.05);
    const status = element("div", { class: "status", "aria-live": "polite" });
    const image = mapPanel("image", "Image", "Hover, click or use the arrow keys to see what one patch takes", data, false);
    const panels = PANELS.map(([name, title, hint]) => mapPanel(name, title, hint, data));
    const dots = scatter(data);
    const picker = image.canvas;
    root.append(
      element("div", { class: "controls" }, labelled(data.choice, explained), labelled("Head", head),
        element("label", { class: "long" }, "Layer", layer, shownLayer), play, reset),
      element("div", { class: "panels" }, image.node, ...panels.map((panel) => panel.node), dots.node), status,
      element("div", { class: "controls" }, labelled("Speed", speed), labelled("Scale", scale),
        labelled("Opacity", opacity)));

    const pictures = loadPictures(data.pictures, data, repaint, (text) => { failure = text; repaint(); });
    const held = heads(model, data, repaint);
    let failure = "";
    let seen = null; // the patch whose row is looked at while the pointer is on the picture
    let pointed = null; // the patch pointed at in a map: its value is read in every panel
    let common = {};
    const state = () => ({
      layer: model.get("layer"), head: model.get("head"), index: model.get("index"), patch: seen ?? model.get("patch"),
    });

    function describe(now, rows) {
      const from = now.patch === null ? `the readout (${data.readout})` : `the patch at ${where(now.patch, data)}`;
      const said = [`Layer ${now.layer + 1} of ${data.layers}, seen from ${from}.`];
      const top = largest(rows.contribution, now.patch);
      said.push(`Largest contribution ${now.patch === null ? "" : "of another patch "}so far: ${where(top, data)}.`);
      if (now.patch !== null) said.push(`This patch: W ${number(rows.weight[now.patch])} = length ratio ` +
        `${number(rows.ratio[now.patch])} × NECC ${number(rows.necc[now.patch])} (cosine ${number(rows.cosine[now.patch])}).`);
      if (!rows.attention) said.push(held.late(now.head, now.index)
        ? `The kernel does not answer; without it a single head shows only what the readout takes.`
        : `Asking the kernel for head ${now.head + 1} …`);
      return said.concat(failure || []).join(" ");
    }

    // the ends of every panel's colours over all layers, kept while only the layer changes
    function commonEnds(now, answer) {
      const key = [now.head, now.index, now.patch, Boolean(answer)].join(" ");
      if (common.key !== key) {
        const layers = range(data.layers).map((layer) => rowsOf(data, answer, { ...now, layer }));
        common = { key };
        for (const name of Object.keys(layers[0]))
          common[name] = extentOf(layers.map((rows) => extent(rows[name], name === "contribution" ? now.patch : null)));
      }
      return common;
    }

    function paint() {
      const now = state();
      const ink = getComputedStyle(root).color; // before anything is written: styles are still known
      const answer = now.patch === null ? undefined : held.get(now.head, now.index);
      const rows = rowsOf(data, answer, now);
      const shared = model.get("scale") === "common" ? commonEnds(now, answer) : null;
      const picture = pictures.count === 1 ? 0 : now.index;
      const opaque = model.get("opacity");
      image.drawPicture(pictures.colour[picture]);
      for (const panel of panels) {
        const values = rows[panel.name];
        panel.node.classList.toggle("waiting", !values);
        if (!values) {
          panel.drawPicture(null);
          write(panel.here, "");
          continue;
        }
        const ends = shared?.[panel.name] ?? extent(values, panel.name === "contribution" ? now.patch : null);
        panel.drawMap(values, ends, data.colours, pictures.grey[picture], opaque);
        panel.outline(now.patch);
        panel.outline(pointed, true);
        write(panel.here, pointed === null ? "" : `here ${number(values[pointed])}`);
        panel.canvas.setAttribute("aria-label", `${panel.title}, layer ${now.layer + 1}: largest at ` +
          where(largest(values, panel.name === "contribution" ? now.patch : null), data));
      }
      image.outline(now.patch);
      image.outline(pointed, true);
      write(image.here, pointed === null ? "" : where(pointed, data));
      paintScatter(now, ink);
      put(layer, now.layer);
      layer.setAttribute("aria-valuetext", `layer ${now.layer + 1} of ${data.layers}`);
      write(shownLayer, `${now.layer + 1} of ${data.layers}`);
      put(head, now.head === null ? "" : now.head);
      put(explained, now.index);
      put(speed, model.get("speed"));
      put(scale, model.get("scale"));
      put(opacity, opaque);
      write(play, playing(model));
      // spoken when something was chosen; not for every patch passed over, nor at every beat
      status.setAttribute("aria-live", seen !== null || model.get("playing") ? "off" : "polite");
      reset.disabled = now.patch === null;
      picker.setAttribute("aria-label", "Patch picker: arrow keys move, Escape returns to the readout. " +
        (now.patch === null ? "No patch chosen" : where(now.patch, data)));
      const text = describe(now, rows);
      write(status, text);
      root.dataset.painted = [now.layer, now.head, now.index, now.patch, Boolean(pictures.colour[picture])].join(" ");
      root.dataset.complete = Boolean(rows.attention);
    }

    function paintScatter(now, ink) {
      const image = data.imageOf[now.index];
      const all = (layer) => ["ratio", "necc", "weight"].map((name) => tokens(data, name, image, layer, now.head));
      const [ratio, necc, weight] = all(now.layer);
      const layers = model.get("scale") === "common" ? range(data.layers).map(all) : [[ratio, necc, weight]];
      const ranges = range(3).map((k) => extentOf(layers.map((layer) => layer[k])));
      dots.draw(ratio, necc, weight, ranges[2], ranges.slice(0, 2), [now.patch, pointed], ink);
      const [top, low] = [largest(weight), largest(weight.map((w) => -w))];
      const tokenName = (t) => (t < data.prefix ? `prefix token ${t + 1}` : where(t - data.prefix, data));
      dots.canvas.setAttribute("aria-label", `Length ratio against NECC of all tokens, layer ${now.layer + 1}: ` +
        `the weight is largest for ${tokenName(top)}, smallest for ${tokenName(low)}`);
    }

    // ---- the user's hands ----
    layer.addEventListener("input", () => choose("layer", Number(layer.value)));
    head.addEventListener("change", () => choose("head", head.value === "" ? null : Number(head.value)));
    explained.addEventListener("change", () => choose("index", Number(explained.value)));
    speed.addEventListener("change", () => choose("speed", Number(speed.value)));
    scale.addEventListener("change", () => choose("scale", scale.value));
    opacity.addEventListener("input", () => choose("opacity", Number(opacity.value)));
    play.addEventListener("click", () => choose("playing", !model.get("playing")));
    reset.addEventListener("click", () => { seen = null; choose("patch", null); picker.focus(); repaint(); });
    picker.addEventListener("pointermove", (event) => {
      if (seen !== under(event, data)) { seen = under(event, data); repaint(); }
    });
    picker.addEventListener("pointerleave", () => { seen = null; repaint(); });
    for (const { canvas } of panels) {
      canvas.addEventListener("pointermove", (event) => {
        if (pointed !== under(event, data)) { pointed = under(event, data); repaint(); }
      });
    }
    dots.canvas.addEventListener("pointermove", (event) => {
      if (pointed !== dots.nearest(event)) { pointed = dots.nearest(event); repaint(); }
    });
    for (const { canvas } of [...panels, dots])
      canvas.addEventListener("pointerleave", () => { pointed = null; repaint(); });
    for (const { canvas } of [image, ...panels])
      canvas.addEventListener("click", (event) => choose("patch", under(event, data)));
    dots.canvas.addEventListener("click", (event) => choose("patch", dots.nearest(event)));
    pickByKeys(picker, data, () => model.get("patch"), (patch) => { seen = null; choose("patch", patch); });

    return {
      paint, close: held.close,
      followed: ["layer", "head", "index", "patch", "playing", "speed", "scale", "opacity"],
    };
  }

  return {
    initialize: ({ model }) => beat(model, () => {
      model.set("layer", (model.get("layer") + 1) % model.get("_data").layers);
      model.save_changes();
    }),
    render: (view) => mount(view, "TokenTM layer stepper", (root, tools) => build(view.model, root, tools)),
  };
})();

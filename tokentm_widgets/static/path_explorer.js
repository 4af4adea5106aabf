// The paths of one patch: the strongest drawn over the layers, and the share of all paths through each head.

const PathExplorer = (() => {
  const [LEFT, STEP, LINE, TOP] = [128, 78, 34, 30]; // the diagram's measures, in units of its view box

  function read(model) {
    const sent = model.get("_data");
    const data = { ...sent, colours: bytes(sent.colours), patches: sent.rows * sent.columns };
    for (const name of ["tokens", "heads"]) data[name] = shorts(sent[name]);
    for (const name of ["values", "total", "through", "stayed"]) data[name] = floats(sent[name]);
    return data;
  }

  // the k-th path of a patch: where it is before and after every layer, through which heads it moves, and its share
  function path(data, index, patch, k) {
    const at = (index * data.patches + patch) * data.count + k;
    const total = data.total[index * data.patches + patch];
    return {
      tokens: data.tokens.subarray(at * (data.layers + 1), (at + 1) * (data.layers + 1)),
      heads: data.heads.subarray(at * data.layers, (at + 1) * data.layers),
      share: total > 0 ? data.values[at] / total : 0,
    };
  }

  const tokenName = (token, data) => token < data.prefixNames.length ? data.prefixNames[token]
    : where(token - data.prefixNames.length, data);

  function inWords(one, data) {
    const moves = [];
    one.heads.forEach((head, layer) => {
      if (head >= 0) moves.push(`layer ${layer + 1}, head ${head + 1} → ${tokenName(one.tokens[layer + 1], data)}`);
    });
    return `${percent(one.share)}: ${tokenName(one.tokens[0], data)}` + (moves.length ? `, ${moves.join(", ")}` : ", stays");
  }

  const hue = (head) => `var(--hue-${head % 6})`;

  function diagram(paths, data, strong) {
    const order = [];
    for (const one of paths) for (const token of one.tokens) if (!order.includes(token)) order.push(token);
    // prefix tokens on top, the chosen patch at the bottom, what lies between in between
    const first = paths[0].tokens[0];
    order.sort((a, b) => (a === first) - (b === first) || a - b);
    const x = (layer) => LEFT + layer * STEP;
    const y = (token) => TOP + order.indexOf(token) * LINE;
    const [width, height] = [x(data.layers) + 24, TOP + order.length * LINE + 14];
    const drawn = drawing("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "data-panel": "diagram",
      "aria-label": `The strongest paths: ${paths.map((one) => inWords(one, data)).join("; ")}` });
    for (const token of order) {
      drawn.append(drawing("line", { class: "axis", x1: x(0), x2: x(data.layers), y1: y(token), y2: y(token) }),
        drawing("text", { x: x(0) - 8, y: y(token) + 4, "text-anchor": "end" }, tokenName(token, data)));
    }
    for (const layer of range(data.layers)) {
      drawn.append(drawing("text", { class: "quiet", x: (x(layer) + x(layer + 1)) / 2, y: 12, "text-anchor": "middle" },
        `layer ${layer + 1}`));
    }
    const labels = [];
    [...paths.keys()].reverse().forEach((k) => {
      const { tokens, heads, share } = paths[k];
      const opacity = strong === null || strong === k ? 0.9 : 0.15;
      const group = drawing("g", { "data-path": k, opacity, fill: "none", "stroke-linecap": "round",
        "stroke-width": 1.5 + 9 * Math.sqrt(share) });
      let stays = ""; // all layers that leave it where it is, as one line
      heads.forEach((head, layer) => {
        const [x1, x2, y1, y2] = [x(layer), x(layer + 1), y(tokens[layer]), y(tokens[layer + 1])];
        const middle = (x1 + x2) / 2;
        if (head < 0) {
          stays += `M${x1},${y1} H${x2} `;
          return;
        }
        group.append(drawing("path", { d: `M${x1},${y1} C${middle},${y1} ${middle},${y2} ${x2},${y2}`, stroke: hue(head) }));
        if (!labels.some(([h, l, m]) => h === head && l === layer && m === (y1 + y2) / 2))
          labels.push([head, layer, (y1 + y2) / 2]);
      });
      group.prepend(drawing("path", { d: stays, stroke: "var(--quiet)", "stroke-opacity": 0.45 }));
      drawn.append(group);
    });
    labels.forEach(([head, layer, middle], i) => {
      const beside = labels.slice(0, i).filter(([, l, m]) => l === layer && m === middle).length;
      const [cx, cy] = [x(layer) + STEP / 2 + 20 * beside, middle];
      drawn.append(drawing("circle", { cx, cy, r: 9, fill: "var(--paper)", stroke: hue(head), "stroke-width": 2 }),
        drawing("text", { x: cx, y: cy + 4, "text-anchor": "middle" }, head + 1));
    });
    return drawn;
  }

  // layers across, heads down: the share of all paths that moves there
  function table(data) {
    const layers = range(data.layers);
    const cells = range(data.headCount).map((h) => layers.map((l) => element("td", { "data-cell": `${l} ${h}` })));
    const [texts, styles] = [cells.map(() => []), cells.map(() => [])]; // as written last
    const stays = layers.map((l) => element("td", { "data-stays": l }));
    const line = (name, cells) => element("tr", {}, element("th", { scope: "row" }, name), ...cells);
    const node = element("table", {},
      element("caption", {}, "% of the contribution that moves through each head, over all paths"),
      element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "layer"),
        ...layers.map((l) => element("th", { scope: "col" }, l + 1)))),
      element("tbody", {}, ...cells.map((row, h) => line(`head ${h + 1}`, row)), line("stays", stays)));
    return {
      node,
      draw(index, patch) {
        const at = index * data.patches + patch;
        const total = data.total[at];
        const share = (value) => (total > 0 ? value / total : 0);
        const rows = cells.map((_, h) => layers.map((l) => share(data.through[(at * data.layers + l) * data.headCount + h])));
        const most = Math.max(...rows.flat(), 1e-12);
        rows.forEach((row, h) => row.forEach((value, l) => {
          const [text, part] = [(100 * value).toFixed(1), value / most];
          const style = `background: ${colourAt(data.colours, part)}; color: ${part > 0.6 ? "#000" : "#fff"}`;
          if (texts[h][l] !== text) cells[h][l].textContent = texts[h][l] = text;
          if (styles[h][l] !== style) cells[h][l].style = styles[h][l] = style; // viridis is light only at its upper end
        }));
        stays.forEach((cell, l) => write(cell, (100 * share(data.stayed[at * data.layers + l])).toFixed(1)));
      },
    };
  }

  function build(model, root, { choose, repaint }) {
    const data = read(model);
    const explained = choices("index", data.names.map((_, i) => named(data, i)));
    const reset = button("reset", "Largest", "Show again the patch that contributes most");
    const status = element("div", { class: "status", "aria-live": "polite" });
    const image = mapPanel("image", "Image", "Click or use the arrow keys to choose a patch", data, false);
    const map = mapPanel("contribution", "Contribution", "TokenTM: what each patch contributes over all paths", data);
    const drawn = element("div", { class: "diagram" });
    const list = element("ol");
    const through = table(data);
    const shares = element("div", { class: "shares", tabindex: 0, role: "group",
      "aria-label": "Share of each head in each layer" }, through.node);
    root.append(
      element("div", { class: "controls" }, labelled("Explained", explained), reset),
      element("div", { class: "paths" }, element("div", { class: "side" }, image.node, map.node),
        element("div", { class: "main" }, drawn, list, shares)), status);
    const pictures = loadPictures(data.pictures, data, repaint, (text) => { failure = text; repaint(); });
    let failure = "";
    let strong = null; // the path pointed at
    let before = "";

    function paint() {
      const index = model.get("index");
      const totals = data.total.subarray(index * data.patches, (index + 1) * data.patches);
      const patch = model.get("patch") ?? largest(totals);
      const picture = pictures.count === 1 ? 0 : index;
      const paths = range(data.count).map((k) => path(data, index, patch, k)).filter((one) => one.share > 0);
      image.drawPicture(pictures.colour[picture]);
      map.drawMap(totals, extent(totals), data.colours, pictures.grey[picture], model.get("opacity"));
      for (const panel of [image, map]) panel.outline(patch);
      // where the strongest paths pass on their way
      for (const token of new Set(paths.flatMap((one) => [...one.tokens])))
        if (token >= data.prefixNames.length) image.outline(token - data.prefixNames.length, true);
      write(map.here, `here ${number(totals[patch])}`);
      const key = `${index} ${patch} ${strong}`;
      if (key !== before) {
        drawn.replaceChildren(paths.length ? diagram(paths, data, strong) : "");
        if (!before.startsWith(`${index} ${patch} `)) {
          list.replaceChildren(...paths.map((one, k) => {
            const item = element("li", {}, inWords(one, data));
            item.addEventListener("pointerenter", () => { strong = k; repaint(); });
            item.addEventListener("pointerleave", () => { strong = null; repaint(); });
            return item;
          }));
          through.draw(index, patch);
        }
        before = key;
      }
      put(explained, index);
      reset.disabled = model.get("patch") === null;
      const carried = paths.reduce((sum, one) => sum + one.share, 0);
      const said = totals[patch] > 0
        ? `The patch at ${where(patch, data)} contributes ${number(totals[patch])} to ${data.names[index]}; ` +
          `its ${paths.length} strongest paths carry ${percent(carried)} of that.`
        : `The patch at ${where(patch, data)} contributes nothing to ${data.names[index]}.`;
      const text = [said].concat(failure || []).join(" ");
      write(status, text);
      const label = `Patch picker: arrow keys move, Escape returns to the largest. ${where(patch, data)}`;
      image.canvas.setAttribute("aria-label", label);
      map.canvas.setAttribute("aria-label", `Contribution of each patch: largest at ${where(largest(totals), data)}`);
      root.dataset.painted = [index, model.get("patch"), Boolean(pictures.colour[picture])].join(" ");
    }

    explained.addEventListener("change", () => choose("index", Number(explained.value)));
    reset.addEventListener("click", () => { choose("patch", null); image.canvas.focus(); });
    for (const { canvas } of [image, map])
      canvas.addEventListener("click", (event) => choose("patch", under(event, data)));
    pickByKeys(image.canvas, data, () => model.get("patch"), (patch) => choose("patch", patch));
    return { paint, followed: ["index", "patch", "opacity"] };
  }

  return { render: (view) => mount(view, "TokenTM path explorer", (root, tools) => build(view.model, root, tools)) };
})();

// Small multiples of methods on one scale, or their differences from a chosen one.

const MethodComparison = (() => {
  const UNITS = {
    share: "Share: a score over the mean size of its map's scores, so an average patch has size 1.",
    rank: "Rank: the share of patches that score less; 1 is the top.",
  };

  function read(model) {
    const sent = model.get("_data");
    const data = { ...sent, patches: sent.rows * sent.columns, count: sent.methods.length };
    for (const name of ["colours", "differences"]) data[name] = bytes(sent[name]);
    for (const name of ["scores", "share", "rank", "agreement"]) data[name] = floats(sent[name]);
    return data;
  }

  // one method's numbers for one image
  const row = (data, name, method, index) => {
    const at = (method * data.names.length + index) * data.patches;
    return data[name].subarray(at, at + data.patches);
  };

  function build(model, root, { choose, repaint }) {
    const data = read(model);
    const explained = choices("index", data.names.map((_, i) => named(data, i)));
    const unit = choices("unit", ["share", "rank"], ["share", "rank"]);
    const reference = choices("reference", ["the maps", ...data.methods.map((name) => `difference from ${name}`)],
      ["", ...data.methods]);
    const opacity = slider("opacity", 0, 1, 0.05);
    const reset = button("reset", "Let go", "Let go of the chosen patch");
    const status = element("div", { class: "status", "aria-live": "polite" });
    const image = mapPanel("image", "Image", "Click or use the arrow keys to choose a patch", data, false);
    const panels = data.methods.map((name) => {
      const panel = mapPanel(name, name, name, data);
      panel.agreement = element("span", { class: "here quiet" });
      panel.node.append(panel.agreement);
      return panel;
    });
    root.append(
      element("div", { class: "controls" }, labelled("Explained", explained), labelled("Unit", unit),
        labelled("Show", reference), reset),
      element("div", { class: "panels" }, image.node, ...panels.map((panel) => panel.node), ...failed(data)), status,
      element("div", { class: "controls" }, labelled("Opacity", opacity)));
    const pictures = loadPictures(data.pictures, data, repaint, (text) => { failure = text; repaint(); });
    let failure = "";
    let pointed = null;

    function paint() {
      const [index, of, chosen] = [model.get("index"), model.get("unit"), model.get("patch")];
      const against = data.methods.indexOf(model.get("reference")); // -1: the maps themselves
      const patch = pointed ?? chosen;
      const picture = pictures.count === 1 ? 0 : index;
      const maps = range(data.count).map((m) => row(data, of, m, index));
      const base = against < 0 ? null : maps[against];
      const drawn = maps.map((values, m) => (base && m !== against ? values.map((v, p) => v - base[p]) : values));
      // one scale for all that is compared; the reference itself keeps its own
      const [low, high] = extentOf(drawn.filter((_, m) => m !== against));
      const most = Math.max(Math.abs(low), Math.abs(high));
      image.drawPicture(pictures.colour[picture]);
      panels.forEach((panel, m) => {
        const difference = base !== null && m !== against;
        const ends = difference ? [-most, most] : base === null ? [low, high] : extent(drawn[m]);
        panel.drawMap(drawn[m], ends, difference ? data.differences : data.colours, pictures.grey[picture],
          model.get("opacity"));
        panel.outline(chosen);
        panel.outline(pointed, true);
        write(panel.caption, m === against ? `${panel.name} (itself)` : panel.name);
        write(panel.here, patch === null ? ""
          : `here ${difference && drawn[m][patch] > 0 ? "+" : ""}${number(drawn[m][patch])}, score ` +
            number(row(data, "scores", m, index)[patch]));
        const beside = Math.max(against, 0);
        const rho = data.agreement[(index * data.count + beside) * data.count + m];
        write(panel.agreement, m === beside ? "" : Number.isNaN(rho) ? "ranks nothing to compare"
          : `rank correlation ${rho.toFixed(2)} with ${data.methods[beside]}`);
        panel.canvas.setAttribute("aria-label", `${panel.caption.textContent}: ` +
          `largest at ${where(largest(drawn[m]), data)}`);
      });
      for (const [mark, dashed] of [[chosen, false], [pointed, true]]) image.outline(mark, dashed);
      write(image.here, patch === null ? "" : where(patch, data));
      put(explained, index);
      put(unit, of);
      put(reference, against < 0 ? "" : data.methods[against]);
      put(opacity, model.get("opacity"));
      reset.disabled = chosen === null;
      image.canvas.setAttribute("aria-label", "Patch picker: arrow keys move, Escape lets go. " +
        (chosen === null ? "No patch chosen" : where(chosen, data)));
      const text = [UNITS[of], against < 0 ? "All maps on one scale."
        : `Shown: the ${of} a method gives to a patch, less that of ${data.methods[against]}.`]
        .concat(failure || []).join(" ");
      write(status, text);
      root.dataset.painted = [index, chosen, of, against, Boolean(pictures.colour[picture])].join(" ");
    }

    explained.addEventListener("change", () => choose("index", Number(explained.value)));
    unit.addEventListener("change", () => choose("unit", unit.value));
    reference.addEventListener("change", () => choose("reference", reference.value || null));
    opacity.addEventListener("input", () => choose("opacity", Number(opacity.value)));
    reset.addEventListener("click", () => { choose("patch", null); image.canvas.focus(); });
    for (const { canvas } of [image, ...panels]) {
      canvas.addEventListener("pointermove", (event) => {
        if (pointed !== under(event, data)) { pointed = under(event, data); repaint(); }
      });
      canvas.addEventListener("pointerleave", () => { pointed = null; repaint(); });
      canvas.addEventListener("click", (event) => choose("patch", under(event, data)));
    }
    pickByKeys(image.canvas, data, () => model.get("patch"), (patch) => choose("patch", patch));
    return { paint, followed: ["index", "patch", "unit", "reference", "opacity"] };
  }

  return { render: (view) => mount(view, "TokenTM method comparison", (root, tools) => build(view.model, root, tools)) };
})();

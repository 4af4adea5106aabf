// The head of the explorer: gallery and upload, the model's answer, the map of one class by one method, and what to open.
// It computes nothing. Every choice is a trait; the kernel answers with "shown", "busy" and "error".

const Overview = (() => {
  const ASK = 3000; // milliseconds after which a choice that nobody took up is called unanswered
  const TOP = 5; // classes that are offered as buttons
  const LARGEST = 20 * 2 ** 20; // bytes of an uploaded file
  // what the answer is called, one of its numbers, another of them, and the one explained by itself
  const WORDS = {
    softmax: ["The model's answer", "class", "The predicted class"],
    probabilities: ["The model's answer", "class", "The predicted class"],
    sigmoid: ["The model's answer: independent labels", "label", "The most probable label"],
    none: ["The model's outputs", "output", "The largest output"],
  };
  let lists = 0; // every view needs a name of its own for its list of classes

  function build(model, root, { choose, repaint }) {
    const sent = model.get("_data");
    const data = { ...sent, colours: bytes(sent.colours) };
    const thumbs = element("div", { class: "thumbs", role: "group", "aria-label": "Gallery" });
    const file = element("input", { type: "file", name: "upload", accept: "image/*" });
    const method = choices("method", data.methods, data.methods);
    const opacity = slider("opacity", 0, 1, 0.05);
    const classList = element("datalist", { id: `tokentm-classes-${(lists += 1)}` },
      ...(data.chosen === null ? [] : [element("option", { value: data.chosen })]),
      ...data.classes.map((name, c) => element("option", { value: entry(data, c) })));
    const search = element("input", { type: "text", name: "target", list: classList.id, placeholder: "number or name",
      autocomplete: "off" });
    const predicted = button("predicted", "", "Explain whatever the model predicts, also for the next picture");
    const answer = element("div", { class: "answer" });
    const panels = element("div", { class: "overview" });
    const views = Object.entries(data.views).map(([name, text]) => button(name, text));
    const status = element("div", { class: "status", "aria-live": "polite" });
    const error = element("div", { class: "error", role: "alert" });
    root.append(thumbs,
      element("div", { class: "controls" }, labelled("Your picture", file), labelled("Method", method),
        labelled("Opacity", opacity)),
      panels, error, status,
      element("div", { class: "controls", role: "group", "aria-label": "Open below" }, "Open below", ...views));

    let [image, map, pictures, drawnFor, gallery, chips] = [null, null, null, null, null, []];
    let [pointed, said, waiting, failure] = [null, "", 0, ""];

    // ---- parts that are made anew only when what they show has changed ----

    function paintGallery() {
      const pressed = model.get("picture");
      if (gallery !== model.get("gallery")) {
        const focused = [...thumbs.children].indexOf(root.ownerDocument.activeElement);
        gallery = model.get("gallery");
        thumbs.replaceChildren(...gallery.map(({ name, url }, i) => {
          const made = element("button", { type: "button", title: name }, element("img", { src: url, alt: name }));
          made.addEventListener("click", () => ask("picture", i));
          return made;
        }));
        thumbs.children[focused]?.focus();
      }
      [...thumbs.children].forEach((thumb, i) => thumb.setAttribute("aria-pressed", i === pressed));
    }

    function paintShown(shown) {
      if (drawnFor === shown) return;
      drawnFor = shown;
      pointed = null;
      if (!shown.scores) { // nothing to show is better than the map of another class
        [image, map] = [null, null];
        panels.replaceChildren();
        return;
      }
      const [focus, selected] = [root.ownerDocument.activeElement, root.contains(root.ownerDocument.activeElement)];
      const [focusPanel, focusClass] = [focus?.dataset?.panel, focus?.dataset?.class];
      image = mapPanel("image", "What the model sees", "Point at a patch, or use the arrow keys", shown, false);
      map = mapPanel("map", "", "What each patch contributes", shown);
      pictures = loadPictures(shown.picture ? [shown.picture] : [], shown, repaint, (text) => { failure = text; repaint(); });
      for (const { canvas } of [image, map]) {
        canvas.addEventListener("pointermove", (event) => point(under(event, shown)));
        canvas.addEventListener("pointerleave", () => point(null));
      }
      pickByKeys(image.canvas, shown, () => pointed, point);
      const values = floats(shown.values);
      const order = listed(shown, values);
      const bars = barsOf(shown.unit, order.map((c) => values[c]));
      chips = order.map((c, i) => chip(c, data.classes[c], entry(data, c),
        shown.unit === "none" ? number(values[c]) : percent(values[c]), ...bars[i]));
      if (data.chosen !== null) chips.unshift(chip(data.chosen, data.chosen, "The function of the logits that was given",
        shown.target === null ? number(shown.score) : ""));
      const [heading, one, best] = WORDS[shown.unit];
      const alone = values.length === 1;
      const left = values.length - order.length;
      write(predicted, best);
      answer.replaceChildren(
        element("strong", {}, alone && shown.unit === "sigmoid" ? "The model's answer: yes / no" : heading),
        ...(shown.unit === "none" && left > 0
          ? [element("span", { class: "quiet" }, `those farthest from zero, of ${values.length}`)] : []),
        ...chips, ...(alone ? [] : [labelled(`Other ${one}`, search), classList]),
        ...(data.predicts && !(alone && data.chosen === null) ? [predicted] : []));
      panels.replaceChildren(image.node, map.node, answer);
      if (selected && focusPanel) panels.querySelector(`[data-panel=${focusPanel}]`)?.focus();
      if (selected && focusClass) panels.querySelector(`[data-class="${focusClass}"]`)?.focus();
    }

    function chip(target, text, hint, value, ...bar) {
      const made = element("button", { type: "button", "data-class": target, title: hint },
        element("span", {}, text), element("span", { class: "odds" }, value), ...bar);
      made.addEventListener("click", () => ask("target", target));
      return made;
    }

    function paint() {
      const shown = model.get("shown");
      paintGallery();
      paintShown(shown);
      const busy = model.get("busy");
      const ready = map !== null;
      if (ready) {
        const scores = floats(shown.scores);
        image.drawPicture(pictures.colour[0]);
        map.drawMap(scores, extent(scores), data.colours, pictures.grey[0], model.get("opacity"));
        write(map.caption, `${shown.method}: ${shown.explained}` +
          (shown.target === null ? ` (${number(shown.score)})` : ""));
        for (const panel of [image, map]) panel.outline(pointed, true);
        write(image.here, pointed === null ? "" : where(pointed, shown));
        write(map.here, pointed === null ? "" : `here ${number(scores[pointed])}`);
        map.canvas.setAttribute("aria-label", `${map.caption.textContent}: largest at ${where(largest(scores), shown)}`);
        image.canvas.setAttribute("aria-label", "What the model sees: arrow keys point at a patch, Escape lets go");
        for (const chip of chips) chip.setAttribute("aria-pressed", chip.dataset.class === String(shown.target ?? data.chosen));
        predicted.setAttribute("aria-pressed", model.get("target") === null);
        panels.classList.toggle("waiting", Boolean(busy || waiting));
      }
      put(method, model.get("method"));
      put(opacity, model.get("opacity"));
      for (const view of views) view.setAttribute("aria-pressed", view.name === model.get("view"));
      const wrong = [failure, model.get("error")].filter(Boolean).join(" ");
      write(error, wrong);
      const text = busy ? `Working: ${busy} …` : said || shown.note || (ready ? `What each patch contributes to ` +
        `${shown.target === null ? "the " : ""}${shown.explained}, by ${shown.method}. Numbers compare patches of one map.` : "");
      write(status, text);
      root.dataset.painted = [model.get("picture"), shown.target, shown.method, model.get("view"), Boolean(busy),
        Boolean(pictures?.colour[0])].join(" ");
    }

    // ---- questions to the kernel: it takes one up by being busy, or is said not to answer ----

    function settle() {
      clearTimeout(waiting);
      waiting = 0;
      said = "";
    }

    function expect() {
      settle();
      said = "Asking the kernel …";
      waiting = setTimeout(() => {
        waiting = 0;
        said = "The kernel does not answer: it is busy with another cell, or closed. What is on the screen is the last answer.";
        repaint();
      }, ASK);
      repaint();
    }

    function ask(name, value) {
      if (model.get(name) === value) return;
      expect();
      choose(name, value);
    }

    function point(patch) {
      if (pointed === patch) return;
      pointed = patch;
      repaint();
    }

    method.addEventListener("change", () => ask("method", method.value));
    opacity.addEventListener("input", () => choose("opacity", Number(opacity.value)));
    predicted.addEventListener("click", () => ask("target", null));
    for (const view of views) view.addEventListener("click", () =>
      ask("view", model.get("view") === view.name ? null : view.name));
    search.addEventListener("change", () => {
      const wanted = search.value.trim();
      const index = data.classes.findIndex((name, c) => [entry(data, c), name, String(c)].includes(wanted));
      const found = wanted && wanted === data.chosen ? data.chosen : index;
      search.setAttribute("aria-invalid", found === -1);
      if (found !== -1) { search.value = ""; ask("target", found); return; }
      said = `There is no class ${wanted}: choose one of the ${data.classes.length} from the list.`;
      repaint();
    });
    file.addEventListener("change", async () => {
      const [chosen] = file.files;
      if (!chosen) return;
      if (chosen.size > LARGEST) {
        said = `${chosen.name} has ${Math.ceil(chosen.size / 2 ** 20)} MB; a picture of at most ${LARGEST / 2 ** 20} MB can be sent.`;
        repaint();
        return;
      }
      expect();
      model.send({ kind: "upload", name: chosen.name }, undefined, [await chosen.arrayBuffer()]);
      file.value = "";
    });
    model.on("change:busy", settle);
    return {
      paint,
      close: () => { clearTimeout(waiting); model.off("change:busy", settle); },
      followed: ["picture", "target", "method", "view", "opacity", "busy", "error", "gallery", "shown"],
    };
  }

  // Which outputs are offered as buttons. Probabilities by size; numbers that are none by their distance from zero, or
  // in the model's own order where all find room.
  function listed(shown, values) {
    const size = (c) => (shown.unit === "none" ? Math.abs(values[c]) : values[c]);
    const all = range(values.length);
    const order = shown.unit === "none" && all.length <= TOP ? all : all.sort((a, b) => size(b) - size(a)).slice(0, TOP);
    if (shown.target !== null && !order.includes(shown.target)) order.push(shown.target);
    return order;
  }

  // A bar for each value: probabilities from 0 to 1; other numbers to the left or right of zero, on one scale.
  function barsOf(unit, values) {
    const [low, high] = unit === "none" ? [Math.min(0, ...values), Math.max(0, ...values)] : [0, 1];
    const at = (value) => `${100 * (high > low ? (value - low) / (high - low) : 0)}%`;
    return values.map((value) => {
      const bar = element("i", value < 0 ? { class: "below" } : {});
      bar.style.left = at(Math.min(0, value));
      bar.style.width = at(low + Math.abs(value));
      if (low === 0 || high === 0) return [bar];
      const zero = element("i", { class: "zero" });
      zero.style.left = at(0);
      return [bar, zero];
    });
  }

  const entry = (data, c) => `${c}: ${data.classes[c]}`;

  return { render: (view) => mount(view, "TokenTM explorer", (root, tools) => build(view.model, root, tools)) };
})();

// The head of the explorer: gallery and upload, the model's answer, the map of one class by one method, and what to open.
// It computes nothing. Every choice is a trait; the kernel answers with "shown", "busy" and "error".

const Overview = (() => {
  const ASK = 3000; // milliseconds after which a choice that nobody took up is called unanswered
  const TOP = 5; // classes that are offered as buttons
  const LARGEST = 20 * 2 ** 20; // bytes of an uploaded file
  let lists = 0; // every view needs a name of its own for its list of classes

  function build(model, root, { choose, repaint }) {
    const sent = model.get("_data");
    const data = { ...sent, colours: bytes(sent.colours) };
    const thumbs = element("div", { class: "thumbs", role: "group", "aria-label": "Gallery" });
    const file = element("input", { type: "file", name: "upload", accept: "image/*" });
    const method = choices("method", data.methods, data.methods);
    const opacity = slider("opacity", 0, 1, 0.05);
    const classList = element("datalist", { id: `tokentm-classes-${(lists += 1)}` },
      ...data.classes.map((name, c) => element("option", { value: entry(data, c) })));
    const search = element("input", { type: "text", name: "target", list: classList.id, placeholder: "number or name",
      autocomplete: "off" });
    const predicted = button("predicted", "The predicted class", "Explain whatever class the model predicts, also for the next picture");
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
      const odds = floats(shown.probabilities);
      const order = range(odds.length).sort((a, b) => odds[b] - odds[a]).slice(0, TOP);
      if (shown.target !== null && !order.includes(shown.target)) order.push(shown.target);
      chips = order.map((c) => {
        const bar = element("i");
        bar.style.width = `${100 * odds[c]}%`;
        const chip = element("button", { type: "button", "data-class": c, title: entry(data, c) },
          element("span", {}, data.classes[c]), element("span", { class: "odds" }, percent(odds[c])), bar);
        chip.addEventListener("click", () => ask("target", c));
        return chip;
      });
      answer.replaceChildren(element("strong", {}, "The model's answer"), ...chips,
        labelled("Other class", search), classList, predicted);
      panels.replaceChildren(image.node, map.node, answer);
      if (selected && focusPanel) panels.querySelector(`[data-panel=${focusPanel}]`)?.focus();
      if (selected && focusClass) panels.querySelector(`[data-class="${focusClass}"]`)?.focus();
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
        write(map.caption, `${shown.method}: ${shown.explained}`);
        for (const panel of [image, map]) panel.outline(pointed, true);
        write(image.here, pointed === null ? "" : where(pointed, shown));
        write(map.here, pointed === null ? "" : `here ${number(scores[pointed])}`);
        map.canvas.setAttribute("aria-label", `${map.caption.textContent}: largest at ${where(largest(scores), shown)}`);
        image.canvas.setAttribute("aria-label", "What the model sees: arrow keys point at a patch, Escape lets go");
        for (const chip of chips) chip.setAttribute("aria-pressed", Number(chip.dataset.class) === shown.target);
        predicted.setAttribute("aria-pressed", model.get("target") === null);
        panels.classList.toggle("waiting", Boolean(busy || waiting));
      }
      put(method, model.get("method"));
      put(opacity, model.get("opacity"));
      for (const view of views) view.setAttribute("aria-pressed", view.name === model.get("view"));
      const wrong = [failure, model.get("error")].filter(Boolean).join(" ");
      write(error, wrong);
      const text = busy ? `Working: ${busy} …` : said || shown.note || (ready ? `What each patch contributes to ` +
        `${shown.explained}, by ${shown.method}. Numbers compare patches of one map.` : "");
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
      const found = data.classes.findIndex((name, c) => [entry(data, c), name, String(c)].includes(wanted));
      search.setAttribute("aria-invalid", found < 0);
      if (found >= 0) { search.value = ""; ask("target", found); return; }
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

  const entry = (data, c) => `${c}: ${data.classes[c]}`;

  return { render: (view) => mount(view, "TokenTM explorer", (root, tools) => build(view.model, root, tools)) };
})();

// The perturbation test as a film: a picture for each method loses patches, a chart shows what the model still
// believes: probabilities, or the explained score where there are none.

const PerturbationPlayer = (() => {
  const [WIDE, TALL, RIGHT, TOP, BOTTOM] = [260, 150, 8, 8, 30]; // a chart, in units of its view box

  const REMOVED = {
    drop: "Patches gone are dropped: their tokens leave the sequence. Grey only marks where they were.",
    zero: "Patches gone are filled with the mean colour of the training set (zero, normalised); grey marks them.",
    mean: "Patches gone are filled with the mean colour of this image; grey marks them.",
    blur: "Patches gone are replaced by the image blurred over one patch; grey marks them.",
  };
  const ORDERS = ["most", "least"];

  // ends of the axis, room for its labels, and how numbers are written
  const UNITS = {
    probability: () => ({ low: 0, high: 1, left: 34, title: "Probabilities", mean: "mean probability", tick: String,
      written: percent, area: (value) => value.toFixed(3) }),
    score: (curves) => {
      const [low, high] = extent(curves);
      const flat = low === high ? 0.5 : 0; // a flat curve lies in the middle
      return { low: low - flat, high: high + flat, left: 50, title: "Scores", mean: "mean", tick: number,
        written: number, area: number };
    },
  };

  function read(model) {
    const sent = model.get("_data");
    const data = { ...sent, patches: sent.rows * sent.columns, steps: sent.counts.length };
    Object.assign(data, { rankings: shorts(sent.rankings), curves: floats(sent.curves), areas: floats(sent.areas) });
    return Object.assign(data, UNITS[sent.unit](data.curves));
  }

  // one curve at every step
  function curve(data, method, order, k) {
    const at = (method * 2 + order) * data.steps;
    return range(data.steps).map((step) => data.curves[(at + step) * data.names.length + k]);
  }

  // the patches that are gone after some steps, as one method ranks them
  function gone(data, method, order, step) {
    const ranking = data.rankings.subarray(method * data.patches, (method + 1) * data.patches);
    const count = data.counts[step];
    return order === 0 ? ranking.subarray(0, count) : ranking.subarray(data.patches - count);
  }

  const across = (data, share) => data.left + share * (WIDE - data.left - RIGHT);
  const x = (data, step) => across(data, data.counts[step] / data.patches);
  const y = (data, value) => TOP + ((data.high - value) / (data.high - data.low)) * (TALL - TOP - BOTTOM);
  const line = (k, data) => ({ stroke: `var(--hue-${k})`, "stroke-dasharray": data.dashes[k], "stroke-width": 2,
    fill: "none" });

  // axes and lines stand still while the film runs; only the cursor and its dots move
  function chart(data, name) {
    const [axes, lines, cursor] = [drawing("g"), drawing("g"), drawing("g", { "data-cursor": "" })];
    const node = drawing("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, role: "img", "data-panel": `chart ${name}` },
      axes, lines, cursor);
    for (const share of [0, 0.5, 1]) {
      const value = data.low + share * (data.high - data.low);
      const at = y(data, value);
      axes.append(drawing("line", { class: "axis", x1: data.left, x2: WIDE - RIGHT, y1: at, y2: at }),
        drawing("text", { class: "quiet", x: data.left - 5, y: at + 4, "text-anchor": "end" }, data.tick(value)));
    }
    for (const [share, anchor] of [[0, "start"], [1, "end"]])
      axes.append(drawing("text", { class: "quiet", x: across(data, share), y: TALL - 14,
        "text-anchor": anchor }, `${100 * share} %`));
    axes.append(drawing("text", { class: "quiet", x: across(data, 0.5), y: TALL - 14, "text-anchor": "middle" },
      "patches gone"));
    return {
      node,
      lines(curves) {
        lines.replaceChildren(...curves.map((values, k) => drawing("polyline", { ...line(k, data), "data-class": k,
          points: values.map((v, step) => `${x(data, step).toFixed(2)},${y(data, v).toFixed(2)}`).join(" ") })));
        node.setAttribute("aria-label", `${data.title} while patches go, ${name}: ` + data.names.map((of, k) =>
          `${of} from ${data.written(curves[k][0])} to ${data.written(curves[k][data.steps - 1])}`).join(", "));
      },
      cursor(step, curves) {
        cursor.replaceChildren(
          drawing("line", { x1: x(data, step), x2: x(data, step), y1: TOP, y2: TALL - BOTTOM,
            stroke: "var(--quiet)" }),
          ...curves.map((values, k) => drawing("circle", { cx: x(data, step), cy: y(data, values[step]), r: 3.5,
            fill: `var(--hue-${k})` })));
      },
      // the step nearest to the pointer
      under(event) {
        const box = node.getBoundingClientRect();
        const at = ((event.clientX - box.left) / box.width) * WIDE;
        return range(data.steps).reduce((best, step) =>
          (Math.abs(x(data, step) - at) < Math.abs(x(data, best) - at) ? step : best), 0);
      },
    };
  }

  function methodView(data, m) {
    const picture = mapPanel(data.methods[m], data.methods[m], data.methods[m], data, false);
    const drawn = chart(data, data.methods[m]);
    const values = data.names.map(() => element("output"));
    const legend = element("ul", { class: "legend" }, ...data.names.map((name, k) => element("li", {},
      drawing("svg", { viewBox: "0 0 24 8", "aria-hidden": "true" },
        drawing("line", { x1: 0, x2: 24, y1: 4, y2: 4, ...line(k, data) })), element("span", {}, name), values[k])));
    picture.here.before(drawn.node, legend);
    let curves = [];
    let shown = null; // the order whose lines are drawn
    return {
      node: picture.node, drawn,
      paint(order, step, backdrop) {
        if (shown !== order) {
          shown = order;
          curves = data.names.map((_, k) => curve(data, m, order, k));
          drawn.lines(curves);
        }
        const away = gone(data, m, order, step);
        picture.drawPicture(backdrop);
        picture.hide(away);
        picture.canvas.setAttribute("aria-label", `The picture as ${data.methods[m]} takes patches: ${away.length} gone`);
        drawn.cursor(step, curves);
        curves.forEach((all, k) => write(values[k], data.written(all[step])));
        write(picture.here, `area of ${data.names[0]} ${data.area(data.areas[m * 2 + order])}`);
      },
    };
  }

  function build(model, root, { choose, repaint }) {
    const data = read(model);
    const step = slider("step", 0, data.steps - 1);
    const shownStep = element("span", { class: "shown" });
    const play = button("play", "");
    const order = choices("order", ["most relevant", "least relevant"], ORDERS);
    const speed = choices("speed", [1, 2, 4, 8].map((n) => `${n} step${n > 1 ? "s" : ""}/s`), [1, 2, 4, 8]);
    const status = element("div", { class: "status" });
    const views = data.methods.map((_, m) => methodView(data, m));
    root.append(
      element("div", { class: "controls" }, element("label", { class: "long" }, "Patches gone", step, shownStep), play,
        labelled("First go the", order), labelled("Speed", speed)),
      element("div", { class: "panels films" }, ...views.map((view) => view.node), ...failed(data)), status);
    const pictures = loadPictures(data.pictures, data, repaint, (text) => { failure = text; repaint(); });
    let failure = "";

    function paint() {
      const [at, which] = [model.get("step"), ORDERS.indexOf(model.get("order"))];
      for (const view of views) view.paint(which, at, pictures.colour[0]);
      put(step, at);
      step.setAttribute("aria-valuetext", `${data.counts[at]} of ${data.patches} patches gone`);
      write(shownStep, `${data.counts[at]} of ${data.patches}`);
      put(order, ORDERS[which]);
      put(speed, model.get("speed"));
      write(play, playing(model));
      const better = which === 0 ? "the lower, the earlier the ranking found what the model reads"
        : "the higher, the less the ranking took of what the model reads";
      const text = [`Explained: ${data.explained}. ${REMOVED[data.replace]} Area of ${data.names[0]}: its ${data.mean} ` +
        `along the way; ${better}.`].concat(failure || []).join(" ");
      write(status, text);
      root.dataset.painted = [at, ORDERS[which], Boolean(pictures.colour[0])].join(" ");
    }

    step.addEventListener("input", () => choose("step", Number(step.value)));
    play.addEventListener("click", () => choose("playing", !model.get("playing")));
    order.addEventListener("change", () => choose("order", order.value));
    speed.addEventListener("change", () => choose("speed", Number(speed.value)));
    for (const { drawn } of views) {
      const follow = (event) => choose("step", drawn.under(event));
      drawn.node.addEventListener("pointerdown", follow);
      drawn.node.addEventListener("pointermove", (event) => { if (event.buttons) follow(event); });
    }
    return { paint, followed: ["step", "order", "playing", "speed"] };
  }

  return {
    initialize: ({ model }) => beat(model, () => {
      model.set("step", (model.get("step") + 1) % model.get("_data").counts.length);
      model.save_changes();
    }),
    render: (view) => mount(view, "TokenTM perturbation player", (root, tools) => build(view.model, root, tools)),
  };
})();

// Tokens E and their transformed tokens T as arrows on a disc: tips are dragged, and the weight's formula follows.

const TokenPlayground = (() => {
  const [SIZE, UNIT] = [440, 66]; // the disc's view box, and how much of it is one unit of length
  const GRID = 20; // moves by hand end on whole multiples of 1/20: T can be laid exactly on E
  const REACH = 16; // how near to a tip it can be grabbed
  const [STEP, STRIDE] = [0.1, 0.5]; // an arrow key, with Shift
  const TURN = Math.PI / 12;
  const WEDGE = 36; // the radius at which the angle between E and T is drawn
  const KINDS = { E: "tokens", T: "transformed" };
  const SPOKEN = { E: "Token E", T: "Transformed token T" };

  // ---- the formula, as in tokentm/transformation.py ----

  function measure(tokens, transformed, normaliser) {
    const rows = tokens.map(([x, y], n) => {
      const [tx, ty] = transformed[n];
      const [from, to] = [Math.hypot(x, y), Math.hypot(tx, ty)];
      const cosine = to > 0 ? Math.min(1, Math.max(-1, (x * tx + y * ty) / (from * to))) : 0;
      return { from, to, ratio: to / from, cosine };
    });
    const { values, below } = necc(rows.map((row) => row.cosine), normaliser);
    return rows.map((row, n) => ({ ...row, below, necc: values[n], weight: row.ratio * values[n] }));
  }

  function necc(cosines, normaliser) {
    const raised = cosines.map(Math.exp);
    const below = raised.reduce((sum, value) => sum + value, 0) / (normaliser === "sum" ? 1 : raised.length);
    return { values: raised.map((value) => value / below), below };
  }

  // the least and the most that NECC can be among so many tokens: one against its E and all others along theirs, and
  // the other way round
  const bounds = (count, normaliser) => [-1, 1].map(
    (own) => necc([own, ...Array(count - 1).fill(-own)], normaliser).values[0]);

  // ---- where a tip may be ----

  const scaled = ([x, y], factor) => [x * factor, y * factor];
  const turned = ([x, y], angle) => [
    x * Math.cos(angle) - y * Math.sin(angle), x * Math.sin(angle) + y * Math.cos(angle)];

  // the place nearest to a wish: on the disc, and E never so short that it has no length to divide by
  function placed(wish, before, shortest, limit) {
    const point = wish.map((value) => Math.round(value * GRID) / GRID + 0); // + 0 takes the sign off a zero
    const length = Math.hypot(...point);
    if (length > limit) return scaled(point, limit / length);
    if (length >= shortest) return point;
    const towards = length > 0 ? point : before;
    return scaled(towards, shortest / Math.hypot(...towards));
  }

  // ---- what the buttons do with the chosen pair ----

  const ACTIONS = [
    ["same", "T = E", "Lay T on E: length ratio 1, cosine 1", (e) => ({ T: [...e] })],
    ["reverse", "Reverse T", "Same length, opposite direction", (e, t) => ({ T: scaled(t, -1) })],
    ["double", "Double T", "Same direction, twice the length", (e, t) => ({ T: scaled(t, 2) })],
    ["halve", "Halve T", "Same direction, half the length", (e, t) => ({ T: scaled(t, 0.5) })],
    ["turn", "Turn T 15°", "Same length, another direction", (e, t) => ({ T: turned(t, TURN) })],
    ["both", "Turn both 15°", "E and T together, as a rotation of the space does",
      (e, t) => ({ E: turned(e, TURN), T: turned(t, TURN) })],
  ];

  // why an action on T cannot be done now, or nothing
  function hindrance(name, t, { limit, shortest }) {
    const length = Math.hypot(...t);
    if (length === 0 && name !== "same" && name !== "both") return "T has no length";
    if (name === "double" && 2 * length > limit * (1 + 1e-9)) return "T would leave the plane";
    return name === "halve" && length < 2 * shortest ? "T is short already" : "";
  }

  // ---- words and numbers ----

  const fixed = (value, digits) => {
    const text = value.toFixed(digits);
    return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
  };
  const degrees = (cosine) => `${Math.round((Math.acos(cosine) * 180) / Math.PI)}°`;

  // what would raise or lower the weight of a pair
  function advice(rows, n, normaliser) {
    const { ratio, cosine, to } = rows[n];
    if (to === 0)
      return "T has no length: it has no direction either, its cosine counts as 0, and W is 0. Any length raises W.";
    const now = `T is ${fixed(ratio, 2)} times as long as E and ${degrees(cosine)} away from it. ` +
      "A longer T raises W in proportion, a longer E lowers it.";
    if (rows.length === 1) return `${now} A token alone has NECC 1, whatever the direction.`;
    const [against, along] = [-1, 1].map(
      (own) => ratio * necc(rows.map((row, k) => (k === n ? own : row.cosine)), normaliser).values[n]);
    return `${now} Turning T alone moves W between ${fixed(against, 3)} (against E) and ${fixed(along, 3)} ` +
      "(along E). W falls when another T turns towards its own E, for all share in one NECC.";
  }

  const lowered = (n) => element("sub", {}, n);
  const symbol = (letter, n) => element("span", {}, element("i", {}, letter), lowered(n));

  function fraction(above, under) {
    return element("span", { class: "fraction" },
      ...[above, under].map((part) => element("span", {}, ...[part].flat())));
  }

  // symbols, their numbers, the two factors and their product, each under the other
  function formula(row, n, normaliser) {
    const [label, sum] = [n + 1, normaliser === "sum" ? "Σ" : "mean"];
    const [ratio, share, weight] = [fixed(row.ratio, 2), fixed(row.necc, 3), fixed(row.weight, 3)];
    const lengths = [fixed(row.to, 2), fixed(row.from, 2)];
    const raised = [fixed(Math.exp(row.cosine), 2), fixed(row.below, 2)];
    const line = (...cells) => cells.map((cell) => element("span", {}, ...[cell].flat()));
    const made = element("div", { class: "formula", role: "math", "aria-label":
      `W${label} = L(T${label})/L(E${label}) × exp(cos${label})/${sum} exp(cos) = ` +
      `${lengths.join("/")} × ${raised.join("/")} = ${ratio} × ${share} = ${weight}` });
    made.append(
      ...line(symbol("W", label), "=", fraction(["L(", symbol("T", label), ")"], ["L(", symbol("E", label), ")"]), "×",
        fraction(["exp cos", lowered(label)], [`${sum} exp cos`, lowered("k")])),
      ...line("", "=", fraction(...lengths), "×", fraction(...raised)),
      ...line(element("b", {}, weight), "=", element("b", {}, ratio), "×", element("b", {}, share)),
      ...line("weight", "", "length", "", "direction: NECC"));
    return made;
  }

  // the next round number, so that bars stand still while a weight moves below it
  function ceiling(value) {
    const power = 10 ** Math.floor(Math.log10(Math.max(1, value)));
    return [1, 2, 5, 10].map((times) => times * power).find((end) => end >= value);
  }

  const hue = (n) => `var(--hue-${n})`;

  // ---- the disc: rings a unit of length apart, arrows, and on their tips what is grabbed ----

  const MIDDLE = SIZE / 2;
  const place = ([x, y]) => [MIDDLE + UNIT * x, MIDDLE - UNIT * y];

  function disc(count, limit) {
    const hidden = { "aria-hidden": "true" }; // the handles and the table say it in words
    const [ground, arrows, handles] = [drawing("g", hidden), drawing("g", hidden), drawing("g")];
    const node = drawing("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "group", "data-panel": "plane",
      "aria-label": "Arrows from the origin: tokens E solid, transformed tokens T dashed" }, ground, arrows, handles);
    for (const axis of [[1, 0], [0, 1]]) {
      const [[x1, y1], [x2, y2]] = [-limit, limit].map((end) => place(scaled(axis, end)));
      ground.append(drawing("line", { class: "axis faint", x1, y1, x2, y2 }));
    }
    for (const radius of range(Math.floor(limit)).map((k) => k + 1)) {
      const [, y] = place([0, -radius]);
      const weight = radius === limit ? "axis" : "axis faint";
      ground.append(drawing("circle", { class: weight, cx: MIDDLE, cy: MIDDLE, r: UNIT * radius }),
        drawing("text", { class: "quiet halo", x: MIDDLE + 4, y: y - 4 }, radius));
    }
    ground.append(legend());
    const tips = range(count).flatMap((n) => Object.keys(KINDS).map((kind) => {
      const node = drawing("g", { class: "handle", tabindex: 0, role: "slider", "data-handle": `${kind} ${n}`,
        "aria-roledescription": "2-D slider", "aria-label": `${SPOKEN[kind]} of pair ${n + 1}`,
        "aria-valuemin": -limit, "aria-valuemax": limit }, drawing("circle", { r: REACH }));
      handles.append(node);
      return { kind, n, node, at: [0, 0] };
    }));
    return {
      node, tips,
      draw(pairs, rows, chosen) {
        arrows.replaceChildren(...range(count).filter((n) => n !== chosen).map((n) => pair(pairs, n, false)),
          angle(pairs, chosen, rows[chosen]), pair(pairs, chosen, true));
        for (const tip of tips) {
          const point = pairs[tip.kind][tip.n];
          tip.at = place(point);
          tip.node.setAttribute("transform", `translate(${tip.at.map((v) => v.toFixed(2))})`);
          tip.node.setAttribute("aria-valuenow", fixed(point[0], 2).replace("−", "-"));
          tip.node.setAttribute("aria-valuetext",
            `x ${fixed(point[0], 2)}, y ${fixed(point[1], 2)}, length ${fixed(Math.hypot(...point), 2)}`);
        }
      },
      // where in the view box a pointer is
      point(event) {
        const box = node.getBoundingClientRect();
        return [((event.clientX - box.left) / box.width) * SIZE, ((event.clientY - box.top) / box.height) * SIZE];
      },
      // the tip grabbed there: the nearest; of several on one another that of the chosen pair, T by its small head and
      // E by what shows around it
      nearest([x, y], chosen) {
        let [found, least] = [null, REACH];
        for (const tip of tips) {
          const away = Math.hypot(tip.at[0] - x, tip.at[1] - y);
          const preferred = (tip.n === chosen ? 0.1 : 0) + (tip.kind === (away < 6 ? "T" : "E") ? 0.05 : 0);
          if (away - preferred < least) [found, least] = [tip, away - preferred];
        }
        return found;
      },
    };
  }

  function pair(pairs, n, chosen) {
    const [e, t] = [pairs.E[n], pairs.T[n]];
    const side = e[0] * t[1] - e[1] * t[0] >= 0 ? 1 : -1; // which way it is from E to T: names stand on the outside
    return drawing("g", { "data-pair": n, stroke: hue(n), fill: "none", class: chosen ? "chosen" : "" },
      ...arrow("E", n, e, -side, chosen), ...arrow("T", n, t, side, chosen));
  }

  function arrow(kind, n, point, side, chosen) {
    const [x, y] = place(point);
    const length = Math.hypot(...point);
    const [ux, uy] = length === 0 ? [0, 1] : [point[0] / length, -point[1] / length]; // along it, on the screen
    const name = drawing("text", { class: "halo", x: x + 12 * ux + 16 * side * uy, y: y + 12 * uy - 16 * side * ux + 4,
      "text-anchor": "middle", stroke: "none" }, kind, drawing("tspan", { dy: 3, "font-size": 9 }, n + 1));
    if (length === 0) return [drawing("circle", { cx: x, cy: y, r: 5, fill: "var(--paper)", "stroke-width": 2 }), name];
    const [long, half] = { E: chosen ? [21, 9.5] : [17, 7.5], T: chosen ? [13, 5] : [11, 4.5] }[kind];
    const [bx, by] = [x - ux * long, y - uy * long];
    const thin = chosen ? 2.5 : 1.8;
    const ends = { x1: MIDDLE, y1: MIDDLE, x2: bx, y2: by };
    const shaft = (attributes) => drawing("line", { ...ends, "stroke-width": thin, ...attributes });
    const shafts = kind === "E" ? [shaft({ "stroke-width": 2 * thin })]
      : [shaft({ stroke: "var(--paper)" }), shaft({ "stroke-dasharray": "7 5" })]; // T shows also where it lies on E
    const head = drawing("path", { "stroke-linejoin": "round", "stroke-width": kind === "E" ? 1 : 2,
      d: `M${x},${y} L${bx - uy * half},${by + ux * half} L${bx + uy * half},${by - ux * half} Z`,
      fill: kind === "E" ? hue(n) : "var(--paper)" });
    return [...(UNIT * length > long ? shafts : []), head, name];
  }

  // the angle whose cosine counts, and that cosine in the corner that the disc leaves free
  function angle(pairs, n, { to, cosine }) {
    if (to === 0) return "";
    const [from, until] = [pairs.E[n], pairs.T[n]].map(([x, y]) => Math.atan2(y, x));
    const turn = Math.atan2(Math.sin(until - from), Math.cos(until - from));
    const on = (at) => place(scaled([Math.cos(at), Math.sin(at)], WEDGE / UNIT));
    return drawing("g", {},
      drawing("path", { class: "wedge",
        d: `M${MIDDLE},${MIDDLE} L${on(from)} A${WEDGE},${WEDGE} 0 0 ${turn > 0 ? 0 : 1} ${on(until)} Z`,
        fill: hue(n), stroke: hue(n) }),
      drawing("text", { class: "corner", x: 4, y: 18 }, `cos ${degrees(cosine)} = ${fixed(cosine, 2)}`));
  }

  const legend = () => drawing("g", { stroke: "var(--ink)", "stroke-width": 2, fill: "none" },
    ...[["E", "token", SIZE - 26, "", "var(--ink)"], ["T", "transformed", SIZE - 8, "7 5", "var(--paper)"]].flatMap(
      ([letter, name, y, dash, fill]) => [
        drawing("line", { x1: 4, x2: 30, y1: y - 4, y2: y - 4, "stroke-dasharray": dash }),
        drawing("path", { d: `M40,${y - 4} l-11,-4.5 v9 Z`, fill, "stroke-width": 1.5 }),
        drawing("text", { x: 46, y, stroke: "none" }, `${letter} ${name}`)]));

  // ---- the numbers of all pairs ----

  const COLUMNS = [["from", "L(E)", 2], ["to", "L(T)", 2], ["ratio", "ratio", 2], ["cosine", "cosine", 2],
    ["necc", "NECC", 3], ["weight", "W", 3]];

  function table(count, choose) {
    const end = element("span");
    const lines = range(count).map((n) => {
      const pick = element("button", { type: "button", name: `pair${n}`, "aria-label": `Pair ${n + 1}` }, `${n + 1}`,
        drawing("svg", { viewBox: "0 0 34 14", "aria-hidden": "true", stroke: hue(n), "stroke-width": 2.5 },
          drawing("line", { x1: 0, x2: 34, y1: 4, y2: 4 }),
          drawing("line", { x1: 0, x2: 34, y1: 11, y2: 11, "stroke-dasharray": "6 4" })));
      const values = COLUMNS.map(() => element("data"));
      const bar = element("i", { style: `background: ${hue(n)}` });
      const node = element("tr", {}, element("th", { scope: "row" }, pick),
        ...values.map((value) => element("td", {}, value)), element("td", { class: "bar" }, bar));
      pick.addEventListener("click", () => choose(n));
      return { node, pick, values, bar };
    });
    const node = element("table", { class: "weights" },
      element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "pair"),
        ...COLUMNS.map(([, title]) => element("th", { scope: "col" }, title)),
        element("th", { scope: "col", "aria-label": "bar of W" }, element("div", {}, element("span", {}, "0"), end)))),
      element("tbody", {}, ...lines.map((line) => line.node)));
    return {
      node,
      draw(rows, chosen) {
        const top = ceiling(Math.max(...rows.map((row) => row.weight)));
        write(end, String(top));
        lines.forEach(({ node, pick, values, bar }, n) => {
          node.className = n === chosen ? "chosen" : "";
          pick.setAttribute("aria-pressed", n === chosen);
          COLUMNS.forEach(([name, , digits], c) => {
            values[c].value = rows[n][name];
            write(values[c], fixed(rows[n][name], digits));
          });
          bar.style.width = `${(100 * rows[n].weight) / top}%`;
        });
      },
    };
  }

  // NECC as what it is: shares of one whole, or of as many wholes as there are tokens
  function shares(count) {
    const parts = range(count).map((n) => element("span", { style: `--own: ${hue(n)}` }, `${n + 1}`));
    const strip = element("div", { class: "strip", role: "img" }, ...parts);
    const caption = element("figcaption", {});
    return {
      node: element("figure", {}, caption, strip),
      draw(rows, chosen, normaliser) {
        const [low, high] = bounds(count, normaliser);
        caption.textContent = `NECC: shares of ${normaliser === "sum" ? 1 : count} `;
        caption.append(element("span", { class: "quiet" }, `each between ${fixed(low, 3)} and ${fixed(high, 3)}`));
        parts.forEach((part, n) => {
          part.style.flexGrow = rows[n].necc;
          part.className = n === chosen ? "chosen" : "";
        });
        strip.setAttribute("aria-label", rows.map((row, n) => `pair ${n + 1}: ${fixed(row.necc, 3)}`).join(", "));
      },
    };
  }

  // ---- one view ----

  function build(model, root, { choose, repaint }) {
    const { limit, shortest, initial } = model.get("_data");
    const count = initial.tokens.length;
    const plane = disc(count, limit);
    const numbers = table(count, (n) => choose("chosen", n));
    const strip = shares(count);
    const normaliser = choices("normaliser", ["sum", "mean"].map((n) => `${n} over tokens`), ["sum", "mean"]);
    const whose = element("b");
    const buttons = ACTIONS.map(([name, text, hint]) => button(name, text, hint));
    const reset = button("reset", "Reset", "The arrows as they were at first");
    const [shown, said, spoken] = [element("div"), element("div", { class: "status" }),
      element("div", { class: "spoken", "aria-live": "polite" })];
    root.append(
      element("div", { class: "controls" }, element("span", { class: "actions" }, whose, ...buttons),
        labelled("NECC: ", normaliser), reset),
      element("div", { class: "playground" },
        element("figure", {}, plane.node, element("p", { class: "quiet" },
          "Drag a tip, or press Tab to reach it and arrow keys to move it; Shift makes larger steps.")),
        element("div", { class: "main" }, shown, element("div", { class: "shares" }, numbers.node), strip.node, said)),
      spoken);
    let held = null; // the tip in the hand: which, by which pointer, how far beside it

    const pairs = () => ({ E: model.get("tokens"), T: model.get("transformed") });

    // both lists in one task, so that nobody sees E turned and T not yet
    function place(n, points) {
      for (const [kind, point] of Object.entries(points))
        choose(KINDS[kind], model.get(KINDS[kind]).map((old, k) => (k === n ? point : old)));
    }

    function move({ kind, n }, wish) {
      const before = pairs()[kind][n];
      const point = placed(wish, before, kind === "E" ? shortest : 0, limit);
      if (point[0] !== before[0] || point[1] !== before[1]) place(n, { [kind]: point });
    }

    function paint() {
      const [now, chosen, by] = [pairs(), model.get("chosen"), model.get("normaliser")];
      const rows = measure(now.E, now.T, by);
      plane.draw(now, rows, chosen);
      plane.node.classList.toggle("held", held !== null);
      shown.replaceChildren(formula(rows[chosen], chosen, by));
      numbers.draw(rows, chosen);
      strip.draw(rows, chosen, by);
      write(said, advice(rows, chosen, by));
      put(normaliser, by);
      write(whose, `Pair ${chosen + 1}:`);
      ACTIONS.forEach(([name, , hint], k) => {
        const why = hindrance(name, now.T[chosen], { limit, shortest });
        buttons[k].setAttribute("aria-disabled", why !== "");
        buttons[k].title = why || hint;
      });
      // spoken when the hand has come to rest, not for every place passed over
      const text = `Pair ${chosen + 1}: ${COLUMNS.slice(2).map(([name, title, digits]) =>
        `${title} ${fixed(rows[chosen][name], digits)}`).join(", ")}.`;
      if (held === null) write(spoken, text);
      root.dataset.painted = JSON.stringify([now.E, now.T, chosen, by]);
    }

    // ---- the user's hands ----
    plane.node.addEventListener("pointerdown", (event) => {
      const at = plane.point(event);
      const tip = event.button === 0 && held === null ? plane.nearest(at, model.get("chosen")) : null;
      if (!tip) return;
      event.preventDefault(); // no text is selected on the way
      tip.node.focus({ preventScroll: true });
      plane.node.setPointerCapture(event.pointerId);
      held = { tip, pointer: event.pointerId, beside: [tip.at[0] - at[0], tip.at[1] - at[1]] };
      repaint();
    });
    plane.node.addEventListener("pointermove", (event) => {
      if (event.pointerId !== held?.pointer) return;
      const at = plane.point(event);
      move(held.tip, [(at[0] + held.beside[0] - MIDDLE) / UNIT, (MIDDLE - at[1] - held.beside[1]) / UNIT]);
    });
    plane.node.addEventListener("lostpointercapture", () => { held = null; repaint(); });
    for (const tip of plane.tips) {
      // a finger on a tip does not scroll the page; touch-action would have to cover the whole drawing
      tip.node.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
      tip.node.addEventListener("focus", () => { if (model.get("chosen") !== tip.n) choose("chosen", tip.n); });
      tip.node.addEventListener("keydown", (event) => {
        const to = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
        if (!to) return;
        event.preventDefault();
        const [x, y] = pairs()[tip.kind][tip.n];
        const step = event.shiftKey ? STRIDE : STEP;
        move(tip, [x + to[0] * step, y + to[1] * step]);
      });
    }
    ACTIONS.forEach(([name, , , act], k) => buttons[k].addEventListener("click", () => {
      const n = model.get("chosen");
      const { E, T } = pairs();
      if (!hindrance(name, T[n], { limit, shortest })) place(n, act(E[n], T[n]));
    }));
    reset.addEventListener("click", () => {
      for (const name of Object.values(KINDS)) choose(name, initial[name]);
    });
    normaliser.addEventListener("change", () => choose("normaliser", normaliser.value));
    return { paint, followed: [...Object.values(KINDS), "chosen", "normaliser"] };
  }

  return { render: (view) => mount(view, "TokenTM token playground", (root, tools) => build(view.model, root, tools)) };
})();

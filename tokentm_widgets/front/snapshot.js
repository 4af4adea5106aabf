// What a widget shows, as one picture: its canvases and drawings, and the words beside them; controls are left out.

const SKIPPED = "button, select, input, label, svg, script, style, [hidden]";
const OF_DRAWINGS = [
  "fill",
  "stroke",
  "stroke-width",
  "stroke-dasharray",
  "opacity",
  "font",
  "text-anchor",
  "visibility",
];

/**
 * @param {HTMLElement} root
 * @returns {Promise<Blob>} a PNG
 */
export async function snapshot(root) {
  const box = root.getBoundingClientRect();
  const scale = Math.max(1, Math.min(2, devicePixelRatio));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.ceil(box.width * scale), Math.ceil(box.height * scale)];
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.fillStyle = getComputedStyle(document.body).backgroundColor;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.scale(scale, scale);
  context.translate(-box.left, -box.top);
  for (const map of root.querySelectorAll(".map")) if (map instanceof HTMLElement) drawMap(context, map);
  for (const drawn of root.querySelectorAll("canvas")) if (!drawn.closest(".map")) place(context, drawn, drawn);
  for (const bar of root.querySelectorAll(".scale i")) drawBar(context, bar);
  for (const drawing of root.querySelectorAll("svg")) place(context, await pictureOf(drawing), drawing);
  words(context, root);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture was made"))), "image/png");
  });
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {CanvasImageSource} picture
 * @param {Element} where
 */
function place(context, picture, where) {
  const { left, top, width, height } = where.getBoundingClientRect();
  if (width && height) context.drawImage(picture, left, top, width, height);
}

/**
 * A picture, the map on it and the rings around patches, cut off at the picture's edge.
 * @param {CanvasRenderingContext2D} context
 * @param {HTMLElement} map
 */
function drawMap(context, map) {
  const { left, top, width, height } = map.getBoundingClientRect();
  context.save();
  context.beginPath();
  context.rect(left, top, width, height);
  context.clip();
  context.fillStyle = getComputedStyle(map).backgroundColor;
  context.fillRect(left, top, width, height);
  for (const layer of map.querySelectorAll("canvas")) {
    context.globalAlpha = Number(getComputedStyle(layer).opacity);
    context.imageSmoothingEnabled = layer.classList.contains("picture"); // a patch of a map has one colour
    place(context, layer, layer);
  }
  context.globalAlpha = 1;
  for (const ring of map.querySelectorAll(".rings i")) {
    const box = ring.getBoundingClientRect();
    context.setLineDash(ring.classList.contains("pointed") ? [4, 3] : []);
    for (const [colour, line] of /** @type {[string, number][]} */ ([
      ["#000", 5],
      ["#fff", 2],
    ])) {
      [context.strokeStyle, context.lineWidth] = [colour, line];
      context.strokeRect(box.left, box.top, box.width, box.height);
    }
  }
  context.restore();
}

/**
 * A colour bar: the stops of its gradient over its ground.
 * @param {CanvasRenderingContext2D} context
 * @param {Element} bar
 */
function drawBar(context, bar) {
  const { left, top, width, height } = bar.getBoundingClientRect();
  const { backgroundColor, backgroundImage } = getComputedStyle(bar);
  const stops = backgroundImage.match(/rgba?\([^)]*\)/g) ?? [];
  if (!width || stops.length < 2) return;
  const gradient = context.createLinearGradient(left, 0, left + width, 0);
  for (const [i, stop] of stops.entries()) gradient.addColorStop(i / (stops.length - 1), stop);
  for (const fill of [backgroundColor, gradient]) {
    context.fillStyle = fill;
    context.fillRect(left, top, width, height);
  }
}

/**
 * A drawing with the styles that it has on this page.
 * @param {SVGSVGElement} drawing
 */
async function pictureOf(drawing) {
  const copy = /** @type {SVGSVGElement} */ (drawing.cloneNode(true));
  const [copies, originals] = [copy, drawing].map((one) => [one, ...one.querySelectorAll("*")]);
  copies.forEach((one, i) => {
    const styles = getComputedStyle(originals[i]);
    for (const name of OF_DRAWINGS)
      one.setAttribute("style", `${one.getAttribute("style") ?? ""};${name}:${styles.getPropertyValue(name)}`);
  });
  const { width, height } = drawing.getBoundingClientRect();
  copy.setAttribute("width", String(width));
  copy.setAttribute("height", String(height));
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const picture = new Image();
  picture.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
  await picture.decode();
  return picture;
}

/**
 * Each word where it stands.
 * @param {CanvasRenderingContext2D} context
 * @param {HTMLElement} root
 */
function words(context, root) {
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  context.textBaseline = "middle";
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    const inside = node.parentElement;
    if (!inside || inside.closest(SKIPPED)) continue;
    const styles = getComputedStyle(inside);
    if (styles.visibility !== "visible") continue;
    [context.font, context.fillStyle] = [styles.font, styles.color];
    for (const word of (node.textContent ?? "").matchAll(/\S+/g)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const { left, top, width, height } = range.getBoundingClientRect();
      if (width && height) context.fillText(word[0], left, top + height / 2);
    }
  }
}

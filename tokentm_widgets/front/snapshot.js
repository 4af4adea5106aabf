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
  for (const drawn of root.querySelectorAll("canvas")) place(context, drawn, drawn);
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

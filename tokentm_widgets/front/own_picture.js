// A picture of the reader's own: chosen as a file, dropped or pasted. It stays in the page.

import { element } from "./dom.js";
import { seenOf } from "./engine/preparing.js";

/** @import { Preparing } from "./engine/preparing.js" */
/** @typedef {{ pixels: Uint8Array, bitmap: ImageBitmap }} Own as the model sees it, and as it is */

/** Pixels along a side that every browser's canvas takes. */
const LONGEST = 4096;

/**
 * A file as a picture, upright.
 * @param {Blob} file
 * @param {Preparing} how
 * @returns {Promise<Own>}
 */
export async function ownOf(file, how) {
  /** @type {ImageBitmap} */
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    const kind = file.type || "of no known type";
    throw new Error(`This file (${kind}) is no picture that the browser can read. Take a JPEG, PNG or WebP.`);
  }
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = element("canvas", { width, height });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  context.fillStyle = "#fff"; // what is transparent lies on white, as in Python
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const colours = new Uint8Array(3 * width * height);
  for (let i = 0; i < width * height; i++) for (let c = 0; c < 3; c++) colours[3 * i + c] = data[4 * i + c];
  const seen = seenOf({ data: colours, width, height }, how);
  return { pixels: Uint8Array.from(seen.data), bitmap };
}

/**
 * A button for a file, and where files are dropped and pasted.
 * @param {HTMLElement} root
 * @param {HTMLElement} stage shows that a picture may be let go
 * @param {(file: File) => void} take
 */
export function ownPicture(root, stage, take) {
  const file = element("input", { type: "file", name: "picture", accept: "image/*", hidden: true });
  const button = element(
    "button",
    { type: "button", name: "own", title: "Choose a picture, drop one here, or paste it" },
    "Your picture",
  );
  button.addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    const chosen = file.files?.[0];
    if (chosen) take(chosen);
    file.value = "";
  });
  const over = (/** @type {boolean} */ on) => stage.classList.toggle("dropping", on);
  root.addEventListener("dragover", (event) => {
    if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
    event.preventDefault();
    over(true);
  });
  root.addEventListener("dragleave", (event) => {
    if (!root.contains(/** @type {Node | null} */ (event.relatedTarget))) over(false);
  });
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    const dropped = event.dataTransfer?.files[0];
    if (dropped) take(dropped);
  });
  /** @param {ClipboardEvent} event pasted here, or anywhere on a page where nothing else has the focus */
  const pasted = (event) => {
    const { target, clipboardData } = event;
    const here = target instanceof Node && root.contains(target);
    if (!here && target !== document.body) return;
    const found = clipboardData?.files[0];
    if (found) take(found);
  };
  document.addEventListener("paste", pasted);
  return { nodes: [button, file], close: () => document.removeEventListener("paste", pasted) };
}

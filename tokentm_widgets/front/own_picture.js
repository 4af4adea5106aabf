// A picture of the reader's own, from a file to what the model sees of it. Nothing leaves the page.

import { normalised, seenOf } from "./engine/preparing.js";

/** @import { Pixels, Preparing } from "./engine/preparing.js" */
/** @import { Numbers } from "./engine/types.d.ts" */
/** @typedef {{ name: string, url: string, picture: string, image: Numbers }} Own */

/** Most pixels of a picture: three bytes each must find room. */
const LARGEST = 2 ** 26;
/** Pixels that are read at once: browsers' canvases take no more than some millions, and stay empty without a word. */
const AT_ONCE = 2 ** 22;
const THUMB = 96;

/**
 * What a model sees and takes of a picture, and how it is shown.
 * @param {{ name: string, file: Blob }} given
 * @param {Preparing} how
 * @returns {Promise<Own>}
 */
export async function ownPicture(given, how) {
  const { seen, bitmap } = await seenIn(given, how);
  bitmap.close();
  const canvas = drawn(seen);
  const small = document.createElement("canvas");
  const shrink = Math.min(1, THUMB / Math.max(seen.width, seen.height));
  [small.width, small.height] = [Math.round(seen.width * shrink), Math.round(seen.height * shrink)];
  contextOf(small).drawImage(canvas, 0, 0, small.width, small.height);
  return { name: given.name, url: small.toDataURL(), picture: canvas.toDataURL(), image: normalised(seen, how) };
}

/**
 * A picture as it is, upright, and what a model sees of it.
 * @param {{ name: string, file: Blob }} given
 * @param {Preparing} how
 */
export async function seenIn({ name, file }, how) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" }).catch(
    () => {
      throw new Error(
        `Expected a picture that this browser can read (PNG, JPEG, WebP …); ${name} could not be read. Save it as PNG or JPEG.`,
      );
    },
  );
  try {
    const { width, height } = bitmap;
    if (width * height > LARGEST)
      throw new Error(
        `Expected a picture of at most 67 million pixels; ${name} has ${width} x ${height}. Save it smaller.`,
      );
    return { seen: seenOf(pixelsOf(bitmap), how), bitmap };
  } catch (error) {
    bitmap.close();
    throw error;
  }
}

/**
 * In RGB, what is transparent laid on white, as in Python; read in strips.
 * @param {ImageBitmap} bitmap
 * @returns {Pixels}
 */
function pixelsOf(bitmap) {
  const { width, height } = bitmap;
  const data = new Uint8Array(3 * width * height);
  const rows = Math.max(1, Math.min(height, Math.floor(AT_ONCE / width)));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, rows];
  const context = contextOf(canvas);
  for (let top = 0; top < height; top += rows) {
    const count = Math.min(rows, height - top);
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, top, width, count, 0, 0, width, count);
    data.set(withoutAlpha(context.getImageData(0, 0, width, count).data), 3 * top * width);
  }
  return { data, width, height };
}

/** @param {HTMLCanvasElement} canvas */
const contextOf = (canvas) =>
  /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));

/** @param {Uint8ClampedArray} data */
export function withoutAlpha(data) {
  const colours = new Uint8Array((data.length / 4) * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    colours[to] = data[from];
    colours[to + 1] = data[from + 1];
    colours[to + 2] = data[from + 2];
  }
  return colours;
}

/** @param {Pixels} pixels */
function drawn({ data, width, height }) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = contextOf(canvas);
  const image = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++)
    for (let c = 0; c < 4; c++) image.data[4 * i + c] = c < 3 ? data[3 * i + c] : 255;
  context.putImageData(image, 0, 0);
  return canvas;
}

// A picture of the reader's own, from a file to what the model sees and takes. Nothing leaves the page.

import { normalised, seenOf } from "./engine/preparing.js";

/** @import { Pixels, Preparing } from "./engine/preparing.js" */
/** @import { Numbers } from "./engine/types.d.ts" */
/** @typedef {{ name: string, url: string, picture: string, image: Numbers }} Own */

/** Most pixels of a picture: a browser's canvas takes no more. */
const LARGEST = 2 ** 26;
const THUMB = 96;

/**
 * @param {{ name: string, file: Blob }} given
 * @param {Preparing} how
 * @returns {Promise<Own>}
 */
export async function ownPicture({ name, file }, how) {
  const seen = seenOf(await decoded(name, file), how);
  const canvas = drawn(seen);
  const small = document.createElement("canvas");
  const shrink = Math.min(1, THUMB / Math.max(seen.width, seen.height));
  [small.width, small.height] = [Math.round(seen.width * shrink), Math.round(seen.height * shrink)];
  contextOf(small).drawImage(canvas, 0, 0, small.width, small.height);
  return { name, url: small.toDataURL(), picture: canvas.toDataURL(), image: normalised(seen, how) };
}

/**
 * Upright, in RGB, what is transparent laid on white.
 * @param {string} name
 * @param {Blob} file
 * @returns {Promise<Pixels>}
 */
async function decoded(name, file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image", premultiplyAlpha: "none" }).catch(
    () => {
      throw new Error(
        `Expected a picture that this browser can read (PNG, JPEG, WebP …); ${name} could not be read. Save it as PNG or JPEG.`,
      );
    },
  );
  const { width, height } = bitmap;
  if (width * height > LARGEST)
    throw new Error(
      `Expected a picture of at most 67 million pixels; ${name} has ${width} x ${height}. Save it smaller.`,
    );
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = contextOf(canvas);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { data: withoutAlpha(context.getImageData(0, 0, width, height).data), width, height };
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
export function drawn({ data, width, height }) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = contextOf(canvas);
  const image = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++)
    for (let c = 0; c < 4; c++) image.data[4 * i + c] = c < 3 ? data[3 * i + c] : 255;
  context.putImageData(image, 0, 0);
  return canvas;
}

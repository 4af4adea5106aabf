// The drawings and backgrounds of a scene as they come: two pictures, cut up when a part is wanted.

import { contextOf, element } from "./dom.js";
import { averaged, CELL, SIZE, surrounded } from "./scene_drawing.js";

/** @import { SceneTableData } from "./schema.d.ts" */
/** @typedef {Awaited<ReturnType<typeof sheetOf>>} Sheet */

/**
 * @param {Pick<SceneTableData, "sheet" | "grounds" | "drawings" | "backgrounds">} data
 */
export async function sheetOf({ sheet, grounds, drawings, backgrounds }) {
  const [cells, below] = await Promise.all([opened(sheet), opened(grounds)]);
  /** @type {Map<string, [row: number, column: number]>} */
  const places = new Map(drawings.flatMap((row, k) => row.map((name, column) => [name, [k, column]])));
  /** @type {Map<string, { numbers: Uint8Array, canvas: HTMLCanvasElement }>} */
  const cut = new Map();
  /** @type {Map<string, { canvas: HTMLCanvasElement, pixels: Uint8Array }>} */
  const laid = new Map();
  const side = below.height;

  return {
    /** @param {string} sprite numbers for the model's picture, and a canvas to draw from */
    drawing(sprite) {
      const known = cut.get(sprite);
      if (known) return known;
      const [row, column] = places.get(sprite) ?? [0, 0];
      const colours = piece(cells, column * CELL, row * CELL, CELL).data;
      const opacities = piece(cells, column * CELL, (drawings.length + row) * CELL, CELL).data;
      const canvas = element("canvas", { width: CELL, height: CELL });
      const image = new ImageData(CELL, CELL);
      const numbers = new Uint8Array(4 * CELL * CELL);
      for (let i = 0; i < numbers.length; i += 4) {
        const opacity = opacities[i];
        numbers.set([colours[i], colours[i + 1], colours[i + 2], opacity], i);
        for (let c = 0; c < 3; c++) image.data[i + c] = opacity ? (255 * colours[i + c]) / opacity : 0;
        image.data[i + 3] = opacity;
      }
      contextOf(canvas).putImageData(image, 0, 0);
      const made = { numbers: surrounded(numbers), canvas };
      cut.set(sprite, made);
      return made;
    },
    /** @param {string} name as it is shown, and as the model gets it */
    background(name) {
      const known = laid.get(name);
      if (known) return known;
      const image = piece(below, Math.max(0, backgrounds.indexOf(name)) * side, 0, side);
      const canvas = element("canvas", { width: side, height: side });
      contextOf(canvas).putImageData(image, 0, 0);
      const made = { canvas, pixels: averaged(image.data) };
      laid.set(name, made);
      return made;
    },
  };
}

/** @param {DataView} file */
const opened = ({ buffer, byteOffset, byteLength }) =>
  createImageBitmap(new Blob([new Uint8Array(/** @type {ArrayBuffer} */ (buffer), byteOffset, byteLength)]), {
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  });

/**
 * @param {ImageBitmap} picture
 * @param {number} x
 * @param {number} y
 * @param {number} side
 */
function piece(picture, x, y, side) {
  const canvas = element("canvas", { width: side, height: side });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  context.drawImage(picture, x, y, side, side, 0, 0, side, side);
  return context.getImageData(0, 0, side, side);
}

/** RGB as a canvas. @param {Uint8Array} pixels */
export function canvasOf(pixels) {
  const canvas = element("canvas", { width: SIZE, height: SIZE });
  const image = new ImageData(SIZE, SIZE);
  for (let i = 0; i < SIZE * SIZE; i++) {
    image.data.set(pixels.subarray(3 * i, 3 * i + 3), 4 * i);
    image.data[4 * i + 3] = 255;
  }
  contextOf(canvas).putImageData(image, 0, 0);
  return canvas;
}

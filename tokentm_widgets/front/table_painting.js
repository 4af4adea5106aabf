// The scene as it is shown: large and sharp, a map on it, and holes where patches are gone.

import { glow, paintValues } from "./colours.js";
import { contextOf, element } from "./dom.js";
import { extent } from "./numbers.js";
import { SIZE } from "./scene_drawing.js";

/** @import { Placed } from "./scene_drawing.js" */

/** Patches along a side of the scene. */
export const ACROSS = 14;
const OPAQUE = 0.92;
/** How much of the picture's colour and light a map takes away, so that it stands out: on the table. */
export const LESS = [0.3, 0.08];
/** And in a small map. */
export const MUCH_LESS = [0.65, 0.12];

/** On both sides of zero: the more, the farther from it. @param {number} share */
const away = (share) => Math.sqrt(Math.abs(2 * share - 1));

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} side in its pixels
 * @param {HTMLCanvasElement | ImageBitmap} ground
 * @param {Placed[]} objects
 * @param {(sprite: string) => HTMLCanvasElement} drawingOf
 */
export function paintScene(context, side, ground, objects, drawingOf) {
  const scale = side / SIZE;
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  const cut = Math.min(ground.width, ground.height);
  const [left, top] = [(ground.width - cut) / 2, (ground.height - cut) / 2];
  context.drawImage(ground, left, top, cut, cut, 0, 0, side, side);
  for (const { sprite, x, y, size, angle } of objects) {
    context.save();
    context.scale(scale, scale);
    context.translate(x, y);
    context.rotate((angle * Math.PI) / 180);
    context.drawImage(drawingOf(sprite), -size / 2, -size / 2, size, size);
    context.restore();
  }
}

/**
 * Takes colour and light away; Safari has no canvas filters.
 * @param {CanvasRenderingContext2D} context
 * @param {number} side
 * @param {number[]} how
 */
export function mute(context, side, [colour, light]) {
  context.save();
  context.globalCompositeOperation = "saturation";
  context.globalAlpha = colour;
  context.fillStyle = "#808080";
  context.fillRect(0, 0, side, side);
  context.globalCompositeOperation = "source-over";
  context.globalAlpha = light;
  context.fillStyle = "#000";
  context.fillRect(0, 0, side, side);
  context.restore();
}

const cells = { canvas: /** @type {HTMLCanvasElement | null} */ (null) };

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} side
 * @param {Float32Array} map
 * @param {Uint8Array} table of colours
 * @param {boolean} signed whether the colours' middle is zero
 */
export function paintMap(context, side, map, table, signed) {
  cells.canvas ??= element("canvas", { width: ACROSS, height: ACROSS });
  const small = contextOf(cells.canvas);
  const image = small.createImageData(ACROSS, ACROSS);
  const [low, high] = extent(map);
  const most = Math.max(-low, high, 1e-9);
  paintValues(map, [signed ? -most : 0, most], table, image.data, signed ? away : glow);
  small.putImageData(image, 0, 0);
  context.save();
  context.imageSmoothingEnabled = false;
  context.globalAlpha = OPAQUE;
  context.drawImage(cells.canvas, 0, 0, side, side);
  context.restore();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} side
 * @param {number[]} gone
 */
export function paintHoles(context, side, gone) {
  const cell = side / ACROSS;
  context.strokeStyle = "#9b9a94";
  context.lineWidth = Math.max(1, side / 560);
  for (const patch of gone) {
    const [x, y] = [(patch % ACROSS) * cell, Math.floor(patch / ACROSS) * cell];
    context.fillStyle = "#f3f2ee";
    context.fillRect(x, y, cell, cell);
    context.beginPath();
    context.moveTo(x, y + cell);
    context.lineTo(x + cell, y);
    context.stroke();
  }
}

/**
 * A frame around a patch that is seen on any colour.
 * @param {CanvasRenderingContext2D} context
 * @param {number} side
 * @param {number} patch
 */
export function paintFrame(context, side, patch) {
  const cell = side / ACROSS;
  for (const [colour, width] of /** @type {[string, number][]} */ ([
    ["#000", side / 130],
    ["#fff", side / 300],
  ])) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.strokeRect((patch % ACROSS) * cell, Math.floor(patch / ACROSS) * cell, cell, cell);
  }
}

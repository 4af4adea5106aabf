// Scenes out of placed drawings, pixel by pixel, as tokentm_widgets/scene_drawing.py draws them: the same numbers in the
// same order, so that a page and Python show the model the same picture, whatever the browser draws with.

/** @typedef {{ sprite: string, x: number, y: number, size: number, angle: number }} Placed where, in pixels of the scene */
/** @typedef {{ top: number, left: number, width: number, height: number, data: Float64Array }} Layer premultiplied RGBA */
/** @typedef {{ pixels: Uint8Array, owner: Int8Array }} Drawn RGB, and which object is seen at each pixel, or -1 */

/** Side of a scene in pixels. */
export const SIZE = 112;
/** Side of a patch. */
const PATCH = 8;
/** Side of a drawing as it is kept. */
export const CELL = 96;
const SAMPLES = 3;

/**
 * A drawing with empty pixels around it, so that every point in it has four neighbours.
 * @param {Uint8Array} drawing premultiplied RGBA, CELL x CELL
 */
export function surrounded(drawing) {
  const wide = new Uint8Array(4 * (CELL + 2) ** 2);
  for (let row = 0; row < CELL; row++)
    wide.set(drawing.subarray(4 * row * CELL, 4 * (row + 1) * CELL), 4 * ((row + 1) * (CELL + 2) + 1));
  return wide;
}

/** @param {number} value */
const within = (value) => Math.min(SIZE, Math.max(0, Math.floor(value)));

/**
 * What a drawing puts on the scene.
 * @param {Uint8Array} drawing as `surrounded` gives it
 * @param {Placed} placed
 * @returns {Layer}
 */
export function layerOf(drawing, { x, y, size, angle }) {
  const turn = (angle * Math.PI) / 180;
  const [cosine, sine] = [Math.cos(turn), Math.sin(turn)];
  const reach = size * 0.71 + 1; // half a diagonal, and the pixel that it ends in
  const [left, right, top, bottom] = [within(x - reach), within(x + reach), within(y - reach), within(y + reach)];
  const [width, height] = [right - left, bottom - top];
  const [scale, middle] = [CELL / size, CELL / 2 - 0.5];
  const data = new Float64Array(4 * width * height);
  const across = CELL + 2; // pixels of a row, with the empty ones around
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++) {
      const to = 4 * (row * width + column);
      for (let i = 0; i < SAMPLES; i++)
        for (let j = 0; j < SAMPLES; j++) {
          const dx = left + column + (j + 0.5) / SAMPLES - x;
          const dy = top + row + (i + 0.5) / SAMPLES - y;
          const u = (cosine * dx + sine * dy) * scale + middle;
          const v = (cosine * dy - sine * dx) * scale + middle;
          if (!(u > -1 && u < CELL && v > -1 && v < CELL)) continue;
          const [atU, atV] = [Math.floor(u), Math.floor(v)];
          const [fu, fv] = [u - atU, v - atV];
          const above = 4 * ((atV + 1) * across + atU + 1);
          const below = above + 4 * across;
          for (let c = 0; c < 4; c++) {
            const upper = drawing[above + c] * (1 - fu) + drawing[above + 4 + c] * fu;
            const lower = drawing[below + c] * (1 - fu) + drawing[below + 4 + c] * fu;
            data[to + c] += upper * (1 - fv) + lower * fv;
          }
        }
      for (let c = 0; c < 4; c++) data[to + c] /= SAMPLES ** 2;
    }
  return { top, left, width, height, data };
}

/**
 * Layers on a background, each covering those before it.
 * @param {ArrayLike<number>} background RGB
 * @param {Layer[]} layers
 * @returns {Drawn}
 */
export function composed(background, layers) {
  const canvas = Float64Array.from(background);
  const owner = new Int8Array(SIZE * SIZE).fill(-1);
  for (const [k, { top, left, width, height, data }] of layers.entries())
    for (let row = 0; row < height; row++)
      for (let column = 0; column < width; column++) {
        const from = 4 * (row * width + column);
        const to = (top + row) * SIZE + left + column;
        if (data[from + 3] === 0) continue;
        const share = data[from + 3] / 255;
        for (let c = 0; c < 3; c++) canvas[3 * to + c] = canvas[3 * to + c] * (1 - share) + data[from + c];
        if (data[from + 3] > 127.5) owner[to] = k;
      }
  return { pixels: Uint8Array.from(canvas, (value) => Math.min(255, Math.max(0, Math.floor(value + 0.5)))), owner };
}

/**
 * How much of each patch some objects cover, and of the whole picture.
 * @param {Int8Array} owner
 * @param {(k: number) => boolean} counts
 */
export function coverOf(owner, counts) {
  const across = SIZE / PATCH;
  const patches = new Float32Array(across * across);
  let pixels = 0;
  for (let i = 0; i < owner.length; i++) {
    if (owner[i] < 0 || !counts(owner[i])) continue;
    pixels += 1;
    const [row, column] = [Math.floor(i / SIZE), i % SIZE];
    patches[Math.floor(row / PATCH) * across + Math.floor(column / PATCH)] += 1 / PATCH ** 2;
  }
  return { patches, area: pixels / owner.length };
}

/**
 * Which share of a map lies where something covers its patches.
 * @param {ArrayLike<number>} map
 * @param {ArrayLike<number>} cover
 */
export function shareOn(map, cover) {
  let [on, all] = [0, 0];
  for (let p = 0; p < map.length; p++) {
    on += map[p] * cover[p];
    all += map[p];
  }
  return all ? on / all : 0;
}

/**
 * Means of squares of pixels, halves rounded up: RGBA of a larger picture as RGB of a scene.
 * @param {Uint8ClampedArray} rgba SIZE k x SIZE k
 */
export function averaged(rgba) {
  const side = Math.sqrt(rgba.length / 4) / SIZE;
  const small = new Uint8Array(3 * SIZE * SIZE);
  for (let y = 0; y < SIZE; y++)
    for (let x = 0; x < SIZE; x++)
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let i = 0; i < side; i++)
          for (let j = 0; j < side; j++) sum += rgba[4 * ((y * side + i) * SIZE * side + x * side + j) + c];
        small[3 * (y * SIZE + x) + c] = Math.floor((2 * sum + side ** 2) / (2 * side ** 2));
      }
  return small;
}

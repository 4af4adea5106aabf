// From the pixels of any picture to what the model takes, as Pillow and torchvision do it: resized, cropped, normalised.
// Pillow resamples 8-bit pixels in whole numbers, once along rows and once along columns; so does this, bit by bit.

/** @import { Numbers } from "./types.d.ts" */
/** @typedef {{ data: Uint8Array | Uint8ClampedArray, width: number, height: number }} Pixels RGB, 3 bytes a pixel */
/**
 * How a model's pictures are prepared; see live_pictures.py. `size`: [shorter side] or [height, width].
 * @typedef {{ size: number[] | null, filter: "bilinear" | "bicubic", crop: number[], mean: number[], std: number[] }} Preparing
 */

const BITS = 22; // 32 less 8 of a pixel and 2 for overshooting, as in Pillow's Resample.c

/** @type {Record<Preparing["filter"], { reach: number, weight: (x: number) => number }>} */
const FILTERS = {
  bilinear: { reach: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    reach: 2,
    weight(given) {
      const x = Math.abs(given);
      if (x < 1) return ((-0.5 + 2) * x - (-0.5 + 3)) * x * x + 1;
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
    },
  },
};

/**
 * What the model sees of a picture.
 * @param {Pixels} picture
 * @param {Preparing} how
 * @returns {Pixels}
 */
export function seenOf(picture, { size, filter, crop }) {
  const [height, width] = sizeOf(picture, size);
  const [high, wide] = crop;
  if (height < high || width < wide)
    throw new Error(`expected at least ${wide} x ${high} pixels after resizing; got ${width} x ${height}`);
  const resized = resize(picture, width, height, filter);
  return cut(resized, halfEven((width - wide) / 2), halfEven((height - high) / 2), wide, high);
}

/**
 * The numbers that a model takes of a seen picture: (channels, height, width), normalised.
 * @param {Pixels} seen
 * @param {Preparing} how
 * @returns {Numbers}
 */
export function normalised({ data, width, height }, { mean, std }) {
  const image = new Float32Array(mean.length * width * height);
  const values = new Float32Array(1);
  for (let c = 0; c < mean.length; c++) {
    const [shift, scale] = [Math.fround(mean[c]), Math.fround(std[c])];
    for (let i = 0; i < width * height; i++) {
      values[0] = data[3 * i + c] / 255;
      values[0] -= shift;
      image[c * width * height + i] = values[0] / scale;
    }
  }
  return image;
}

/** @param {Pixels} picture @param {number[] | null} size @returns {[number, number]} */
function sizeOf({ width, height }, size) {
  if (size === null) return [height, width];
  if (size.length === 2) return [size[0], size[1]];
  const [side] = size;
  return height <= width ? [side, Math.trunc((side * width) / height)] : [Math.trunc((side * height) / width), side];
}

/** To the nearest whole number, halves to the even one, as Python rounds. @param {number} value */
function halfEven(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 ? low + 1 : low;
}

/**
 * @param {Pixels} picture
 * @param {number} left
 * @param {number} top
 * @param {number} width
 * @param {number} height
 * @returns {Pixels}
 */
function cut(picture, left, top, width, height) {
  if (picture.width === width && picture.height === height) return picture;
  const data = new Uint8Array(3 * width * height);
  for (let y = 0; y < height; y++) {
    const from = 3 * ((top + y) * picture.width + left);
    data.set(picture.data.subarray(from, from + 3 * width), 3 * y * width);
  }
  return { data, width, height };
}

/**
 * @param {Pixels} picture
 * @param {number} width
 * @param {number} height
 * @param {Preparing["filter"]} filter
 * @returns {Pixels}
 */
export function resize(picture, width, height, filter) {
  // what comes first matters, as numbers are rounded in between; this is how Pillow 13 chooses
  const lost = [picture.width - width, picture.height - height];
  const columnsFirst = lost[1] > 0 && lost[1] > 2 * lost[0];
  const [first, second] = columnsFirst ? [highTo, wideTo] : [wideTo, highTo];
  const size = { width, height };
  return second(first(picture, size, filter), size, filter);
}

/** @typedef {{ width: number, height: number }} Size */

/** Resized along rows. @param {Pixels} picture @param {Size} to @param {Preparing["filter"]} filter @returns {Pixels} */
function wideTo({ data, width, height }, to, filter) {
  if (to.width === width) return { data, width, height };
  const weights = weightsOf(width, to.width, filter);
  return { data: along(data, weights, height, 3 * width, 3 * to.width, 3), width: to.width, height };
}

/** Resized along columns. @param {Pixels} picture @param {Size} to @param {Preparing["filter"]} filter @returns {Pixels} */
function highTo({ data, width, height }, to, filter) {
  if (to.height === height) return { data, width, height };
  return { data: down(data, weightsOf(height, to.height, filter), 3 * width), width, height: to.height };
}

/** What each new pixel takes: from which old one on, and how much of each. @typedef {{ first: number, shares: Int32Array }[]} Weights */

/**
 * @param {number} before
 * @param {number} after
 * @param {Preparing["filter"]} filter
 * @returns {Weights}
 */
function weightsOf(before, after, filter) {
  const { reach, weight } = FILTERS[filter];
  const scale = before / after;
  const stretched = Math.max(scale, 1);
  const support = reach * stretched;
  return [...Array(after).keys()].map((i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(before, Math.trunc(centre + support + 0.5));
    const raw = [...Array(end - first).keys()].map((x) => weight((x + first - centre + 0.5) * (1 / stretched)));
    const sum = raw.reduce((a, b) => a + b, 0);
    const shares = Int32Array.from(raw, (one) => {
      const share = (sum ? one / sum : one) * 2 ** BITS;
      return Math.trunc(share < 0 ? share - 0.5 : share + 0.5);
    });
    return { first, shares };
  });
}

/**
 * @param {Uint8Array | Uint8ClampedArray} data
 * @param {Weights} weights
 * @param {number} rows
 * @param {number} before bytes of a row
 * @param {number} after
 * @param {number} step bytes of a pixel
 */
function along(data, weights, rows, before, after, step) {
  const made = new Uint8ClampedArray(rows * after);
  for (let row = 0; row < rows; row++)
    weights.forEach(({ first, shares }, i) => {
      for (let c = 0; c < step; c++) {
        let sum = 2 ** (BITS - 1);
        let at = row * before + first * step + c;
        for (let k = 0; k < shares.length; k++, at += step) sum += data[at] * shares[k];
        made[row * after + i * step + c] = sum >> BITS;
      }
    });
  return made;
}

/**
 * @param {Uint8Array | Uint8ClampedArray} data
 * @param {Weights} weights
 * @param {number} size bytes of a row
 */
function down(data, weights, size) {
  const made = new Uint8ClampedArray(weights.length * size);
  weights.forEach(({ first, shares }, row) => {
    for (let x = 0; x < size; x++) {
      let sum = 2 ** (BITS - 1);
      let at = first * size + x;
      for (let k = 0; k < shares.length; k++, at += size) sum += data[at] * shares[k];
      made[row * size + x] = sum >> BITS;
    }
  });
  return made;
}

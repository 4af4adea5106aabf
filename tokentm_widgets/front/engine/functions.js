// The elementary functions of a Vision Transformer, with their derivatives. Rows are tokens.

/** @import { Activation, Linear, Norm, Numbers, Product } from "./types.d.ts" */

/**
 * @param {Numbers} matrix (rows, columns)
 * @param {number} rows
 * @param {number} columns
 */
export function transpose(matrix, rows, columns) {
  const turned = new Float32Array(rows * columns);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) turned[j * rows + i] = matrix[i * columns + j];
  return turned;
}

/**
 * x W^T + b: (count, in) -> (count, out).
 * @param {Product} product
 * @param {Linear} map
 * @param {Numbers} x
 * @param {number} count
 */
export function linear(product, { transposed, bias, from, out }, x, count) {
  const y = product(x, transposed, count, from, out);
  if (bias) for (let i = 0; i < count; i++) for (let j = 0; j < out; j++) y[i * out + j] += bias[j];
  return y;
}

/**
 * The gradient at x: (count, out) -> (count, in).
 * @param {Product} product
 * @param {Linear} map
 * @param {Numbers} dy
 * @param {number} count
 */
export const linearBack = (product, { weight, from, out }, dy, count) => product(dy, weight, count, out, from);

/**
 * Each row of `size` numbers, normalised.
 * @param {Norm | null} norm nothing where rows stay as they are
 * @param {Numbers} x
 * @param {number} size
 */
export function normalise(norm, x, size) {
  if (!norm) return x;
  const y = new Float32Array(x.length);
  const weight = norm.weight ?? constant(1, size);
  const bias = norm.bias ?? constant(0, size);
  for (let at = 0; at < x.length; at += size) {
    const shift = shiftOf(norm, x, at, size);
    const scale = scaleOf(norm, x, at, size, shift);
    for (let j = 0; j < size; j++) y[at + j] = (x[at + j] - shift) * scale * weight[j] + bias[j];
  }
  return y;
}

/**
 * The gradient at x of rows that were normalised.
 * @param {Norm | null} norm
 * @param {Numbers} dy
 * @param {Numbers} x
 * @param {number} size
 */
export function normaliseBack(norm, dy, x, size) {
  if (!norm) return dy;
  const dx = new Float32Array(dy.length);
  const weight = norm.weight ?? constant(1, size);
  for (let at = 0; at < dy.length; at += size) {
    const shift = shiftOf(norm, x, at, size);
    const scale = scaleOf(norm, x, at, size, shift);
    let sum = 0;
    let inner = 0;
    for (let j = 0; j < size; j++) {
      const given = dy[at + j] * weight[j];
      sum += given;
      inner += given * (x[at + j] - shift);
    }
    sum = norm.kind === "layer" ? sum / size : 0;
    inner *= (scale * scale) / size;
    for (let j = 0; j < size; j++) dx[at + j] = scale * (dy[at + j] * weight[j] - sum - (x[at + j] - shift) * inner);
  }
  return dx;
}

/** @param {number} value @param {number} size */
const constant = (value, size) => new Float32Array(size).fill(value);

/**
 * What is taken from a row's numbers.
 * @param {Norm} norm
 * @param {Numbers} x
 * @param {number} at
 * @param {number} size
 */
function shiftOf(norm, x, at, size) {
  if (norm.kind !== "layer") return 0;
  let sum = 0;
  for (let j = 0; j < size; j++) sum += x[at + j];
  return sum / size;
}

/**
 * What they are then multiplied with.
 * @param {Norm} norm
 * @param {Numbers} x
 * @param {number} at
 * @param {number} size
 * @param {number} shift
 */
function scaleOf(norm, x, at, size, shift) {
  let square = 0;
  for (let j = 0; j < size; j++) {
    const value = x[at + j] - shift;
    square += value * value;
  }
  return 1 / Math.sqrt(square / size + norm.eps);
}

/**
 * Softmax of every row, in place.
 * @param {Numbers} x
 * @param {number} size
 */
export function softmax(x, size) {
  for (let at = 0; at < x.length; at += size) {
    let most = x[at];
    let sum = 0;
    for (let j = 1; j < size; j++) if (x[at + j] > most) most = x[at + j];
    for (let j = 0; j < size; j++) {
      const value = Math.exp(x[at + j] - most);
      x[at + j] = value;
      sum += value;
    }
    const share = 1 / sum;
    for (let j = 0; j < size; j++) x[at + j] *= share;
  }
  return x;
}

/**
 * The gradient at what softmax took.
 * @param {Numbers} weights
 * @param {Numbers} gradient
 * @param {number} size
 */
export function softmaxBack(weights, gradient, size) {
  const dx = new Float32Array(gradient.length);
  for (let at = 0; at < dx.length; at += size) {
    let inner = 0;
    for (let j = 0; j < size; j++) inner += weights[at + j] * gradient[at + j];
    for (let j = 0; j < size; j++) dx[at + j] = weights[at + j] * (gradient[at + j] - inner);
  }
  return dx;
}

/** @type {Record<Activation, (x: number) => number>} */
const VALUE = {
  gelu: (x) => x * normal(x),
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(ROOT * (x + CUBIC * x * x * x))),
  quick_gelu: (x) => x / (1 + Math.exp(-1.702 * x)),
  relu: (x) => Math.max(x, 0),
  silu: (x) => x / (1 + Math.exp(-x)),
};
/** @type {Record<Activation, (x: number) => number>} */
const SLOPE = {
  gelu: (x) => normal(x) + x * Math.exp(-0.5 * x * x) * DENSITY,
  gelu_tanh(x) {
    const t = Math.tanh(ROOT * (x + CUBIC * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * ROOT * (1 + 3 * CUBIC * x * x);
  },
  quick_gelu(x) {
    const s = 1 / (1 + Math.exp(-1.702 * x));
    return s * (1 + 1.702 * x * (1 - s));
  },
  relu: (x) => (x > 0 ? 1 : 0),
  silu(x) {
    const s = 1 / (1 + Math.exp(-x));
    return s * (1 + x * (1 - s));
  },
};
const DENSITY = 1 / Math.sqrt(2 * Math.PI);
const ROOT = Math.sqrt(2 / Math.PI);
const CUBIC = 0.044715;

/**
 * What the FFN's second map takes of what its first one put out: (count, hidden) -> (count, hidden), or half of it
 * where one half is a gate.
 * @param {Activation} activation
 * @param {"" | "first" | "last"} gate
 * @param {Numbers} hidden
 * @param {number} size
 */
export function activate(activation, gate, hidden, size) {
  const value = VALUE[activation];
  if (!gate) {
    const y = new Float32Array(hidden.length);
    for (let i = 0; i < y.length; i++) y[i] = value(hidden[i]);
    return y;
  }
  const [half, y] = [size / 2, new Float32Array(hidden.length / 2)];
  for (let at = 0, to = 0; at < hidden.length; at += size)
    for (let j = 0; j < half; j++, to++) {
      const first = hidden[at + j];
      const last = hidden[at + half + j];
      y[to] = gate === "first" ? value(first) * last : first * value(last);
    }
  return y;
}

/**
 * The gradient at the hidden numbers.
 * @param {Activation} activation
 * @param {"" | "first" | "last"} gate
 * @param {Numbers} dy
 * @param {Numbers} hidden
 * @param {number} size
 */
export function activateBack(activation, gate, dy, hidden, size) {
  const [value, slope] = [VALUE[activation], SLOPE[activation]];
  const dx = new Float32Array(gate ? 2 * dy.length : dy.length);
  if (!gate) {
    for (let i = 0; i < dx.length; i++) dx[i] = dy[i] * slope(hidden[i]);
    return dx;
  }
  const half = size / 2;
  for (let at = 0, from = 0; at < dx.length; at += size)
    for (let j = 0; j < half; j++, from++) {
      const first = hidden[at + j];
      const last = hidden[at + half + j];
      dx[at + j] = dy[from] * (gate === "first" ? last * slope(first) : value(last));
      dx[at + half + j] = dy[from] * (gate === "first" ? value(first) : first * slope(last));
    }
  return dx;
}

/** The normal distribution is read from a table, cubic between its entries: exact to 1e-10. */
const [END, STEPS] = [7, 64];
const TABLE = distribution();

/** Its values and slopes (times the step) at -END, -END + 1 / STEPS ... */
function distribution() {
  const table = new Float64Array(2 * (2 * END * STEPS + 2));
  for (let i = 0; i < table.length / 2; i++) {
    const x = i / STEPS - END;
    table[2 * i] = x < 0 ? tail(-x) : 1 - tail(x);
    table[2 * i + 1] = (Math.exp(-0.5 * x * x) * DENSITY) / STEPS;
  }
  return table;
}

/** The share above x >= 0: a series near zero, a continued fraction far from it. @param {number} x */
function tail(x) {
  const density = Math.exp(-0.5 * x * x) * DENSITY;
  if (x < 3) {
    let [term, sum] = [x, x];
    for (let n = 3; term > 1e-18 * sum; n += 2) {
      term *= (x * x) / n;
      sum += term;
    }
    return 0.5 - density * sum;
  }
  let fraction = x;
  for (let n = 60; n > 0; n--) fraction = x + n / fraction;
  return density / fraction;
}

/** The share of the normal distribution below x. @param {number} x */
export function normal(x) {
  if (x <= -END) return 0;
  if (x >= END) return 1;
  const place = (x + END) * STEPS;
  const at = 2 * Math.floor(place);
  const t = place - 0.5 * at;
  const s0 = TABLE[at + 1];
  const s1 = TABLE[at + 3];
  const rise = TABLE[at + 2] - TABLE[at];
  return TABLE[at] + t * (s0 + t * (3 * rise - 2 * s0 - s1 + t * (s0 + s1 - 2 * rise)));
}

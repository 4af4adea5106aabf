// Products of matrices: in WebAssembly, four numbers at a time, and in plain JavaScript where that is not allowed.

import { MATMUL } from "./matmul.js";

/** @import { Product } from "./types.d.ts" */

const PAGE = 2 ** 16;
const up = (/** @type {number} */ size, /** @type {number} */ to) => Math.ceil(size / to) * to;

/**
 * The fast product, or the reason why it is not to be had.
 * @returns {{ product: Product, without: string }}
 */
export function fastest() {
  try {
    return { product: inWebAssembly(), without: "" };
  } catch (error) {
    return { product: plain, without: error instanceof Error ? error.message : String(error) };
  }
}

/**
 * A (m, k) times B (k, n), row by row.
 * @type {Product}
 */
export function plain(a, b, m, k, n) {
  const c = new Float32Array(m * n);
  const sums = new Float64Array(n);
  for (let i = 0; i < m; i++) {
    sums.fill(0);
    let p = 0;
    for (; p + 3 < k; p += 4) {
      const [at, row] = [i * k + p, p * n];
      const [a0, a1, a2, a3] = [a[at], a[at + 1], a[at + 2], a[at + 3]];
      const [b1, b2, b3] = [row + n, row + 2 * n, row + 3 * n];
      for (let j = 0; j < n; j++) sums[j] += a0 * b[row + j] + a1 * b[b1 + j] + a2 * b[b2 + j] + a3 * b[b3 + j];
    }
    for (; p < k; p++) {
      const [one, row] = [a[i * k + p], p * n];
      for (let j = 0; j < n; j++) sums[j] += one * b[row + j];
    }
    c.set(sums, i * n);
  }
  return c;
}

/**
 * matmul.wat at work: matrices are copied into its memory, with room for whole tiles, and C is copied out. What stands
 * in that room reaches only rows and columns of C that are left there.
 * @returns {Product}
 */
function inWebAssembly() {
  const code = Uint8Array.from(atob(MATMUL), (letter) => letter.charCodeAt(0));
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(code));
  const memory = /** @type {WebAssembly.Memory} */ (exports.memory);
  const multiply = /** @type {(...numbers: number[]) => void} */ (exports.multiply);
  let numbers = new Float32Array(memory.buffer);

  /** @param {number} count numbers that are needed */
  function reserve(count) {
    const missing = Math.ceil((4 * count - memory.buffer.byteLength) / PAGE);
    if (missing <= 0) return;
    memory.grow(missing);
    numbers = new Float32Array(memory.buffer);
  }

  return (a, b, m, k, n) => {
    const [rows, columns] = [up(m, 4), up(n, 8)];
    const [atB, atC] = [up(rows * k, 4), up(rows * k, 4) + k * columns];
    const panel = atC + rows * columns;
    reserve(panel + 8 * k);
    numbers.set(a.length === m * k ? a : a.subarray(0, m * k), 0);
    if (columns === n) numbers.set(b.length === k * n ? b : b.subarray(0, k * n), atB);
    else for (let p = 0; p < k; p++) numbers.set(b.subarray(p * n, p * n + n), atB + p * columns);
    multiply(0, 4 * atB, 4 * atC, 4 * panel, rows, k, columns);
    if (columns === n) return numbers.slice(atC, atC + m * n);
    const c = new Float32Array(m * n);
    for (let i = 0; i < m; i++) c.set(numbers.subarray(atC + i * columns, atC + i * columns + n), i * n);
    return c;
  };
}

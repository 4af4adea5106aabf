// Where patches lie: numbers, names, places on the picture, and moves by keys.

/** @import { Grid } from "./types.d.ts" */

/**
 * @param {number} patch
 * @param {Grid} grid
 */
export const where = (patch, grid) =>
  `row ${Math.floor(patch / grid.columns) + 1}, column ${(patch % grid.columns) + 1}`;

/** How far down and to the right of its patch a token looks, in patches. @param {Grid} grid */
export const shiftOf = (grid) => grid.offset ?? [0, 0];

/** Height over width of the picture. @param {Grid} grid */
export const aspectOf = ({ rows, columns, aspect = rows / columns }) => aspect;

/**
 * Where a patch's token looks, in shares of the picture: left, top, width, height; cut off where the picture ends.
 * @param {number} patch
 * @param {Grid} grid
 * @returns {[number, number, number, number]}
 */
export function cellOf(patch, grid) {
  const [down, right] = shiftOf(grid);
  const within = (/** @type {number} */ share) => Math.min(1, Math.max(0, share));
  const [left, top] = [(patch % grid.columns) + right, Math.floor(patch / grid.columns) + down];
  const [x, y] = [within(left / grid.columns), within(top / grid.rows)];
  return [x, y, within((left + 1) / grid.columns) - x, within((top + 1) / grid.rows) - y];
}

/**
 * The patch whose token looks at a place, given as shares of the picture's width and height, or null.
 * @param {number[]} place
 * @param {Grid} grid
 */
export function patchAt([across, downwards], grid) {
  const [down, right] = shiftOf(grid);
  const column = Math.floor(across * grid.columns - right);
  const row = Math.floor(downwards * grid.rows - down);
  const inside = column >= 0 && row >= 0 && column < grid.columns && row < grid.rows;
  return inside ? row * grid.columns + column : null;
}

/**
 * The patch to which a key leads: from none to the middle, by Escape to none; undefined for any other key.
 * @param {string} key
 * @param {number | null} from
 * @param {Grid} grid
 */
export function moved(key, from, { rows, columns }) {
  if (key === "Escape") return null;
  const moves = /** @type {Record<string, number[]>} */ ({
    ArrowLeft: [0, -1],
    ArrowRight: [0, 1],
    ArrowUp: [-1, 0],
    ArrowDown: [1, 0],
  });
  if (!Object.hasOwn(moves, key)) return undefined;
  if (from === null) return Math.floor(rows / 2) * columns + Math.floor(columns / 2);
  const [row, column] = [Math.floor(from / columns) + moves[key][0], (from % columns) + moves[key][1]];
  return row >= 0 && row < rows && column >= 0 && column < columns ? row * columns + column : from;
}

// What a page shows, as the end of its address: #layer=5&patch=120. Only what differs from the page as it was written.

/**
 * What a trait may be: a place from 0 on among `count`, also null where `optional`; one of `values`; or a number from
 * `low` to `high`.
 * @typedef {{ count?: number, optional?: boolean, values?: unknown[], low?: number, high?: number }} Choice
 */
/** @typedef {Record<string, unknown>} State */

/**
 * The end of the address, without "#".
 * @param {(name: string) => unknown} now
 * @param {State} initial
 * @param {Record<string, Choice>} choices
 */
export const written = (now, initial, choices) =>
  Object.keys(choices)
    .filter((name) => now(name) !== initial[name] && canSay(now(name), choices[name]))
    .map((name) => `${name}=${encodeURIComponent(String(now(name) ?? ""))}`)
    .join("&");

/**
 * What an address cannot say, such as a picture that its reader brought.
 * @param {(name: string) => unknown} now
 * @param {Record<string, Choice>} choices
 */
export const unsaid = (now, choices) => Object.keys(choices).filter((name) => !canSay(now(name), choices[name]));

/** @param {unknown} value @param {Choice} choice */
const canSay = (value, choice) => parsed(String(value ?? ""), choice) === value;

/**
 * What an address asks for; names that are unknown and values that do not exist are left out.
 * @param {string} hash
 * @param {Record<string, Choice>} choices
 * @returns {State}
 */
export function asked(hash, choices) {
  /** @type {State} */
  const found = {};
  for (const [name, text] of new URLSearchParams(hash.replace("#", ""))) {
    if (!Object.hasOwn(choices, name)) continue;
    const value = parsed(text, choices[name]);
    if (value !== undefined) found[name] = value;
  }
  return found;
}

/**
 * @param {string} text
 * @param {Choice} choice
 */
function parsed(text, { count, optional, values, low, high }) {
  if (values) return values.find((one) => String(one ?? "") === text);
  if (text === "") return optional ? null : undefined;
  const value = Number(text);
  if (count !== undefined) return Number.isInteger(value) && value >= 0 && value < count ? value : undefined;
  return value >= (low ?? -Infinity) && value <= (high ?? Infinity) ? value : undefined;
}

// Elements, and writing into them only what has changed.

/** @typedef {Record<string, string | number | boolean>} Attributes */
/** @typedef {Node | string | number} Child */

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes} attributes
 * @param {Child[]} children
 */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/**
 * An element of a drawing.
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes} attributes
 * @param {Child[]} children
 */
export function drawing(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

/**
 * @template {Element} E
 * @param {E} made
 * @param {Attributes} attributes
 * @param {Child[]} children
 */
function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) assign(made, name, value);
  made.append(.../** @type {(Node | string)[]} */ (children)); // numbers become text
  return made;
}

/**
 * @param {Element} node
 * @param {string} name
 * @param {string | number | boolean} value
 */
export const assign = (node, name, value) => node.setAttribute(name, String(value));

// Text and values that are the same already are left alone: the browser lays out again whatever is written.

/**
 * @param {Node} node
 * @param {string} text
 */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * @param {{ value: string }} control
 * @param {unknown} value null is the empty text
 */
export function put(control, value) {
  const text = String(value ?? "");
  if (control.value !== text) control.value = text;
}

/** @param {HTMLCanvasElement} canvas */
export const contextOf = (canvas) => /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));

/**
 * Where an event happened on an element, as shares of its width and height.
 * @param {MouseEvent} event
 * @param {Element} node
 */
export function shareOf(event, node) {
  const box = node.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

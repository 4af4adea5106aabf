// Pictures under the maps.

import { contextOf, element } from "./dom.js";
import { panelSize } from "./grid.js";

/** @import { Grid, Pictures } from "./types.d.ts" */

/**
 * The pictures of a widget, decoded once and drawn once at the size of a panel: in colour and in grey, so that all
 * colour over the grey one means a number. `ready` is called whenever one more can be drawn.
 * @param {string[]} urls
 * @param {Grid} grid
 * @param {() => void} ready
 * @param {(reason: string) => void} failed
 */
export function loadPictures(urls, grid, ready, failed) {
  const { width, height } = panelSize(grid);
  /** @type {Pictures} */
  const loaded = { colour: [], grey: [], count: urls.length };
  urls.forEach((url, i) => {
    const picture = new Image();
    picture.src = url;
    picture.decode().then(
      () => {
        loaded.colour[i] = backdrop(picture, width, height, false);
        loaded.grey[i] = backdrop(picture, width, height, true);
        ready();
      },
      (error) => failed(`The picture could not be shown: ${error.message}`),
    );
  });
  return loaded;
}

/**
 * @param {HTMLImageElement} picture
 * @param {number} width
 * @param {number} height
 * @param {boolean} grey
 */
function backdrop(picture, width, height, grey) {
  const canvas = element("canvas", { width, height });
  const context = contextOf(canvas);
  context.drawImage(picture, 0, 0, width, height);
  if (grey) {
    context.globalCompositeOperation = "saturation"; // Safari has no canvas filters
    context.fillStyle = "#808080";
    context.fillRect(0, 0, width, height);
  }
  return canvas;
}

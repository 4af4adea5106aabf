// Pictures under the maps.

import { contextOf, element } from "./dom.js";

/** @import { Pictures } from "./types.d.ts" */

/** How much of a picture's colour is taken away under a map, and how opaque it lies on the page. */
const [GREYED, OPAQUE] = [0.6, 0.78];

/**
 * The pictures of a widget, decoded once: as they are, and muted, so that a map stands out of them. `ready` is called
 * whenever one more can be drawn.
 * @param {string[]} urls
 * @param {() => void} ready
 * @param {(reason: string) => void} failed
 */
export function loadPictures(urls, ready, failed) {
  /** @type {Pictures} */
  const loaded = { colour: [], grey: [], count: urls.length };
  urls.forEach((url, i) => {
    const picture = new Image();
    picture.src = url;
    picture.decode().then(
      () => {
        loaded.colour[i] = backdrop(picture, false);
        loaded.grey[i] = backdrop(picture, true);
        ready();
      },
      (error) => failed(`The picture could not be shown: ${error.message}`),
    );
  });
  return loaded;
}

/**
 * @param {HTMLImageElement} picture
 * @param {boolean} muted
 */
function backdrop(picture, muted) {
  const { naturalWidth: width, naturalHeight: height } = picture;
  const canvas = element("canvas", { width, height });
  const context = contextOf(canvas);
  context.drawImage(picture, 0, 0);
  if (!muted) return canvas;
  context.globalCompositeOperation = "saturation"; // Safari has no canvas filters
  context.globalAlpha = GREYED;
  context.fillStyle = "#808080";
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = "destination-in";
  context.globalAlpha = OPAQUE;
  context.fillRect(0, 0, width, height);
  return canvas;
}

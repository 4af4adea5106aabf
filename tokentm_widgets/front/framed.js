// An exported page in a frame of another page: it tells that page how high it is, and follows its light or dark. A page
// around it that does not answer leaves it as it is alone, with its own scrollbar. The course's site answers: frames.js.

/**
 * What the page around this one answers.
 * @param {unknown} data of a message, from whoever sends one
 * @returns {"light" | "dark" | undefined} the theme to follow
 */
export function answered(data) {
  const { tokentm, theme } = /** @type {{ tokentm?: unknown, theme?: unknown }} */ (data ?? {});
  return tokentm === "fits" && (theme === "light" || theme === "dark") ? theme : undefined;
}

/** A frame whose address ends so shows the widget alone: the page around it says what it is. */
const BARE = "?bare";

/** @param {Window} outer the page around this one */
export function fitFrame(outer) {
  const root = document.documentElement;
  root.classList.toggle("bare", location.search === BARE);
  const tell = () => {
    const height = Math.ceil(root.getBoundingClientRect().height);
    outer.postMessage({ tokentm: "height", height }, "*"); // a page that was opened as a file has no address to name
  };
  new ResizeObserver(tell).observe(root);
  addEventListener("message", ({ data, source }) => {
    const theme = source === outer ? answered(data) : undefined;
    if (!theme) return;
    root.style.scrollbarGutter = "auto";
    root.style.overflowY = "hidden";
    root.setAttribute("theme", theme);
    document.body.style.colorScheme = theme;
  });
}

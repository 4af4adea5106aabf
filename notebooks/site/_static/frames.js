// The frames of widgets in a page of the site: each is as high as what it shows, and as light or dark as the page. What
// the widget's own page does for it: framed.js of tokentm_widgets. A block of its own:
// modules cannot be loaded from files.

{
  const wish = matchMedia("(prefers-color-scheme: dark)");

  /** @type {() => HTMLIFrameElement[]} */
  const frames = () => [...document.querySelectorAll(/** @type {"iframe"} */ ("iframe.widget"))];

  /** The reader's choice on this site, else that of the whole machine. */
  const theme = () => {
    const chosen = document.body.dataset.theme;
    if (chosen === "light" || chosen === "dark") return chosen;
    return wish.matches ? "dark" : "light";
  };

  /** @param {HTMLIFrameElement} frame */
  const answer = (frame) => frame.contentWindow?.postMessage({ tokentm: "fits", theme: theme() }, "*");

  const answerAll = () => frames().forEach(answer);

  addEventListener("message", ({ data, source }) => {
    if (data?.tokentm !== "height" || !(data.height > 0)) return;
    const frame = frames().find((one) => one.contentWindow === source);
    if (!frame) return;
    frame.style.height = `${data.height}px`;
    answer(frame);
  });
  wish.addEventListener("change", answerAll);
  new MutationObserver(answerAll).observe(document.documentElement, {
    attributeFilter: ["data-theme"],
    subtree: true,
  });
}

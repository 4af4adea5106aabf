// How a picture of the reader's own comes in: chosen as a file, dropped, or pasted.

/**
 * @param {HTMLElement} root where files may be dropped
 * @param {HTMLInputElement} input where one is chosen
 * @param {boolean} anywhere whether one may be pasted on the whole page, where nothing else has the focus
 * @param {{ take: (file: File) => void, over: (on: boolean) => void }} to `over` hears whether a file is dragged over it
 * @returns {() => void} which ends it
 */
export function pictureInput(root, input, anywhere, { take, over }) {
  const page = root.ownerDocument;
  const first = (/** @type {DataTransfer | null} */ given) => {
    const files = [...(given?.files ?? [])];
    const picture = files.find((one) => one.type.startsWith("image/")) ?? files[0]; // which says itself why it is none
    if (picture) take(picture);
  };
  input.addEventListener("change", () => {
    const chosen = input.files?.[0];
    if (chosen) take(chosen);
    input.value = "";
  });
  root.addEventListener("dragover", (event) => {
    if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
    event.preventDefault();
    over(true);
  });
  root.addEventListener("dragleave", (event) => {
    if (!root.contains(/** @type {Node | null} */ (event.relatedTarget))) over(false);
  });
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    first(event.dataTransfer);
  });
  /** @param {ClipboardEvent} event */
  const pasted = ({ target, clipboardData }) => {
    const here = target instanceof Node && root.contains(target);
    if (here || (anywhere && target === page.body)) first(clipboardData);
  };
  page.addEventListener("paste", pasted);
  return () => page.removeEventListener("paste", pasted);
}

// Where a picture of the reader's own comes in: a button for a file, and where files are dropped and pasted.

import { element } from "./dom.js";

/**
 * A button for a file, and where files are dropped and pasted.
 * @param {HTMLElement} root
 * @param {HTMLElement} stage shows that a picture may be let go
 * @param {(file: File) => void} take
 */
export function ownPicture(root, stage, take) {
  const file = element("input", { type: "file", name: "picture", accept: "image/*", hidden: true });
  const button = element(
    "button",
    { type: "button", name: "own", title: "Choose a picture, drop one here, or paste it" },
    "Your picture",
  );
  button.addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    const chosen = file.files?.[0];
    if (chosen) take(chosen);
    file.value = "";
  });
  const over = (/** @type {boolean} */ on) => stage.classList.toggle("dropping", on);
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
    const dropped = event.dataTransfer?.files[0];
    if (dropped) take(dropped);
  });
  /** @param {ClipboardEvent} event pasted here, or anywhere on a page where nothing else has the focus */
  const pasted = (event) => {
    const { target, clipboardData } = event;
    const here = target instanceof Node && root.contains(target);
    if (!here && target !== document.body) return;
    const found = clipboardData?.files[0];
    if (found) take(found);
  };
  document.addEventListener("paste", pasted);
  return { nodes: [button, file], close: () => document.removeEventListener("paste", pasted) };
}

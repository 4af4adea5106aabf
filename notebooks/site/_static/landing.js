// The landing page's own controls: light or dark, which the pages of the course keep, and commands to copy. A block of its own:
// modules cannot be loaded from files.

{
  const KEY = "theme"; // as the pages of the course call it
  const wish = matchMedia("(prefers-color-scheme: dark)");

  /** Files may be opened where nothing can be kept. */
  const kept = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  };

  /** @param {string} theme */
  const keep = (theme) => {
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // it holds as long as the page is open
    }
  };

  const chosen = kept();
  if (chosen === "light" || chosen === "dark") document.body.dataset.theme = chosen;
  const isDark = () => (document.body.dataset.theme ?? (wish.matches ? "dark" : "light")) === "dark";

  const theme = /** @type {HTMLButtonElement} */ (document.querySelector("button.theme"));
  const name = () => (theme.textContent = isDark() ? "Light" : "Dark");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    document.body.dataset.theme = isDark() ? "light" : "dark";
    keep(document.body.dataset.theme);
    name();
  });
  wish.addEventListener("change", name);
  name();

  for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll("button.copy"))) {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      const command = button.parentElement?.querySelector("code")?.textContent ?? "";
      try {
        await navigator.clipboard.writeText(command);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not copied";
      }
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
  }
}

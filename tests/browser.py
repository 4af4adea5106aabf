"""A real Chromium for tests, and a page that shows a widget without Jupyter: the front end with a model of its own."""

from __future__ import annotations

import importlib.resources
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tokentm_widgets import export

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATHS = ("chromium", "chromium-browser", "google-chrome", "chrome")

# the exported page, watched: what was saved, and a place for a second view
WATCHED = """() => {
  const { model, listeners, show, stop, close } = globalThis.tokentm;
  model.saved = [];
  model.asked = [];
  model.save_changes = () => model.saved.push(model.get("layer"));
  model.send = (message) => model.asked.push(message);
  document.querySelector("main").id = "first";
  const second = document.createElement("div");
  second.id = "second";
  document.body.append(second);
  Object.assign(window, { model, listeners, stop, close_first: close,
                          show: (id) => show(document.getElementById(id)) });
}"""


def on_path(name: str, paths: Sequence[str], package: str) -> str:
    """Path of a browser; skips the test where there is none, unless TOKENTM_REQUIRE_BROWSER says it must be there."""
    found = next(filter(None, map(shutil.which, paths)), None)
    if found is None:
        reason = f"no {name}: expected one of {', '.join(paths)} on PATH (Debian: apt install {package})"
        if os.environ.get("TOKENTM_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def chromium() -> str:
    return on_path("browser", PATHS, "chromium")


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield launched
        launched.close()


def watch(page: Page) -> list[str]:
    """Collects what must not happen: console errors, uncaught exceptions, requests that leave the machine."""
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    local = ("http://127.0.0.1", "ws://127.0.0.1", "http://widget.test", "data:", "blob:", "about:", "file:///")
    page.on("request", lambda request: None if request.url.startswith(local) else wrong.append(request.url))
    return wrong


def show(page: Page, widget: Any) -> None:
    """Open a widget's exported page, served so that every request can be seen."""
    text = export.page(widget)
    page.route("http://widget.test/**", lambda route: route.fulfill(content_type="text/html", body=text))
    page.goto("http://widget.test/")
    page.wait_for_selector(".tokentm[data-painted]")
    page.evaluate(WATCHED)


def accessible(page: Page, root: str = ".tokentm") -> list[str]:
    """What axe-core finds wrong with a widget, each with the element."""
    axe = importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    page.evaluate(f"() => {{ {axe}; window.axe = axe; }}")
    found = page.evaluate("(root) => axe.run(root)", root)
    return [f"{one['id']}: {node['html'][:120]}" for one in found["violations"] for node in one["nodes"]]


def pixel(page: Page, panel: str, patch: int, columns: int, rows: int, root: str = "#first") -> list[int]:
    """RGB in the middle of a patch's cell on white paper: the map over its picture."""
    return page.evaluate(
        """([selector, across, down]) => {
             const canvas = document.querySelector(selector);
             const under = canvas.parentElement.querySelector(".picture");
             const at = (from, x, y) => {
               const [i, j] = [Math.floor(x * from.width), Math.floor(y * from.height)];
               return [...from.getContext("2d").getImageData(i, j, 1, 1).data];
             };
             const over = (paper, [red, green, blue, alpha], opacity) =>
               [red, green, blue].map((value, k) => paper[k] + (alpha / 255) * opacity * (value - paper[k]));
             const bare = canvas.parentElement.classList.contains("bare");
             const paper = bare ? [128, 128, 128] : over([255, 255, 255], at(under, across, down), 1);
             const style = getComputedStyle(canvas);
             const moved = new DOMMatrix(style.transform);
             const [x, y] = [across - moved.e / canvas.clientWidth, down - moved.f / canvas.clientHeight];
             if (x < 0 || y < 0 || x >= 1 || y >= 1) return paper.map(Math.round);
             return over(paper, at(canvas, x, y), Number(style.opacity)).map(Math.round);
           }""",
        [
            f"{root} canvas[data-panel={panel}]",
            (patch % columns + 0.5) / columns,
            (patch // columns + 0.5) / rows,
        ],
    )

"""A real Chromium for tests, and a page that shows a widget without Jupyter: the front end with a model of its own."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

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

# what anywidget gives a front end, as far as the widgets use it
SHIM = """
<!doctype html><html lang="en"><title>widget</title><body><main id="first"></main><main id="second"></main>
<script type="module">
  import widget from "/widget.js";
  const state = await (await fetch("/state.json")).json();
  for (const [name, value] of Object.entries(state.bytes))
    state.plain[name] = new DataView(Uint8Array.from(atob(value), (c) => c.charCodeAt(0)).buffer);
  const listeners = {};
  const model = {
    saved: [],
    get: (name) => state.plain[name],
    set(name, value) {
      if (state.plain[name] === value) return;
      state.plain[name] = value;
      for (const listener of [...(listeners[`change:${name}`] ?? [])]) listener();
    },
    save_changes() { this.saved.push(state.plain.layer); },
    on: (event, listener) => (listeners[event] ??= []).push(listener),
    off: (event, listener) => { listeners[event] = listeners[event].filter((one) => one !== listener); },
  };
  window.model = model;
  window.listeners = listeners;
  window.stop = widget.initialize?.({ model });
  window.show = (id) => widget.render({ model, el: document.getElementById(id) });
  window.close_first = window.show("first");
</script>
"""


def chromium() -> str:
    """Path of a Chromium; skips the test where there is none, unless TOKENTM_REQUIRE_BROWSER says it must be there."""
    found = next(filter(None, map(shutil.which, PATHS)), None)
    if found is None:
        reason = f"no browser: expected one of {', '.join(PATHS)} on PATH (Debian: apt install chromium)"
        if os.environ.get("TOKENTM_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


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
    local = ("http://127.0.0.1", "ws://127.0.0.1", "http://widget.test", "data:", "blob:", "about:")
    page.on("request", lambda request: None if request.url.startswith(local) else wrong.append(request.url))
    return wrong


def show(page: Page, widget: Any) -> None:
    """Open a page with the widget's own front end, state and style."""
    state = {name: value for name, value in widget.get_state().items() if not callable(value)}
    binary = {n: base64.b64encode(v).decode() for n, v in state.items() if isinstance(v, bytes)}
    skipped = ("_esm", "_css", "layout", "tabbable", "tooltip")
    plain = {n: v for n, v in state.items() if n not in binary and n not in skipped}
    files = {
        "/": ("text/html", SHIM + f"<style>{widget._css}</style>"),
        "/widget.js": ("text/javascript", str(widget._esm)),
        "/state.json": ("application/json", json.dumps({"plain": plain, "bytes": binary})),
    }

    def serve(route: Any) -> None:
        kind, body = files.get("/" + route.request.url.split("widget.test/")[1], ("text/plain", ""))
        route.fulfill(content_type=f"{kind}; charset=utf-8", body=body)

    page.route("http://widget.test/**", serve)
    page.goto("http://widget.test/")
    page.wait_for_selector("#first .tokentm[data-painted]")


def pixel(page: Page, panel: str, patch: int, columns: int, rows: int, root: str = "#first") -> list[int]:
    """RGB in the middle of a patch's cell, read from the canvas."""
    return page.evaluate(
        """([selector, column, row, columns, rows]) => {
             const canvas = document.querySelector(selector);
             const x = Math.floor(((column + 0.5) / columns) * canvas.width);
             const y = Math.floor(((row + 0.5) / rows) * canvas.height);
             return [...canvas.getContext("2d").getImageData(x, y, 1, 1).data].slice(0, 3);
           }""",
        [f"{root} canvas[data-panel={panel}]", patch % columns, patch // columns, columns, rows],
    )

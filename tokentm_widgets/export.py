"""A widget as one HTML file that needs nothing else: no kernel, no server, no network."""

from __future__ import annotations

import base64
import json
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

from tokentm.errors import InvalidOptionError
from tokentm_widgets.base import Widget

# what a front end needs of a model: the traits, who listens to them, and nobody to ask
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{heading}</title>
<style>
body {{ margin: 16px auto; max-width: 1328px; padding: 0 16px; color-scheme: light dark;
  color: light-dark(#1b1f24, #eceef1); background: light-dark(#fff, #131518); }}
header, noscript {{ font: 14px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 22px; line-height: 1.3; margin: 8px 4px; }}
header p {{ max-width: 66ch; margin: 8px 4px 16px; }}
noscript img {{ max-width: 100%; height: auto; }}
{css}
</style>
</head>
<body>
<header>
<h1>{heading}</h1>
<p>{reading}</p>
</header>
<main id="widget"></main>
<noscript>{still}</noscript>
<script type="application/json" id="state">{state}</script>
<script type="text/plain" id="module">{module}</script>
<script type="module">
  const revived = (name, value) => value?.$bytes === undefined ? value
    : new DataView(Uint8Array.from(atob(value.$bytes), (letter) => letter.charCodeAt(0)).buffer);
  const state = JSON.parse(document.getElementById("state").textContent, revived);
  const listeners = {{}};
  const model = {{
    get: (name) => state[name],
    set(name, value) {{
      if (state[name] === value) return;
      state[name] = value;
      for (const listener of [...(listeners[`change:${{name}}`] ?? [])]) listener();
    }},
    save_changes() {{}},
    send() {{}},
    on: (event, listener) => (listeners[event] ??= []).push(listener),
    off: (event, listener) => {{ listeners[event] = (listeners[event] ?? []).filter((one) => one !== listener); }},
  }};
  const source = JSON.parse(document.getElementById("module").textContent);
  const address = URL.createObjectURL(new Blob([source], {{ type: "text/javascript" }}));
  const widget = (await import(address)).default();
  URL.revokeObjectURL(address);
  const stop = widget.initialize?.({{ model }});
  const show = (el) => widget.render({{ model: Object.create(model), el }}); // an object of its own, as in Jupyter
  globalThis.tokentm = {{ model, listeners, show, stop, close: show(document.getElementById("widget")) }};
</script>
</body>
</html>
"""


_POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline' blob:"
"""What a page may load: nothing that is not in it."""


def page(widget: Widget) -> str:
    """A widget in its present state as a page of HTML; see :func:`export_html`."""
    if not isinstance(widget, Widget):
        raise InvalidOptionError(
            f"expected a widget of tokentm_widgets; got {type(widget).__name__}. Figures are saved by savefig(path)."
        )
    skipped = ("layout", "tabbable", "tooltip")
    state = {name: value for name, value in widget.get_state().items() if name[0] != "_" and name not in skipped}
    state["_data"] = widget.offline_data()
    return _PAGE.format(
        policy=_POLICY,
        heading=escape(widget.heading),
        reading=escape(widget.reading),
        still=widget.figure().still(),
        css=widget._css,
        state=_inside_script(state),
        module=_inside_script(str(widget._esm)),
    )


def export_html(widget: Widget, path: str | PathLike[str]) -> Path:
    """Write a widget, as it is now, to one file that opens by double click and works offline.

    Args:
        widget: any widget of this package.
        path: the file to write; it is replaced only when the page is whole.

    Returns:
        The path.

    Raises:
        InvalidOptionError: something else than a widget, or a record too large for a page.

    Example:
        >>> export_html(LayerStepper(trace, images=scene.image), "cat.html")
        PosixPath('cat.html')
    """
    text, path = page(widget), Path(path)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    return part.replace(path)


def _inside_script(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, default=_encode).replace("<", "\\u003c")


def _encode(value: Any) -> dict[str, str]:
    return {"$bytes": base64.b64encode(bytes(value)).decode()}

"""A widget as one HTML file that needs nothing else: no kernel, no server, no network."""

from __future__ import annotations

import base64
import inspect
import json
import zlib
from collections.abc import Callable
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

from tokentm.errors import InvalidOptionError
from tokentm_widgets.address import addressed
from tokentm_widgets.base import Living, Widget
from tokentm_widgets.front_end import front_end
from tokentm_widgets.live_view import living

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{heading}</title>
<style>
html {{ scrollbar-gutter: stable; }} /* the widget may be longer than its still picture, which is there first */
body {{ margin: 16px auto; max-width: 1328px; padding: 0 16px; color-scheme: light dark;
  color: light-dark(#1b1f24, #eceef1); background: light-dark(#fff, #131518); }}
header, footer {{ font: 14px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 16px; line-height: 1.3; margin: 8px 4px; }}
.about {{ color: light-dark(#56606b, #a9b1bb); }}
header p, footer p {{ max-width: 80ch; margin: 4px; }}
header {{ margin-bottom: 16px; }}
footer {{ margin-top: 24px; }}
footer p {{ margin: 8px 4px; }}
footer button {{ font: inherit; margin: 4px; padding: 4px 12px; min-height: 32px; cursor: pointer; border-radius: 4px;
  color: inherit; background: none; border: 1px solid light-dark(#828b96, #737c88); }}
.bare :is(body > header, body > footer) {{ display: none; }}
main > img {{ max-width: 100%; height: auto; }}
{css}
</style>
</head>
<body>
<header>
<h1>{heading}</h1>
<p>{reading}</p>
{about}
</header>
<main id="widget">{still}</main>
<footer>{keys}</footer>
{scripts}
</body>
</html>
"""


_POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline' blob:"
"""What a page may load: nothing that is not in it."""
_COMPUTING = " 'wasm-unsafe-eval'; worker-src blob:"
"""And what it may start, where it runs a model."""


_BYTES = "$bytes"
"""In place of binary data: where it is in the page's one block, [first, length]."""


class _Block:
    """All binary data of a page, each different piece once."""

    def __init__(self) -> None:
        self._places: dict[bytes, list[int]] = {}
        self._length = 0

    def place(self, value: Any) -> dict[str, list[int]]:
        """Where a piece stands, for JSON."""
        piece = bytes(value)
        if piece not in self._places:
            self._places[piece] = [self._length, len(piece)]
            self._length += len(piece)
        return {_BYTES: self._places[piece]}

    def packed(self) -> str:
        """Deflated, as base64."""
        packer = zlib.compressobj(_LEVEL)
        parts = [*(packer.compress(piece) for piece in self._places), packer.flush()]
        return base64.b64encode(b"".join(parts)).decode()


_LEVEL = 6
"""Of zlib; 9 takes many times as long for a hundredth less."""


def page(widget: Widget, live: bool = False, **options: Any) -> str:
    """A widget in its present state as a page of HTML; see :func:`export_html`."""
    if not isinstance(widget, Widget):
        raise InvalidOptionError(
            f"expected a widget of tokentm_widgets; got {type(widget).__name__}. Figures are saved by savefig(path)."
        )
    if live and options:
        raise InvalidOptionError(
            f"expected no other options beside live=True, where everything is computed when it is looked at; got "
            f"{', '.join(f'{name}=' for name in options)}."
        )
    _require_options(widget, options)
    made = living(widget) if live else Living(widget, widget.offline_data(**options), widget.about)
    widget = made.widget
    return _PAGE.format(
        policy=_POLICY + (_COMPUTING if live or widget.computes else ""),
        heading=escape(widget.heading),
        reading=escape(widget.reading),
        about=f'<p class="about">{escape(made.about)}</p>' if made.about else "",
        still=widget.figure().still(),
        keys=f"<p>{escape(widget.by_keys)}</p>" if widget.by_keys else "",
        css=widget._css,
        scripts=_scripts(widget, made.data),
    )


def _scripts(widget: Widget, data: dict[str, Any]) -> str:
    """What ``front/page.js`` reads, and it."""
    skipped = ("layout", "tabbable", "tooltip")
    named, block = widget.named_choices(data), _Block()
    state = {name: value for name, value in widget.get_state().items() if name[0] != "_" and name not in skipped}
    for name, values in named.items():
        if state[name] not in values:  # a head that the page does not hold
            state[name] = values[0]
    elements = [
        ("application/json", "state", _inside_script({**state, "_data": data}, block.place)),
        ("application/json", "choices", _inside_script(addressed(widget, named))),
        ("application/json", "module", _inside_script(str(widget._esm).encode(), block.place)),
        ("text/plain", "bytes", block.packed()),
    ]
    texts = [f'<script type="{kind}" id="{name}">{text}</script>' for kind, name, text in elements]
    return "\n".join([*texts, f'<script type="module">\n{front_end("page")}{_OPENED}\n</script>'])


_OPENED = 'await $modules["page.js"].default((module) => import(module));'
"""The call of what page.js exports; only a page's own script can load another."""


def _require_options(widget: Widget, options: dict[str, Any]) -> None:
    known = [*inspect.signature(widget.offline_data).parameters]
    unknown = [f"{name}=" for name in options if name not in known]
    if unknown:
        takes = f"takes {', '.join(f'{name}=' for name in known)}" if known else "takes no options"
        raise InvalidOptionError(
            f"expected options that a page of {type(widget).__name__} takes; got {', '.join(unknown)}. It {takes}."
        )


def export_html(widget: Widget, path: str | PathLike[str], *, live: bool = False, **options: Any) -> Path:
    """Write a widget, as it is now, to one file that opens by double click and works offline.

    The page keeps what its reader looks at in its address, so that a link or a reload brings it back. It needs a
    browser of 2023 or newer.

    Args:
        widget: any widget of this package.
        path: the file to write; it is replaced only when the page is whole.
        live: write a page that computes: its reader brings pictures, chooses any class, and every view follows. The
            model travels in the page, its weights in half precision, so it must be a plain ViT of timm of at most 12
            million parameters. Without it the page holds what was computed here.
        options: of the widget's own. A :class:`LayerStepper` takes ``heads=[0, 3]``, the single heads that the page
            offers beside the mean of all, and ``patches=20``, of how many patches that contribute most it holds what
            they take; fewer make a smaller file. A page averages over heads itself, from one byte a number: by that a
            map may differ by 0.2 % of its range from the widget's.

    Returns:
        The path.

    Raises:
        InvalidOptionError: something else than a widget, or an option that it does not take; a model, a method or a
            score that a page cannot compute, with the reason.

    Example:
        >>> export_html(explore(), "try_it.html", live=True)
        PosixPath('try_it.html')
        >>> export_html(LayerStepper(trace, images=scene.image), "cat.html")
        PosixPath('cat.html')
        >>> export_html(LayerStepper(trace), "small.html", heads=[])
        PosixPath('small.html')
    """
    text, path = page(widget, live, **options), Path(path)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    return part.replace(path)


def _inside_script(value: Any, encode: Callable[[Any], Any] | None = None) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, allow_nan=False, default=encode, separators=(",", ":")).replace("<", "\\u003c")

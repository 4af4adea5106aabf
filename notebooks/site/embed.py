"""In the kernel of a notebook that becomes a page: widgets are shown as their exported files, which need no kernel."""

from __future__ import annotations

from html import escape
from itertools import count
from pathlib import Path
from typing import Any

from IPython import get_ipython
from IPython.display import display

from tokentm_widgets import Explorer, export_html
from tokentm_widgets.base import Widget

OF_EXPLORERS: dict[str, Any] = {}  # LIVE: {"live": True} as soon as export_html takes it


def install(folder: str, page: str) -> None:
    """From now on every widget of this kernel is written to ``folder`` and shown in a frame."""
    numbers = count(1)

    def framed(widget: Widget) -> None:
        name = f"{page}-{next(numbers)}.html"
        export_html(widget, Path(folder) / name, **(OF_EXPLORERS if isinstance(widget, Explorer) else {}))
        frame = f'<iframe title="{escape(repr(widget))}" src="widgets/{name}" loading="lazy" class="widget"></iframe>'
        display({"text/html": frame, "text/plain": repr(widget)}, raw=True)

    get_ipython().display_formatter.ipython_display_formatter.for_type(Widget, framed)

"""In the kernel of a notebook that becomes a page: widgets are shown as their exported files, which need no kernel."""

from __future__ import annotations

from html import escape
from itertools import count
from pathlib import Path

from IPython import get_ipython
from IPython.display import display

from tokentm_widgets import Explorer, export_html
from tokentm_widgets.base import Widget


def install(folder: str, page: str) -> None:
    """From now on every widget of this kernel is written to ``folder`` and shown in a frame."""
    numbers = count(1)

    def framed(widget: Widget) -> None:
        name = f"{page}-{next(numbers)}.html"
        export_html(widget, Path(folder) / name)
        frame = f'<iframe title="{escape(repr(widget))}" src="_static/widgets/{name}" loading="lazy" class="widget">'
        display({"text/html": f"{frame}</iframe>", "text/plain": repr(widget)}, raw=True)

    shown = get_ipython().display_formatter.ipython_display_formatter
    shown.for_type(Widget, framed)
    shown.for_type(Explorer, lambda explorer: framed(explorer.overview))

"""In the kernel of a notebook that becomes a page: widgets are shown as their exported files, which need no kernel."""

from __future__ import annotations

from html import escape
from itertools import count
from pathlib import Path

from IPython import get_ipython
from IPython.display import display

from tokentm.errors import InvalidOptionError
from tokentm_widgets import Explorer, export_html
from tokentm_widgets.base import Widget


def install(folder: str, page: str) -> None:
    """From now on every widget of this kernel is written to ``folder`` and shown in a frame."""
    numbers = count(1)

    def framed(widget: Widget) -> None:
        name = f"{page}-{next(numbers)}.html"
        _write(widget, Path(folder) / name)
        frame = f'<iframe title="{escape(repr(widget))}" src="widgets/{name}" loading="lazy" class="widget"></iframe>'
        display({"text/html": frame, "text/plain": repr(widget)}, raw=True)

    get_ipython().display_formatter.ipython_display_formatter.for_type(Widget, framed)


def _write(widget: Widget, path: Path) -> None:
    """An explorer computes in its page where its model is one that a page can run; others hold what was computed."""
    if isinstance(widget, Explorer):
        try:
            export_html(widget, path, live=True)
        except InvalidOptionError:
            export_html(widget, path)
    else:
        export_html(widget, path)

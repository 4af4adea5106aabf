"""Still pictures: what a notebook shows of a widget when no kernel runs, and what pages show where no widget can.

A saved notebook holds two outputs of a widget. The first is the living widget, which a host finds by the number of a
model that ends with its kernel; the second is the still picture, which needs nobody. Both are there always, and styles
say which of them is seen: a living view brings a style that hides its own still (``hidingOf`` in ``front/view.js``),
and the still brings one that hides the output before it, where nothing lives any more and Jupyter shows an error.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import ipywidgets
import traitlets
from IPython import get_ipython
from IPython.display import display
from PIL import Image

from tokentm.plots import Plot, few_colours, image, png

VIEW = "application/vnd.jupyter.widget-view+json"

_STYLE = (
    "<style>.jp-OutputArea-child:has(+ .jp-OutputArea-child > .jp-OutputArea-output > .tokentm-still)"
    ":not(:has(.tokentm)) { display: none; }</style>"
)
"""Hides what Jupyter shows in place of a widget that is gone: an error, or its name. Child by child, because an output
may hold outputs itself."""

_SAID = "A still picture; run the cell for the widget itself."


class Pictured(traitlets.HasTraits):
    """What shows itself as a living widget and as a still picture: comes before the widget it is mixed into.

    Subclasses give :meth:`figure`.
    """

    _still = traitlets.Unicode(help="by which its views know its still pictures in the notebook").tag(sync=True)

    @traitlets.default("_still")
    def _new_key(self) -> str:
        return uuid4().hex[:12]

    def figure(self) -> Plot:
        """What the widget shows now, as a figure: ``widget.figure().savefig("picture.svg")``."""
        raise NotImplementedError

    def _ipython_display_(self) -> None:
        show(self)

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict, dict] | None:
        """For hosts that take one output of an object: the living widget, or the still where there can be none."""
        view = _view(self, **options)
        if view is None:
            return None
        data, metadata = view
        return {**data, "text/html": self.figure().still()}, metadata


@dataclass(frozen=True)
class Still:
    """Pictures of widgets, one below the other, with their alternative texts, and the keys of whose they are."""

    keys: tuple[str, ...]
    pictures: tuple[Image.Image, ...]
    texts: tuple[str, ...]

    @classmethod
    def of(cls, widgets: Sequence[Pictured]) -> Still:
        figures = [widget.figure() for widget in widgets]
        return cls(
            tuple(widget._still for widget in widgets),
            tuple(few_colours(figure.pixels()) for figure in figures),
            tuple(figure.alt for figure in figures),
        )

    def bundle(self) -> dict[str, str]:
        """The forms a notebook can show: HTML with alternative texts, and a PNG for hosts and papers without HTML."""
        files = [png(picture) for picture in self.pictures]
        shown = "".join(f"<div>{image(*one)}</div>" for one in zip(files, self.texts, strict=True))
        html = f'{_STYLE}<div class="tokentm-still" data-of="{" ".join(self.keys)}">{shown}<small>{_SAID}</small></div>'
        whole = files[0] if len(files) == 1 else png(few_colours(_joined(self.pictures)))
        return {"text/html": html, "image/png": base64.b64encode(whole).decode(), "text/plain": "\n".join(self.texts)}


def show(shown: Any) -> None:
    """Two outputs of a widget of ours or of a container with some inside: itself, and its still picture.

    Raises:
        NotImplementedError: there is none of ours in it, or it is closed; IPython then shows it as it always does.
    """
    view, ours = _view(shown), [*_inside(shown)]
    if view is None or not ours:
        raise NotImplementedError
    data, metadata = view
    display(data, metadata=metadata, raw=True)  # at once: the picture takes longer to make than the widget to appear
    with warnings.catch_warnings(record=True) as heard:  # what is said between the two would be hidden with the first
        still = Still.of(ours).bundle()
    display(still, raw=True)
    for one in heard:
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def register() -> None:
    """Have IPython show containers by :func:`show`, so that widgets of ours inside leave still pictures, too."""
    shell = get_ipython()
    if shell is not None:
        shell.display_formatter.ipython_display_formatter.for_type(ipywidgets.Box, show)


def _inside(shown: Any) -> Iterator[Pictured]:
    """The widgets of ours in a container, however deep, in its order."""
    if isinstance(shown, Pictured):
        yield shown
    elif isinstance(shown, ipywidgets.Box):
        for child in shown.children:
            yield from _inside(child)


def _view(shown: Any, **options: Any) -> tuple[dict, dict] | None:
    """What Jupyter itself shows of a widget: data and metadata, without a still picture; None of a closed one."""
    if shown.comm is None:
        return None
    above: Any = super(Pictured, shown) if isinstance(shown, Pictured) else shown
    bundle = above._repr_mimebundle_(**options)
    if bundle is None:
        return None
    data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
    return {**data, "text/plain": repr(shown)} if isinstance(shown, Pictured) else data, metadata


def _joined(pictures: Sequence[Image.Image]) -> Image.Image:
    """One picture of several, one below the other on white."""
    whole = Image.new("RGB", (max(one.width for one in pictures), sum(one.height for one in pictures)), "white")
    top = 0
    for one in pictures:
        whole.paste(one.convert("RGB"), (0, top))
        top += one.height
    return whole

"""What all widgets are: data sent once, traits as state, a stable name, and a still picture where no widget can run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from tokentm.plots import Plot

_STATIC = Path(__file__).with_name("static")
_EXPORT = """export default () => {{
  const widget = {{}}; // what its views share
  return {{ initialize: {name}.initialize, render: (view) => {name}.render({{ ...view, widget }}) }};
}};
"""


def front_end(*names: str) -> str:
    """One ES module: the shared part, then each named file, the last of which is what the module gives.

    Widgets must work from one file, without a server that could answer imports; so the files are put together here.
    Hosts call the default export once for each widget, and hand every view of it a model object of its own.
    """
    parts = [(_STATIC / f"{name}.js").read_text(encoding="utf-8") for name in ("family", *names)]
    default = "".join(word.title() for word in names[-1].split("_"))
    return "\n".join((*parts, _EXPORT.format(name=default)))


class Widget(anywidget.AnyWidget):
    """A widget of this family. ``_data`` holds all that is drawn; the other traits say which of it, and are linked.

    Subclasses give ``_esm`` and :meth:`figure`.
    """

    _css = (_STATIC / "family.css").read_text(encoding="utf-8")

    _data = traitlets.Dict().tag(sync=True)

    def figure(self) -> Plot:
        """What the widget shows now, as a figure: ``widget.figure().savefig("picture.svg")``."""
        raise NotImplementedError

    def offline_data(self) -> dict[str, Any]:
        """The data for a page that has no kernel to ask."""
        return self._data

    def _require(self, name: str, value: int | None, count: int, optional: str = "") -> int | None:
        if value is not None and not 0 <= value < count:
            raise traitlets.TraitError(f"expected {name} from 0 to {count - 1}{optional}; got {value}.")
        return value

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict, dict] | None:
        return with_still_picture(super()._repr_mimebundle_(**options), self)


def with_still_picture(bundle: Any, widget: Any) -> tuple[dict, dict] | None:
    """What Jupyter shows of a widget, and its :meth:`Widget.figure` for pages where no widget can run."""
    if bundle is None:
        return None
    data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
    # one picture, with its alternative text; a second copy would double what a saved notebook weighs
    return {**data, "text/html": widget.figure().still(), "text/plain": repr(widget)}, metadata

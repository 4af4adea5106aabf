"""The head of the explorer: which picture, class and method, what the model answers, and the map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Annotated, Any, TypedDict

import traitlets
from PIL import Image, UnidentifiedImageError

from tokentm import Explanation, methods
from tokentm.errors import TokenTMError
from tokentm.plots import Plot
from tokentm_widgets import payload
from tokentm_widgets.base import Widget, front_end, require_position, styles
from tokentm_widgets.schema import Colours, Dims, Grid, packed

VIEWS = {"layers": "Layers", "methods": "Methods", "removal": "Take patches away", "paths": "Paths"}
"""What can be opened below the overview, with its name on the screen."""


class OverviewData(TypedDict):
    """What can be chosen in the explorer."""

    classes: list[str]
    chosen: str | None
    predicts: bool
    methods: list[str]
    views: dict[str, str]
    colours: Colours


class OverviewShown(Grid):
    """What is on the screen of the explorer, for C outputs of the model."""

    picture: str | None
    note: str
    method: str
    explained: str
    target: int | None
    score: float
    unit: str
    values: Annotated[bytes, Dims("float32", "C")]
    scores: Annotated[bytes, Dims("float32", "P")]


class Overview(Widget):
    """One picture, the model's answer, and the map of one class by one method. Part of :func:`explore`.

    It computes nothing: every choice is a trait that the explorer observes, and the answer comes back in ``shown``.

    Attributes:
        picture: which picture of the gallery, 0 .. number of pictures - 1.
        target: what is explained: the index of a class among the outputs, "chosen score" for the function that
            :func:`explore` was given, or None for the predicted class.
        method: name of a method in ``tokentm.methods.METHODS``.
        view: what is open below: None, or one of :data:`VIEWS`.
        opacity: of the map over the picture, 0 .. 1.
        busy: what is being computed, in words; empty when nothing is.
        error: what went wrong with the last choice; empty when nothing did.
        gallery: name and thumbnail of every picture.
        shown: what is on the screen: picture, answer, map. ``unit`` says what the answer's ``values`` are: "softmax",
            "sigmoid" and "probabilities" are probabilities made or given so, "none" are the outputs themselves.

    Raises:
        traitlets.TraitError: an attribute set to a value that does not exist, with those that do.
    """

    _esm, _css, _schema = front_end("overview"), styles("overview"), OverviewData

    picture = traitlets.Int(0).tag(sync=True)
    target: Any = traitlets.Union([traitlets.Int(), traitlets.Unicode()], allow_none=True, default_value=None)
    target.tag(sync=True)
    method = traitlets.Unicode("tokentm").tag(sync=True)
    view = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    opacity = traitlets.Float(0.8, min=0, max=1).tag(sync=True)
    busy = traitlets.Unicode("").tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)
    gallery: traitlets.List = traitlets.List().tag(sync=True)
    shown = traitlets.Dict().tag(sync=True)

    reading = (
        "On the left the picture as the model saw it, on the right its answer. The map between says how much each "
        "patch contributed to one class: yellow patches count most. It shows where the evidence lay, not what the "
        "model saw in it."
    )

    @property
    def heading(self) -> str:
        return f"Why {self.shown.get('explained', 'this answer')}?"

    def __init__(
        self,
        classes: Sequence[str],
        uploaded: Callable[[str, Image.Image], None],
        figure: Callable[[], Plot],
        chosen: str | None = None,
        predicts: bool = True,
    ) -> None:
        self._classes, self._uploaded, self._figure, self._chosen = list(classes), uploaded, figure, chosen
        super().__init__(
            {
                "classes": self._classes,
                "chosen": chosen,
                "predicts": predicts,
                "methods": list(methods.METHODS),
                "views": VIEWS,
                "colours": payload.colour_table(),
            }
        )
        self.on_msg(self._receive)

    def show(self, explanation: Explanation, explained: str, score: float, seen: Image.Image | None, note: str) -> None:
        """Put an explanation of one image on the screen, with the picture that the model saw, where it is known."""
        height, width = explanation.image_size
        probabilities = explanation.probabilities
        values = explanation.logits if probabilities is None else probabilities
        shown = {
            "rows": explanation.grid[0],
            "columns": explanation.grid[1],
            "aspect": height / width,
            "offset": list(explanation.offset),
            "picture": None if seen is None else payload.picture_url(seen),
            "note": note,
            "method": explanation.method,
            "explained": explained,
            "target": None if explanation.target is None else int(explanation.target[0]),
            "score": score,
            "unit": explanation.outputs,
            "values": values[0],
            "scores": explanation.scores[0],
        }
        self.shown = packed(OverviewShown, shown).data

    def add(self, name: str, picture: Image.Image) -> None:
        """One more picture in the gallery."""
        self.gallery = [*self.gallery, {"name": name, "url": payload.picture_url(picture, 96)}]

    def figure(self) -> Plot:
        """The picture and its map, as a figure."""
        return self._figure()

    def _receive(self, _widget: Widget, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        """A picture from the reader's own disk."""
        if content.get("kind") != "upload":
            return
        name = str(content["name"])
        try:
            picture = Image.open(BytesIO(bytes(buffers[0])))
            picture.load()
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            self.error = f"expected a picture file (PNG, JPEG, WebP ...); {name} could not be read: {error}"
            return
        try:
            self._uploaded(name, picture)
        except TokenTMError as error:  # a picture whose values are not known, such as 12 bits in a 16-bit file
            self.error = str(error)

    @traitlets.validate("picture")
    def _in_gallery(self, proposal: traitlets.Bunch) -> int | None:
        require_position("picture", proposal["value"], len(self.gallery))
        return proposal["value"]

    @traitlets.validate("target")
    def _explainable(self, proposal: traitlets.Bunch) -> int | str | None:
        value, count = proposal["value"], len(self._classes)
        if isinstance(value, str):
            if value == self._chosen:
                return value
            also = "" if self._chosen is None else f", {self._chosen!r}"
            raise traitlets.TraitError(f"expected target from 0 to {count - 1}{also} or None; got {value!r}.")
        require_position("target", value, count, optional=True)
        return value

    @traitlets.validate("method", "view")
    def _known(self, proposal: traitlets.Bunch) -> str | None:
        name, value = proposal["trait"].name, proposal["value"]
        known = list(methods.METHODS if name == "method" else VIEWS)
        if value not in known and not (name == "view" and value is None):
            optional = " or None" if name == "view" else ""
            raise traitlets.TraitError(f"expected a {name} among {', '.join(known)}{optional}; got {value!r}.")
        return value

    def __repr__(self) -> str:
        return f"Overview({self.shown.get('explained', 'nothing yet')}; {self.method}; {len(self.gallery)} pictures)"

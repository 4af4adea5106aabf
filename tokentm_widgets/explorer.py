"""One call to look into a model: its answer, the map of any class by any method, every widget on the same record."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import ipywidgets
import traitlets
from PIL import Image
from torch import Tensor, nn

from tokentm import Anatomy, Explanation, TextTarget, Trace, load_demo, methods, prepare, record
from tokentm.errors import InvalidOptionError, InvalidTargetError, TokenTMError
from tokentm.names import ClassNames
from tokentm.outputs import Meaning
from tokentm.pictures import Picture, Transform, read
from tokentm.plots import CHOSEN_SCORE, Plot, output_names, target_names
from tokentm.target import Target
from tokentm_widgets.base import Widget
from tokentm_widgets.layer_stepper import LayerStepper
from tokentm_widgets.method_comparison import MethodComparison
from tokentm_widgets.overview import VIEWS, Overview
from tokentm_widgets.path_explorer import PathExplorer
from tokentm_widgets.perturbation_player import PerturbationPlayer
from tokentm_widgets.still import Pictured

Explained = int | Callable[[Tensor], Tensor] | TextTarget
"""A class, a function of the logits as in :data:`tokentm.target.Target`, or texts."""

_DEMO_SCENES = ((17, ("cat", "car")), (3, ("dog",)), (5, ("flower", "clock")), (8, ("boat",)), (11, ("bird", "tree")))

# what the reader chose in a view and keeps when it is made anew for another picture or class
_KEPT = {
    "layers": ("layer", "head", "patch", "speed", "scale", "opacity"),
    "methods": ("patch", "unit", "opacity"),
    "removal": ("order", "speed"),
    "paths": ("patch",),
}


class Explorer(Pictured, ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets is not typed
    """What :func:`explore` returns: the overview and, below it, the view that is open.

    Attributes:
        overview: the :class:`Overview`; set its ``picture``, ``target``, ``method`` and ``view``.
        view: the widget that is open below, or None; ``export_html(explorer.view, "cat.html")`` saves it.
        trace: the record of the picture and class shown.
        explanation: the map shown.
    """

    view: Widget | None = None
    trace: Trace
    explanation: Explanation
    _seen: Image.Image | None
    _note: str
    _opened: str | None = None

    def __init__(
        self,
        model: nn.Module,
        pictures: Sequence[tuple[str, Image.Image]],
        classes: ClassNames | None,
        transform: Transform | None,
        outputs: Meaning | None = None,
        target: Explained | None = None,
        anatomy: Anatomy | None = None,
    ) -> None:
        self._anatomy = anatomy
        self._texts = target if isinstance(target, TextTarget) else None
        if isinstance(target, TextTarget):
            target = target.chosen
        self._model, self._transform, self._outputs = model, transform, outputs
        self._pictures = [picture for _, picture in pictures]
        self._recorded: tuple[int, int | str | None] | None = None
        self._function = target if callable(target) else None
        first = CHOSEN_SCORE if callable(target) else target
        self._record(0, first)
        self._classes = output_names(self.trace, classes)
        chosen = None if self._function is None else CHOSEN_SCORE
        predicts = self.trace.anatomy is not None and not self.trace.anatomy.headless
        self.overview = Overview(self._classes, self.add, self.figure, chosen, predicts)
        for name, picture in pictures:
            self.overview.add(name, picture)
        self.overview.target = first
        super().__init__([self.overview], _still=self.overview._still)  # whose view lives as long as the explorer's
        self._explain()
        self.overview.busy = ""
        self.overview.observe(self._choose, ["picture", "target", "method", "view"])

    def add(self, name: str, picture: Picture) -> None:
        """Put one more picture into the gallery and show it; what the reader uploads comes this way."""
        self._pictures.append(read(picture))
        self.overview.add(name, self._pictures[-1])
        self.overview.picture = len(self._pictures) - 1

    def figure(self) -> Plot:
        """The picture and its map, as a figure."""
        return self.explanation.plot(images=self._seen, classes=self._classes)

    def _choose(self, change: traitlets.Bunch) -> None:
        with self._telling():
            if change["name"] != "view":
                self._explain()
            if change["name"] != "method" or self.overview.view == "removal":
                self._open()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Errors inside a widget's callback end in a log that nobody reads: say them on the screen too."""
        self.overview.error, self.overview.busy = "", "computing"
        try:
            yield
        except TokenTMError as error:
            self.overview.error = str(error)
        except Exception as error:
            self.overview.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            self.overview.busy = ""

    def _record(self, picture: int, target: int | str | None) -> None:
        """Record a picture for a class or the chosen score, unless that was the last record."""
        if self._recorded == (picture, target):
            return
        prepared = prepare(self._model, self._pictures[picture], self._transform, self._anatomy)
        asked: Target | TextTarget = self._function if isinstance(target, str) else target
        if self._texts is not None:
            asked = self._texts if target is None else self._texts[target]
        self.trace = record(self._model, prepared.images, asked, outputs=self._outputs, anatomy=self._anatomy)
        self._seen, self._note = None, ""
        try:
            self._seen = prepared.seen[0]
        except InvalidOptionError as error:  # a transform that does not tell: the map is right, and stands alone
            self._note = str(error)
        self._recorded = (picture, target)

    def _explain(self) -> None:
        """Put the map of the chosen picture, class and method on the screen."""
        overview = self.overview
        try:
            overview.busy = "recording the model"
            self._record(overview.picture, overview.target)
            overview.busy = f"computing {overview.method}"
            self.explanation = methods.get(overview.method)(self.trace)
        except Exception:
            overview.shown = {}  # not the map of what was chosen before
            self._put(None)
            raise
        explained, score = target_names(self.trace, self._classes)[0], self.trace.scores[0].item()
        overview.show(self.explanation, explained, score, self._seen, self._note)

    def _open(self) -> None:
        """The chosen view on the present record, in place of the one before."""
        name = self.overview.view
        if name is None:
            return self._put(None)
        self.overview.busy = f"computing {VIEWS[name].lower()}"
        try:
            made = _BUILDERS[name](self)
        except Exception:
            self._put(None)
            raise
        if name == self._opened:
            for kept in _KEPT[name]:
                setattr(made, kept, getattr(self.view, kept))
        self._put(made, name)

    def _put(self, view: Widget | None, name: str | None = None) -> None:
        old, self.view, self._opened = self.view, view, name
        self.children = (self.overview,) if view is None else (self.overview, view)
        if old is not None:
            old.close()

    def _removal(self) -> PerturbationPlayer:
        rankings = list(dict.fromkeys([self.overview.method, "rollout", "random"]))
        options: dict[str, Any] = {**self._shown, "methods": rankings, "progress": False}
        try:
            return PerturbationPlayer(self.trace, **options)
        except InvalidOptionError:  # positions inside the blocks: tokens cannot be dropped; the view says what it does
            return PerturbationPlayer(self.trace, **options, replace="zero")

    @property
    def _shown(self) -> dict[str, Any]:
        return {"images": self._seen, "classes": self._classes}

    def __repr__(self) -> str:
        return f"Explorer({self.overview!r}, {self.view!r})"


_BUILDERS: dict[str, Callable[[Explorer], Widget]] = {
    "layers": lambda e: LayerStepper(e.trace, **e._shown),
    "methods": lambda e: MethodComparison(e.trace, **e._shown),
    "removal": Explorer._removal,
    "paths": lambda e: PathExplorer(e.trace, **e._shown),
}


def explore(
    model: nn.Module | None = None,
    images: Picture | Sequence[Picture] | None = None,
    classes: ClassNames | None = None,
    transform: Transform | None = None,
    outputs: Meaning | None = None,
    target: Explained | None = None,
    anatomy: Anatomy | None = None,
) -> Explorer:
    """Look into a model: pick a picture, a class and a method; open any widget on the same record.

    Args:
        model: a ViT, see :func:`tokentm.describe`; None takes the demo model with its scenes.
        images: pictures or paths to begin with, prepared by the model's own transform; more can be uploaded.
        classes: class names: a list in the order of the outputs or a dict by index; None takes the model's own.
        transform: as in :func:`tokentm.prepare`; None asks the model.
        outputs: what the outputs mean, see :data:`tokentm.outputs.Meaning`; None finds out.
        target: what is explained at first: a class index, or a function of the logits, which is then offered as
            "chosen score" beside the classes; or texts of :func:`tokentm.text_target`, which become the classes. A
            model without classes, which returns features, needs one of the two.
        anatomy: the model's description, see :class:`tokentm.Anatomy`; None takes what :func:`tokentm.describe` finds.

    Raises:
        InvalidOptionError: a model without a picture, pictures without a model, or names that do not fit the logits.
        InvalidTargetError: a target that is neither, or a class that the model does not have.
        UnsupportedModelError, InvalidImagesError: as in :func:`tokentm.record`.

    Example:
        >>> explorer = explore(model, "picture.jpg")
        >>> explorer.overview.target = 281
        >>> explorer.overview.view = "layers"
        >>> explorer.view.layer = 3
        >>> explore(model, "picture.jpg", target=lambda logits: logits[:, 281] - logits[:, 207])
    """
    asked = _explained(target)
    if model is None:
        if images is not None or classes is not None or transform is not None:
            raise InvalidOptionError(
                "expected a model with these pictures: explore(model, images). explore() shows the demo."
            )
        demo = load_demo()
        scenes = [(", ".join(names), demo.scene(seed, list(names)).image) for seed, names in _DEMO_SCENES]
        return Explorer(demo.model, scenes, demo.classes, None, outputs, asked, anatomy)
    listed: Sequence[Picture] = [images] if isinstance(images, (Image.Image, str, PathLike)) else list(images or ())
    if not listed:
        raise InvalidOptionError("expected a picture to begin with: explore(model, 'picture.jpg') or a list of them.")
    named = [(_name(one, i), read(one)) for i, one in enumerate(listed)]
    return Explorer(model, named, classes, transform, outputs, asked, anatomy)


def _explained(target: Any) -> Explained | None:
    """A target of one picture: None, a function, texts, or a class index of any integer type."""
    if target is None or callable(target) or isinstance(target, TextTarget):
        return target
    try:
        if isinstance(target, bool):
            raise TypeError
        return operator.index(target)
    except TypeError:
        raise InvalidTargetError(
            f"expected one class index, or a function of the logits, to be explained at first; got {target!r}. Look a "
            "class name up first, for example classes.index('cat')."
        ) from None


def _name(picture: Picture, index: int) -> str:
    return f"picture {index + 1}" if isinstance(picture, Image.Image) else Path(picture).name

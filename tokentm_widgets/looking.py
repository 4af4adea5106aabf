"""What the explorer looks at and what it computes: maps, views and checks of one picture. No widget in sight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypedDict

from PIL import Image
from torch import Tensor, nn

from tokentm import Anatomy, Explanation, TextTarget, Trace, methods, prepare, record
from tokentm.errors import InvalidOptionError, TokenTMError
from tokentm.outputs import Meaning
from tokentm.pictures import Transform
from tokentm.plots import CHOSEN_SCORE
from tokentm.questions import ClassScore
from tokentm.target import Target
from tokentm_widgets import payload, trust
from tokentm_widgets.base import OF_JUPYTER, Widget
from tokentm_widgets.layer_stepper import LayerStepper
from tokentm_widgets.method_comparison import MethodComparison
from tokentm_widgets.path_explorer import PathExplorer
from tokentm_widgets.perturbation_player import PerturbationPlayer
from tokentm_widgets.progress import Progress, reporter
from tokentm_widgets.schema import Dims, packed

Explained = int | Callable[[Tensor], Tensor] | TextTarget
"""A class, a score of one or a function of the logits as in :data:`tokentm.target.Target`, or texts."""


class CheckedClasses(TypedDict):
    """Whether the map changes with the class; ``why`` says why that cannot be asked."""

    why: str
    verdict: str
    other: str
    value: float
    scores: Annotated[bytes, Dims("float32", "P")] | None
    correlation: float | None
    shared: list[int]
    count: int


class CheckedRemoval(TypedDict):
    """Whether the strongest patches matter: what the model says with them, without them, without random ones."""

    why: str
    verdict: str
    unit: str
    whole: float
    strongest: float
    random: float
    count: int
    draws: int


class CheckedMethods(TypedDict):
    """Whether other methods agree."""

    why: str
    verdict: str
    agreeing: list[str]
    others: list[str]
    count: int


class CheckedOutliers(TypedDict):
    """Whether the map is free of outlier tokens: on which patches they are, and what share of the map lies there."""

    verdict: str
    patches: list[int]
    count: int
    share: float
    advice: str


class TrustData(TypedDict):
    """The four checks of a map. The first and the last are made with the map, the others when they are asked for."""

    classes: CheckedClasses
    removal: CheckedRemoval | None
    methods: CheckedMethods | None
    outliers: CheckedOutliers


NO_OTHER_METHOD = "No other method can read this record."
SHARED = ("patch", "layer", "head", "opacity")
"""What all views have in common: chosen in one of them, it is chosen in all."""

_NO_CLASSES = {"verdict": "–", "other": "", "value": 0.0, "scores": None, "correlation": None, "shared": [], "count": 0}
_NO_REMOVAL = {"verdict": "–", "unit": "", "whole": 0.0, "strongest": 0.0, "random": 0.0, "count": 0, "draws": 0}
_NO_METHODS: dict[str, Any] = {"verdict": "–", "agreeing": [], "others": [], "count": 0}


@dataclass(frozen=True, eq=False)
class Looked:
    """One picture, recorded and explained.

    Attributes:
        trace: the record.
        explanation: the map.
        seen: the picture as the model saw it; None where the transform does not tell.
        note: why it is not known; else empty.
    """

    trace: Trace
    explanation: Explanation
    seen: Image.Image | None
    note: str

    @property
    def sizes(self) -> dict[str, int]:
        """How many patches, layers and heads there are."""
        layout, layers = self.trace.layout, self.trace.layers
        return {"P": layout.rows * layout.columns, "L": len(layers), "H": layers[0].attention.shape[1]}

    def shown(self, explained: str, named: str) -> dict[str, Any]:
        """What the explorer shows of it, as its schema wants it; ``named`` is the class it is about, "" for none."""
        explanation = self.explanation
        probabilities = explanation.probabilities
        grown = growth(explanation)
        return {
            **payload.grid(self.trace),
            "picture": None if self.seen is None else payload.picture_url(self.seen),
            "note": self.note,
            "method": explanation.method,
            "specific": methods.get(explanation.method).class_specific,
            "explained": explained,
            "named": named,
            "target": None if explanation.target is None else int(explanation.target[0]),
            "score": self.trace.scores[0].item(),
            "unit": explanation.outputs,
            "layers": self.sizes["L"],
            "heads": self.sizes["H"],
            "values": explanation.logits[0] if probabilities is None else probabilities[0],
            "scores": explanation.scores[0],
            "growth": None if grown is None else grown[0],
        }

    def trust(self, measured: trust.Trust, classes: Sequence[str]) -> dict[str, Any]:
        """Checks as they are sent."""
        odds = self.explanation.probabilities
        values = self.explanation.logits[0] if odds is None else odds[0]
        return sent_trust(measured, classes, values)


def growth(explanation: Explanation) -> Tensor | None:
    """The map after each layer, (B, L, P), of a method whose map only grows from layer to layer; else None."""
    layers = explanation.layer_scores
    if layers.shape[1] == 0:
        return None
    least = -1e-6 * layers.abs().amax()
    grows = bool((layers.diff(dim=1) >= least).all()) and bool((layers >= least).all())
    return layers if grows else None


def sent_trust(measured: trust.Trust, classes: Sequence[str], values: Tensor) -> dict[str, Any]:
    """Checks as they are sent; ``values`` are what the model answers for each class, (C,)."""
    one, two, three = measured.classes, measured.removal, measured.methods
    sent = {
        "classes": {**_NO_CLASSES, "why": one}
        if isinstance(one, str)
        else {
            "why": "",
            "verdict": one.verdict,
            "other": classes[one.other],
            "value": float(values[one.other]),
            "scores": one.scores,
            "correlation": one.correlation,
            "shared": list(one.shared),
            "count": one.count,
        },
        "removal": None
        if two is None
        else {**_NO_REMOVAL, "why": two}
        if isinstance(two, str)
        else {"why": "", **vars(two), "draws": trust.DRAWS},
        "methods": None
        if three is None
        else {**_NO_METHODS, "why": three}
        if isinstance(three, str)
        else {**vars(three), "why": "", "agreeing": list(three.agreeing), "others": list(three.others)},
        "outliers": {**vars(measured.outliers), "patches": list(measured.outliers.patches)},
    }
    return packed(TrustData, sent).data


@dataclass(frozen=True, eq=False)
class Subject:
    """A model, and how it is asked.

    Attributes:
        function: what is explained as the chosen score; None where nothing but classes is.
        texts: prompts that are the classes; None where the model has its own.
        kind: which score of a class is explained, whichever class is chosen; None where it is the output itself.
        first: what is explained at first.
    """

    model: nn.Module
    transform: Transform | None
    outputs: Meaning | None
    anatomy: Anatomy | None
    function: Callable[[Tensor], Tensor] | None
    texts: TextTarget | None
    kind: ClassScore | None
    first: int | str | None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        transform: Transform | None,
        outputs: Meaning | None,
        target: Explained | None,
        anatomy: Anatomy | None,
    ) -> Subject:
        """A model with what ``explore`` was given to explain."""
        texts = target if isinstance(target, TextTarget) else None
        kind = target if isinstance(target, ClassScore) else None
        function = target if callable(target) and kind is None else None
        first = CHOSEN_SCORE if function else texts.chosen if texts else target
        if kind is not None:  # a class by name is looked up when the model's names are known
            first = kind.classes if isinstance(kind.classes, int) else None
        assert first is None or isinstance(first, (int, str))
        return cls(model, transform, outputs, anatomy, function, texts, kind, first)

    @property
    def chosen(self) -> str | None:
        """What the given function is called; None where none was given."""
        return None if self.function is None else CHOSEN_SCORE

    def record(self, images: Tensor, target: int | str | Tensor | None) -> Trace:
        """The record of prepared images (B, C, H, W) for one class, a class each (B,), or the chosen score."""
        asked: Target | TextTarget = self.function if isinstance(target, str) else target
        if self.kind is not None:
            asked = self.kind.about(target)
        if self.texts is not None:
            asked = replace(self.texts, chosen=target)  # type: ignore[arg-type]  # what record takes
        return record(self.model, images, asked, outputs=self.outputs, anatomy=self.anatomy)

    def look(
        self,
        picture: Image.Image,
        target: int | str | None,
        method: str,
        kept: Looked | None = None,
        progress: Progress = False,
    ) -> Looked:
        """Explain a picture.

        Args:
            picture: as it was given.
            target: a class, None for the predicted one, or "chosen score".
            method: name of a method.
            kept: the same picture and target explained by another method, whose record serves this one, too.
            progress: as :mod:`tokentm_widgets.progress` takes it.
        """
        report = reporter(progress)
        if kept is not None:
            report(0.5, f"computing {method}")
            return replace(kept, explanation=methods.get(method)(kept.trace))
        report(0.0, "recording the model")
        prepared = prepare(self.model, picture, self.transform, self.anatomy)
        trace = self.record(prepared.images, target)
        seen, note = None, ""
        try:
            seen = prepared.seen[0]
        except InvalidOptionError as error:  # a transform that does not tell: the map is right, and stands alone
            note = str(error)
        report(0.5, f"computing {method}")
        return Looked(trace, methods.get(method)(trace), seen, note)

    def compare_classes(self, looked: Looked, progress: Progress = False) -> trust.Trust:
        """The checks that stand beside every map: a comparison with the least likely class, and outlier tokens."""
        reporter(progress)(0.8, "comparing with the least likely class")
        [outliers] = trust.free_of_outliers(looked.trace, looked.explanation)
        return trust.Trust(self._changes(looked), None, None, outliers)

    def check(self, looked: Looked, compared: trust.Trust, progress: Progress = False) -> trust.Trust:
        """Measure the rest of how far to trust a map; see :mod:`tokentm_widgets.trust`."""
        trace, scores = looked.trace, _numbers(looked.explanation)
        removal = trust.matters(trace, scores, _part(progress, 0.0, 0.8))
        maps = trust.maps_of(trace, trust.others_of(looked.explanation.method), _part(progress, 0.8, 1))
        others = {name: of[0] for name, of in maps.items()}
        agree = trust.agree(scores, others) if others else NO_OTHER_METHOD
        return replace(compared, removal=removal, methods=agree)

    def _changes(self, looked: Looked) -> trust.ClassCheck | str:
        trace, method = looked.trace, looked.explanation.method
        why = trust.no_other_class(trace, method)
        if why:
            return why
        assert trace.target is not None
        other = trust.least_likely(trace.logits[0], int(trace.target[0]))
        try:
            compared = methods.get(method)(self.record(trace.images, other))
        except TokenTMError as error:  # a method that can explain one class and not the other: the map stays
            return str(error)
        return trust.changes(_numbers(looked.explanation), _numbers(compared), other)


def _numbers(explanation: Explanation) -> Tensor:
    """The scores of the one picture, (P,)."""
    return explanation.scores[0].detach().float().cpu()


def _part(progress: Progress, begin: float, end: float) -> Progress:
    """The progress of a part of the work; nothing where nobody hears of it."""
    return progress if isinstance(progress, bool) else reporter(progress, (begin, end))


Maker = Callable[[Looked, Sequence[str], Progress], Widget]


@dataclass(frozen=True)
class View:
    """A view of a record.

    Attributes:
        title: on its tab.
        says: what it shows, in a few words.
        kind: its class.
        make: from what was looked at, names of all outputs and a reporter to the widget.
        patch: the trait of the widget that is the patch chosen in every view.
    """

    title: str
    says: str
    kind: type[Widget]
    make: Maker
    patch: str = "patch"


def _layers(looked: Looked, classes: Sequence[str], progress: Progress) -> Widget:
    return LayerStepper(looked.trace, images=looked.seen, classes=classes, progress=progress)


def _methods(looked: Looked, classes: Sequence[str], progress: Progress) -> Widget:
    return MethodComparison(looked.trace, images=looked.seen, classes=classes, progress=progress)


def _paths(looked: Looked, classes: Sequence[str], progress: Progress) -> Widget:
    return PathExplorer(looked.trace, images=looked.seen, classes=classes, progress=progress)


def removal(looked: Looked, classes: Sequence[str], progress: Progress, index: int = 0) -> PerturbationPlayer:
    """The film of the map's own ranking, beside rollout and random."""
    rankings = list(dict.fromkeys([looked.explanation.method, "rollout", "random"]))
    options: dict[str, Any] = {"images": looked.seen, "classes": classes, "methods": rankings, "index": index}
    try:
        return PerturbationPlayer(looked.trace, **options, progress=progress)
    except InvalidOptionError:  # positions inside the blocks: tokens cannot be dropped; the view says what it does
        return PerturbationPlayer(looked.trace, **options, progress=progress, replace="zero")


VIEWS: dict[str, View] = {
    "layers": View("Layers", "how the map came about, layer by layer and head by head", LayerStepper, _layers, "kept"),
    "methods": View("Methods", "what other methods say about the same decision", MethodComparison, _methods),
    "removal": View(
        "Take patches away", "whether the model misses what the map calls strong", PerturbationPlayer, removal
    ),
    "paths": View("Paths", "through which layers and heads a patch speaks", PathExplorer, _paths),
}
"""What can be opened below the map."""


def shared(name: str, view: Widget) -> dict[str, str]:
    """What a view of this name has in common with the others: as it is called there, and as it is called here."""
    names = {VIEWS[name].patch if one == "patch" else one: one for one in SHARED}
    return {there: here for there, here in names.items() if view.has_trait(there)}


def settings(name: str, view: Widget) -> dict[str, Any]:
    """What is chosen in a view of this name, and in no other."""
    common = shared(name, view)
    return {one: getattr(view, one) for one in chosen(view) if one not in common}


def chosen(view: Widget | type[Widget]) -> list[str]:
    """The traits of a view that a reader chooses."""
    return [name for name in view.class_trait_names(sync=True) if name[0] != "_" and name not in (*OF_JUPYTER, "index")]


def usual_settings(name: str) -> dict[str, Any]:
    """What is chosen in a new view of this name, and in no other."""
    kind = VIEWS[name].kind
    common = {VIEWS[name].patch if one == "patch" else one for one in SHARED}
    return {one: kind.class_traits()[one].default() for one in chosen(kind) if one not in common}

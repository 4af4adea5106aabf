"""Browse a survey: what each head does over many pictures, where answers fall, and which patches drive a class."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from typing import Annotated, Any, TypedDict

import torch
import traitlets
from PIL import Image
from torch import Tensor

from tokentm.errors import InvalidOptionError
from tokentm.names import ClassNames, class_names
from tokentm.plots import COLOURS, Plot
from tokentm.survey import UNKNOWN, DrivingPatch, Survey
from tokentm.survey.driving import window
from tokentm.survey.heads import attention_distance
from tokentm.vit import Layout
from tokentm_widgets import payload
from tokentm_widgets.base import Position, Widget, front_end, styles
from tokentm_widgets.schema import Coded, Colours, Dims, Grid

STATISTICS = ("distance", "entropy", "object")

MOST_PICTURES = 300
"""Of how many driving patches at most the picture and its map are sent, the strongest of every class first."""

_DRAWN = 6
"""How many driving patches a still picture shows."""


class StatisticData(TypedDict):
    """A number of every head: its mean over pictures and its standard deviation from picture to picture, by layer and
    head; and what a head has that looks everywhere alike."""

    name: str
    title: str
    unit: str
    says: str
    digits: int
    means: list[list[float]]
    deviations: list[list[float]]
    alike: float


class DrivenData(TypedDict):
    """A driving patch: its contribution as a share of the largest one of its class, and how many times that of an
    average patch of its picture it is; its piece of the picture, and where that lies in patches (top, left, height,
    width); its picture among those that are sent, None where it is not; the label where it is another class."""

    patch: int
    ofLargest: float
    times: float
    crop: str
    window: list[int]
    picture: int | None
    source: str
    label: str | None


class OfClassData(TypedDict):
    """A class that the model predicts: for how many pictures, and in which layers they were decided."""

    name: str
    pictures: int
    decided: list[int]
    driving: list[DrivenData]


class SurveyBrowserData(Grid):
    """L layers, H heads, K classes that the model predicts, T driving patches of a class at most, I pictures."""

    count: int
    layers: Annotated[int, Dims("size", "L")]
    heads: Annotated[int, Dims("size", "H")]
    classCount: Annotated[int, Dims("size", "K")]
    top: Annotated[int, Dims("size", "T")]
    statistics: list[StatisticData]
    classes: Annotated[list[OfClassData], Dims("list", "K")]
    pictures: Annotated[list[str], Dims("list", "I")]
    maps: Annotated[Coded, Dims("coded", "I P")]
    colours: Colours


class SurveyBrowser(Widget):
    """A survey to browse: heads in a table, deciding layers of a class, and the patches that drive it.

    All data is there at once; no kernel is asked. ``export_html(SurveyBrowser(survey), "survey.html")`` makes a page.

    Args:
        survey: from :func:`tokentm.survey.collect` or :meth:`tokentm.survey.Survey.load`.
        classes: class names: a list in the order of the outputs or a dict by index; None takes the survey's own.

    Attributes:
        statistic: which number of the heads is shown: "distance", "entropy", or, where masks are known, "object".
        chosen: which of the K classes that the model predicts, in the order of the outputs, 0 .. K-1.
        rank: which of its driving patches is shown in its picture, the strongest first, 0 .. T-1; the last one where a
            class has fewer.
        opacity: of the map over the picture, 0 .. 1.

    Raises:
        InvalidOptionError: something else than a survey, class names that do not fit, or an unknown keyword.
        traitlets.TraitError: an attribute set to a value that does not exist, with those that do.

    Example:
        >>> SurveyBrowser(Survey.load("results/survey/survey.safetensors"), statistic="object")
        SurveyBrowser(3 pictures; 2 classes; object)
    """

    _esm, _css, _schema = front_end("survey_browser"), styles("survey_browser"), SurveyBrowserData

    statistic = traitlets.Enum(STATISTICS, "distance").tag(sync=True)
    chosen = Position("K")
    rank = Position("T")
    opacity = traitlets.Float(0.8, min=0, max=1).tag(sync=True)

    reading = (
        "What one model does over many pictures: a number of every attention head, the layer after which the answer of "
        "a picture stays what it is, and the patches that contribute most to a class, over all pictures."
    )

    by_keys = (
        "Keys: in the table of heads the arrows go from cell to cell; in the gallery they go from patch to patch and "
        "show each in its picture."
    )

    def __init__(self, survey: Survey, classes: ClassNames | None = None, **state: Any) -> None:
        self._require_known(state)
        if not isinstance(survey, Survey):
            raise InvalidOptionError(
                f"expected a survey, from tokentm.survey.collect(folder) or Survey.load(path); got "
                f"{type(survey).__name__}. python -m tokentm.survey --out FOLDER makes one."
            )
        names = class_names(classes, survey.classes)
        self.survey = survey if names is None else replace(survey, class_names=tuple(names))
        self.predicted: list[int] = self.survey.predicted.unique().tolist()  # in order
        self._statistics = _statistics(self.survey)
        super().__init__(_data(self.survey, self.predicted, self._statistics), **state)

    @property
    def heading(self) -> str:
        return f"A survey of {len(self.survey.pictures)} pictures"

    @property
    def about(self) -> str:
        """Of a page of its own: which model looked at what."""
        settings = self.survey.settings
        if "model" not in settings or "data" not in settings:
            return ""
        return f"Model: {settings['model']}, on the data {settings['data']}."

    @property
    def driving(self) -> list[DrivingPatch]:
        """The driving patches of the chosen class, the strongest first."""
        return self.survey.of(self.predicted[self.chosen])

    def named_choices(self, data: Mapping[str, Any]) -> dict[str, list[Any]]:
        return {"statistic": [one["name"] for one in data["statistics"]]}

    @traitlets.validate("statistic")
    def _known(self, proposal: traitlets.Bunch) -> str:
        known = [one["name"] for one in self._statistics]
        if proposal["value"] not in known:
            raise traitlets.TraitError(
                f"expected a statistic among {', '.join(known)}; got {proposal['value']!r}. No picture has masks."
            )
        return proposal["value"]

    def figure(self) -> Plot:
        """The heads, the deciding layers of the chosen class and its strongest patches, as a figure."""
        of = next(one for one in self._statistics if one["name"] == self.statistic)
        explained, driving = self.predicted[self.chosen], self.driving[:_DRAWN]
        name, layers = self.survey.name(explained), self.survey.layers
        alt = (
            f"{of['title']} of every head over {len(self.survey.pictures)} pictures; in which layer pictures of {name} "
            f"are decided; the {len(driving)} patches that contribute most to {name}"
        )
        figure = Plot(alt, 7.2, 4.4)
        parts: Any = figure.subfigures(2, 1, height_ratios=(1.5, 1))
        above, below = parts
        heads, bars = above.subplots(1, 2)
        drawn = heads.imshow(torch.tensor(of["means"]).T.numpy(), cmap=COLOURS, aspect="auto", interpolation="nearest")
        heads.set(xlabel="layer", ylabel="head", title=f"{of['title']}, {of['unit']}")
        above.colorbar(drawn, ax=heads)
        own = self.survey.decided[self.survey.predicted == explained]
        bars.bar(range(1, layers + 1), torch.bincount(own - 1, minlength=layers).tolist(), color="#0072b2")
        bars.set(xlabel="layer", ylabel="pictures", title=f"decided after, of {name}")
        for axis, ticks in ((heads, range(layers)), (bars, range(1, layers + 1))):
            step = max(1, layers // 8)
            axis.set_xticks(list(ticks)[::step], [str(layer + 1) for layer in range(layers)][::step])
        heads.set_yticks(range(self.survey.heads), [str(head + 1) for head in range(self.survey.heads)])
        below.suptitle(f"what drives {name}")
        for axis, one in zip(below.subplots(1, _DRAWN), driving + [None] * (_DRAWN - len(driving)), strict=True):
            axis.set_axis_off()
            if one is not None:
                axis.imshow(Image.open(BytesIO(one.crop)), interpolation="nearest")
        return figure

    def __repr__(self) -> str:
        pictures, classes = len(self.survey.pictures), len(self.predicted)
        return f"SurveyBrowser({pictures} pictures; {classes} classes; {self.statistic})"


def _statistics(survey: Survey) -> list[StatisticData]:
    """Those that there are."""
    (height, width), patches = survey.image_size, survey.grid[0] * survey.grid[1]
    alike = torch.full((1, 1, patches, patches), 1 / patches)
    far = float(attention_distance(alike, Layout(0, *survey.grid), survey.image_size))
    found = [
        _statistic(
            "distance",
            "Attention distance",
            "pixels",
            f"How far away from a patch, in a picture of {width} × {height} pixels, is what it takes of other patches? "
            "Small numbers are heads that look around themselves.",
            1,
            survey.distance,
            far,
        ),
        _statistic(
            "entropy",
            "Entropy of attention",
            "nats",
            "How widely does a token look? 0: at one token alone.",
            2,
            survey.entropy,
            math.log(survey.prefix + patches),
        ),
    ]
    masked = ~survey.covered.isnan()
    if masked.any():
        of = "" if masked.all() else f", in the {int(masked.sum())} pictures with masks"
        found.append(
            _statistic(
                "object",
                "Attention on the object",
                "%",
                f"How much of what the classifier's own token takes of patches lies on the object{of}? Where a model "
                "reads an average, of what all patches take.",
                0,
                100 * survey.on_object[masked],
                100 * float(survey.covered[masked].mean()),
            )
        )
    return found


def _statistic(name: str, title: str, unit: str, says: str, digits: int, values: Tensor, alike: float) -> StatisticData:
    return {
        "name": name,
        "title": title,
        "unit": unit,
        "says": says,
        "digits": digits,
        "means": values.mean(0).tolist(),
        "deviations": values.std(0, correction=0).tolist(),
        "alike": alike,
    }


def _data(survey: Survey, predicted: list[int], statistics: list[StatisticData]) -> dict[str, Any]:
    kept = _kept_pictures(survey)
    height, width = survey.image_size
    by_class = [_of_class(survey, explained, kept) for explained in predicted]
    maps = torch.stack([survey.seen[number].scores for number in kept])
    return {
        "rows": survey.grid[0],
        "columns": survey.grid[1],
        "aspect": height / width,
        "offset": list(survey.offset),
        "count": len(survey.pictures),
        "layers": survey.layers,
        "heads": survey.heads,
        "classCount": len(predicted),
        "top": max(len(one["driving"]) for one in by_class),
        "statistics": statistics,
        "classes": by_class,
        "pictures": [_url(survey.seen[number].jpeg) for number in kept],
        "maps": maps,
        "colours": payload.colour_table(),
    }


def _kept_pictures(survey: Survey) -> dict[int, int]:
    """The pictures that are sent, by number, and their places: those of the strongest patch of every class first."""
    ranked: dict[int, list[int]] = {}
    for one in survey.driving:
        ranked.setdefault(one.explained, []).append(one.picture)
    rounds = max(len(pictures) for pictures in ranked.values())
    ordered = [pictures[k] for k in range(rounds) for pictures in ranked.values() if k < len(pictures)]
    return {number: place for place, number in enumerate([*dict.fromkeys(ordered)][:MOST_PICTURES])}


def _of_class(survey: Survey, explained: int, kept: Mapping[int, int]) -> OfClassData:
    own = survey.predicted == explained
    driving = survey.of(explained)
    return {
        "name": survey.name(explained),
        "pictures": int(own.sum()),
        "decided": torch.bincount(survey.decided[own] - 1, minlength=survey.layers).tolist(),
        "driving": [_driven(survey, one, driving[0], kept) for one in driving],
    }


def _driven(survey: Survey, one: DrivingPatch, largest: DrivingPatch, kept: Mapping[int, int]) -> DrivenData:
    label = int(survey.labels[one.picture])
    return {
        "patch": one.patch,
        "ofLargest": one.contribution / largest.contribution if largest.contribution > 0 else 0.0,
        "times": one.share * survey.grid[0] * survey.grid[1],
        "crop": _url(one.crop),
        "window": list(window(one.patch, survey.grid)),
        "picture": kept.get(one.picture),
        "source": survey.pictures[one.picture],
        "label": None if label in (UNKNOWN, one.explained) else survey.name(label),
    }


def _url(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()

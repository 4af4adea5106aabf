"""The seven tests: from a batch of samples to rows of a table. Which picture goes through which metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from tokentm.discovery import describe
from tokentm.errors import InvalidOptionError
from tokentm.evaluation.classes import class_sensitivity, other_classes
from tokentm.evaluation.datasets import Sample
from tokentm.evaluation.discrimination import discrimination
from tokentm.evaluation.mosaics import Mosaic, compose, control, quadrants
from tokentm.evaluation.perturbation import perturbation
from tokentm.evaluation.removal import Removal, Replacement
from tokentm.evaluation.saco import saco
from tokentm.evaluation.sanity import STAGES, randomised, rank_correlation
from tokentm.evaluation.segmentation import segmentation
from tokentm.isolation import isolated
from tokentm.methods import Method
from tokentm.outputs import Meaning
from tokentm.pictures import Transform, prepare
from tokentm.questions import KINDS, Kind
from tokentm.target import Target
from tokentm.trace import Trace, record

Row = dict[str, Any]
KEYS = ("sample", "method", "case", "explained", "predicted", "note")
"""Columns of every table, before those of the metric. ``case`` says which class was explained, or of which model."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What is put to the test: a model, how pictures become its input, and methods by name.

    Attributes:
        outputs: what the model's outputs mean, see :data:`tokentm.outputs.Meaning`; None asks the model.
        target: which score of a class is explained, see :mod:`tokentm.questions`; None takes its output. What is
            measured afterwards is the same.
    """

    model: nn.Module
    methods: Mapping[str, Method]
    transform: Transform | None = None
    replace: Replacement = "drop"
    outputs: Meaning | None = None
    target: Kind | None = None

    def images(self, samples: Sequence[Sample]) -> Tensor:
        """(B, C, H, W), as the model takes them."""
        return prepare(self.model, [sample.image for sample in samples], self.transform).images

    def seen_mask(self, mask: np.ndarray) -> Tensor:
        """A mask through the transform of its picture, resized and cropped alike: (H, W), bool."""
        white = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).convert("RGB")
        prepared = prepare(self.model, white, self.transform)
        return torch.from_numpy(np.asarray(prepared.seen[0].convert("L")) > 127).to(prepared.images.device)

    def recognises(self, samples: Sequence[Sample]) -> list[bool]:
        """Whether the model predicts the label of each of some pictures."""
        images = self.images(samples)
        with torch.no_grad():
            predicted = isolated(lambda: describe(self.model, images).answer(images)).argmax(1).tolist()
        return [found == sample.label for found, sample in zip(predicted, samples, strict=True)]

    @cached_property
    def randomised(self) -> dict[str, nn.Module]:
        return {stage: randomised(self.model, stage) for stage in STAGES}


Protocol = Callable[[Subject, Sequence[Any]], list[Row]]
"""From some samples, or mosaics for the test of that name, to rows."""


def segmentation_rows(subject: Subject, samples: Sequence[Sample]) -> list[Row]:
    """Each object's map against its mask: the class of the object where it is known, else the predicted class."""
    objects = [(sample, label, subject.seen_mask(mask)) for sample in samples for label, mask in sample.masks.items()]
    if not objects:
        raise InvalidOptionError(f"expected masks for the segmentation test; {samples[0].name} has none.")
    why = "in the picture as the model sees it, the mask has only object or only background"
    rows = [_left_out(sample, label, why) for sample, label, mask in objects if not 0 < mask.sum() < mask.numel()]
    objects = [one for one in objects if 0 < one[2].sum() < one[2].numel()]
    for first in range(0, len(objects), len(samples)):  # a picture may hold several objects: keep to the batch size
        part = objects[first : first + len(samples)]
        chosen = [sample for sample, _, _ in part]
        trace = _recorded(subject, chosen, [label for _, label, _ in part])
        masks = torch.stack([mask for _, _, mask in part])
        case = ["predicted class" if label is None else "labelled class" for _, label, _ in part]
        for name, method in subject.methods.items():
            scores = segmentation(method(trace).heatmap(), masks)
            rows += _rows(trace, chosen, name, case, _columns(scores))
    return rows


def discrimination_rows(subject: Subject, samples: Sequence[Sample]) -> list[Row]:
    """In pictures of several objects, each object's map against the mask of every other one."""
    if all(label is None for sample in samples for label in sample.masks):
        raise InvalidOptionError(f"expected objects of known classes to tell apart; {samples[0].name} has none.")
    pairs, rows = [], []
    for sample in samples:
        masks = {label: subject.seen_mask(mask) for label, mask in sample.masks.items() if label is not None}
        visible = {label: mask for label, mask in masks.items() if mask.any()}
        if len(visible) < 2:
            rows += [_left_out(sample, label, "no other object is visible beside it") for label in masks]
        pairs += [(sample, a, visible[a], visible[b]) for a in visible for b in visible if a != b]
    for first in range(0, len(pairs), len(samples)):
        part = pairs[first : first + len(samples)]
        chosen = [sample for sample, _, _, _ in part]
        trace = _recorded(subject, chosen, [label for _, label, _, _ in part])
        named = torch.stack([mask for _, _, mask, _ in part])
        other = torch.stack([mask for _, _, _, mask in part])
        for name, method in subject.methods.items():
            scores = discrimination(method(trace).heatmap(), named, other)
            rows += _rows(trace, chosen, name, ["named class"] * len(part), _columns(scores))
    return rows


def perturbation_rows(subject: Subject, samples: Sequence[Sample]) -> list[Row]:
    """Patches taken away in order of relevance, for the predicted class and, where labels are known, for the label."""

    def measure(trace: Trace, scores: Tensor, remove: Removal) -> dict[str, Tensor]:
        assert trace.target is not None
        return _columns(perturbation(remove, scores, trace.target))

    return _predicted_and_labelled(subject, samples, measure)


def saco_rows(subject: Subject, samples: Sequence[Sample]) -> list[Row]:
    """Groups of patches taken away, for the predicted class and, where labels are known, for the label."""

    def measure(trace: Trace, scores: Tensor, remove: Removal) -> dict[str, Tensor]:
        assert trace.target is not None
        return {"saco": saco(remove, scores, trace.target)}

    return _predicted_and_labelled(subject, samples, measure)


def sanity_rows(subject: Subject, samples: Sequence[Sample]) -> list[Row]:
    """The map of the predicted class against the same class's map from models with shuffled weights."""
    images = subject.images(samples)
    trace = _record(subject, images)
    before = {name: method(trace).scores for name, method in subject.methods.items()}
    rows = []
    for stage, model in subject.randomised.items():
        shuffled = _record(subject, images, trace.target, model)
        for name, method in subject.methods.items():
            found = {"correlation": rank_correlation(before[name], method(shuffled).scores)}
            rows += _rows(trace, samples, name, [stage] * len(samples), found)
    return rows


def mosaics_rows(subject: Subject, samples: Sequence[Mosaic]) -> list[Row]:
    """Mosaics of two classes: the map of each class on its own quadrants against the others, and whether the model uses
    them (``control``, the same for every method).

    Maps are compared as they are, patch by patch, without interpolation.
    """
    parts = [part for mosaic in samples for part in mosaic.parts]
    images = compose(subject.images(parts).unflatten(0, (len(samples), 4)))
    trace = _record(subject, images.repeat_interleave(2, 0), [label for mosaic in samples for label in mosaic.classes])
    assert trace.target is not None
    of_a = quadrants(trace.layout.rows, trace.layout.columns).to(images.device)
    own = torch.stack((of_a, ~of_a)).repeat(len(samples), 1, 1)
    used = control(Removal(trace, subject.replace), own.flatten(1), trace.target, trace.outputs)
    twice = [mosaic for mosaic in samples for _ in range(2)]
    rows = []
    for name, method in subject.methods.items():
        scores = method(trace).scores.unflatten(1, of_a.shape)
        found = {**_columns(discrimination(scores, own, ~own)), "control": used}
        rows += _rows(trace, twice, name, ["class in two quadrants"] * len(twice), found)
    return rows


def classes_rows(subject: Subject, samples: Sequence[Sample]) -> list[Row]:
    """The map of the predicted class against those of other classes of the same picture."""
    images = subject.images(samples)
    trace = _record(subject, images)
    assert trace.target is not None
    others = other_classes(trace.logits, trace.target).T.tolist()
    specific = {name: method for name, method in subject.methods.items() if method.class_specific}
    before = {name: method(trace).scores for name, method in specific.items()}
    compared: dict[str, list[Tensor]] = {name: [] for name in specific}
    for labels in others if specific else []:
        other = _record(subject, images, labels)
        for name, method in specific.items():
            compared[name].append(method(other).scores)
    rows = []
    for name in subject.methods:
        if name in specific:
            found = _columns(class_sensitivity(before[name], torch.stack(compared[name], 1)))
            rows += _rows(trace, samples, name, ["predicted class"] * len(samples), found)
        else:
            same = dict.fromkeys(("least_likely", "other_classes"), torch.ones(len(samples)))
            by_construction = _rows(trace, samples, name, ["predicted class"] * len(samples), same)
            rows += [{**row, "note": "1 by construction: the same map for every class"} for row in by_construction]
    return rows


PROTOCOLS: dict[str, Protocol] = {
    "segmentation": segmentation_rows,
    "discrimination": discrimination_rows,
    "perturbation": perturbation_rows,
    "saco": saco_rows,
    "sanity": sanity_rows,
    "mosaics": mosaics_rows,
    "classes": classes_rows,
}


def _predicted_and_labelled(
    subject: Subject, samples: Sequence[Sample], measure: Callable[[Trace, Tensor, Removal], dict[str, Tensor]]
) -> list[Row]:
    images = subject.images(samples)
    trace = _record(subject, images)
    remove = Removal(trace, subject.replace)
    asked = {i: sample.label for i, sample in enumerate(samples) if sample.label is not None}
    # where the prediction is right, both classes are the same one
    wrong = [i for i, label in asked.items() if label != int(trace.logits[i].argmax())]
    second = None
    if wrong:
        second = _record(subject, images[wrong], [asked[i] for i in wrong])
        remove_second = Removal(second, subject.replace)
    rows = []
    for name, method in subject.methods.items():
        predicted = _rows(
            trace, samples, name, ["predicted class"] * len(samples), measure(trace, method(trace).scores, remove)
        )
        rows += predicted
        target = {i: {**predicted[i], "case": "labelled class"} for i in asked}
        if second is not None:
            chosen = [samples[i] for i in wrong]
            measured = measure(second, method(second).scores, remove_second)
            again = _rows(second, chosen, name, ["labelled class"] * len(wrong), measured)
            target.update(zip(wrong, again, strict=True))
        rows += target.values()
    return rows


def _recorded(subject: Subject, samples: Sequence[Sample], labels: Sequence[int | None]) -> Trace:
    """Explain the label where there is one, else the predicted class."""
    images = subject.images(samples)
    if any(label is None for label in labels):
        trace = _record(subject, images)
        predicted = trace.logits.argmax(1).tolist()
        if all(label in (None, own) for label, own in zip(labels, predicted, strict=True)):
            return trace
        labels = [own if label is None else label for label, own in zip(labels, predicted, strict=True)]
    return _record(subject, images, [int(label) for label in labels if label is not None])


def _record(subject: Subject, images: Tensor, target: Target = None, model: nn.Module | None = None) -> Trace:
    """A record of the subject's model, or of another one whose outputs mean the same."""
    asked = target if subject.target is None else KINDS[subject.target](target)
    return record(subject.model if model is None else model, images, asked, outputs=subject.outputs)


def _columns(scores: Any) -> dict[str, Tensor]:
    """Every number that there is; a score without probabilities lacks some."""
    found = {field.name: getattr(scores, field.name) for field in fields(scores)}
    return {name: column for name, column in found.items() if column is not None}


def _rows(
    trace: Trace, samples: Sequence[Sample | Mosaic], method: str, case: Sequence[str], columns: Mapping[str, Tensor]
) -> list[Row]:
    assert trace.target is not None
    explained, predicted = trace.target.tolist(), trace.logits.argmax(1).tolist()
    values = {name: column.tolist() for name, column in columns.items()}
    return [
        {
            "sample": sample.name,
            "method": method,
            "case": case[i],
            "explained": explained[i],
            "predicted": predicted[i],
            "note": "",
            **{name: column[i] for name, column in values.items()},
        }
        for i, sample in enumerate(samples)
    ]


def _left_out(sample: Sample, label: int | None, why: str) -> Row:
    """A row that says why there is no other."""
    row = {"sample": sample.name, "method": "", "case": "", "explained": label, "predicted": ""}
    return {**row, "note": f"left out: {why}"}

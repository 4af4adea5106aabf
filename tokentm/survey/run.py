"""A survey of a data set: picture by picture what every head does, where the answer falls, and what drives each class.

Every batch of pictures becomes a :class:`Survey` of its own, in a file of its own (see evaluation/parts.py); together
they make the survey of all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tokentm.errors import InvalidOptionError
from tokentm.evaluation.datasets import Dataset, Sample
from tokentm.evaluation.parts import RunStoppedError, Share, finished, read_settings, work, write
from tokentm.evaluation.protocols import Subject
from tokentm.explanation import require_finite
from tokentm.methods import TokenTM
from tokentm.names import ClassNames, class_names
from tokentm.outputs import Meaning
from tokentm.pictures import Transform, prepare
from tokentm.survey.deciding import answers_after_layers
from tokentm.survey.driving import SeenPicture, cropped, driving_patches, jpeg
from tokentm.survey.heads import attention_distance, attention_entropy, coverage, share_on_object
from tokentm.survey.result import UNKNOWN, Survey
from tokentm.trace import Trace, record

TOP = 12
"""How many patches of each class are kept unless said."""

_SUFFIX = ".safetensors"

_AT_ONCE = 100
"""How many batches are held at once while they are put together."""


def survey(
    model: nn.Module,
    dataset: Dataset,
    out: Path,
    *,
    transform: Transform | None = None,
    outputs: Meaning | None = None,
    classes: ClassNames | None = None,
    limit: int | None = None,
    batch: int = 10,
    top: int = TOP,
    settings: dict[str, Any] | None = None,
    share: Share | None = None,
) -> None:
    """Do this process's share of the batches that ``out`` does not hold yet; :func:`collect` puts all together.

    Args:
        model: a ViT with classes, in eval mode, see :func:`tokentm.describe`.
        dataset: samples, see :func:`tokentm.evaluation.datasets.open_dataset`.
        out: a folder; one that holds a part of the same run goes on.
        transform, outputs: see :func:`tokentm.record`.
        classes: class names, see :data:`tokentm.names.ClassNames`; None takes the model's own.
        limit: how many samples, from the first; None takes all.
        batch: samples at once. Part of the settings: rounding depends on it.
        top: how many patches of each class are kept.
        settings: what else the numbers depend on. A folder with other settings is refused.
        share: which of several processes this is.

    Raises:
        InvalidOptionError: no sample, a batch or ``top`` below 1, a folder of another run, class names that do not fit,
            or a model whose answers are no classes.
        RunStoppedError: a file cannot be written.
        UnsupportedModelError, InvalidImagesError, InvalidTargetError: see :func:`tokentm.record`.

    Example:
        >>> from tokentm.evaluation.datasets import DemoScenes
        >>> demo = tokentm.load_demo()
        >>> survey(demo.model, DemoScenes(3), Path("results/survey"), classes=demo.classes)
        >>> collect(Path("results/survey"))
        Survey(3 pictures, 8 layers, 4 heads, 16 classes)
    """
    if top < 1:
        raise InvalidOptionError(f"expected top of at least 1 patch of each class; got {top}.")
    subject = Subject(model, {}, transform, outputs=outputs)
    work(
        out,
        lambda first, end: measured(subject, [dataset[i] for i in range(first, end)], classes, top).packed(),
        dataset.identity,
        count=len(dataset) if limit is None else min(limit, len(dataset)),
        batch=batch,
        suffix=_SUFFIX,
        doing="survey",
        settings={**(settings or {}), "top": top},
        share=share,
    )


def collect(out: Path) -> Survey:
    """The survey of all pictures of a finished run; also written to ``survey.safetensors``.

    Raises:
        RunStoppedError: batches are missing or damaged.
        InvalidOptionError: pictures that the model sees in different sizes.
    """
    paths = finished(out, _SUFFIX)
    groups = [paths[first : first + _AT_ONCE] for first in range(0, len(paths), _AT_ONCE)]
    # a merged group holds the strongest patches of all of it, and no other crops and pictures
    merged = [Survey.merged([_read(path) for path in group], {}) for group in groups]
    whole = Survey.merged(merged, read_settings(out))
    write(out / "survey.safetensors", whole.packed())
    return whole


def _read(path: Path) -> Survey:
    try:
        return Survey.load(path)
    except InvalidOptionError as error:
        raise RunStoppedError(
            f"expected a whole batch in {path}; it is damaged ({error}). Delete that file and run the same command "
            "again: it is made anew, and all others are kept."
        ) from error


def measured(subject: Subject, samples: Sequence[Sample], classes: ClassNames | None = None, top: int = TOP) -> Survey:
    """The survey of a few samples at once, without a folder.

    Args:
        subject: a model and how pictures become its input; its methods are not used.
        classes, top: see :func:`survey`.

    Example:
        >>> from tokentm.evaluation.datasets import DemoScenes
        >>> measured(Subject(demo.model, {}), [DemoScenes(10)[3]])
        Survey(1 pictures, 8 layers, 4 heads, 16 classes)
    """
    prepared = prepare(subject.model, [sample.image for sample in samples], subject.transform)
    trace = record(subject.model, prepared.images, outputs=subject.outputs)
    answers = answers_after_layers(trace)
    scores = TokenTM().scores(trace).float()
    require_finite(scores, TokenTM().name)
    layout, pictures = trace.layout, prepared.seen
    grid = (layout.rows, layout.columns)
    covered = torch.stack([_covered(subject, sample, trace) for sample in samples])
    driving = [cropped(one, pictures[one.picture], grid) for one in driving_patches(scores, answers[:, -1], top)]
    names = class_names(trace.class_names if classes is None else classes, trace.logits.shape[1])
    return Survey(
        pictures=tuple(sample.name for sample in samples),
        labels=torch.tensor([UNKNOWN if sample.label is None else sample.label for sample in samples]),
        answers=answers.cpu(),
        distance=_of_heads(trace, lambda layer: attention_distance(layer, layout, trace.image_size)),
        entropy=_of_heads(trace, attention_entropy),
        on_object=_of_heads(trace, lambda layer: share_on_object(layer, trace.readout, covered)),
        covered=covered.mean(1).cpu(),
        driving=tuple(driving),
        seen={
            number: SeenPicture(jpeg(pictures[number]), scores[number].cpu())
            for number in sorted({one.picture for one in driving})
        },
        top=top,
        classes=trace.logits.shape[1],
        class_names=None if names is None else tuple(names),
        grid=grid,
        prefix=layout.prefix,
        image_size=trace.image_size,
        offset=layout.offset,
    )


def _of_heads(trace: Trace, measure: Callable[[Tensor], Tensor]) -> Tensor:
    """A number of each head, from its attention (B, H, N, N) -> (B, H), in all layers: (B, L, H)."""
    return torch.stack([measure(layer.attention) for layer in trace.layers], 1).float().cpu()


def _covered(subject: Subject, sample: Sample, trace: Trace) -> Tensor:
    """Share of each patch that any object of the picture covers, (P,); NaN where its objects are not known."""
    if not sample.masks:
        return trace.scores.new_full((trace.layout.rows * trace.layout.columns,), torch.nan)
    masks = torch.stack([subject.seen_mask(mask) for mask in sample.masks.values()])
    return coverage(masks.any(0), trace.layout).to(trace.scores)

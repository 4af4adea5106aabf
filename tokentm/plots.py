"""Static figures. matplotlib is imported when something is drawn, never by ``import tokentm``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from tokentm.errors import InvalidOptionError
from tokentm.explanation import Explanation
from tokentm.methods import TokenTM
from tokentm.trace import Trace

Picture = Image.Image | str | Path
COLOURS = "viridis"


def pictures(images: Picture | Sequence[Picture] | None, count: int) -> Sequence[Image.Image | None]:
    """One RGB picture for each explained image; a single picture serves all of them."""
    if images is None:
        return [None] * count
    listed: Sequence[Picture] = [images] if isinstance(images, (Image.Image, str, Path)) else images
    if len(listed) not in (1, count):
        raise InvalidOptionError(
            f"expected 1 picture or one for each of the {count} explained images; got {len(listed)}."
        )
    opened = [p if isinstance(p, Image.Image) else Image.open(p) for p in listed]
    return [picture.convert("RGB") for picture in opened] * (count if len(opened) == 1 else 1)


def target_names(target: Sequence[int] | None, classes: Sequence[str] | None, count: int) -> list[str]:
    """What was explained, in words, one per image: class name, else "class 7", else "chosen score"."""
    if target is None:
        return ["chosen score"] * count
    if classes is not None and max(target) >= len(classes):
        raise InvalidOptionError(f"expected a name for each class; class {max(target)} has none among {len(classes)}.")
    return [f"class {index}" if classes is None else str(classes[index]) for index in target]


def heatmaps(
    explanation: Explanation,
    images: Picture | Sequence[Picture] | None = None,
    classes: Sequence[str] | None = None,
) -> Figure:
    """One row per image: the picture as the model saw it (if given), and the heat map with its colour bar.

    Args:
        images: PIL pictures or paths, one for all or one per explained image.
        classes: class names, to title the maps with.
    """
    count = len(explanation.scores)
    shown = pictures(images, count)
    names = target_names(None if explanation.target is None else explanation.target.tolist(), classes, count)
    maps = explanation.heatmap().cpu().numpy()
    figure = Figure(figsize=(3.4 + 3.0 * (images is not None), 3.0 * count), layout="constrained")
    axes = figure.subplots(count, 1 + (images is not None), squeeze=False)
    for row, picture, name, heat in zip(axes, shown, names, maps, strict=True):
        if picture is not None:
            row[0].imshow(picture)
            row[0].set_title("image")
        drawn = row[-1].imshow(heat, cmap=COLOURS)
        row[-1].set_title(f"{explanation.method}: {name}")
        figure.colorbar(drawn, ax=row[-1], shrink=0.8)
        for axis in row:
            axis.set_axis_off()
    return figure


def layer_steps(
    trace: Trace, index: int = 0, method: TokenTM | None = None, classes: Sequence[str] | None = None
) -> Figure:
    """The layer stepper on paper: one column per layer; attention, transformation weight, contribution so far.

    Panels show what the readout takes from each patch, averaged over heads, each on its own scale.

    Args:
        index: which image of the trace.
        method: the reading of TokenTM to show; None takes the default.
    """
    grid, prefix = (trace.layout.rows, trace.layout.columns), trace.layout.prefix
    labels = ("attention", "transformation\nweight", "contribution\nso far")
    figure = Figure(figsize=(1.2 * len(trace.layers) + 0.5, 4.2), layout="constrained")
    axes = figure.subplots(len(labels), len(trace.layers), squeeze=False)
    steps = (method or TokenTM()).steps(trace)
    for column, (layer, step) in enumerate(zip(trace.layers, steps, strict=True)):
        panels = (
            trace.readout @ layer.attention[index].mean(0),
            step.weight[index].mean(0),
            trace.readout @ step.contribution[index],
        )
        for row, values in enumerate(panels):
            axis = axes[row, column]
            axis.imshow(values[prefix:].unflatten(0, grid).cpu().numpy(), cmap=COLOURS)
            axis.set(xticks=[], yticks=[])
        axes[0, column].set_title(f"layer {column + 1}", fontsize=9)
    for axis, label in zip(axes[:, 0], labels, strict=True):
        axis.set_ylabel(label, fontsize=9)
    names = target_names(None if trace.target is None else trace.target.tolist(), classes, len(trace.logits))
    figure.suptitle(f"TokenTM, {names[index]}")
    return figure

"""Static figures. matplotlib is imported when something is drawn, never by ``import tokentm``."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from tokentm.errors import InvalidOptionError
from tokentm.explanation import Explanation
from tokentm.methods import ABLATIONS, METHODS, TokenTM
from tokentm.names import ClassNames, class_names
from tokentm.pictures import Picture, Prepared, listed, read
from tokentm.renamed import renamed
from tokentm.trace import Trace

COLOURS = "viridis"
DIFFERENCES = "PuOr"
"""For values on both sides of zero, which is drawn white."""
_DIMMED = 0.35
"""Brightness of what the model did not see."""
CHOSEN_SCORE = "chosen score"
"""What a function of the logits is called that was explained in place of a class."""


class Plot(Figure):
    """A matplotlib figure that a notebook shows by itself, with an alternative text for those who cannot see it."""

    def __init__(self, alt: str, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), layout="constrained")
        self.alt = alt

    def bundle(self) -> dict[str, str]:
        """The figure in the forms a notebook can show. JupyterLab gives only HTML pictures an alternative text."""
        png = self.png()
        return {
            "text/html": image(png, self.alt),
            "image/png": base64.b64encode(png).decode(),
            "text/plain": self.alt,
        }

    def still(self) -> str:
        """The figure as HTML in 256 colours, a third of the bytes: it stands behind widgets in saved notebooks."""
        return image(self.png(256), self.alt)

    def png(self, colours: int | None = None) -> bytes:
        """The figure as a PNG file, in so many colours or in all."""
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=80)
        return buffer.getvalue() if colours is None else reduced(Image.open(buffer), colours)

    def _repr_mimebundle_(self, **_options: Any) -> dict[str, str]:
        return self.bundle()


def image(png: bytes, alt: str) -> str:
    """A PNG file as an element of HTML that needs no other file."""
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def reduced(drawn: Image.Image, colours: int) -> bytes:
    """A picture as a small PNG file of at most 256 colours."""
    buffer = BytesIO()
    drawn.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def pictures(
    images: Picture | Sequence[Picture] | Prepared | None, explained: Trace | Explanation
) -> list[Image.Image]:
    """The RGB pictures behind explained images: none, one that serves all, or one each.

    Args:
        images: as the model saw them; of :class:`tokentm.Prepared`, its ``seen``.

    Raises:
        InvalidImagesError: something else than pictures and paths.
        InvalidOptionError: no pictures at all, a wrong number, or a size other than what the model saw, over which a
            map would lie askew.
    """
    if images is None:
        return []
    count, (height, width) = len(explained.logits), explained.image_size
    given = images.seen if isinstance(images, Prepared) else listed(images)
    if len(given) not in (1, count):
        raise InvalidOptionError(
            f"expected 1 picture or one for each of the {count} explained images; got {len(given)}."
        )
    opened = [read(picture) for picture in given]
    for picture in opened:
        if picture.size != (width, height):
            raise InvalidOptionError(
                f"expected pictures as the model saw them, {width} x {height} pixels (width x height); got "
                f"{picture.width} x {picture.height}. A map over another crop would lie askew: "
                "tokentm.seen(images, mean, std) turns the model's input back into pictures."
            )
    return opened


def photograph(image: Picture, alt: str) -> Plot:
    """A picture alone, at a size to look at; ``alt`` says what is in it."""
    figure = Plot(alt, 3.0, 3.0)
    axis = figure.subplots()
    axis.imshow(read(image), interpolation="nearest")
    axis.set_axis_off()
    return figure


@renamed(image="images")
def patch_maps(
    maps: Mapping[str, Tensor],
    grid: tuple[int, int],
    alt: str,
    images: Picture | Sequence[Picture] | Prepared | None = None,
    marked: int | Sequence[int] = (),
    offset: tuple[float, float] = (0.0, 0.0),
) -> Plot:
    """One panel for each named map, each on its own scale; before them the picture, where it is given.

    Args:
        maps: title -> one number a patch, (rows * columns,), row-major.
        grid: (rows, columns).
        alt: what is to be seen, for those who cannot see it.
        images: the picture as the model saw it, alone, in a list, or as :class:`tokentm.Prepared`.
        marked: patches to outline in every panel, row-major from 0.
        offset: how far down and to the right of its patch a token looks, in patches: ``trace.layout.offset``. Maps
            are shifted by it and end where the picture ends.

    Example:
        >>> row = trace.layers[0].attention[0, 0, 0, trace.layout.prefix :]
        >>> patch_maps({"layer 1, head 1": row}, (14, 14), "What the class token takes in layer 1, head 1")
    """
    rows, columns = grid
    shown = [] if images is None else images.seen if isinstance(images, Prepared) else listed(images)
    if images is not None and len(shown) != 1:
        raise InvalidOptionError(f"expected 1 picture beside the maps; got {len(shown)}. Pass images[0], for example.")
    down_by, right_by = offset
    corners = (-0.5, columns - 0.5, rows - 0.5, -0.5)  # of the picture, so that a patch lies where it does in the maps
    shifted = (corners[0] + right_by, corners[1] + right_by, corners[2] + down_by, corners[3] + down_by)
    count = len(maps) + len(shown)
    across = count if count <= 5 else 4
    down = -(-count // across)
    figure = Plot(alt, 2.4 * across, 2.7 * down)
    axes, unused = np.split(figure.subplots(down, across, squeeze=False).flatten(), [count])
    for axis in unused:
        axis.set_axis_off()
    if shown:
        axes[0].imshow(read(shown[0]), extent=corners, interpolation="nearest")
        axes[0].set_title("image", fontsize=9)
    for axis, (title, values) in zip(axes[count - len(maps) :], maps.items(), strict=True):
        drawn = values.detach().cpu().unflatten(0, grid).numpy()
        axis.imshow(drawn, cmap=COLOURS, extent=shifted, interpolation="nearest")
        axis.set_title(title, fontsize=9)
        # the ends of the scale in words: a colour bar for every panel takes longer to draw than all the maps
        axis.set_xlabel(f"dark {drawn.min():.2g}, bright {drawn.max():.2g}", fontsize=8)
    for axis in axes:
        axis.set(xticks=[], yticks=[], xlim=corners[:2], ylim=corners[2:])
        for patch in (marked,) if isinstance(marked, int) else marked:
            corner = (patch % columns - 0.5 + right_by, patch // columns - 0.5 + down_by)
            for colour, width in (("black", 3.0), ("white", 1.2)):  # stands out from any colour below
                axis.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=colour, linewidth=width))
    return figure


def output_names(explained: Trace | Explanation, classes: ClassNames | None) -> list[str]:
    """A name for each output of the model: the given ones, else the model's own, else "class 7" or "output 7".

    Raises:
        InvalidOptionError: not one name for each output, or something that holds no names in an order.
    """
    count, own = explained.logits.shape[1], explained.class_names
    if classes is None and own is not None and len(own) == count:
        return list(own)
    word = "output" if explained.outputs == "none" else "class"
    return class_names(classes, count) or [f"{word} {index}" for index in range(count)]


def target_names(explained: Trace | Explanation, classes: ClassNames | None) -> list[str]:
    """What was explained, in words, one per image: the class's name as in :func:`output_names`, or "chosen score".

    Raises:
        InvalidOptionError: as :func:`output_names`.
    """
    names = output_names(explained, classes)
    if explained.target is None:
        return [CHOSEN_SCORE] * len(explained.logits)
    return [names[index] for index in explained.target.tolist()]


def heatmaps(
    explanation: Explanation,
    images: Picture | Sequence[Picture] | Prepared | None = None,
    classes: ClassNames | None = None,
) -> Plot:
    """One row per image: the picture as the model saw it (if given), and the heat map with its colour bar.

    Args:
        images: what :func:`tokentm.prepare` gave, or PIL pictures or paths as the model saw them, one for all or one
            per explained image.
        classes: class names, to title the maps with: a list in the order of the outputs or a dict by index; None takes
            the model's own.
    """
    count = len(explanation.scores)
    shown = pictures(images, explanation)
    names = target_names(explanation, classes)
    maps = explanation.heatmap().cpu().numpy()
    described = f"Heat map of {explanation.method} for {', '.join(dict.fromkeys(names))}"
    figure = Plot(described + (", beside the picture" if shown else ""), 3.4 + 3.0 * bool(shown), 3.0 * count)
    axes = figure.subplots(count, 1 + bool(shown), squeeze=False)
    for i, (row, name, heat) in enumerate(zip(axes, names, maps, strict=True)):
        if shown:
            row[0].imshow(shown[i % len(shown)], interpolation="nearest")
            row[0].set_title("image")
        drawn = row[-1].imshow(heat, cmap=COLOURS, interpolation="nearest")
        row[-1].set_title(f"{explanation.method}: {name}")
        figure.colorbar(drawn, ax=row[-1], shrink=0.8)
        for axis in row:
            axis.set_axis_off()
    return figure


def originals(explanation: Explanation, prepared: Prepared, classes: ClassNames | None = None) -> Plot:
    """One row per image: the original picture, and the heat map over the part of it that the model saw.

    The rest of the picture is dimmed and bears no map.

    Args:
        prepared: what :func:`tokentm.prepare` made of the pictures, whose ``images`` were explained.
        classes: class names, to title the maps with.

    Raises:
        InvalidOptionError: the explanation is of other images, or which part the model saw is not known.

    Example:
        >>> prepared = tokentm.prepare(model, "cat.jpg")
        >>> plots.originals(tokentm.explain(model, prepared.images), prepared)
    """
    parts = prepared.originals_of(explanation)
    names = target_names(explanation, classes)
    maps = explanation.heatmap().cpu().numpy()
    described = f"Heat map of {explanation.method} for {', '.join(dict.fromkeys(names))}"
    figure = Plot(f"{described}, over the part of the original picture that the model saw", 6.4, 3.0 * len(parts))
    axes = figure.subplots(len(parts), 2, squeeze=False)
    for (left, right), (original, crop), name, heat in zip(axes, parts, names, maps, strict=True):
        pixels = _to_draw(original)
        for axis, title, brightness in ((left, "original", 1.0), (right, f"{explanation.method}: {name}", _DIMMED)):
            axis.imshow(_brightness(pixels, brightness), extent=(0, original.width, original.height, 0))
            axis.set_title(title)
            axis.set_axis_off()
        corners = (crop.left, crop.right, crop.bottom, crop.top)
        part = Rectangle(
            (crop.left, crop.top), crop.right - crop.left, crop.bottom - crop.top, transform=right.transData
        )
        right.imshow(pixels, extent=(0, original.width, original.height, 0)).set_clip_path(part)
        drawn = right.imshow(heat, cmap=COLOURS, interpolation="nearest", extent=corners, alpha=0.55)
        right.set(xlim=(0, original.width), ylim=(original.height, 0))  # where the transform padded is no picture
        figure.colorbar(drawn, ax=right, shrink=0.8)
    return figure


def _to_draw(original: Image.Image, longest: int = 800) -> np.ndarray:
    """The picture's RGB pixels, no more of them than a figure shows."""
    small = original.copy()
    small.thumbnail((longest, longest))
    return np.asarray(small.convert("RGB"))


def _brightness(pixels: np.ndarray, share: float) -> np.ndarray:
    return (pixels * share).round().astype(np.uint8)


def layer_steps(trace: Trace, index: int = 0, method: TokenTM | None = None, classes: ClassNames | None = None) -> Plot:
    """The layer stepper on paper: one column per layer; attention, transformation weight, contribution so far.

    Panels show what the readout takes from each patch, averaged over heads, each on its own scale.

    Args:
        index: which image of the trace.
        method: the reading of TokenTM to show; None takes the default.
    """
    grid, prefix = (trace.layout.rows, trace.layout.columns), trace.layout.prefix
    labels = ("attention", "transformation\nweight", "contribution\nso far")
    name = target_names(trace, classes)[index]
    described = f"Attention, transformation weight and contribution so far in each of {len(trace.layers)} layers"
    figure = Plot(f"{described}, for {name}", 1.2 * len(trace.layers) + 0.5, 4.2)
    axes = figure.subplots(len(labels), len(trace.layers), squeeze=False)
    steps = (method or TokenTM()).steps(trace)
    for column, (layer, step) in enumerate(zip(trace.layers, steps, strict=True)):
        panels = (
            trace.readout[index] @ layer.attention[index].mean(0),
            step.weight[index].mean(0),
            trace.readout[index] @ step.contribution[index],
        )
        for row, values in enumerate(panels):
            axis = axes[row, column]
            axis.imshow(values[prefix:].unflatten(0, grid).cpu().numpy(), cmap=COLOURS, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        axes[0, column].set_title(f"layer {column + 1}", fontsize=9)
    for axis, label in zip(axes[:, 0], labels, strict=True):
        axis.set_ylabel(label, fontsize=9)
    figure.suptitle(f"{_reading(method)}, {name}")
    return figure


def _reading(method: TokenTM | None) -> str:
    """TokenTM, or the name of another reading of it where it has one."""
    if method in (None, TokenTM()):
        return "TokenTM"
    return next((name for name, known in (METHODS | ABLATIONS).items() if known == method), "TokenTM, another reading")

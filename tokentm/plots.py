"""Static figures. matplotlib is imported when something is drawn, never by ``import tokentm``."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping, Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import LayoutEngine
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from tokentm.errors import InvalidOptionError
from tokentm.explanation import Explanation
from tokentm.methods import ABLATIONS, METHODS, TokenTM
from tokentm.names import ClassNames, class_names
from tokentm.pictures import Picture, Prepared, listed, read
from tokentm.questions import ClassScore, Difference
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
        drawn = png(self.pixels())
        encoded = base64.b64encode(drawn).decode()
        return {"text/html": image(drawn, self.alt), "image/png": encoded, "text/plain": self.alt}

    def still(self) -> str:
        """The figure as HTML in few colours, a third of the bytes: it stands in for widgets where none can be."""
        return image(png(few_colours(self.pixels())), self.alt)

    def pixels(self) -> Image.Image:
        """The figure as a notebook shows it, in RGB."""
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=80, pil_kwargs={"compress_level": 1})  # it is encoded anew
        return Image.open(buffer).convert("RGB")

    def _repr_mimebundle_(self, **_options: Any) -> dict[str, str]:
        return self.bundle()


class _Rows(LayoutEngine):
    """Panels of one size, row by row: far quicker than the constrained layout, which measures all texts twice."""

    _adjust_compatible = _colorbar_gridspec = False
    _BESIDE, _ABOVE, _BELOW, _TITLE = 0.1, 0.28, 0.3, 0.25

    def __init__(self, axes: Sequence[Axes], across: int, aside: float) -> None:
        super().__init__()
        self._axes, self._across, self._aside = axes, across, aside

    def execute(self, fig: Any) -> None:
        """Give every panel its place, below the figure's title where it has one by now."""
        whole = fig.get_size_inches()
        top = self._TITLE if fig.get_suptitle() else 0.0
        down = -(-len(self._axes) // self._across)
        width, height = (whole[0] - self._aside) / self._across, (whole[1] - top) / down
        for i, axis in enumerate(self._axes):
            row, column = divmod(i, self._across)
            left, bottom = column * width + self._BESIDE, (down - 1 - row) * height + self._BELOW
            inside = (width - 2 * self._BESIDE, height - self._ABOVE - self._BELOW)
            axis.set_position((left / whole[0], bottom / whole[1], inside[0] / whole[0], inside[1] / whole[1]))


def png(drawn: Image.Image) -> bytes:
    """A picture as a PNG file, as small as it can be."""
    buffer = BytesIO()
    drawn.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def image(file: bytes, alt: str) -> str:
    """A PNG file as an element of HTML that needs no other file."""
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(file).decode()}">'


def few_colours(drawn: Image.Image) -> Image.Image:
    """A picture in 160 colours, a third of the bytes, none of them more than 25 of 255 away from its own.

    The quantiser that suits most pixels best would take away the few bright cells that a map is drawn for.
    """
    return drawn.convert("RGB").quantize(160, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


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


def panels(
    count: int, grid: tuple[int, int], alt: str, across: int | None = None, aside: float = 0.0
) -> tuple[Plot, list[Axes]]:
    """A figure with so many empty panels for maps of one grid (rows, columns), and ``aside`` inches free at its right.

    Up to five stand in one row, more in rows of four, unless ``across`` says how many. Each has room for a title and
    for a line below, the figure for a title of its own.
    """
    across = across or (max(1, count) if count <= 5 else 4)
    height = min(1.9 * grid[0] / grid[1], 3.8)
    figure = Plot(alt, 2.1 * across + aside, (height + 0.6) * -(-max(1, count) // across) + 0.1)
    axes = [figure.add_axes((0, 0, 1, 1)) for _ in range(count)]
    figure.set_layout_engine(_Rows(axes, across, aside))
    rows, columns = grid
    for axis in axes:
        axis.set(xticks=[], yticks=[], xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    return figure, axes


def lay(
    axis: Axes,
    values: np.ndarray,
    picture: Image.Image | None = None,
    *,
    ends: tuple[float, float] | None = None,
    opacity: float = 0.8,
    glows: bool = True,
    colours: str = COLOURS,
    offset: tuple[float, float] = (0.0, 0.0),
) -> AxesImage:
    """Draw a map as the widgets show it: over a picture in grey, the more of a colour the larger the value.

    Args:
        axis: one of :func:`panels`.
        values: one number a patch, (rows, columns).
        picture: what lies below; None draws the map alone.
        ends: of the scale; None takes the least and the largest value.
        opacity: of the map over the picture, 0 .. 1.
        glows: whether opacity follows the value, as its square root; factors and differences keep one opacity.
        offset: see :func:`patch_maps`.
    """
    rows, columns = values.shape
    down, right = offset
    low, high = (float(values.min()), float(values.max())) if ends is None else ends
    limits = axis.get_xlim(), axis.get_ylim()
    over: Any = None
    if picture is not None:
        grey = np.asarray(picture.convert("L"))
        below = (-0.5, columns - 0.5, rows - 0.5, -0.5)
        axis.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=below, interpolation="nearest")
        share = ((values - low) / ((high - low) or 1.0)).clip(0, 1)
        over = opacity * np.sqrt(share) if glows else opacity
    extent = (right - 0.5, columns - 0.5 + right, rows - 0.5 + down, down - 0.5)
    drawn = axis.imshow(values, cmap=colours, vmin=low, vmax=high, alpha=over, extent=extent, interpolation="nearest")
    axis.set(xlim=limits[0], ylim=limits[1])
    return drawn


def scale(
    figure: Figure,
    ends: tuple[float, float],
    over: bool,
    opacity: float = 0.8,
    glows: bool = True,
    colours: str = COLOURS,
) -> None:
    """Draw the colours of :func:`lay` between two ends as a bar in the last 0.9 inches of :func:`panels`.

    Args:
        over: whether the maps lie over a picture; the bar then lies over grey.
    """
    width, height = figure.get_size_inches()
    axis = figure.add_axes((1 - 0.8 / width, 0.3 / height, 0.14 / width, 1 - 0.9 / height), label="scale")
    steps = np.linspace(*ends, 64)[::-1, None]
    below = Image.new("L", (1, 1), 128) if over else None
    lay(axis, steps, below, ends=ends, opacity=opacity, glows=glows, colours=colours)
    axis.set(aspect="auto", xlim=(-0.5, 0.5), ylim=(63.5, -0.5), xticks=[])
    axis.set_yticks([63.5, 31.5, -0.5], [f"{tick:.2g}" for tick in (ends[0], sum(ends) / 2, ends[1])], fontsize=8)
    axis.yaxis.tick_right()


def outline(axis: Axes, patch: int, grid: tuple[int, int], offset: tuple[float, float] = (0.0, 0.0)) -> None:
    """Draw a frame around a patch, row-major from 0, on a panel."""
    corner = (patch % grid[1] - 0.5 + offset[1], patch // grid[1] - 0.5 + offset[0])
    for colour, width in (("black", 3.0), ("white", 1.2)):  # stands out from any colour below
        axis.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=colour, linewidth=width))


def lay_picture(axis: Axes, picture: Picture, grid: tuple[int, int]) -> None:
    """Draw a picture on a panel, so that a patch lies where it does in the maps."""
    rows, columns = grid
    axis.imshow(read(picture), extent=(-0.5, columns - 0.5, rows - 0.5, -0.5), interpolation="nearest")
    axis.set_title("image", fontsize=9)


@renamed(image="images")
def patch_maps(
    maps: Mapping[str, Tensor],
    grid: tuple[int, int],
    alt: str,
    images: Picture | Sequence[Picture] | Prepared | None = None,
    marked: int | Sequence[int] = (),
    offset: tuple[float, float] = (0.0, 0.0),
    opacity: float | None = None,
    factors: Collection[str] = (),
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
        opacity: 0 .. 1 lays the maps over the picture in grey, as the widgets do: the larger a value, the more of its
            colour. None draws them alone.
        factors: titles of maps whose small values are not nothing: they are laid on at one opacity.

    Example:
        >>> row = trace.layers[0].attention[0, 0, 0, trace.layout.prefix :]
        >>> patch_maps({"layer 1, head 1": row}, (14, 14), "What the class token takes in layer 1, head 1")
    """
    shown = [] if images is None else images.seen if isinstance(images, Prepared) else listed(images)
    if images is not None and len(shown) != 1:
        raise InvalidOptionError(f"expected 1 picture beside the maps; got {len(shown)}. Pass images[0], for example.")
    figure, axes = panels(len(maps) + len(shown), grid, alt)
    if shown:
        lay_picture(axes[0], shown[0], grid)
    below = read(shown[0]) if shown and opacity is not None else None
    for axis, (title, values) in zip(axes[len(shown) :], maps.items(), strict=True):
        drawn, glows = values.detach().cpu().unflatten(0, grid).numpy(), title not in factors
        lay(axis, drawn, below, opacity=opacity or 0.0, glows=glows, offset=offset)
        axis.set_title(title, fontsize=9)
        # the ends of the scale in words: a colour bar for every panel takes longer to draw than all the maps
        least = "faint" if below is not None and glows else "dark"
        axis.set_xlabel(f"{least} {drawn.min():.2g}, bright {drawn.max():.2g}", fontsize=8)
    for axis in axes:
        for patch in (marked,) if isinstance(marked, int) else marked:
            outline(axis, patch, grid, offset)
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
    """What was explained, in words, one per image: the class's name as in :func:`output_names`, "log-odds of car" for a
    score that has a name, else "chosen score".

    Raises:
        InvalidOptionError: as :func:`output_names`.
    """
    asked = explained.explained
    if isinstance(asked, (ClassScore, Difference)):
        names = output_names(explained, classes)
        return [asked.title(names, image) for image in range(len(explained.logits))]
    return [name or CHOSEN_SCORE for name in named_classes(explained, classes)]


def named_classes(explained: Trace | Explanation, classes: ClassNames | None) -> list[str]:
    """The class that each explained score is about, by name, one per image; "" for a score that is about none."""
    names = output_names(explained, classes)
    if explained.target is None:
        return [""] * len(explained.logits)
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

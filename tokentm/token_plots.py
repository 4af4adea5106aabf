"""Figures of :mod:`tokentm.tokens`: where the outliers of a picture are, and how lengths grow from layer to layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokentm.errors import InvalidOptionError
from tokentm.pictures import Picture, Prepared, listed
from tokentm.plots import Plot, lay, lay_picture, outline
from tokentm.tokens import Tokens

_SHOWN = 8
"""So many outliers have a line of their own."""


def outliers(tokens: Tokens, images: Picture | Sequence[Picture] | Prepared | None = None, index: int = 0) -> Plot:
    """One image: the picture (if given) and the lengths of its patches with the outliers framed; lengths by layer.

    The map of lengths is that after the layer where the longest patch is farthest from the median. The chart has the
    median of the patches with the range that holds nine tenths of them, each outlier and each token before the patches.

    Args:
        images: the record's pictures as the model saw them, or what :func:`tokentm.prepare` gave.
        index: which image.

    Raises:
        InvalidOptionError: an index that does not exist, or pictures that are not one for each image.

    Example:
        >>> outliers(inspect(trace), images=picture)
    """
    count = tokens.lengths.shape[1]
    if not 0 <= index < count:
        raise InvalidOptionError(f"expected an index from 0 to {count - 1}; got {index}.")
    shown = [] if images is None else images.seen if isinstance(images, Prepared) else listed(images)
    if images is not None and len(shown) not in (1, count):
        raise InvalidOptionError(f"expected 1 picture or one for each of the {count} images; got {len(shown)}.")
    layout, found = tokens.layout, tokens.outliers_of(index)
    grid = (layout.rows, layout.columns)
    lengths = tokens.lengths[:, index].detach().float().cpu()
    patches = lengths[:, layout.prefix :]
    layer = int((patches.amax(1) / patches.median(1).values).argmax())
    words = f"{len(found)} outlier tokens" if len(found) != 1 else "1 outlier token"
    figure = Plot(f"{words} among {patches.shape[1]} patches, and lengths of tokens after each layer", 9.0, 3.0)
    axes = figure.subplots(1, 2 + bool(shown), width_ratios=[*[1.0] * (1 + bool(shown)), 1.5])
    if shown:
        lay_picture(axes[0], shown[index % len(shown)], grid)
    lay(axes[-2], patches[layer].unflatten(0, grid).numpy(), offset=layout.offset)
    least, most = float(patches[layer].min()), float(patches[layer].max())
    axes[-2].set_title(f"length after layer {layer + 1}", fontsize=9)
    axes[-2].set_xlabel(f"dark {least:.3g}, bright {most:.3g}", fontsize=8)
    for axis in axes[:-1]:
        axis.set(xticks=[], yticks=[], xlim=(-0.5, grid[1] - 0.5), ylim=(grid[0] - 0.5, -0.5))
        for patch in found:
            outline(axis, patch, grid, layout.offset)
    chart, layers = axes[-1], np.arange(1, len(lengths) + 1)
    low, middle, high = np.quantile(patches.numpy(), (0.05, 0.5, 0.95), axis=1)
    chart.fill_between(layers, low, high, alpha=0.25, color="C0", linewidth=0, label="nine tenths of the patches")
    chart.plot(layers, middle, color="C0", label="median patch")
    for token in tokens.prefix:
        name = "register" if token.register else f"token {token.index}, read out"
        chart.plot(layers, lengths[:, token.index], color="C2", linestyle=":" if token.register else "--", label=name)
    for patch in found[:_SHOWN]:
        chart.plot(layers, patches[:, patch], color="C3", label="outlier")
    chart.set(yscale="log", xlabel="layer", xticks=layers, title="length of tokens")
    chart.minorticks_off()
    ends = chart.get_ylim()
    ticks = [tick for power in range(-6, 9) for tick in (10.0**power, 2 * 10.0**power, 5 * 10.0**power)]
    ticks = [tick for tick in ticks if ends[0] <= tick <= ends[1]]
    chart.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    once = dict(zip(*reversed(chart.get_legend_handles_labels()), strict=True))
    chart.legend(once.values(), once.keys(), fontsize=7)
    return figure

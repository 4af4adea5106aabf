"""Figures of :mod:`tokentm.regions`: shares of maps by class and region, of one picture and over many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from tokentm.plots import COLOURS, Plot
from tokentm.regions import BACKGROUND, RegionDistributions, RegionTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CELL = 0.42
"""Inches of a cell."""


def table(found: RegionTable) -> Plot:
    """Shares of each map on each region, one row a target, with what no region holds; above them their areas' shares.

    Example:
        >>> table(regions(explanation, scene.masks))
    """
    columns = [*found.names, BACKGROUND]
    areas = [*(found.areas / found.patches).tolist(), found.free / found.patches]
    shares = np.column_stack((_array(found.shares), _array(found.background / found.totals)))
    said = f"Share of the {found.part} map of {', '.join(found.targets)} on {', '.join(columns)}"
    figure = Plot(said, 2.2 + 1.6 * _CELL * len(columns), 1.4 + _CELL * len(found.targets))
    axis = figure.subplots()
    _cells(
        axis, shares, found.targets, [f"{name}\n{100 * area:.0f} %" for name, area in zip(columns, areas, strict=True)]
    )
    axis.set_title(f"{found.method}: share of each map in %; below the names, of the picture", fontsize=9)
    return figure


def distributions(found: RegionDistributions) -> Plot:
    """Median shares by target and region, and for each target how its own, other regions and the background fare.

    The bars at the right reach from the first to the third quartile of the shares over pictures; a dot is the median.

    Example:
        >>> distributions(over(demo.model, scenes, demo.classes))
    """
    said = (
        f"Median share of the {found.part} map by class and region over "
        f"{len(set(found.pictures.tolist()))} pictures, and quartiles"
    )
    rows, columns = len(found.targets), len(found.names)
    figure = Plot(said, 6.0 + _CELL * columns, 1.8 + 0.75 * _CELL * rows)
    left, right = figure.subplots(1, 2, width_ratios=[max(1.0, columns / 6), 1.0])
    _cells(left, _array(found.quantiles()), found.targets, found.names, small=True)
    left.set_title(f"{found.method}: median share of the map in %", fontsize=9)
    for i, target in enumerate(found.targets):
        mine, rest = found.rows == i, found.columns == columns - 1
        own = found.columns == (found.names.index(target) if target in found.names else -1)
        for shift, (label, chosen, colour) in enumerate(
            (("own region", own, "C0"), ("other regions", ~own & ~rest, "C1"), (BACKGROUND, rest, "0.5"))
        ):
            shares = found.shares[mine & chosen]
            if len(shares):
                low, middle, high = np.quantile(shares.numpy(), (0.25, 0.5, 0.75))
                at = i + 0.25 * (shift - 1)
                right.plot([low, high], [at, at], color=colour, linewidth=4, alpha=0.5, solid_capstyle="butt")
                right.plot(middle, at, "o", color=colour, markersize=4, label=label)
    right.set(ylim=(rows - 0.5, -0.5), yticks=range(rows), xlim=(0, 1), title="quartiles of the shares")
    right.set_yticklabels(found.targets, fontsize=7)
    once = dict(zip(*reversed(right.get_legend_handles_labels()), strict=True))
    right.legend(once.values(), once.keys(), fontsize=7)
    return figure


def _cells(axis: Axes, shares: np.ndarray, rows: Sequence[str], columns: Sequence[str], small: bool = False) -> None:
    """A table of shares as colours, each with its number; what is not there stays empty."""
    axis.imshow(shares, cmap=COLOURS, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axis.set_xticks(range(len(columns)), columns, fontsize=7, rotation=90 if small else 0)
    axis.set_yticks(range(len(rows)), rows, fontsize=7)
    for (i, j), share in np.ndenumerate(shares):
        if np.isfinite(share):
            colour = "black" if share > 0.6 else "white"
            axis.text(j, i, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=6 if small else 8)


def _array(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()

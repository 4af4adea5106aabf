"""How much of a map lies on each region of a picture, class by class; and how that is distributed over many pictures.

A region is a mask: an object, a part, or whatever else a map is to be compared with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor, nn

from tokentm.errors import InvalidOptionError
from tokentm.explanation import Explanation
from tokentm.methods import Method
from tokentm.names import ClassNames, class_names
from tokentm.pictures import Transform, prepare

if TYPE_CHECKING:
    from tokentm.plots import Plot

Part = Literal["positive", "negative", "absolute"]
"""What of a score is added up: what speaks for the class, what speaks against it as a positive number, or both."""

BACKGROUND = "background"
"""What a table over many pictures calls all that lies in no region."""


class Masked(Protocol):
    """A picture with regions, such as a scene of the demo.

    Attributes:
        image: the picture.
        masks: name -> boolean array (height, width), as :func:`regions` takes them.
    """

    @property
    def image(self) -> Any: ...

    @property
    def masks(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, eq=False)
class RegionTable:
    """Maps of one picture, one for each of C targets, over K regions.

    Attributes:
        names: of the regions, K.
        targets: what each map explains, in words, C.
        sums: of the part of the scores that was asked for, over each region, (C, K); a patch that lies in a region by
            half counts half. Unit: the method's own.
        means: the same for each patch of the region, (C, K).
        shares: the same as a share of the whole map, (C, K); NaN for a map that has nothing of that part.
        background: sum over what lies in no region, (C,). Where no regions overlap, ``sums.sum(1) + background`` is the
            sum of the map.
        totals: sum of the map, (C,).
        areas: of each region, in patches, (K,).
        free: area of what lies in no region, in patches.
        patches: how many patches there are.
        part: what of a score was added up, see :data:`Part`.
        method: name of the method.
    """

    names: tuple[str, ...]
    targets: tuple[str, ...]
    sums: Tensor
    means: Tensor
    shares: Tensor
    background: Tensor
    totals: Tensor
    areas: Tensor
    free: float
    patches: int
    part: Part
    method: str

    def plot(self) -> Plot:
        """Static figure of the shares, see :func:`tokentm.region_plots.table`."""
        from tokentm import region_plots  # matplotlib only when something is drawn

        return region_plots.table(self)


def regions(
    explanation: Explanation,
    masks: Mapping[str, Any],
    classes: ClassNames | None = None,
    part: Part = "positive",
) -> RegionTable:
    """Sums and means of maps of one picture over its regions.

    With f the part of the scores, w_kp the share of patch p's area that lies in region k:

        sum_k = sum_p w_kp f_p        mean_k = sum_k / sum_p w_kp        share_k = sum_k / sum_p f_p

    Args:
        explanation: one map or several of the same picture, such as one for each class: the picture repeated.
        masks: name -> boolean array or tensor: of the picture as the model saw it, (height, width), or of its patches,
            (rows, columns).
        classes: class names, for ``targets``; None takes the model's own.
        part: what of a score is added up.

    Raises:
        InvalidOptionError: masks without names, of another size, not boolean or empty, or an unknown part.

    Example:
        >>> demo = tokentm.load_demo()
        >>> scene = demo.scene(3, classes=["cat", "ball"])
        >>> both = demo.transform(scene.image).expand(2, -1, -1, -1)
        >>> targets = [demo.classes.index(name) for name in scene.classes]
        >>> table = regions(tokentm.explain(demo.model, both, targets), scene.masks, demo.classes)
        >>> table.names, table.targets, table.shares.shape
        (('cat', 'ball'), ('cat', 'ball'), torch.Size([2, 2]))

    Source: Agg2Exp, "Aggregation of Local and Global Attributions", WACV 2025: mass and mean of attributions over the
    regions of a segmentation.

    Departures: masks are laid on patches by the share of their area, where there the map has the masks' own voxels.
    """
    from tokentm.plots import target_names  # matplotlib is no part of `import tokentm`

    if part not in get_args(Part):
        raise InvalidOptionError(f"expected a part among {', '.join(get_args(Part))}; got {part!r}.")
    weights = patch_weights(explanation, masks)
    scores = explanation.scores.detach()
    values = {"positive": scores.clamp(min=0), "negative": (-scores).clamp(min=0), "absolute": scores.abs()}[part]
    inside, outside = weights[:-1].to(values), weights[-1].to(values)
    totals, areas = values.sum(1), inside.sum(1)
    sums = values @ inside.T
    return RegionTable(
        names=tuple(masks),
        targets=tuple(target_names(explanation, classes)),
        sums=sums,
        means=sums / areas,
        shares=sums / totals[:, None],
        background=values @ outside,
        totals=totals,
        areas=areas,
        free=outside.sum().item(),
        patches=scores.shape[1],
        part=part,
        method=explanation.method,
    )


def patch_weights(explanation: Explanation, masks: Mapping[str, Any]) -> Tensor:
    """The share of each patch's area that lies in each region, and in none of them: (K + 1, P), 0 .. 1, float64.

    A patch is where its token looks; of one that looks beyond the edge, what lies in the picture is the whole.

    Args:
        masks: as :func:`regions` takes them.

    Raises:
        InvalidOptionError: as :func:`regions`.
    """
    if not isinstance(masks, Mapping) or not masks:
        got = "no masks" if isinstance(masks, Mapping) else type(masks).__name__
        raise InvalidOptionError(
            f"expected masks by name, such as {{'cat': mask}}; got {got}. A scene of the demo has scene.masks."
        )
    found = {str(name): _mask(str(name), mask, explanation) for name, mask in masks.items()}
    sizes = sorted({tuple(mask.shape) for mask in found.values()})
    if len(sizes) > 1:
        raise InvalidOptionError(
            f"expected all masks of one size, of the picture or of its patches; got {sizes[0]} and {sizes[1]}. Give "
            "those of patches as pixels, too: mask.repeat(16, 0).repeat(16, 1) for patches of 16 pixels."
        )
    stack = torch.stack([*found.values()])
    stack = torch.cat((stack, ~stack.any(0, keepdim=True))).double()
    if sizes[0] == explanation.grid:
        return stack.flatten(1).to(explanation.scores.device)
    down, across = (
        _coverage(*one) for one in zip(explanation.grid, explanation.image_size, explanation.offset, strict=True)
    )
    return (down @ stack @ across.T).flatten(1).to(explanation.scores.device)


def _mask(name: str, mask: Any, explanation: Explanation) -> Tensor:
    """One mask as a boolean tensor of the picture or of its patches."""
    found = torch.as_tensor(np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask))
    (height, width), (rows, columns) = explanation.image_size, explanation.grid
    if tuple(found.shape) not in ((height, width), (rows, columns)):
        raise InvalidOptionError(
            f"expected the mask {name!r} of the picture as the model saw it, ({height}, {width}), or of its patches, "
            f"({rows}, {columns}); got {tuple(found.shape)}. Resize and crop it as the picture was, without "
            "interpolation."
        )
    if found.dtype != torch.bool:
        raise InvalidOptionError(
            f"expected the mask {name!r} to be boolean; got {found.dtype}. Compare with the region's value first: "
            "mask == 3."
        )
    if not found.any():
        raise InvalidOptionError(
            f"expected each mask to have a pixel at least; {name!r} is empty. Leave it out: "
            "{name: mask for name, mask in masks.items() if mask.any()}."
        )
    return found


def _coverage(count: int, pixels: int, shift: float) -> Tensor:
    """Of each of ``count`` patches in a row, what share of it each pixel covers: (count, pixels), rows sum to 1.

    Patch r reaches from r + shift to r + 1 + shift patches, and ends where the picture ends.
    """
    first = (torch.arange(count, dtype=torch.float64) + shift)[:, None]
    edges = torch.arange(pixels + 1, dtype=torch.float64) * (count / pixels)
    covered = (torch.minimum(first + 1, edges[1:]) - torch.maximum(first, edges[:-1])).clamp(min=0)
    return covered / covered.sum(1, keepdim=True)


@dataclass(frozen=True, eq=False)
class RegionDistributions:
    """How much of each target's maps lies on each region, over many pictures: n numbers, one a picture, target, region.

    Attributes:
        targets: what maps explain, C, in the order in which they came.
        names: regions, K: those called as a target first, in the targets' order; "background" is the last.
        pictures: which picture each number is of, (n,), from 0.
        rows, columns: which target and which region, (n,) each.
        shares, means, areas: as in :class:`RegionTable`, (n,) each; a share is NaN for a map that has nothing of the
            part asked for.
        patches: how many patches each picture had, (n,).
        part: what of a score was added up, see :data:`Part`.
        method: name of the method.
    """

    targets: tuple[str, ...]
    names: tuple[str, ...]
    pictures: Tensor
    rows: Tensor
    columns: Tensor
    shares: Tensor
    means: Tensor
    areas: Tensor
    patches: Tensor
    part: Part
    method: str

    def where(self, target: str, region: str) -> Tensor:
        """Which of the n numbers are of this target and region, (n,) boolean.

        Raises:
            InvalidOptionError: a name that is not there.

        Example:
            >>> demo = tokentm.load_demo()
            >>> scenes = [demo.scene(seed, ["cat", "dog"]) for seed in range(2)]
            >>> found = over(demo.model, scenes, demo.classes)
            >>> found.shares[found.where("cat", "dog")].shape  # one number for each picture with both
            torch.Size([2])
        """
        for name, known in ((target, self.targets), (region, self.names)):
            if name not in known:
                raise InvalidOptionError(f"expected a name among {', '.join(known)}; got {name!r}.")
        return (self.rows == self.targets.index(target)) & (self.columns == self.names.index(region))

    @property
    def counts(self) -> Tensor:
        """In how many pictures a target's map met a region, (C, K); shares that are NaN are counted."""
        return self._table(lambda of: torch.tensor(float(len(of)))).nan_to_num().long()

    def quantiles(self, at: float = 0.5) -> Tensor:
        """A quantile of each distribution of shares, 0 .. 1, (C, K); NaN where no picture had both, or where a share is
        NaN."""
        return self._table(lambda of: of.quantile(at))

    def _table(self, of: Any) -> Tensor:
        made = torch.full((len(self.targets), len(self.names)), torch.nan, dtype=torch.float64)
        for i, j in sorted({*zip(self.rows.tolist(), self.columns.tolist(), strict=True)}):
            made[i, j] = of(self.shares[(self.rows == i) & (self.columns == j)])
        return made

    def plot(self) -> Plot:
        """Static figure of medians and quartiles, see :func:`tokentm.region_plots.distributions`."""
        from tokentm import region_plots  # matplotlib only when something is drawn

        return region_plots.distributions(self)


def gathered(tables: Iterable[RegionTable]) -> RegionDistributions:
    """The tables of many pictures as distributions.

    Raises:
        InvalidOptionError: no tables, tables of several methods or parts, or a region called "background".
    """
    found = list(tables)
    if not found:
        raise InvalidOptionError("expected one table a picture; got none.")
    kinds = {(one.method, one.part) for one in found}
    if len(kinds) > 1:
        told = ", ".join(f"{method} ({part})" for method, part in sorted(kinds))
        raise InvalidOptionError(f"expected tables of one method and one part of its scores; got {told}.")
    targets = [*dict.fromkeys(name for one in found for name in one.targets)]
    regions_of = dict.fromkeys(name for one in found for name in one.names)
    if BACKGROUND in regions_of:
        raise InvalidOptionError(
            f"expected no region to be called {BACKGROUND!r}, which stands for what lies in none. Leave it out."
        )
    names = [*(name for name in targets if name in regions_of), *(name for name in regions_of if name not in targets)]
    names.append(BACKGROUND)
    numbers = [number for i, one in enumerate(found) for number in _numbers(i, one, targets, names)]
    pictures, rows, columns, patches, *values = zip(*numbers, strict=True)
    shares, means, areas = (torch.tensor(one, dtype=torch.float64) for one in values)
    return RegionDistributions(
        targets=tuple(targets),
        names=tuple(names),
        pictures=torch.tensor(pictures),
        rows=torch.tensor(rows),
        columns=torch.tensor(columns),
        shares=shares,
        means=means,
        areas=areas,
        patches=torch.tensor(patches),
        part=found[0].part,
        method=found[0].method,
    )


def _numbers(
    picture: int, table: RegionTable, targets: list[str], names: list[str]
) -> list[tuple[int, int, int, int, float, float, float]]:
    """One picture's numbers: picture, row, column, patches, share, mean, area."""
    found = []
    for c, target in enumerate(table.targets):
        row = targets.index(target)
        for k, name in enumerate(table.names):
            values = (table.shares[c, k].item(), table.means[c, k].item(), table.areas[k].item())
            found.append((picture, row, names.index(name), table.patches, *values))
        if table.free > 0:  # where regions are everywhere there is no background
            rest = table.background[c].item()
            share = (table.background[c] / table.totals[c]).item()  # NaN for a map that has nothing
            found.append((picture, row, len(names) - 1, table.patches, share, rest / table.free, table.free))
    return found


def over(
    model: nn.Module,
    scenes: Iterable[Masked],
    classes: ClassNames,
    targets: Sequence[str] | None = None,
    method: str | Method = "tokentm",
    part: Part = "positive",
    transform: Transform | None = None,
) -> RegionDistributions:
    """How much of each class's maps lies on each object, over many pictures.

    Args:
        model: a ViT, see :func:`tokentm.explain`.
        scenes: pictures with their masks, such as scenes of the demo.
        classes: names of the model's classes.
        targets: classes that are explained on every picture; None explains, of each picture, those of its regions that
            are classes.
        method: a name from ``tokentm.methods.METHODS`` or a callable.
        part: what of a score is added up.
        transform: how pictures are prepared, see :func:`tokentm.prepare`; None asks the model.

    Raises:
        InvalidOptionError: no scenes, a target that is no class, a picture of whose regions none is a class, or as
            :func:`regions`.
        UnsupportedModelError, InvalidImagesError, NotFiniteError: as :func:`tokentm.explain`.

    Example:
        >>> demo = tokentm.load_demo()
        >>> found = over(demo.model, [demo.scene(seed) for seed in range(50)], demo.classes)
        >>> found.quantiles(0.5)[0]  # median shares of the first class's maps, region by region
        >>> found.plot()

    Source: as :func:`regions`; its global view is the distribution of these numbers over a data set.
    """
    from tokentm import explain  # which needs all of tokentm

    tables, names = [], _names(classes, targets)
    for i, scene in enumerate(scenes):
        image = prepare(model, scene.image, transform).images
        asked = [name for name in scene.masks if name in names] if targets is None else list(targets)
        if not asked:
            raise InvalidOptionError(
                f"expected regions that are called as a class; picture {i} has {', '.join(scene.masks)}. Give the "
                "masks the names of classes, or say which classes to explain: targets=['cat']."
            )
        indices = torch.tensor([names.index(name) for name in asked], device=image.device)
        made = explain(model, image.expand(len(asked), -1, -1, -1), indices, method)
        tables.append(regions(made, scene.masks, names, part))
    if not tables:
        raise InvalidOptionError("expected at least one picture with masks; got none.")
    return gathered(tables)


def _names(classes: ClassNames, targets: Sequence[str] | None) -> list[str]:
    """The classes' names in order, among which all targets are."""
    names = class_names(classes, len(classes) if hasattr(classes, "__len__") else 0) or []
    unknown = targets if isinstance(targets, str) else [name for name in targets or () if name not in names]
    if unknown:
        raise InvalidOptionError(f"expected targets as a list of names among {', '.join(names)}; got {unknown!r}.")
    return names

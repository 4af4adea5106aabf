"""The result of a method: one score per patch and image, and what is needed to read it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from tokentm import files
from tokentm.errors import InvalidOptionError, NotFiniteError
from tokentm.outputs import Meaning, probabilities
from tokentm.questions import ClassScore, Difference, Question, restored
from tokentm.trace import Trace

if TYPE_CHECKING:
    from tokentm.plots import Plot

_FORMAT = "tokentm explanation 2"
_FIRST_FORMAT = "tokentm explanation 1"


def require_finite(contributions: Tensor, method: str) -> None:
    """Refuse NaN and infinity in contributions (B, ...) before anyone draws them."""
    if not torch.isfinite(contributions).all():
        bad = (~torch.isfinite(contributions.flatten(1)).all(1)).nonzero().flatten().tolist()
        raise NotFiniteError(
            f"expected finite contributions from {method!r}; found NaN or infinity for image(s) {bad}. "
            "Record the model in float64 (model.double(), images.double()) to see whether numbers overflow."
        )


@dataclass(frozen=True, eq=False)
class Explanation:
    """What each patch contributed, for a batch of B images with P patches.

    Attributes:
        method: name of the method.
        scores: contribution of each patch, row-major over the grid, (B, P). Unit: the method's own; compare patches of
            one map, not methods.
        layer_scores: the same after each of L layers, (B, L, P); L = 0 for a method that does not go by layers.
        grid: (rows, columns) of patches.
        logits: (B, classes).
        target: class per image that the explained score is about, (B,), or None where a function of the logits was
            explained.
        image_size: (height, width) of the images in pixels.
        outputs: what the logits mean, see :data:`tokentm.outputs.Meaning`.
        class_names: the model's own names of its classes, where it has some.
        offset: how far down and to the right of its patch a token looks, in patches; see
            :class:`tokentm.vit.Layout`.
        explained: the score that was explained, where it has a name, such as :func:`tokentm.log_odds`, with the class
            of each image; None for a class's own output, and for other functions.
    """

    method: str
    scores: Tensor
    layer_scores: Tensor
    grid: tuple[int, int]
    logits: Tensor
    target: Tensor | None
    image_size: tuple[int, int]
    outputs: Meaning = "softmax"
    class_names: tuple[str, ...] | None = None
    offset: tuple[float, float] = (0.0, 0.0)
    explained: Question | None = None

    @property
    def probabilities(self) -> Tensor | None:
        """Probability of every class, (B, classes); None for a model whose outputs have none."""
        return probabilities(self.logits, self.outputs)

    @classmethod
    def of(cls, trace: Trace, method: str, scores: Tensor, layer_scores: Tensor | None = None) -> Explanation:
        """An explanation of a trace; refuses scores that are not finite, whatever method made them."""
        if layer_scores is None:
            layer_scores = scores.new_zeros(len(scores), 0, scores.shape[1])
        require_finite(torch.cat((scores.unsqueeze(1), layer_scores), dim=1), method)
        grid = (trace.layout.rows, trace.layout.columns)
        return cls(
            method=method,
            scores=scores,
            layer_scores=layer_scores,
            grid=grid,
            logits=trace.logits,
            target=trace.target,
            image_size=trace.image_size,
            outputs=trace.outputs,
            class_names=trace.class_names,
            offset=trace.layout.offset,
            explained=trace.explained if isinstance(trace.explained, (ClassScore, Difference)) else None,
        )

    def __repr__(self) -> str:
        target: Any = "function of the logits" if self.target is None else self.target.tolist()
        target = target if self.explained is None else self.explained
        return f"Explanation({self.method}, images={len(self.scores)}, grid={self.grid}, target={target})"

    def heatmap(self, size: tuple[int, int] | None = None) -> Tensor:
        """The scores as pictures, bilinear between the centres that tokens look at: (B, height, width).

        Args:
            size: (height, width); None takes the size of the explained images. ``explanation.grid`` gives one pixel a
                patch, without interpolation. A size of another aspect stretches the map: to lay it over the original
                of a cropped picture, use ``prepared.on_originals(explanation)``.
        """
        size = self.image_size if size is None else size
        if not isinstance(size, (tuple, list)) or len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
            raise InvalidOptionError(f"expected a size (height, width) of two positive integers; got {size!r}.")
        maps = self.scores.unflatten(1, self.grid)
        if tuple(size) == self.grid:
            return maps
        if self.offset == (0.0, 0.0):
            return F.interpolate(maps[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]
        y, x = (
            (torch.arange(n, device=maps.device, dtype=torch.float64) + 0.5) * (pixels / n)
            for n, pixels in zip(size, self.image_size, strict=True)
        )
        return self._between(maps, y, x)

    def values_at(self, index: int, y: Tensor, x: Tensor) -> Tensor:
        """The heat map of one image where rows y cross columns x: (len(y), len(x)).

        Args:
            index: which image.
            y, x: in pixels of the explained image, whose first pixel has its centre at (0.5, 0.5).
        """
        return self._between(self.scores[index].unflatten(0, self.grid), y, x)

    def _between(self, maps: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Bilinear between the centres that tokens look at, (r + 0.5 + dy, c + 0.5 + dx) patches; ends go on."""
        weights = []
        for position, pixels, count, shift in zip((y, x), self.image_size, self.grid, self.offset, strict=True):
            at = (position * (count / pixels) - 0.5 - shift).clamp(0, count - 1)
            centres = torch.arange(count, device=at.device, dtype=at.dtype)
            weights.append((1 - (at[:, None] - centres).abs()).clamp(min=0).to(maps.dtype))
        return weights[0] @ maps @ weights[1].mT

    def plot(self, images: Any = None, classes: Any = None) -> Plot:
        """Static figure, one row an image; see :func:`tokentm.plots.heatmaps`."""
        from tokentm import plots  # matplotlib only when something is drawn

        return plots.heatmaps(self, images=images, classes=classes)

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything to one safetensors file; :meth:`load` reads it back equal.

        Raises:
            InvalidOptionError: the file cannot be written; what was there before is kept.
        """
        tensors = {"scores": self.scores, "layer_scores": self.layer_scores, "logits": self.logits}
        if self.target is not None:
            tensors["target"] = self.target
        told = {
            "method": self.method,
            "layout": [self.grid, self.image_size, self.offset],
            "outputs": self.outputs,
            "class_names": self.class_names,
            "explained": None if self.explained is None else self.explained.told(),
        }
        files.write(path, _FORMAT, tensors, told)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Explanation:
        """Read what :meth:`save` wrote.

        Raises:
            InvalidOptionError: the file is not such a file.
            NoSuchFileError: there is no file.
        """
        return files.read(
            path,
            "Explanation.save",
            {
                _FORMAT: lambda tensors, metadata: cls._restored(tensors, files.told(metadata)),
                _FIRST_FORMAT: lambda tensors, metadata: cls._restored(tensors, _told_at_first(metadata)),
            },
        )

    @classmethod
    def _restored(cls, tensors: dict[str, Tensor], told: dict[str, Any]) -> Explanation:
        """An explanation from what :meth:`save` wrote; raises where its parts do not fit together."""
        (rows, columns), (height, width), (down, right) = told["layout"]
        scores, logits, target = tensors["scores"], tensors["logits"], tensors.get("target")
        (images, patches), layers = scores.shape, tensors["layer_scores"]
        if (
            patches != rows * columns
            or layers.shape != (images, layers.shape[1], patches)
            or logits.shape != (images, logits.shape[1])
            or (target is not None and target.shape != (images,))
            or told["outputs"] not in get_args(Meaning)
        ):
            raise ValueError("its parts do not fit together")
        return cls(
            method=str(told["method"]),
            scores=scores,
            layer_scores=layers,
            grid=(rows, columns),
            logits=logits,
            target=target,
            image_size=(height, width),
            outputs=told["outputs"],
            class_names=None if told["class_names"] is None else tuple(told["class_names"]),
            offset=(down, right),
            explained=restored(told.get("explained"), *logits.shape),
        )


def _told_at_first(metadata: dict[str, str]) -> dict[str, Any]:
    """What files of release 0.1.0 tell, which knew softmax alone."""
    layout = [*json.loads(metadata["layout"]), (0.0, 0.0)]
    return {"method": metadata["method"], "layout": layout, "outputs": "softmax", "class_names": None}

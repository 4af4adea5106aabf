"""What the layer stepper's panels show of a record. Pure functions of tensors; no widget in sight.

One walk through the layers keeps what the readout takes, the weights, and the contribution maps; what a patch takes
through a head in a layer, its *rows*, is one row of algebra away from these and the record. So one patch, one head, or
everything at once can be asked for without walking again. Beside the record itself little is kept: a contribution map
a layer, where the record holds two maps a head (attention and gradient).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, TypedDict

import torch
from torch import Tensor

from tokentm import TokenTM, Trace
from tokentm.aggregation import head_mixing, read
from tokentm.methods.tokentm import Step
from tokentm.transformation import necc
from tokentm_widgets.progress import Progress, reporter
from tokentm_widgets.schema import Coded, Dims

MEAN = -1
"""In place of a head: the mean of all."""


class _Rows(TypedDict):
    indices: Annotated[list[int], Dims("list", "B")]
    heads: Annotated[list[int], Dims("list", "S")]
    patches: Annotated[list[int], Dims("list", "K")]
    attention: Annotated[Coded, Dims("coded", "L S K P")]
    update: Annotated[Coded, Dims("coded", "B L S K P")]


class RowsData(_Rows, total=False):
    """What some patches (K) take through some heads (S) in every layer, for some explained scores (B) of one image.

    A single head may be ``MEAN``; then ``product`` is there, which is no mean of other rows. Where all heads are there,
    their means are not sent. ``contribution`` may stand in other rows of the same patches.
    """

    product: Annotated[Coded, Dims("coded", "L S K P")]
    contribution: Annotated[Coded, Dims("coded", "B L K P")]


@dataclass(frozen=True, eq=False)
class LayerPanels:
    """What one walk through the layers of a record leaves; B explained scores of I images, see :func:`walk`.

    Attributes:
        image_of: which of the different images each explained score belongs to.
        weight, ratio, cosine, necc: of each token, (B, L, G, N).
        attention, update: what the readout takes of each patch through each head, (B, L, H, P).
        contribution: what the readout takes of each patch after each layer, (B, L, P).
        patch_contribution: what each patch takes of each, (B, L, P, P).
    """

    trace: Trace
    method: TokenTM
    image_of: list[int]
    weight: Tensor
    ratio: Tensor
    cosine: Tensor
    necc: Tensor
    attention: Tensor
    update: Tensor
    contribution: Tensor
    patch_contribution: Tensor

    @property
    def layers(self) -> int:
        return self.weight.shape[1]

    @property
    def heads(self) -> int:
        return self.attention.shape[2]

    @property
    def patches(self) -> int:
        return self.contribution.shape[-1]

    def sent(self) -> dict[str, Any]:
        """What the front end always has: all but the rows of patches; of the image alone where that says all."""
        images = slice(0, max(self.image_of) + 1)
        return {
            "imageOf": self.image_of,
            "attentionReadout": self.attention[images],
            "updateReadout": self.update,
            "contributionReadout": self.contribution,
            **{name: getattr(self, name)[images] for name in ("weight", "ratio", "cosine", "necc")},
        }

    def shown(self, layer: int, head: int | None, index: int, patch: int | None) -> dict[str, Tensor]:
        """The panels, (P,) each: what the readout (patch None) or a patch takes, through one head or their mean."""
        prefix = self.trace.layout.prefix
        heads = slice(None) if head is None else slice(head, head + 1)
        weigh = heads if self.weight.shape[2] > 1 else slice(None)
        of_tokens = {
            name: getattr(self, name)[index, layer, weigh, prefix:] for name in ("weight", "ratio", "cosine", "necc")
        }
        if patch is None:
            attention, update = self.attention[index, layer], self.update[index, layer]
            contribution = self.contribution[index, layer]
        else:
            row = slice(prefix + patch, prefix + patch + 1)
            attention = self.trace.layers[layer].attention[index, :, row, prefix:].squeeze(1)
            update = self._mixing(layer, row)[index, :, :, prefix:].squeeze(1)
            contribution = self.patch_contribution[index, layer, patch]
        by_head = {
            "attention": attention[heads],
            "product": attention[heads] * of_tokens["weight"],
            "update": update.expand(self.heads, -1)[heads],
            **of_tokens,
        }
        return {**{name: values.mean(0) for name, values in by_head.items()}, "contribution": contribution}

    def rows(
        self,
        indices: Sequence[int],
        heads: Sequence[int],
        patches: Sequence[int],
        contribution: bool = True,
        progress: Progress = False,
    ) -> dict[str, Any]:
        """What patches take, as :class:`RowsData` wants it.

        Args:
            indices: explained scores of one and the same image.
            heads: some heads, or ``[MEAN]``.
            patches: patches, row-major.
            contribution: whether their contribution is wanted, too.
        """
        prefix, report = self.trace.layout.prefix, reporter(progress)
        means = list(heads) == [MEAN]
        tokens = [prefix + patch for patch in patches]
        every = len(patches) == self.patches
        rows = slice(prefix, None) if every else torch.tensor(tokens, device=self.weight.device)  # a view where it can
        found: dict[str, list[Tensor]] = {"attention": [], "update": []}
        for i, layer in enumerate(self.trace.layers):
            report(i / self.layers, "reading rows of patches")
            attention = layer.attention[indices[0]][:, rows, prefix:]
            update = self._mixing(i, rows)[list(indices), :, :, prefix:]
            if means:
                weight = self.weight[indices[0], i, :, prefix:]
                found.setdefault("product", []).append(head_mixing(attention, weight).mean(0, keepdim=True))
                attention, update = attention.mean(0, keepdim=True), update.mean(1, keepdim=True)
            else:
                attention, update = attention[list(heads)], update.expand(-1, self.heads, -1, -1)[:, list(heads)]
            found["attention"].append(attention)
            found["update"].append(update)
        # rows of one head in one layer are alike, and packed well where they stand together
        stacked = {name: torch.stack(of, -4) for name, of in found.items()}
        if contribution:
            of = [[index] for index in indices]
            taken = self.patch_contribution[of, :, list(patches)].transpose(1, 2)  # without a copy of all patches first
            stacked["contribution"] = _cap_own(taken, patches)
        return {"indices": list(indices), "heads": list(heads), "patches": list(patches), **stacked}

    def strongest(self, indices: Sequence[int], count: int) -> list[int]:
        """The patches that are among the ``count`` that contribute most to one of these scores, in their order."""
        last = self.contribution[list(indices), -1]
        top = last.topk(min(count, self.patches), dim=-1).indices
        return sorted(set(top.flatten().tolist()))

    def _mixing(self, layer: int, rows: slice | Tensor) -> Tensor:
        """What each head mixes into some tokens in a layer: (B, H, R, N); H may be 1, see :class:`Step`."""
        if type(self.method).steps is TokenTM.steps and type(self.method)._step is TokenTM._step:
            return self.method.head_mixing(self.trace.layers[layer], self.weight[:, layer], rows)
        step: Step = next(islice(self.method.steps(self.trace), layer, None))  # a reading that we know nothing of
        return step.head_mixing[:, :, rows]


def walk(trace: Trace, method: TokenTM, progress: Progress = False) -> LayerPanels:
    """Go through the layers of a record once, and keep what the panels need.

    Raises:
        ZeroTokenError, NotFiniteError: as the method itself.
    """
    report, prefix = reporter(progress), trace.layout.prefix
    layers: list[dict[str, Tensor]] = []
    for layer, step in zip(trace.layers, method.steps(trace), strict=True):
        report(len(layers) / len(trace.layers), "computing layers")
        heads = layer.attention.shape[1]
        layers.append(
            {
                "weight": step.weight,
                "ratio": step.length_ratio,
                "cosine": step.cosine,
                "necc": necc(step.cosine, method.normaliser),
                "attention": _from_readout(trace, layer.attention)[..., prefix:],
                "update": _from_readout(trace, step.head_mixing)[..., prefix:].expand(-1, heads, -1),
                "contribution": read(step.contribution, trace.readout, prefix),
                "patch_contribution": step.contribution[:, prefix:, prefix:],
            }
        )
    stacked = {name: torch.stack([one[name] for one in layers], 1) for name in layers[0]}
    return LayerPanels(trace=method.prepared(trace), method=method, image_of=_image_of(trace), **stacked)


def _from_readout(trace: Trace, mixed: Tensor) -> Tensor:
    """What the readout takes through each head, (B, H, N, N) -> (B, H, N); of most models it is one token of many."""
    read_from = trace.readout.any(0).nonzero().flatten()
    few = len(read_from) < trace.layout.tokens / 2
    shares, rows = (trace.readout[:, read_from], mixed[:, :, read_from]) if few else (trace.readout, mixed)
    return (shares[:, None, None] @ rows).squeeze(-2)


def _image_of(trace: Trace) -> list[int]:
    """All 0 where one image was explained several times, else a number for each."""
    first, *others = trace.images
    repeated = all(torch.equal(first, other) for other in others)
    return [0] * len(trace.logits) if repeated else list(range(len(trace.images)))


def _cap_own(rows: Tensor, patches: Sequence[int]) -> Tensor:
    """A patch counts far more in itself than any other does; cap that cell so that the bytes resolve the others.

    Rows (B, L, K, P) of ``patches``, K of them.
    """
    own = torch.zeros(rows.shape[-2:], dtype=torch.bool, device=rows.device)
    own[range(len(patches)), list(patches)] = True
    return torch.where(own, rows.masked_fill(own, 0).amax(-1, keepdim=True), rows)

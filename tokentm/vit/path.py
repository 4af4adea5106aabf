"""How the values of each head reach the stream: norms, projection and LayerScale folded into one affine map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import RmsNorm, RmsNormFp32
from torch import Tensor, nn

from tokentm.errors import UnsupportedModelError

_CENTRED = (nn.LayerNorm,)
_UNCENTRED = (RmsNorm, RmsNormFp32, nn.RMSNorm)
NORMS = (*_CENTRED, *_UNCENTRED)


@dataclass(frozen=True, eq=False)
class HeadPath:
    """x'_i - x_i = s_i sum_h P_h (A^h v^h)_i + b_i.

    Attributes:
        projection: P, per head, (H, D, d).
        factor: s, what norms on the way multiply each output token with, (B, N); None where there is no norm.
        bias: b, (D,), or (B, N, D) where a norm made it differ between tokens; None where there is none.
    """

    projection: Tensor
    factor: Tensor | None
    bias: Tensor | None


def affine(stages: Sequence[nn.Module | Tensor], where: str, like: Tensor) -> tuple[nn.Module | Tensor, ...]:
    """The stages with every module that is neither norm nor plain linear map replaced by the map that it is, measured.

    Args:
        where: the block, for messages.
        like: of the dtype and on the device that stages take.

    Raises:
        UnsupportedModelError: a stage that is not affine.
    """
    found: list[nn.Module | Tensor] = []
    for stage in stages:
        found.append(stage if _is_known(stage) else _measured(stage, where, like))
    return tuple(found)


def _is_known(stage: nn.Module | Tensor) -> bool:
    plain = isinstance(stage, nn.Linear) and type(stage).forward is nn.Linear.forward
    return plain or isinstance(stage, (Tensor, *NORMS))


@torch.no_grad()
def _measured(stage: Any, where: str, like: Tensor) -> nn.Linear:
    """The linear map with bias that a module is: its values at zero and at the unit vectors."""
    width = _width(stage)
    if width is None or not isinstance(stage, nn.Module):
        raise _not_affine(stage, where)
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(2, width, generator=generator).to(like)
    try:
        made = stage(torch.cat((torch.eye(width).to(like), torch.zeros(1, width).to(like), probes))[None])[0]
        units, bias, others = made[:width], made[width], made[width + 1 :]
    except Exception as error:
        raise _not_affine(stage, where) from error
    weight = (units - bias).T
    if not torch.allclose(probes @ weight.T + bias, others, rtol=1e-3, atol=1e-4 * float(others.abs().max())):
        raise _not_affine(stage, where)
    linear = nn.Linear(width, len(weight), device="meta", dtype=weight.dtype)
    linear.weight, linear.bias = nn.Parameter(weight, False), nn.Parameter(bias.clone(), False)
    return linear


def _width(stage: Any) -> int | None:
    """How many numbers a module takes: of its first linear map, or of the vector that it multiplies with."""
    for module in stage.modules() if isinstance(stage, nn.Module) else ():
        width = getattr(module, "in_features", None)
        if isinstance(width, int):
            return width
    vectors = {len(one) for one in stage.parameters() if one.ndim == 1} if isinstance(stage, nn.Module) else set()
    return vectors.pop() if len(vectors) == 1 else None


def _not_affine(stage: Any, where: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{where}: expected norms, linear maps and LayerScale between the heads and the stream, found "
        f"{type(stage).__module__}.{type(stage).__qualname__}, which is no affine map. How a head's values pass it is "
        "not known, so no map could be trusted. Of an adapter, merge_and_unload() makes a linear map."
    )


def fold(
    stages: Sequence[nn.Module | Tensor], inputs: Mapping[nn.Module, Tensor], heads: int, like: Tensor
) -> HeadPath:
    """Fold the stages that the concatenated heads (B, N, H d) pass into one :class:`HeadPath`.

    A norm is affine once its statistics are taken from the recorded pass: it centres over the width (LayerNorm only),
    multiplies each token with one number, its own, and scales and shifts each channel.

    Args:
        stages: the modules in order; a tensor (D,) multiplies channels.
        inputs: what each norm among them was given in the recorded pass, (B, N, width).
        heads: H.
        like: the stream, whose width heads without a projection have.
    """
    matrix: Tensor | None = None  # None: the identity
    factor: Tensor | None = None
    bias: Tensor | None = None
    for stage in stages:
        if isinstance(stage, Tensor):
            gamma = stage.detach()
            matrix = torch.diag(gamma) if matrix is None else gamma[:, None] * matrix
            bias = None if bias is None else gamma * bias
        elif isinstance(stage, nn.Linear):
            weight = stage.weight.detach()
            matrix = weight.clone() if matrix is None else weight @ matrix
            bias = None if bias is None else bias @ weight.T
            if stage.bias is not None:
                bias = stage.bias.detach().clone() if bias is None else bias + stage.bias.detach()
        else:
            given = inputs[stage]
            matrix = torch.eye(given.shape[-1]).to(given) if matrix is None else matrix
            if isinstance(stage, _CENTRED):
                given = given - given.mean(-1, keepdim=True)
                matrix = matrix - matrix.mean(0, keepdim=True)
                bias = None if bias is None else bias - bias.mean(-1, keepdim=True)
            norm: Any = stage
            eps = torch.finfo(given.dtype).eps if norm.eps is None else norm.eps
            own = (given.square().mean(-1) + eps).rsqrt()
            factor = own if factor is None else factor * own
            bias = None if bias is None else own.unsqueeze(-1) * bias
            if norm.weight is not None:
                matrix = norm.weight.detach()[:, None] * matrix
                bias = None if bias is None else norm.weight.detach() * bias
            shift: Tensor | None = getattr(norm, "bias", None)  # an RMS norm has none
            if shift is not None:
                bias = shift.detach().clone() if bias is None else bias + shift.detach()
    matrix = torch.eye(like.shape[-1]).to(like) if matrix is None else matrix
    return HeadPath(matrix.unflatten(1, (heads, -1)).transpose(0, 1), factor, bias)

"""How much a layer transforms its tokens: change of length, correlation of direction, and the weight made of both.

Pure functions of tensors. Source: Wu et al., "Token Transformation Matters: Towards Faithful Post-hoc Explanation for
Vision Transformer", CVPR 2024. E is a token before a transformation, T the same token after it, L(.) Euclidean length.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tokentm.errors import InvalidOptionError, ZeroTokenError

Normaliser = Literal["sum", "mean"]


def compare(token: Tensor, transformed: Tensor) -> tuple[Tensor, Tensor]:
    """Length ratio L(T) / L(E) and cosine of tokens given in full: (..., N, D), (..., N, D) -> (..., N), (..., N).

    A transformed token of length zero has no direction; its cosine counts as 0 (its weight is 0 through its length).

    Raises:
        ZeroTokenError: a token E of length zero, against which no change of length can be measured.

    Example:
        >>> compare(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 10.0]]))
        (tensor([2.]), tensor([0.8000]))
    """
    inner = (token * transformed).sum(-1)
    return _ratio_and_cosine(token, torch.linalg.vector_norm(transformed, dim=-1), inner)


def compare_heads(token: Tensor, value: Tensor, projection: Tensor) -> tuple[Tensor, Tensor]:
    """Length ratio and cosine of every head's transformed tokens f^h(x_j) = P_h v_j, which are never built.

    Uses L(f)^2 = v^T (P^T P) v and <E, f> = (P^T E) . v, both exact.

    Args:
        token: E, (B, N, D).
        value: v, (B, H, N, d).
        projection: P, (H, D, d).

    Returns:
        L(f^h(x_j)) / L(E_j) and cos(E_j, f^h(x_j)), each (B, H, N).
    """
    gram = projection.transpose(-2, -1) @ projection
    of_head = value.transpose(0, 1).flatten(1, 2)  # (H, B N, d): one product of matrices for each head
    squared = (torch.bmm(of_head, gram) * of_head).sum(-1).unflatten(1, token.shape[:2]).transpose(0, 1)
    squared = squared.clamp(min=0)  # rounding can take a tiny square below zero
    seen_by_head = (token @ projection.transpose(0, 1).flatten(1)).unflatten(-1, projection.shape[::2])
    inner = (seen_by_head * value.transpose(1, 2)).sum(-1).transpose(1, 2)
    return _ratio_and_cosine(token.unsqueeze(1), squared.sqrt(), inner)


def _ratio_and_cosine(token: Tensor, transformed_length: Tensor, inner: Tensor) -> tuple[Tensor, Tensor]:
    length = torch.linalg.vector_norm(token, dim=-1)
    if (length == 0).any():
        where = tuple((length == 0).nonzero()[0].tolist())
        raise ZeroTokenError(
            f"expected tokens of positive length; the token at {where} is all zeros, so its change of length is "
            "undefined. Class and register tokens of an untrained model can be zero: load trained weights, or take a "
            "method that measures no lengths, such as 'generic_attention'."
        )
    cosine = torch.where(transformed_length > 0, inner / (length * transformed_length), 0.0)
    return transformed_length / length, cosine.clamp(-1, 1)


def necc(cosine: Tensor, normaliser: Normaliser = "sum") -> Tensor:
    """Normalized exponential cosine correlation over the tokens: (..., N) -> (..., N), all positive.

        NECC_n = exp(cos_n) / sum_k exp(cos_k)            normaliser "sum": the values sum to 1
        NECC_n = exp(cos_n) / mean_k exp(cos_k)           normaliser "mean": they average 1

    "sum" is what the name says; "mean" is a reading that keeps the weight of order 1 whatever N is.

    Example:
        >>> necc(torch.tensor([1.0, 1.0, 1.0, 1.0]))
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    if normaliser not in ("sum", "mean"):
        raise InvalidOptionError(f"expected normaliser 'sum' or 'mean'; got {normaliser!r}.")
    shares = cosine.softmax(-1)
    return shares if normaliser == "sum" else shares * cosine.shape[-1]


def weight(
    length_ratio: Tensor,
    cosine: Tensor,
    *,
    length: bool = True,
    direction: bool = True,
    normaliser: Normaliser = "sum",
) -> Tensor:
    """Transformation weight W_n = L(T_n) / L(E_n) * NECC_n: (..., N), (..., N) -> (..., N).

    ``length=False`` or ``direction=False`` leaves that factor out (it counts as 1).
    """
    result = torch.ones_like(length_ratio)
    if length:
        result = result * length_ratio
    if direction:
        result = result * necc(cosine, normaliser)
    return result

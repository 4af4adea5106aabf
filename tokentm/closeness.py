"""How far one tensor is from another."""

from __future__ import annotations

import torch
from torch import Tensor


def relative_error(found: Tensor, expected: Tensor) -> Tensor:
    """|found - expected| / |expected| over all entries, one number; an expected zero allows only zero."""
    difference = torch.linalg.vector_norm((found - expected).float())
    return torch.where(difference == 0, difference, difference / torch.linalg.vector_norm(expected.float()))

"""Attention by xformers, which no function mode sees: while a model runs here, the same numbers come from torch's own.

xformers is never imported; where a model uses it, it is there already. Whoever else calls it meanwhile gets its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from tokentm.isolation import current

_NAME = "memory_efficient_attention"


def switches(model: Any) -> tuple[tuple[Any, str, Any], ...]:
    """(namespace, name, function) to set while the model runs: wherever its classes call xformers by name."""
    package = sys.modules.get("xformers.ops")
    own = getattr(package, _NAME, None)
    if package is None or own is None:
        return ()
    seen = _seen(own)
    modules = {type(module).__module__ for module in model.modules()}
    spaces = [package, *(sys.modules[name] for name in sorted(modules) if name in sys.modules)]
    return tuple((space, name, seen) for space in spaces for name, value in list(vars(space).items()) if value is own)


def _seen(own: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_bias: Any = None,
        p: float = 0.0,
        scale: float | None = None,
        **options: Any,
    ) -> Tensor:
        """Heads stand behind the tokens: (B, N, H, d)."""
        if current() is None or query.ndim != 4 or not (attn_bias is None or isinstance(attn_bias, Tensor)):
            return own(query, key, value, attn_bias, p, scale, **options)
        query, key, value = (one.transpose(1, 2) for one in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_bias, p, scale=scale)
        return mixed.transpose(1, 2)

    return attention

"""What of all that a model returns is its answer: logits of classes, or features; and which module made it.

Libraries return tensors, tuples, dicts and objects of their own. Where nothing but tokens comes back, the answer is the
first of them where a class token stands before the patches, else their average.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tokentm.hooks import Watched
from tokentm.sketch import Sketch

_LOGITS = ("logits", "logits_per_image")
_FEATURES = ("image_embeds", "image_features", "pooler_output")
"""What libraries call them."""


def numbers(output: Any) -> Any:
    """Logits or features (B, K) among what a model returned, one number (B,) as a column; else what it returned."""
    if isinstance(output, Tensor) and output.ndim == 1:
        return output.unsqueeze(1)
    name = _name_of_numbers(output)
    if name is not None:
        return output[name] if isinstance(output, dict) else getattr(output, name)
    if isinstance(output, dict):
        matrices = [one for one in output.values() if isinstance(one, Tensor) and one.ndim == 2]
        return matrices[0] if len(matrices) == 1 else output
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor) and output[0].ndim == 2:
        several = any(isinstance(one, Tensor) and one.ndim == 2 for one in output[1:])
        return output if several else output[0]  # which of several are logits does not show
    return output


def _name_of_numbers(output: Any) -> str | None:
    if isinstance(output, Tensor):
        return None
    for name in (*_LOGITS, *_FEATURES):
        value = output.get(name) if isinstance(output, dict) else getattr(output, name, None)
        if isinstance(value, Tensor) and value.ndim == 2:
            return name
    return None


def reader_of(output: Any, tokens: int, prefix: int) -> Callable[[Any], Any]:
    """How logits or features are read from what a model returns; of tokens alone the first, or an average."""
    if isinstance(numbers(output), Tensor) and numbers(output).ndim == 2:
        return numbers
    found = _tokens_of(output)
    if found is None or found.shape[1] not in (tokens, tokens - prefix):
        return numbers
    return first_token if prefix and found.shape[1] == tokens else average_of_tokens


def first_token(output: Any) -> Any:
    """Features (B, D): the first of the tokens that a model returned."""
    tokens = _tokens_of(output)
    return output if tokens is None else tokens[:, 0]


def average_of_tokens(output: Any) -> Any:
    """Features (B, D): the average of the tokens that a model returned."""
    tokens = _tokens_of(output)
    return output if tokens is None else tokens.mean(1)


def _tokens_of(output: Any) -> Tensor | None:
    """Tokens (B, N, D) among what a model returned, the first of several; of feature maps (B, D, R, C) the last."""
    if isinstance(output, dict):
        output = tuple(output.values())
    listed = output if isinstance(output, (tuple, list)) else (output,)
    maps = getattr(output, "feature_maps", None) or (listed[0] if listed and isinstance(listed[0], tuple) else ())
    if maps and isinstance(maps[-1], Tensor):
        return maps[-1].flatten(2).transpose(1, 2) if maps[-1].ndim == 4 else maps[-1]
    return next((one for one in listed if isinstance(one, Tensor) and one.ndim == 3), None)


def head_of(seen: Watched, width: int) -> nn.Module | None:
    """The classifier, as far as it shows: the module with a matrix whose output the model returned.

    Returns:
        the module; one without parameters for a model that returns features; None where that does not show.
    """
    made = numbers(seen.output)
    if not isinstance(made, Tensor) or made.ndim != 2:
        return None if _tokens_of(seen.output) is None else nn.Identity()
    if _name_of_numbers(seen.output) in _FEATURES:
        return nn.Identity()
    answer = Sketch.of(made, seen.images)
    for one in sorted(seen.calls[1:], key=lambda call: -call.ended):  # the first is the model's own
        if one.made is not None and hasattr(one.module, "out_features") and one.made.equals(answer):
            return one.module
    lengths = torch.linalg.vector_norm(made, dim=1)
    of_length_one = bool(torch.allclose(lengths, torch.ones_like(lengths), atol=1e-3)) and bool((made < 0).any())
    return nn.Identity() if made.shape[1] == width or of_length_one else None

"""Doors to other packages: every method as Captum and as Quantus call one. Neither package is imported here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from tokentm.errors import InvalidOptionError
from tokentm.methods import Method, get
from tokentm.target import Target
from tokentm.trace import record


class Attribution:
    """A method with Captum's face: ``Attribution(model, "tokentm").attribute(inputs, target)``.

    Args:
        model: a supported ViT, in eval mode.
        method: a name from ``tokentm.methods.METHODS`` or a callable.

    Example:
        >>> attributions = Attribution(model).attribute(images, target=3)
        >>> captum.metrics.infidelity(model, perturb, images, attributions, target=3)
    """

    def __init__(self, model: nn.Module, method: str | Method = "tokentm") -> None:
        self.model, self.method = model, get(method)

    @overload
    def attribute(self, inputs: Tensor, target: Target = None) -> Tensor: ...

    @overload
    def attribute(self, inputs: tuple[Tensor], target: Target = None) -> tuple[Tensor]: ...

    def attribute(self, inputs: Tensor | tuple[Tensor], target: Target = None) -> Tensor | tuple[Tensor]:
        """Attributions of the shape of the inputs, (B, C, H, W): summed over channels they are the heat map.

        Args:
            inputs: (B, C, H, W), or a tuple of this one tensor, as Captum's metrics pass it; a tuple then comes back.
            target: as in Captum, a class or one per image; None takes the predicted class, as in tokentm.

        Raises:
            UnsupportedModelError, InvalidImagesError, InvalidTargetError: see :func:`tokentm.record`.
        """
        if isinstance(inputs, tuple):
            (images,) = inputs
            return (self.attribute(images, target),)
        heat = self.method(record(self.model, inputs, target)).heatmap()
        channels = inputs.shape[1]
        return (heat / channels).unsqueeze(1).expand(-1, channels, -1, -1).contiguous()

    def has_convergence_delta(self) -> bool:
        """No: the attributions of these methods do not add up to a difference of scores."""
        return False


def quantus_explain(
    model: nn.Module, inputs: Any, targets: Sequence[int] | np.ndarray | Tensor, **options: Any
) -> np.ndarray:
    """Heat maps (B, 1, H, W) as Quantus' ``explain_func`` returns them.

    Args:
        inputs: (B, C, H, W), an array or a tensor, normalised as the model takes it.
        targets: one class per image.
        options: ``method``, a name from ``tokentm.methods.METHODS`` or a callable. ``device`` is what Quantus adds; the
            maps are computed where the model is.

    Raises:
        InvalidOptionError: another option.

    Example:
        >>> metric = quantus.PixelFlipping(features_in_step=28 * 28)
        >>> metric(model, x, y, explain_func=quantus_explain, explain_func_kwargs={"method": "rollout"})
    """
    unknown = sorted(options.keys() - {"method", "device"})
    if unknown:
        raise InvalidOptionError(f"expected the options method and device; got {', '.join(unknown)}.")
    weight = next(model.parameters())
    images = torch.as_tensor(inputs).to(weight)
    trace = record(model, images, torch.as_tensor(np.asarray(targets)).to(weight.device))
    heat = get(options.get("method", "tokentm"))(trace).heatmap()
    return heat.unsqueeze(1).cpu().numpy()

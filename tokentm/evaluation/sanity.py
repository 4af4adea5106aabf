"""The sanity check: does the map change when the weights are randomised? One that does not explains the picture alone.

Source: Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, cascading randomisation.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tokentm.discovery import describe
from tokentm.errors import InvalidOptionError
from tokentm.optional import load

Stage = Literal["classifier", "upper half", "all blocks", "everything"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""What is randomised, from the output down: each stage holds the ones before it."""


def randomised(model: nn.Module, stage: Stage, seed: int = 0) -> nn.Module:
    """A copy of the model whose weights are shuffled from the classifier down to a stage.

    Departure: entries are shuffled within each parameter, where the authors draw them anew; that keeps every
    distribution, whatever the architecture, and destroys what was learnt.
    """
    if stage not in STAGES:
        raise InvalidOptionError(f"expected a stage among {', '.join(STAGES)}; got {stage!r}.")
    copy = deepcopy(model)
    blocks = describe(copy).blocks
    block_of = {id(p): i for i, block in enumerate(blocks) for module in block.modules for p in module.parameters()}
    generator = torch.Generator().manual_seed(seed)
    lowest = {"classifier": len(blocks), "upper half": len(blocks) // 2, "all blocks": 0, "everything": -1}[stage]
    place = -1  # the embedding; parameters come in the order of the forward pass
    with torch.no_grad():
        for parameter in copy.parameters():
            if id(parameter) in block_of:
                place = block_of[id(parameter)]
            elif place >= 0:
                place = len(blocks)
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            if place >= lowest:
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return copy


def rank_correlation(scores: Tensor, other: Tensor) -> Tensor:
    """Spearman's correlation of two rankings of patches, (B, P), (B, P) -> (B,); 0 where a map ranks nothing."""
    spearman_corrcoef = load("torchmetrics.functional").spearman_corrcoef
    found = [spearman_corrcoef(a, b) for a, b in zip(scores.double(), other.double(), strict=True)]
    ranked = (scores != scores[:, :1]).any(1) & (other != other[:, :1]).any(1)
    return torch.where(ranked, torch.stack(found), 0.0)

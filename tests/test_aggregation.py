"""The equations of the contribution map, each against loops."""

from __future__ import annotations

import torch
from torch import Tensor

from tokentm.aggregation import aggregate, head_mixing, initial_map, read

B, H, N, D = 2, 3, 5, 4


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_initial_map_holds_the_lengths():
    embedding = normal(B, N, D)
    found = initial_map(embedding)
    assert found.shape == (B, N, N)
    for b in range(B):
        for i in range(N):
            for j in range(N):
                length = sum(x.item() ** 2 for x in embedding[b, i]) ** 0.5 if i == j else 0.0
                assert abs(found[b, i, j] - length) < 1e-12


def test_mixing_weighs_columns_head_by_head():
    attention, weight, gradient = (
        normal(B, H, N, N).softmax(-1),
        normal(B, H, N, seed=1).exp(),
        normal(B, H, N, N, seed=2),
    )
    plain, specific = head_mixing(attention, weight), head_mixing(attention, weight, gradient)
    for b in range(B):
        for i in range(N):
            for j in range(N):
                for h in range(H):
                    part = attention[b, h, i, j] * weight[b, h, j]
                    torch.testing.assert_close(plain[b, h, i, j], part)
                    kept = max(0.0, (gradient[b, h, i, j] * part).item())
                    torch.testing.assert_close(specific[b, h, i, j].item(), kept)


def test_one_weight_for_all_heads_is_that_weight_for_each():
    attention, weight = normal(B, H, N, N).softmax(-1), normal(B, 1, N, seed=1).exp()
    torch.testing.assert_close(head_mixing(attention, weight), head_mixing(attention, weight.expand(B, H, N)))


def test_a_layer_multiplies_from_the_left():
    contribution, mixing, ffn = normal(B, N, N), normal(B, N, N, seed=1), normal(B, N, seed=2)
    identity = torch.eye(N).double()
    for b in range(B):
        attended = (identity + mixing[b]) @ contribution[b]
        torch.testing.assert_close(aggregate(contribution, mixing)[b], attended)
        torch.testing.assert_close(aggregate(contribution, mixing, ffn)[b], (identity + ffn[b].diag()) @ attended)


def test_reading_averages_rows_and_leaves_the_prefix_out():
    contribution, readout = normal(B, N, N), normal(B, N).softmax(1)
    found = read(contribution, readout, prefix=2)
    assert found.shape == (B, 3)
    for b in range(B):
        for patch in range(3):
            expected = sum(readout[b, i] * contribution[b, i, 2 + patch] for i in range(N))
            torch.testing.assert_close(found[b, patch], expected)

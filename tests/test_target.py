"""What a user may call a target, and what each becomes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokentm import InvalidTargetError
from tokentm.target import resolve


@pytest.fixture
def logits():
    return torch.tensor([[0.1, 3.0, -1.0, 0.5], [2.0, 1.0, 0.0, 4.0], [9.0, 8.0, 7.0, 6.0]], requires_grad=True)


@pytest.mark.parametrize(
    ("target", "index"),
    [
        (None, [1, 3, 0]),
        (2, [2, 2, 2]),
        (np.int64(2), [2, 2, 2]),
        (torch.tensor(3), [3, 3, 3]),
        ([0, 3, 1], [0, 3, 1]),
        ((0, 3, 1), [0, 3, 1]),
        (range(3), [0, 1, 2]),
        (np.array([3, 2, 1], dtype=np.uint8), [3, 2, 1]),
        (torch.tensor([3, 2, 1], dtype=torch.int32), [3, 2, 1]),
    ],
    ids=repr,
)
def test_a_target_becomes_one_class_per_image_and_its_logit(logits, target, index):
    scores, found = resolve(target, logits)
    assert found.dtype == torch.int64
    assert found.tolist() == index
    assert scores.tolist() == [logits[i, c].item() for i, c in enumerate(index)]
    (gradient,) = torch.autograd.grad(scores.sum(), logits)
    assert gradient.nonzero().tolist() == [[i, c] for i, c in enumerate(index)]


def test_a_function_of_the_logits_gives_scores_and_no_class(logits):
    scores, found = resolve(lambda z: z[:, 1] - z[:, 3], logits)
    assert found is None
    assert scores.tolist() == [2.5, -3.0, 2.0]
    assert scores.requires_grad


@pytest.mark.parametrize(("target", "wrong"), [(4, "[4, 4, 4]"), (-1, "[-1, -1, -1]"), ([0, 7, 1], "[7]")])
def test_an_index_out_of_range_is_refused(logits, target, wrong):
    with pytest.raises(InvalidTargetError) as raised:
        resolve(target, logits)
    assert str(raised.value) == f"expected class indices from 0 to 3; got {wrong}."


@pytest.mark.parametrize("target", [[0, 1], [0, 1, 2, 3], torch.zeros(3, 1, dtype=torch.long), []], ids=repr)
def test_a_wrong_number_of_targets_is_refused(logits, target):
    if target == []:
        target = torch.tensor([], dtype=torch.long)
    with pytest.raises(
        InvalidTargetError, match=r"one target for each of the 3 image\(s\); got shape .* repeat it: images"
    ):
        resolve(target, logits)


@pytest.mark.parametrize(
    "target",
    ["cat", ["cat", "dog", "cat"], 1.0, [1.0, 2.0, 0.0], True, [True, False, True], 1j, {"cat": 1}, [[0, 1], [2]]],
    ids=repr,
)
def test_what_is_no_class_index_is_refused(logits, target):
    with pytest.raises(InvalidTargetError, match=r"expected None, a class index, .*; got .*classes\.index\('cat'\)"):
        resolve(target, logits)


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda z: z, r"torch\.float32 \(3, 4\)"),
        (lambda z: z.sum(), r"torch\.float32 \(\)"),
        (lambda z: z[:1, 0], r"torch\.float32 \(1,\)"),
        (lambda z: z[:, 0].double(), r"torch\.float64 \(3,\)"),
        (lambda z: z.argmax(1), r"torch\.int64 \(3,\)"),
        (lambda z: [1.0, 2.0, 3.0], "list"),
    ],
)
def test_a_function_with_a_wrong_result_is_refused(logits, function, found):
    text = rf"turn logits \(3, 4\) into torch\.float32 scores \(3,\); got {found}\. Example: lambda"
    with pytest.raises(InvalidTargetError, match=text):
        resolve(function, logits)


@pytest.mark.parametrize(("function", "found"), [(torch.sqrt, "nan, 0.0"), (torch.reciprocal, "-1.0, inf")])
def test_scores_that_are_not_finite_are_refused(logits, function, found):
    with pytest.raises(InvalidTargetError, match=rf"expected finite scores from the target function; got \[{found}, "):
        resolve(lambda z: function(z[:, 2]), logits)

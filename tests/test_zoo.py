"""Every model of the zoo builds, runs and returns what the catalogue says."""

from __future__ import annotations

import pytest
import torch
from zoo import ZOO, Specimen


def test_names_are_unique_and_a_flat_model_tells_its_tokens():
    assert len({one.name for one in ZOO}) == len(ZOO)
    assert all((one.prefix is None) == (one.grid is None) == bool(one.refused) for one in ZOO)


@pytest.mark.parametrize("specimen", ZOO, ids=lambda one: one.name)
def test_it_answers_as_told(specimen: Specimen):
    if specimen.gpu and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    try:
        model = specimen.build()
    except ImportError as error:
        pytest.skip(str(error))
    images = specimen.images().requires_grad_(specimen.flat)
    output = specimen.call(model, images)
    numbers = specimen.numbers(output)
    assert type(output).__name__ == specimen.output
    assert len(numbers) == 2
    assert torch.isfinite(numbers).all()
    if specimen.classes is not None:
        assert numbers.shape == ((2,) if specimen.classes == 1 else (2, specimen.classes))
    if specimen.flat:
        assert 0.01 < numbers.detach().abs().mean() < 20
        slope = torch.autograd.grad(numbers.reshape(2, -1)[:, 0].sum(), images)[0]
        assert 1e-4 < slope.norm() < 1e3

"""Every method through the doors of Captum and Quantus, with the real packages behind them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tokentm
from tokentm.evaluation.datasets import DemoScenes
from tokentm.methods import METHODS
from tokentm.neighbours import Attribution, quantus_explain


@pytest.mark.parametrize("method", METHODS)
def test_attributions_have_the_shape_of_the_inputs_and_add_up_to_the_heat_map(tiny, images, method):
    model = tiny(depth=3)
    pixels = images(model)
    found = Attribution(model, method).attribute(pixels, target=[3, 1])
    assert found.shape == pixels.shape
    expected = tokentm.explain(model, pixels, [3, 1], method).heatmap()
    torch.testing.assert_close(found.sum(1), expected)
    assert torch.equal(found[:, 0], found[:, 2])
    assert not Attribution(model, method).has_convergence_delta()


def test_captum_s_metrics_take_an_attribution(tiny, images):
    metrics = pytest.importorskip("captum.metrics")
    model = tiny()
    pixels = images(model)
    attribution = Attribution(model, "input_x_gradient")

    def nudge(inputs):
        noise = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0)) * 0.01
        return noise, inputs - noise

    found = metrics.infidelity(model, nudge, pixels, attribution.attribute(pixels, 2), target=2, n_perturb_samples=3)
    assert found.shape == (2,)
    assert torch.isfinite(found).all()
    sensitive = metrics.sensitivity_max(attribution.attribute, pixels, target=torch.tensor([2, 0]), n_perturb_samples=2)
    assert torch.isfinite(sensitive).all()
    assert (sensitive > 0).all()


@pytest.fixture(scope="module")
def scenes():
    data = DemoScenes(2)
    demo = tokentm.load_demo()
    samples = [data[i] for i in range(2)]
    pixels = torch.stack([demo.transform(sample.image) for sample in samples]).numpy()
    masks = np.stack([sample.masks[sample.label] for sample in samples])[:, None]
    return demo.model, pixels, np.array([sample.label for sample in samples]), masks


def test_quantus_explanations_are_heat_maps(scenes):
    model, pixels, labels, _ = scenes
    expected = tokentm.explain(model, torch.from_numpy(pixels), labels.tolist(), "rollout").heatmap()
    for inputs in (pixels, torch.from_numpy(pixels), pixels.astype(np.float64)):
        found = quantus_explain(model, inputs, labels, method="rollout", device="cpu")
        assert found.shape == (2, 1, 112, 112)
        np.testing.assert_allclose(found[:, 0], expected)
    with pytest.raises(tokentm.InvalidOptionError, match="expected the options method and device; got methods"):
        quantus_explain(model, pixels, labels, methods="rollout")


def test_quantus_counts_the_mass_inside_the_mask(scenes):
    quantus = pytest.importorskip("quantus")
    model, pixels, labels, masks = scenes
    metric = quantus.AttributionLocalisation(disable_warnings=True, normalise=False, abs=False)
    found = metric(
        model=model,
        x_batch=pixels,
        y_batch=labels,
        s_batch=masks,
        explain_func=quantus_explain,
        explain_func_kwargs={"method": "tokentm"},
        device="cpu",
    )
    heat = quantus_explain(model, pixels, labels)
    expected = (heat * masks).sum((1, 2, 3)) / heat.sum((1, 2, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert min(expected) > 0.5


def test_quantus_flips_pixels_in_the_order_of_the_map(scenes):
    quantus = pytest.importorskip("quantus")
    model, pixels, labels, _ = scenes
    left = {}
    for method in ("tokentm", "random"):
        metric = quantus.PixelFlipping(features_in_step=1792, perturb_baseline="mean", disable_warnings=True)
        curves = metric(
            model=model,
            x_batch=pixels,
            y_batch=labels,
            explain_func=quantus_explain,
            explain_func_kwargs={"method": method},
            device="cpu",
            softmax=True,
        )
        left[method] = np.array(curves).mean(1)  # its own area calls a function that NumPy 2.4 has no more
    assert (left["tokentm"] < left["random"]).all()

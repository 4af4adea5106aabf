"""TokenTM, rollout and raw attention: against a second implementation, and by what must hold for any model."""

from __future__ import annotations

from dataclasses import fields
from itertools import product

import pytest
import reference
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import tokentm
from tokentm import TokenTM
from tokentm.methods import METHODS, get

SWITCHES = {
    "length": [True, False],
    "direction": [True, False],
    "ffn": [True, False],
    "initialise": [True, False],
    "gradient": [True, False],
    "normaliser": ["sum", "mean"],
    "transformed": ["head", "sum", "stream"],
    "reference": ["stream", "normed"],
    "head_mean": ["after", "before"],
    "backward": ["plain"],
    "positive": ["head", "mean"],
    "lengths": ["first", "own"],
}
READINGS = [dict(zip(SWITCHES, values, strict=True)) for values in product(*SWITCHES.values())]
OTHERS = [{name: value} for name, values in SWITCHES.items() for value in values[1:]]
ALL_OFF = {"length": False, "direction": False, "ffn": False, "initialise": False, "gradient": False}

ARCHITECTURES = st.one_of(
    st.just({"distilled": True}),
    st.builds(lambda registers: {"reg_tokens": registers}, st.integers(0, 3)),
    st.builds(
        lambda registers, class_token, include: {
            "global_pool": "avg",
            "reg_tokens": registers,
            "class_token": class_token,
            "pool_include_prefix": include,
        },
        st.integers(0, 2),
        st.booleans(),
        st.booleans(),
    ),
)


@settings(max_examples=60, phases=[Phase.generate])
@given(
    seed=st.integers(0, 10**6),
    architecture=ARCHITECTURES,
    heads=st.integers(1, 3),
    head_width=st.integers(6, 12),
    depth=st.integers(1, 4),
    layer_scale=st.sampled_from([None, 0.5]),
    qk_norm=st.booleans(),
    grid=st.tuples(st.integers(1, 3), st.integers(2, 4)),
    batch=st.integers(1, 3),
    readings=st.lists(st.sampled_from(READINGS), min_size=4, max_size=4),
)
def test_the_library_equals_the_reference_for_any_model(
    tiny, images, relative, seed, architecture, heads, head_width, depth, layer_scale, qk_norm, grid, batch, readings
):
    model = tiny(
        seed,
        embed_dim=heads * head_width,
        num_heads=heads,
        depth=depth,
        init_values=layer_scale,
        qk_norm=qk_norm,
        img_size=(4 * grid[0], 4 * grid[1]),
        patch_size=4,
        **architecture,
    )
    pixels = images(model, batch, seed)
    target = [(seed + i) % 5 for i in range(batch)]
    passes = reference.run(model, pixels, target)
    single = tokentm.record(model, pixels, target)
    double = tokentm.record(model.double(), pixels.double(), target)
    for reading in readings:
        expected = reference.tokentm(passes, **reading)
        assert relative(TokenTM(**reading)(double).layer_scores, expected) < 1e-12, reading
        assert relative(TokenTM(**reading)(single).layer_scores, expected) < 1e-5, reading


def test_every_reading_equals_the_reference(tiny, images, relative):
    model = tiny(depth=3, init_values=0.5).double()
    passes = reference.run(model, images(model, 1), [2])
    trace = tokentm.record(model, images(model, 1), 2)
    for reading in READINGS[::5]:  # 5 shares no factor with the numbers of values: every pair of values occurs
        found = TokenTM(**reading)(trace).layer_scores
        assert relative(found, reference.tokentm(passes, **reading)) < 1e-12, reading


def test_rollout_and_raw_attention_equal_the_reference(variant, images, relative):
    model = variant.double()
    passes = reference.run(model, images(model), [0, 3])
    trace = tokentm.record(model, images(model), [0, 3])
    for name, expected in (("rollout", reference.rollout(passes)), ("attention", reference.raw_attention(passes))):
        found = METHODS[name](trace)
        assert found.method == name
        assert relative(found.layer_scores, expected) < 1e-12
        assert torch.equal(found.scores, found.layer_scores[:, -1])


def test_scores_are_the_last_layer_scores(variant, images):
    e = TokenTM()(tokentm.record(variant, images(variant)))
    assert e.method == "tokentm"
    assert e.layer_scores.shape == (2, len(variant.blocks), 6)
    assert torch.equal(e.scores, e.layer_scores[:, -1])


def test_rollout_rows_sum_to_one(tiny, images):
    """Read at a class token, what patches and class token get adds up to 1; averaged without one, the patches' own."""
    model = tiny(global_pool="avg", class_token=False, depth=3).double()
    scores = tokentm.explain(model, images(model), method="rollout").layer_scores
    torch.testing.assert_close(scores.sum(-1), torch.ones(2, 3).double())


def test_all_parts_off_is_the_plain_product_of_attention_and_identity(tiny, images, relative):
    model = tiny(depth=3).double()
    trace = tokentm.record(model, images(model))
    for image in range(2):
        contribution = torch.eye(7).double()
        for layer in trace.layers:
            contribution = (torch.eye(7).double() + layer.attention[image].mean(0)) @ contribution
        assert relative(TokenTM(**ALL_OFF)(trace).scores[image], contribution[0, 1:]) < 1e-12
    assert relative(TokenTM(**ALL_OFF)(trace).scores, METHODS["rollout"](trace).scores * 2**3) < 1e-12


def test_the_gradient_alone_is_generic_attention(tiny, images, relative):
    """Chefer et al., "Generic Attention-model Explainability", ICCV 2021: C <- C + mean_h relu(G A) C."""
    model = tiny(depth=3).double()
    trace = tokentm.record(model, images(model), 1)
    contribution = torch.eye(7).double().repeat(2, 1, 1)
    for layer in trace.layers:
        contribution = contribution + (layer.gradient * layer.attention).relu().mean(1) @ contribution
    found = TokenTM(**{**ALL_OFF, "gradient": True})(trace).scores
    assert relative(found, contribution[:, 0, 1:]) < 1e-12


def test_contributions_are_never_negative(variant, images):
    trace = tokentm.record(variant, images(variant))
    assert all(TokenTM(**reading)(trace).layer_scores.min() >= 0 for reading in [{}, *OTHERS])


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_every_switch_changes_the_map(tiny, images, relative, other):
    model = tiny()
    trace = tokentm.record(model, images(model))
    default, switched = TokenTM()(trace).scores, TokenTM(**other)(trace).scores
    shapes = [m / m.sum(1, keepdim=True) for m in (switched, default)]
    assert relative(*shapes) > 0.01


def test_every_argument_is_among_the_switches_tested_here():
    assert {field.name: field.default for field in fields(TokenTM)} == {k: v[0] for k, v in SWITCHES.items()}


def test_permuted_patches_permute_the_map(tiny, images, relative):
    model = tiny(depth=3).double()
    pixels, order = images(model), torch.tensor([3, 0, 5, 1, 2, 4])
    patches = pixels.unfold(2, 8, 8).unfold(3, 8, 8).flatten(2, 3)[:, :, order]
    shuffled = patches.unflatten(2, (2, 3)).permute(0, 1, 2, 4, 3, 5).reshape(pixels.shape)
    names = METHODS.keys() - {"random"}
    before = {name: tokentm.explain(model, pixels, 1, name).scores for name in names}
    with torch.no_grad():
        model.pos_embed[:, 1:] = model.pos_embed[:, 1:][:, order]
    for name in names:
        assert relative(tokentm.explain(model, shuffled, 1, name).scores, before[name][:, order]) < 1e-12


def test_a_batch_equals_its_images_one_by_one(variant, images, relative):
    model = variant.double()
    pixels, target = images(model, 3), [4, 0, 4]
    for name in METHODS:
        together = tokentm.explain(model, pixels, target, name)
        alone = [tokentm.explain(model, pixels[i : i + 1], target[i], name) for i in range(3)]
        assert relative(together.scores, torch.cat([e.scores for e in alone])) < 1e-6


def test_steps_carry_what_the_maps_are_made_of(tiny, images, relative):
    model = tiny(depth=3, num_heads=3)
    trace = tokentm.record(model, images(model))
    for method, heads in ((TokenTM(), 3), (TokenTM(transformed="sum"), 1), (TokenTM(transformed="stream"), 1)):
        steps = list(method.steps(trace))
        assert len(steps) == 3
        for step in steps:
            assert step.length_ratio.shape == step.cosine.shape == step.weight.shape == (2, heads, 7)
            assert step.ffn_weight.shape == (2, 7)
            assert step.mixing.shape == step.contribution.shape == (2, 7, 7)
            torch.testing.assert_close(step.weight, step.length_ratio * step.cosine.softmax(-1))
    assert all(step.ffn_weight is None for step in TokenTM(ffn=False).steps(trace))


def test_the_trace_is_not_changed_by_a_method(tiny, images):
    model = tiny(depth=3)
    trace = tokentm.record(model, images(model))
    before = [
        tensor.clone() for layer in trace.layers for tensor in vars(layer).values() if isinstance(tensor, torch.Tensor)
    ]
    for method in METHODS.values():
        method(trace)
    after = [tensor for layer in trace.layers for tensor in vars(layer).values() if isinstance(tensor, torch.Tensor)]
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize(
    ("option", "known"),
    [
        ("normaliser", "'sum' or 'mean'"),
        ("transformed", "'head' or 'sum' or 'stream'"),
        ("reference", "'stream' or 'normed'"),
        ("head_mean", "'after' or 'before'"),
        ("backward", "'plain' or 'libra'"),
        ("positive", "'head' or 'mean'"),
        ("lengths", "'first' or 'own'"),
    ],
)
def test_an_unknown_reading_is_refused_with_the_known_ones(option, known):
    with pytest.raises(tokentm.InvalidOptionError, match=f"expected {option} {known}; got 'median'"):
        TokenTM(**{option: "median"})


def test_methods_are_found_by_name_or_passed_through(tiny, images):
    assert get("rollout") is METHODS["rollout"]
    mine = TokenTM(normaliser="mean")
    assert get(mine) is mine
    with pytest.raises(tokentm.InvalidOptionError, match=r"among tokentm, .*rollout, .* or a callable; got 'gradcam'"):
        tokentm.explain(tiny(), images(tiny()), method="gradcam")


def test_explain_takes_a_callable_method(tiny, images):
    model = tiny()
    mine = TokenTM(gradient=False)
    expected = mine(tokentm.record(model, images(model), 2))
    torch.testing.assert_close(tokentm.explain(model, images(model), 2, mine).scores, expected.scores)

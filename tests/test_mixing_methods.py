"""ALTI, beyond intuition, activation patching and the options of both rollouts, each against loops that say it."""

from __future__ import annotations

import threading
from copy import deepcopy

import pytest
import torch
from conftest import VARIANTS, make_images, make_vit
from torch import Tensor

import tokentm
from tokentm.hooks import running
from tokentm.isolation import Stopped, stoppable
from tokentm.methods import METHODS, GradientRollout, Rollout, alti, beyond_intuition, caap, tam
from tokentm.methods.discarding import without_smallest
from tokentm_widgets.titles import title_of
from tokentm_widgets.trust import others_of

TARGET = [3, 0]
KINDS = {"four layers": {"depth": 4, "reg_tokens": 2}} | {
    name: {"depth": 3, **options} for name, options in VARIANTS.items()
}
FEW = ["four layers", "class token", "average", "attention pooling"]


@pytest.fixture(scope="module")
def worked():
    """Model, images and record of each kind, computed once."""
    kept = {}

    def work(kind: str):
        if kind not in kept:
            model = make_vit(**KINDS[kind]).double()
            pixels = make_images(model).double()
            kept[kind] = model, pixels, tokentm.record(model, pixels, TARGET)
        return kept[kind]

    return work


def parts(layer, b: int, i: int) -> list[Tensor]:
    """T_i(x_j) of every token j."""
    heads, tokens = layer.attention.shape[1:3]
    found = []
    for j in range(tokens):
        part = torch.zeros_like(layer.stream[b, i])
        for h in range(heads):
            weight = layer.output_factor[b, i] * layer.attention[b, h, i, j]
            part = part + weight * (layer.head_projection[h] @ layer.value[b, h, j])
        found.append(part + layer.stream[b, i] if i == j else part)
    return found


def read(trace, b: int, matrix: Tensor) -> Tensor:
    row = sum(trace.readout[b, i] * matrix[i] for i in range(len(matrix)))
    return row[trace.layout.prefix :]


def bias_of(layer, b: int, i: int) -> Tensor:
    return layer.bias if layer.bias.ndim == 1 else layer.bias[b, i]


# alti


@pytest.mark.parametrize("kind", KINDS)
def test_parts_and_bias_add_up_to_the_stream_after_attention(worked, relative, kind):
    _, _, trace = worked(kind)
    for layer in trace.layers:
        for i in range(trace.layout.tokens):
            assert relative(sum(parts(layer, 1, i)) + bias_of(layer, 1, i), layer.stream_mid[1, i]) < 1e-10


def alti_by_loops(trace, b: int) -> list[Tensor]:
    tokens = trace.layout.tokens
    contribution, rows = torch.eye(tokens, dtype=torch.float64), []
    for layer in trace.layers:
        mixing = torch.zeros(tokens, tokens, dtype=torch.float64)
        for i in range(tokens):
            own = parts(layer, b, i)
            whole = sum(own) + bias_of(layer, b, i)
            near = [max(0.0, float(whole.abs().sum() - (whole - part).abs().sum())) for part in own]
            if sum(near) == 0:
                near[i] = 1.0
            for j in range(tokens):
                mixing[i, j] = near[j] / sum(near)
        contribution = mixing @ contribution
        rows.append(read(trace, b, contribution))
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_alti_equals_its_equation(worked, relative, kind):
    _, _, trace = worked(kind)
    found = METHODS["alti"](trace)
    assert found.method == "alti"
    for b in range(2):
        for layer, expected in enumerate(alti_by_loops(trace, b)):
            assert relative(found.layer_scores[b, layer], expected) < 1e-9
    assert torch.equal(found.scores, found.layer_scores[:, -1])


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_alti_in_parts_is_alti_at_once(worked, relative, monkeypatch, rows):
    _, _, trace = worked("four layers")
    whole = METHODS["alti"](trace).scores
    monkeypatch.setattr(alti, "AT_ONCE", rows * trace.layout.tokens * trace.layers[0].stream.shape[2])
    assert relative(METHODS["alti"](trace).scores, whole) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_alti_sum_to_one(worked, kind):
    _, _, trace = worked(kind)
    for layer in trace.layers:
        mixing = alti.mixing(layer)
        assert (mixing >= 0).all()
        torch.testing.assert_close(mixing.sum(-1), torch.ones(2, trace.layout.tokens, dtype=torch.float64))


def test_a_block_that_attends_to_nothing_new_leaves_alti_as_it_was(tiny, images):
    model = tiny(depth=2).double()
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(model.blocks[1].attn.proj, name).zero_()
    trace = tokentm.record(model, images(model), 1)
    eye = torch.eye(7, dtype=torch.float64).expand(2, -1, -1)
    torch.testing.assert_close(alti.mixing(trace.layers[1]), eye)


def test_a_row_in_which_no_part_comes_near_is_the_token_itself(tiny, images):
    model = tiny(depth=1).double()
    with torch.no_grad():
        model.blocks[0].attn.proj.weight.zero_()
        model.blocks[0].attn.proj.bias.copy_(-3 * tokentm.record(model, images(model), 1).layers[0].stream[0, 2])
    trace = tokentm.record(model, images(model), 1)
    mixing = alti.mixing(trace.layers[0])
    assert torch.isfinite(mixing).all()
    assert torch.equal(mixing[0, 2], torch.eye(7, dtype=torch.float64)[2])


# beyond intuition


@pytest.mark.parametrize("kind", FEW)
def test_beyond_intuition_equals_its_equation(worked, relative, kind):
    _, _, trace = worked(kind)
    found = METHODS["beyond_intuition"](trace).scores
    feedback, tokens = tam.integrated(trace), trace.layout.tokens
    for b in range(2):
        reached = torch.eye(tokens, dtype=torch.float64)
        for layer in trace.layers[5 * len(trace.layers) // 12 :]:
            step = torch.zeros_like(reached)
            heads = layer.attention.shape[1]
            for j in range(tokens):
                made = sum(layer.head_projection[h] @ layer.value[b, h, j] for h in range(heads))
                ratio = made.norm() / layer.stream[b, j].norm()
                for i in range(tokens):
                    mean = sum(layer.attention[b, h, i, j] for h in range(heads)) / heads
                    step[i, j] = layer.output_factor[b, i] * mean * ratio
            reached = reached + step @ reached
        assert relative(found[b], read(trace, b, feedback[b] * reached)) < 1e-9


@pytest.mark.parametrize("kind", FEW)
def test_the_integrated_gradient_equals_its_sum(worked, relative, kind):
    model, pixels, trace = worked(kind)
    total = 0
    for k in range(20):
        total = total + tokentm.record(model, pixels * (k / 19), TARGET).layers[-1].gradient
    assert relative(tam.integrated(trace), (total / 20).clamp(min=0).mean(1)) < 1e-9


def test_perception_of_blocks_that_take_nothing_is_the_identity(tiny, images):
    model = tiny(depth=4).double()
    trace = tokentm.record(model, images(model), 1)
    assert not torch.equal(beyond_intuition.perception(trace)[0], torch.eye(7, dtype=torch.float64))
    silent = [vars(layer) | {"value": torch.zeros_like(layer.value)} for layer in trace.layers]
    quiet = tokentm.Trace(**{**vars(trace), "layers": tuple(type(trace.layers[0])(**one) for one in silent)})
    torch.testing.assert_close(
        beyond_intuition.perception(quiet), torch.eye(7, dtype=torch.float64).expand(2, -1, -1), rtol=0, atol=0
    )


def test_where_perception_begins():
    assert [beyond_intuition.first_layer(depth) for depth in (1, 3, 6, 12, 24)] == [0, 1, 2, 5, 10]


# activation patching


def caap_by_loops(model, pixels: Tensor, targets: list[int], prefix: int, layers: range) -> Tensor:
    """The model's blocks called one by one, one patch and one image at a time."""
    gains = []
    for image, target in zip(pixels, targets, strict=True):
        entering: dict[int, Tensor] = {}
        handles = [
            block.register_forward_pre_hook(lambda _m, args, i=i, kept=entering: kept.update({i: args[0].clone()}))
            for i, block in enumerate(model.blocks)
        ]
        model(image[None])
        for handle in handles:
            handle.remove()
        neutral, row = torch.zeros_like(image)[None], []
        plain = model(neutral)[0, target]
        for patch in range(6):

            def put(args, i, patch=patch, source=entering):
                stream = args[0].clone()
                stream[0, prefix + patch] = source[i][0, prefix + patch]
                return (stream, *args[1:])

            handles = [
                model.blocks[i].register_forward_pre_hook(lambda _m, args, i=i, put=put: put(args, i)) for i in layers
            ]
            row.append(model(neutral)[0, target] - plain)
            for handle in handles:
                handle.remove()
        gains.append(torch.stack(row))
    return torch.stack(gains).detach()


@pytest.mark.parametrize("kind", KINDS)
def test_caap_equals_its_definition(worked, relative, kind):
    model, pixels, trace = worked(kind)
    layers = caap.patched_layers(len(model.blocks))
    found = METHODS["caap"](trace)
    assert found.layer_scores.shape == (2, 0, 6)
    assert relative(found.scores, caap_by_loops(model, pixels, TARGET, trace.layout.prefix, layers)) < 1e-9


@pytest.mark.parametrize("patches", [1, 4])
def test_caap_in_parts_is_caap_at_once(worked, relative, monkeypatch, patches):
    model, pixels, _ = worked("class token")
    model, sizes = deepcopy(model), []
    model.patch_embed.register_forward_pre_hook(lambda _m, args: sizes.append(len(args[0])))
    trace = tokentm.record(model, pixels, TARGET)
    whole = METHODS["caap"](trace).scores
    monkeypatch.setattr(caap, "AT_ONCE", patches * trace.layers[0].attention.numel())
    sizes.clear()
    assert relative(METHODS["caap"](trace).scores, whole) < 1e-12
    assert sizes == [2, 2, *([2] * 6 if patches == 1 else [8, 4])]  # whether the model is the same, neutral, patches


def test_a_picture_that_is_the_neutral_one_has_no_contributions(tiny):
    model = tiny(depth=4).double()
    nothing = torch.zeros(1, 3, 16, 24, dtype=torch.float64)
    assert METHODS["caap"](tokentm.record(model, nothing, 1)).scores.abs().max() < 1e-12


def test_where_activations_are_patched():
    found = [caap.patched_layers(depth) for depth in (1, 2, 3, 6, 12, 24)]
    assert found == [range(1), range(1, 2), range(1, 2), range(1, 4), range(3, 9), range(6, 18)]


def test_caap_can_be_stopped_and_leaves_the_model_as_it_was(tiny, images):
    model = tiny(depth=3)
    trace = tokentm.record(model, images(model), 1)
    calls, ended = [], []

    def work():
        try:
            with stoppable(lambda: calls.append(1) or len(calls) > 2):
                METHODS["caap"](trace)
        except Stopped:
            ended.append("stopped")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == ["stopped"]
    assert len(calls) == 3
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    with running(trace.anatomy):
        torch.testing.assert_close(trace.anatomy.answer(trace.images), trace.logits)


# options of the rollouts


def rollout_by_loops(trace, b: int, maps: list[Tensor], discard: float, keep_first: bool) -> Tensor:
    tokens = trace.layout.tokens
    contribution = torch.eye(tokens, dtype=torch.float64)
    for found in maps:
        mixing = found.clone()
        order = sorted(range(tokens**2), key=lambda at: float(mixing.flatten()[at]))
        for at in order[: int(tokens**2 * discard)]:
            if at or not keep_first:
                mixing[at // tokens, at % tokens] = 0
        step = mixing + torch.eye(tokens, dtype=torch.float64)
        contribution = torch.stack([row / row.sum() for row in step]) @ contribution
    return read(trace, b, contribution)


@pytest.mark.parametrize("kind", FEW)
@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("discard", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("start", [0, 2])
def test_rollout_equals_its_equation(worked, relative, kind, fusion, discard, start):
    _, _, trace = worked(kind)
    found = Rollout(fusion, discard, start)(trace)
    for b in range(2):
        maps = []
        for layer in trace.layers[start:]:
            heads = list(layer.attention[b])
            fused = heads[0]
            for other in heads[1:]:
                fused = {"mean": torch.add, "max": torch.maximum, "min": torch.minimum}[fusion](fused, other)
            maps.append(fused / len(heads) if fusion == "mean" else fused)
        expected = rollout_by_loops(trace, b, maps, discard, keep_first=trace.layout.prefix > 0)
        assert relative(found.scores[b], expected) < 1e-9
    assert found.layer_scores.shape == (2, len(trace.layers), 6)


@pytest.mark.parametrize("kind", FEW)
@pytest.mark.parametrize("discard", [0.0, 0.3])
def test_gradient_rollout_equals_its_equation(worked, relative, kind, discard):
    _, _, trace = worked(kind)
    found = GradientRollout(discard)(trace).scores
    for b in range(2):
        maps = [(layer.gradient[b] * layer.attention[b]).mean(0).clamp(min=0) for layer in trace.layers]
        assert relative(found[b], rollout_by_loops(trace, b, maps, discard, keep_first=False)) < 1e-9


@pytest.mark.parametrize("start", [1, 2])
def test_rollout_from_a_layer_is_the_rollout_of_the_layers_above(worked, start):
    _, _, trace = worked("class token")
    above = tokentm.Trace(**{**vars(trace), "layers": trace.layers[start:]})
    whole = METHODS["rollout"](above)
    found = Rollout(start=start)(trace)
    torch.testing.assert_close(found.scores, whole.scores, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.layer_scores[:, start:], whole.layer_scores, rtol=1e-12, atol=0)
    assert not found.layer_scores[:, :start].any()  # the class token has taken nothing yet


def test_the_defaults_are_the_methods_of_the_tables(worked):
    _, _, trace = worked("class token")
    assert METHODS["rollout"] == Rollout() == Rollout("mean", 0.0, 0)
    assert METHODS["gradient_rollout"] == GradientRollout()
    mixings = [layer.attention.mean(1) for layer in trace.layers]
    rolled = tokentm.aggregation.roll(mixings, trace.readout, trace.layout.prefix, normalise=True)
    assert torch.equal(Rollout()(trace).layer_scores, rolled)
    assert not any(name.startswith(("rollout_", "gradient_rollout_")) for name in METHODS)


def test_what_is_discarded_is_a_share_of_each_map(worked):
    mixing = torch.rand(2, 5, 5)
    kept = without_smallest(mixing, 0.6)
    assert ((kept != 0).sum((1, 2)) == 10).all()
    assert (kept[kept != 0] == mixing[kept != 0]).all()
    assert without_smallest(mixing, 0.0) is mixing
    mixing[:, 0, 0] = 0.001
    assert (without_smallest(mixing, 0.6, keep_first=True)[:, 0, 0] == 0.001).all()
    assert (without_smallest(mixing, 0.6)[:, 0, 0] == 0).all()


def test_names_say_what_differs():
    names = [Rollout(), Rollout("max"), Rollout(discard=0.9), Rollout(start=3), Rollout("min", 0.25, 1)]
    assert [one.name for one in names] == [
        *("rollout", "rollout_max", "rollout_discard_0.9", "rollout_from_3", "rollout_min_discard_0.25_from_1")
    ]
    assert [GradientRollout().name, GradientRollout(0.9).name] == ["gradient_rollout", "gradient_rollout_discard_0.9"]
    assert all(isinstance(one, tokentm.Method) for one in (*names, GradientRollout()))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Rollout("median"), "expected fusion 'mean' or 'max' or 'min'; got 'median'"),
        (lambda: Rollout(discard=1.0), "expected discard from 0 .* to less than 1, a share of each map; got 1.0"),
        (lambda: Rollout(discard=-0.1), "got -0.1"),
        (lambda: Rollout(discard=True), "got True"),
        (lambda: Rollout(start=-1), "expected start=0 or a higher number, the first layer that counts; got -1"),
        (lambda: Rollout(start=1.0), "got 1.0"),
        (lambda: GradientRollout("much"), "got 'much'"),
        (lambda: tokentm.explain(make_vit(), make_images(make_vit()), 1, Rollout(start=2)), "start=0 to 1; got 2"),
        (lambda: Rollout()(3), "expected a record for the method 'rollout'"),
    ],
)
def test_bad_options_are_refused(make, says):
    with pytest.raises(tokentm.InvalidOptionError, match=says):
        make()


def test_options_go_through_explain(worked):
    model, pixels, trace = worked("class token")
    found = tokentm.explain(model, pixels, TARGET, Rollout("max", 0.5))
    assert found.method == "rollout_max_discard_0.5"
    assert torch.equal(found.scores, Rollout("max", 0.5)(trace).scores)


def test_widgets_compute_none_of_the_three_unless_asked():
    new = {"alti", "beyond_intuition", "caap"}
    assert all(not new.intersection(others_of(name)) for name in METHODS)
    assert all(title_of(name).source for name in new)

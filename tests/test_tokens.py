"""Tokens read one by one with plain loops, outliers planted in a model, and what is said of maps that lie on them."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import pytest
import timm
import torch
from planted_tokens import planted

import tokentm
from tokentm import methods, tokens
from tokentm.demo.scenes import make_scene
from tokentm.errors import InvalidOptionError, NotFiniteError
from tokentm.explanation import Explanation
from tokentm.token_plots import outliers as drawn
from tokentm.tokens import inspect, left_out

SEEDS = (17, 3)
PLACES = (20, 150)
"""Patches of the demo's 14 x 14 that become outliers: neither lies on the cat or the car of scene 17."""


def by_hand(trace):
    """Lengths, attention received, likeness to neighbours and outliers, token after token: (L, B, N) nested lists."""
    rows, columns, prefix = trace.layout.rows, trace.layout.columns, trace.layout.prefix
    lengths, received, similarity, outlying = [], [], [], []
    for layer in trace.layers:
        for into in (lengths, received, similarity, outlying):
            into.append([])
        batch, heads, count, _ = layer.attention.shape
        for b in range(batch):
            streams = layer.stream_out[b].tolist()
            long = [math.sqrt(sum(x * x for x in stream)) for stream in streams]
            lengths[-1].append(long)
            received[-1].append([layer.attention[b, :, :, j].sum().item() / (heads * count) for j in range(count)])
            alike = [math.nan] * prefix
            for row in range(rows):
                for column in range(columns):
                    here = prefix + row * columns + column
                    cosines = []
                    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                        if 0 <= row + down < rows and 0 <= column + right < columns:
                            there = here + down * columns + right
                            product = sum(x * y for x, y in zip(streams[here], streams[there], strict=True))
                            cosines.append(product / (long[here] * long[there]))
                    alike.append(sum(cosines) / len(cosines) if cosines else math.nan)
            similarity[-1].append(alike)
            outlying[-1].append([False] * prefix + outlying_by_hand(long[prefix:], alike[prefix:]))
    return lengths, received, similarity, outlying


def outlying_by_hand(lengths, similarity):
    """The criterion, patch after patch."""
    logs = [math.log(one) for one in lengths]
    middle = statistics.median_low(logs)
    spread = statistics.median_low(abs(one - middle) for one in logs)
    usual = statistics.median_low(similarity)
    return [
        log > middle + 3.5 * 1.4826 * spread and length >= 2 * math.exp(middle) and alike < usual
        for log, length, alike in zip(logs, lengths, similarity, strict=True)
    ]


@pytest.fixture(scope="module")
def demo():
    return tokentm.load_demo()


@pytest.fixture(scope="module")
def clean(demo):
    return tokentm.record(demo.model, torch.stack([demo.transform(demo.scene(seed).image) for seed in SEEDS]))


@pytest.fixture(scope="module")
def spoilt(demo):
    image = demo.transform(demo.scene(17, ["cat", "car"]).image)[None]
    model = planted(demo.model, tokentm.record(demo.model, image), PLACES, 100)
    return tokentm.record(model, image, demo.classes.index("cat"))


def test_every_token_is_read_as_by_hand(tiny, images, variant):
    trace = tokentm.record(variant, images(variant))
    found = inspect(trace)
    for name, wanted in zip(("lengths", "received", "similarity"), by_hand(trace), strict=False):
        torch.testing.assert_close(
            getattr(found, name), torch.tensor(wanted), rtol=1e-4, atol=1e-5, equal_nan=True, msg=name
        )


@pytest.mark.parametrize("shape", [(40, 48), (8, 24), (24, 8)])
def test_outliers_are_those_found_by_hand(tiny, images, shape):
    model = tiny(img_size=shape, reg_tokens=1, depth=3)
    trace = tokentm.record(model, images(model))
    if min(shape) > 8:
        trace = tokentm.record(planted(model, trace, (8, 21), 200.0), trace.images)
    found, (_, _, _, outlying) = inspect(trace), by_hand(trace)
    assert found.outlying.tolist() == outlying
    for b in range(2):
        lasting = {
            patch
            for patch in range(found.outliers.shape[1])
            if any(outlying[at][b][2 + patch] and outlying[at + 1][b][2 + patch] for at in range(len(trace.layers) - 1))
        }
        assert set(found.outliers_of(b)) == lasting
        assert lasting == ({8, 21} if min(shape) > 8 else set())


def test_how_far_a_long_token_deviates_is_measured_by_the_others():
    generator = torch.Generator().manual_seed(1)
    spreads = torch.linspace(0.02, 1.0, 20)[:, None, None]  # from nearly equal tokens to very different ones
    lengths = (spreads * torch.randn(20, 2, 49, generator=generator).mul(2).sinh().mul(0.1)).exp()
    similarity = torch.rand(20, 2, 49, generator=generator)
    found = tokens._outlying(lengths, similarity)
    wanted = [[outlying_by_hand(lengths[i, b].tolist(), similarity[i, b].tolist()) for b in (0, 1)] for i in range(20)]
    assert found.tolist() == wanted
    assert 0 < found.sum() < (tokens._outlying(lengths, -lengths)).sum()


def test_attention_received_is_shared_out(clean):
    found = inspect(clean)
    torch.testing.assert_close(found.received.sum(-1), torch.ones(8, 2))
    assert found.lengths.shape == found.received.shape == found.similarity.shape == found.outlying.shape == (8, 2, 197)


def test_the_demo_has_no_outliers_and_planted_ones_are_found(demo, clean, spoilt):
    scenes = [make_scene(seed, split="test") for seed in range(6)]
    images = torch.stack([demo.transform(scene.image) for scene in scenes])
    assert not inspect(clean).outliers.any()
    assert not inspect(tokentm.record(demo.model, images)).outliers.any()
    assert inspect(spoilt).outliers_of(0) == PLACES
    assert repr(inspect(spoilt)).endswith("registers=[], outliers=[2])")


def test_outliers_side_by_side_are_found(demo, clean):
    together = (33, 34, 48)
    assert inspect(tokentm.record(planted(demo.model, clean, together, 150), clean.images)).outliers_of(1) == together


def test_a_single_patch_and_equal_tokens_are_no_outliers(tiny, images):
    model = tiny(img_size=(8, 8))
    found = inspect(tokentm.record(model, images(model)))
    assert found.similarity.isnan().all()
    assert not found.outlying.any()
    equal = torch.ones(1, 1, 9)
    assert not tokens._outlying(equal, equal).any()
    one_long = torch.tensor([[[1.0, 1, 1, 1, 1, 1.99, 1, 1, 1]]])
    alike = torch.tensor([[[0.9, 0.9, 0.9, 0.9, 0.9, 0.1, 0.9, 0.9, 0.9]]])
    assert tokens._outlying(one_long, alike).sum() == 0
    assert tokens._outlying(one_long + 0.01 * (one_long > 1), alike).nonzero().tolist() == [[0, 0, 5]]
    assert tokens._outlying(3 * one_long * one_long, torch.ones(1, 1, 9)).sum() == 0  # long, and like its neighbours


@pytest.mark.parametrize(
    ("options", "registers"),
    [
        ({}, ()),
        ({"reg_tokens": 2, "no_embed_class": True}, (1, 2)),
        ({"distilled": True}, ()),
        ({"global_pool": "avg", "class_token": False}, ()),
        ({"global_pool": "avg", "class_token": False, "reg_tokens": 2}, (0, 1)),
        ({"global_pool": "avg", "reg_tokens": 1, "pool_include_prefix": True, "fc_norm": False}, (0, 1)),
    ],
)
def test_what_the_classifier_does_not_read_is_a_register(tiny, images, options, registers):
    model = tiny(**options)
    trace = tokentm.record(model, images(model))
    found = inspect(trace)
    assert found.registers == registers
    assert [token.index for token in found.prefix] == list(range(trace.layout.prefix))
    for token in found.prefix:
        assert token.readout == pytest.approx(trace.readout[:, token.index].mean().item(), abs=1e-6)


def test_a_map_that_lies_on_outliers_is_called_so(spoilt):
    [found] = tokens.findings(spoilt, methods.get("attention")(spoilt))
    scores = methods.get("attention")(spoilt).scores[0]
    share = sum(max(scores[p].item(), 0) for p in PLACES) / sum(max(one, 0) for one in scores.tolist())
    assert (found.patches, found.count, found.part) == (PLACES, 196, 2 / 196)
    assert found.share == pytest.approx(share, rel=1e-4)
    assert found.dominated
    assert found.share > 0.25
    text = found.sentence
    assert text.startswith(f"{100 * share:.0f} % of the map lies on 2 of 196 patches (1 %): their tokens are outliers,")
    assert "such as vit_base_patch14_reg4_dinov2 of timm" in text
    others = {name: tokens.shares_on(methods.get(name)(spoilt), inspect(spoilt).outliers)[0] for name in
              tokens.GRADIENT_WEIGHTED}  # fmt: skip
    best = min(others, key=others.get)
    assert f"{best}, which weighs attention by the gradient, puts {100 * others[best]:.0f} % there." in text
    assert text.endswith("tokentm.tokens.left_out.")


def test_other_maps_of_the_same_record_are_not(spoilt, clean):
    [found] = tokens.findings(spoilt, methods.get("legrad")(spoilt))
    assert not found.dominated
    assert found.advice == ""
    assert found.sentence.startswith("1 % of the map lies on 2 of 196 patches (1 %): ")
    assert found.sentence.endswith("unlike their neighbours.")
    alone = replace(found, patches=PLACES[:1], share=0.001).sentence
    assert alone.startswith(
        "less than 1 % of the map lies on 1 of 196 patches (1 %): its token is an outlier, far longer"
    )
    for found in tokens.findings(clean, methods.get("rollout")(clean)):
        assert (found.patches, found.share, found.dominated) == ((), 0.0, False)
        assert found.sentence.startswith("No patch has an outlier token")


@pytest.mark.parametrize(
    ("share", "outliers", "wanted"),
    [(0.25, 2, True), (0.249, 2, False), (0.25, 12, True), (0.25, 13, False), (1.0, 49, True), (1.0, 50, False),
     (0.5, 0, False)],
)  # fmt: skip
def test_the_limits_are_a_quarter_and_four_times_their_share(share, outliers, wanted):
    assert tokens.dominates(share, outliers, 196) is wanted


def test_a_map_without_anything_positive_lies_nowhere(spoilt):
    nothing = Explanation.of(spoilt, "nothing", -torch.ones(1, 196))
    assert tokens.findings(spoilt, nothing)[0].share == 0
    once = torch.full((1, 196), -5.0)
    once[0, PLACES[0]] = once[0, 0] = 1.0
    assert tokens.findings(spoilt, Explanation.of(spoilt, "half", once))[0].share == 0.5


def test_advice_is_true_of_the_model(spoilt, monkeypatch, tiny, images):
    on_outliers = Explanation.of(spoilt, "mine", inspect(spoilt).outliers.float())

    def advice(trace, explanation):
        return tokens.findings(trace, explanation)[0].advice

    monkeypatch.setattr(tokens, "GRADIENT_WEIGHTED", ("mine",))
    assert "weigh" not in advice(spoilt, on_outliers)  # no other one to be tried
    monkeypatch.setattr(tokens, "GRADIENT_WEIGHTED", ("all",))
    monkeypatch.setitem(methods.METHODS, "all", lambda trace: replace(on_outliers, method="all"))
    assert "Other methods that weigh attention by the gradient put 100 % there or more." in advice(spoilt, on_outliers)

    def fails(_):
        raise NotFiniteError("expected finite numbers")

    monkeypatch.setitem(methods.METHODS, "all", fails)
    assert "weigh" not in advice(spoilt, on_outliers)
    monkeypatch.undo()
    model = tiny(img_size=(40, 48), reg_tokens=2)
    trace = tokentm.record(model, images(model, 1))
    trace = tokentm.record(planted(model, trace, (8,), 200.0), trace.images)
    found = advice(trace, Explanation.of(trace, "mine", inspect(trace).outliers.float()))
    assert found.startswith("The model has such tokens in spite of its 2 registers.")
    assert "timm" not in found


def test_models_that_are_advised_exist_in_their_width():
    known = set(timm.list_models("*reg4*"))
    for width, name in tokens.WITH_REGISTERS.items():
        assert name in known
        cut = {"depth": 1, "num_classes": 0, "img_size": 28}
        assert timm.create_model(name, **cut).embed_dim == width if width < 1024 else name in known
    assert set(tokens.GRADIENT_WEIGHTED) <= set(methods.METHODS)


def test_left_out_is_what_lies_elsewhere(spoilt):
    explanation, found = methods.get("tokentm")(spoilt), inspect(spoilt)
    made = left_out(explanation, found)
    for patch in range(196):
        wanted = 0.0 if patch in PLACES else explanation.scores[0, patch].item()
        assert made.scores[0, patch].item() == wanted
    torch.testing.assert_close(made.layer_scores[:, -1], made.scores)
    assert made.method == "tokentm, outliers left out"
    assert tokens.findings(spoilt, made)[0].share == 0


def test_a_map_of_another_record_is_refused(spoilt, clean):
    with pytest.raises(InvalidOptionError, match=r"expected a map of this record, of 1 image\(s\) with 196 patches; "):
        tokens.findings(spoilt, methods.get("rollout")(clean))


def test_half_precision_is_read_without_overflow(clean):
    layers = tuple(replace(one, stream_out=(one.stream_out * 100).half()) for one in clean.layers)
    found = inspect(replace(clean, layers=layers))
    torch.testing.assert_close(found.lengths, 100 * inspect(clean).lengths, rtol=1e-2, atol=0.0)


def test_figures_show_lengths_and_frame_the_outliers(spoilt, clean, demo):
    found = inspect(spoilt)
    picture = demo.scene(17, ["cat", "car"]).image
    figure = found.plot(images=picture)
    assert figure.alt == "2 outlier tokens among 196 patches, and lengths of tokens after each layer"
    assert len(figure.axes) == 3
    for axis in figure.axes[:2]:
        corners = {patch.get_xy() for patch in axis.patches}
        assert corners == {(p % 14 - 0.5, p // 14 - 0.5) for p in PLACES}
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[2].lines}
    assert lines["median patch"] == pytest.approx([statistics.median(one) for one in found.lengths[:, 0, 1:].tolist()])
    assert lines["outlier"] == pytest.approx(found.lengths[:, 0, 1 + PLACES[-1]].tolist())
    assert lines["token 0, read out"] == pytest.approx(found.lengths[:, 0, 0].tolist())
    assert figure.axes[2].get_yscale() == "log"
    assert len(drawn(inspect(clean), index=1).axes) == 2
    assert "0 outlier tokens" in drawn(inspect(clean)).alt
    figure.still()
    with pytest.raises(InvalidOptionError, match="expected an index from 0 to 0; got 1"):
        found.plot(index=1)
    with pytest.raises(InvalidOptionError, match="expected 1 picture or one for each of the 1 images; got 2"):
        found.plot(images=[picture, picture])

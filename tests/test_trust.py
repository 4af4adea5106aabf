"""How far to trust a map: every check against a computation by hand."""

from __future__ import annotations

import pytest
import torch
from planted_tokens import planted

import tokentm
from tokentm.explanation import Explanation
from tokentm_widgets import trust

PATCHES = 40  # of which four are the strongest


@pytest.fixture(scope="module")
def trace(tiny):
    torch.manual_seed(3)
    model = tiny(img_size=(20, 32), patch_size=4, num_classes=5, depth=2).eval()
    return tokentm.record(model, torch.randn(2, 3, 20, 32), target=[3, 1])


def scores_with(*strong):
    """A map whose strongest patches are these, strongest first."""
    scores = torch.zeros(PATCHES)
    scores[list(strong)] = torch.arange(len(strong), 0, -1).float()
    return scores


@pytest.mark.parametrize(("patches", "count"), [(196, 20), (1370, 137), (15, 2), (4, 1), (1, 1), (40, 4)])
def test_the_strongest_are_a_tenth_of_the_patches(patches, count):
    scores = torch.rand(patches)
    found = trust.strongest(scores)
    assert len(found) == count
    assert scores[found].tolist() == sorted(scores.tolist(), reverse=True)[:count]


def test_equal_patches_keep_their_order():
    assert trust.strongest(torch.ones(PATCHES)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("other", "shared", "verdict"),
    [
        ((9, 8, 7, 6), (), "Yes"),
        ((9, 8, 7, 2), (2,), "Yes"),
        ((3, 8, 7, 2), (2, 3), "Partly"),
        ((3, 8, 1, 2), (1, 2, 3), "Hardly"),
        ((3, 0, 1, 2), (0, 1, 2, 3), "Hardly"),
    ],
)
def test_maps_of_two_classes_are_compared_by_their_strongest_patches(other, shared, verdict):
    found = trust.changes(scores_with(0, 1, 2, 3), scores_with(*other), 4)
    assert (found.verdict, found.shared, found.other, found.count) == (verdict, shared, 4, 4)


def test_maps_of_two_classes_are_compared_by_the_order_of_all_patches():
    scores = torch.randn(PATCHES)
    for other, expected in ((scores.exp(), 1), (-scores, -1), (torch.ones(PATCHES), None)):
        assert trust.changes(scores, other, 4).correlation == (expected and pytest.approx(expected))


@pytest.mark.parametrize(("shared", "verdict"), [(5, "Yes"), (6, "Partly"), (14, "Partly"), (15, "Hardly")])
def test_the_limits_are_those_of_twenty_patches(shared, verdict):
    one, other = torch.zeros(196), torch.zeros(196)
    one[:20] = other[20 - shared : 40 - shared] = 1
    assert trust.changes(one, other, 0).verdict == verdict


def test_the_least_likely_class_is_another_one():
    logits = torch.tensor([0.3, -2.0, 1.0, -1.0])
    assert trust.least_likely(logits, 2) == 1
    assert trust.least_likely(logits, 1) == 3


@pytest.mark.parametrize(
    ("unit", "numbers", "wanted"),
    [
        ("probability", (0.55, 0.11, 0.55), True),
        ("probability", (0.55, 0.30, 0.70), False),  # more than half is left
        ("probability", (0.55, 0.11, 0.20), False),  # random patches cost as much
        ("score", (-1.0, -5.0, -1.5), True),
        ("score", (-1.0, -1.2, -1.5), False),
        ("score", (-1.0, 0.0, -1.0), False),  # it rises
    ],
)
def test_patches_matter_where_random_ones_do_not(unit, numbers, wanted):
    assert trust.judged(unit, *numbers) is wanted


@pytest.mark.parametrize("index", [0, 1])
def test_what_the_model_says_without_patches_is_measured(trace, index):
    scores = scores_with(30, 31, 5, 8)
    found = trust.matters(trace, scores, index=index)
    target, image = int(trace.target[index]), trace.images[index]

    def without(patches):
        hidden = image.clone()
        for patch in patches:
            row, column = divmod(patch, 8)
            for channel in range(3):
                area = hidden[channel, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                area[:] = image[channel].mean()
        with torch.no_grad():
            return float(trace.anatomy.model(hidden[None]).softmax(1)[0, target])

    generator = torch.Generator().manual_seed(0)
    draws = [without(torch.randperm(PATCHES, generator=generator)[:4].tolist()) for _ in range(10)]
    assert found.unit == "probability"
    assert found.whole == pytest.approx(without([]), rel=1e-4)
    assert found.strongest == pytest.approx(without([30, 31, 5, 8]), rel=1e-4)
    assert found.random == pytest.approx(sum(draws) / 10, rel=1e-4)
    assert found.count == 4


def test_patches_are_taken_away_in_any_batches_alike(trace):
    gone = trust.drawn(PATCHES, 4)
    one, three = (trust.answers_without(trace, gone, batch=batch) for batch in (1, 3))
    torch.testing.assert_close(one, three)
    assert gone.sum(1).tolist() == [4] * trust.DRAWS


def test_a_chosen_score_is_measured_as_a_score(trace):
    chosen = tokentm.record(trace.anatomy.model, trace.images[:1], lambda logits: logits[:, 0] - logits[:, 1])
    found = trust.matters(chosen, scores_with(0, 1, 2, 3))
    assert found.unit == "score"
    assert found.whole == pytest.approx(chosen.scores.item(), rel=1e-5)
    logits = trust.answers_without(chosen, trust.hidden(torch.tensor([0, 1, 2, 3]), PATCHES))[0]
    assert found.strongest == pytest.approx(float(logits[0] - logits[1]), rel=1e-4)


def test_methods_agree_that_share_half_of_the_strongest_patches():
    others = {"two": scores_with(0, 1, 8, 9), "one": scores_with(0, 7, 8, 9), "all": scores_with(3, 2, 1, 0)}
    found = trust.agree(scores_with(0, 1, 2, 3), others)
    assert (found.agreeing, found.others, found.verdict) == (("two", "all"), ("two", "one", "all"), "Mostly")


@pytest.mark.parametrize(
    ("agreeing", "verdict"), [(0, "Hardly"), (1, "Hardly"), (2, "Mostly"), (3, "Mostly"), (4, "Yes")]
)
def test_how_many_methods_agree_in_words(agreeing, verdict):
    others = {str(i): scores_with(0, 1, 2, 3) if i < agreeing else scores_with(9, 8, 7, 6) for i in range(5)}
    assert trust.agree(scores_with(0, 1, 2, 3), others).verdict == verdict


def test_a_method_is_not_compared_with_itself_its_readings_and_chance():
    assert not {"tokentm", "tokentm_libragrad", "random", "tam"} & set(trust.others_of("tokentm"))
    assert "tokentm" in trust.others_of("rollout")
    assert "rollout" not in trust.others_of("rollout")


def test_methods_that_cannot_read_the_record_are_left_out(trace, monkeypatch):
    def fails(_):
        raise tokentm.NotFiniteError("expected finite numbers")

    monkeypatch.setitem(tokentm.methods.METHODS, "rollout", fails)
    assert list(trust.maps_of(trace, ["attention", "rollout"])) == ["attention"]


def test_what_has_no_other_class_says_why(trace, tiny):
    assert trust.no_other_class(trace, "tokentm") == ""
    assert "every class the same map" in trust.no_other_class(trace, "attention")
    one = tiny(img_size=(20, 32), patch_size=4, num_classes=1, depth=2).eval()
    single = tokentm.record(one, trace.images[:1], outputs="sigmoid")
    assert "one output" in trust.no_other_class(single, "tokentm")
    chosen = tokentm.record(one, trace.images[:1], lambda logits: logits[:, 0])
    assert "chosen score" in trust.no_other_class(chosen, "tokentm")


def test_outlier_tokens_are_found_where_there_are_some(trace):
    spoilt = tokentm.record(planted(trace.anatomy.model, trace, (9,), 300.0), trace.images, trace.target)
    scores = torch.ones(2, PATCHES)
    scores[1, 9] = 39.0
    maps = Explanation.of(spoilt, "mine", scores)
    few, most = trust.free_of_outliers(spoilt, maps)
    assert (few.verdict, few.patches, few.count, few.advice) == ("Mostly", (9,), PATCHES, "")
    assert (few.share, most.share) == (pytest.approx(1 / 40), pytest.approx(0.5))
    assert most.verdict == "No"
    assert most.advice.startswith("A model with registers, such as vit_base_patch14_reg4_dinov2 of timm")
    for none in trust.free_of_outliers(trace, maps):
        assert (none.verdict, none.patches, none.share, none.advice) == ("Yes", (), 0.0, "")

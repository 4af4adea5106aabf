"""Metrics against closed forms: additive models whose every answer is known, and the ends of each scale."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import tokentm
from tokentm import InvalidOptionError
from tokentm.errors import InvalidTargetError, ModelChangedError
from tokentm.evaluation import (
    Removal,
    class_sensitivity,
    discrimination,
    holm,
    needed_pictures,
    other_classes,
    perturbation,
    randomised,
    rank_correlation,
    saco,
    segmentation,
    sign_flip,
)
from tokentm.evaluation.observed import observe
from tokentm.evaluation.perturbation import FRACTIONS, curves, ranking
from tokentm.evaluation.sanity import STAGES

ZERO = torch.zeros(1, dtype=torch.long)


def additive(effects: list[float], base: float):
    """p(class 0) = base + the effects of the patches that are there; class 1 has the rest."""
    weights = torch.tensor([effects], dtype=torch.float64)

    def remove(gone: Tensor) -> Tensor:
        p = base + (weights * ~gone).sum(1)
        return torch.stack((p.log(), (1 - p).log()), dim=1)

    return remove


EQUAL = additive([0.08] * 10, 0.12)  # p = 0.92 - 0.08 k after k patches


@pytest.mark.parametrize("scores", [[1.0] * 10, [float(i) for i in range(10)]])
def test_equal_effects_give_the_closed_form_whatever_the_ranking(scores):
    found = perturbation(EQUAL, torch.tensor([scores]), ZERO)
    p = [0.92 - 0.08 * k for k in range(11)]
    assert found.aopc.item() == pytest.approx(0.08 * 5)
    assert found.lodds.item() == pytest.approx(sum(math.log(p[k] / p[0]) for k in range(1, 10)) / 9)
    assert found.deletion.item() == pytest.approx((0.92 + 0.12) / 2)
    assert found.insertion.item() == pytest.approx((0.92 + 0.12) / 2)
    # right while p > 0.5, after 10 % .. 50 %: trapezoids 4 + 1/2 of 8
    assert found.positive.item() == pytest.approx(4.5 / 8)
    assert found.negative.item() == pytest.approx(4.5 / 8)


EFFECTS = [0.19, 0.17, 0.15, 0.13, 0.11, 0.05, 0.03, 0.02, 0.01, 0.0]
BASE = 0.1


@pytest.mark.parametrize("sign", [1, -1], ids=["perfect map", "inverted map"])
def test_unequal_effects_give_the_closed_form_of_the_order(sign):
    found = perturbation(additive(EFFECTS, BASE), sign * torch.tensor([EFFECTS]), ZERO)
    order = sorted(EFFECTS, reverse=sign > 0)
    p = [BASE + sum(order[k:]) for k in range(11)]
    q = [BASE + sum(order[: 10 - k]) for k in range(11)]
    trapezoid = [0.5, *[1] * 9, 0.5]
    assert found.aopc.item() == pytest.approx(sum(p[0] - p[k] for k in range(1, 10)) / 9)
    assert found.lodds.item() == pytest.approx(sum(math.log(p[k] / p[0]) for k in range(1, 10)) / 9)
    assert found.deletion.item() == pytest.approx(sum(a * b for a, b in zip(trapezoid, p, strict=True)) / 10)
    assert found.insertion.item() == pytest.approx(sum(a * b for a, b in zip(trapezoid, q, strict=True)) / 10)
    inner = [0.5, *[1] * 7, 0.5]
    hits = [[float(v > 0.5) for v in curve[1:10]] for curve in (p, q)]
    areas = [sum(a * b for a, b in zip(inner, one, strict=True)) / 8 for one in hits]
    assert [found.positive.item(), found.negative.item()] == pytest.approx(areas)


def test_areas_of_log_odds_and_the_relevance_gain_are_counted_step_by_step():
    """Two classes, so the odds are p / (1 - p) of the closed form; ends of both curves are the same pictures."""
    found = perturbation(additive(EFFECTS, BASE), torch.tensor([EFFECTS]), ZERO)
    areas = {}
    for name, order in (("deletion", sorted(EFFECTS, reverse=True)), ("insertion", sorted(EFFECTS))):
        p = [BASE + sum(order[k:]) for k in range(11)]
        for what, curve in (("p", p), ("odds", [math.log(v / (1 - v)) for v in p])):
            areas[name, what] = sum((a + b) / 2 for a, b in pairwise(curve)) / 10
    assert found.srg.item() == pytest.approx(areas["insertion", "p"] - areas["deletion", "p"])
    assert found.log_odds_deletion.item() == pytest.approx(areas["deletion", "odds"])
    assert found.log_odds_insertion.item() == pytest.approx(areas["insertion", "odds"])
    assert found.log_odds_srg.item() == pytest.approx(areas["insertion", "odds"] - areas["deletion", "odds"])
    inverted = perturbation(additive(EFFECTS, BASE), -torch.tensor([EFFECTS]), ZERO)
    assert inverted.srg.item() == pytest.approx(-found.srg.item())
    assert found.srg.item() > 0


def test_log_odds_tell_maps_apart_where_the_probability_is_1_whatever_goes():
    effects = torch.arange(10.0).flip(0)

    def remove(gone: Tensor) -> Tensor:  # log-odds from 40 to 85: p is 1 in float32
        z = 40 + (effects * ~gone).sum(1)
        return torch.stack((z, torch.zeros_like(z)), 1)

    right, wrong = (perturbation(remove, sign * effects[None], ZERO) for sign in (1, -1))
    assert right.deletion.item() == wrong.deletion.item() == 1
    assert right.log_odds_deletion.item() < wrong.log_odds_deletion.item() - 5


def test_no_ranking_beats_the_perfect_map_and_none_is_worse_than_its_inverse():
    remove, perfect = additive(EFFECTS, BASE), torch.tensor([EFFECTS])
    best, worst = perturbation(remove, perfect, ZERO), perturbation(remove, -perfect, ZERO)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = perturbation(remove, torch.rand(1, 10, generator=generator), ZERO)
        for name, sign in (("aopc", 1), ("insertion", 1), ("negative", 1), ("deletion", -1), ("lodds", -1)):
            values = [sign * getattr(one, name).item() for one in (worst, other, best)]
            assert values == sorted(values)


def test_curves_take_away_the_stated_shares_in_the_stated_order():
    seen = []

    def remove(gone: Tensor) -> Tensor:
        seen.append(gone[0].nonzero().flatten().tolist())
        return torch.tensor([[1.0, 0.0]])

    order = torch.tensor([[3, 0, 2, 1]])
    found = curves(remove, order, torch.tensor([1]))
    assert [sorted(order[0, : round(f * 4)].tolist()) for f in FRACTIONS] == seen
    assert seen[0] == []
    assert seen[-1] == [0, 1, 2, 3]
    assert found.hit.tolist() == [[0.0] * 11]
    assert found.log_probability[0, 0].item() == pytest.approx(-math.log(1 + math.e))


def test_ties_are_not_broken_by_place():
    order = ranking(torch.ones(2, 100))
    assert order[0].tolist() == order[1].tolist() != list(range(100))
    assert sorted(order[0].tolist()) == list(range(100))
    assert ranking(torch.tensor([[0.1, 0.3, 0.2]])).tolist() == [[1, 2, 0]]


def test_perturbation_wants_one_target_for_each_row_of_scores():
    with pytest.raises(InvalidOptionError, match=r"targets \(B,\); got \(2, 10\) and \(1,\)"):
        perturbation(EQUAL, torch.ones(2, 10), ZERO)


LOGITS = torch.tensor([[0.4, -0.3, 2.0], [-1.0, 5.0, 0.1]], dtype=torch.float64)
CLASSES = torch.tensor([2, 0])


@pytest.mark.parametrize(
    ("outputs", "value", "hit"),
    [
        ("softmax", [LOGITS[0].softmax(0)[2], LOGITS[1].softmax(0)[0]], [1, 0]),
        ("sigmoid", [1 / (1 + math.exp(-2.0)), 1 / (1 + math.exp(1.0))], [1, 0]),
    ],
)
def test_what_is_measured_of_logits_follows_from_their_meaning(outputs, value, hit):
    found = observe(LOGITS, CLASSES, outputs)
    assert found.value.tolist() == pytest.approx([float(v) for v in value])
    assert found.log_probability.tolist() == pytest.approx([math.log(v) for v in value])
    assert found.hit.tolist() == hit


def test_two_labels_may_both_be_right_where_classes_may_not():
    both = torch.tensor([[3.0, 2.0, -4.0]])
    assert observe(both, torch.tensor([1]), "sigmoid").hit.item() == 1
    assert observe(both, torch.tensor([1]), "softmax").hit.item() == 0
    assert observe(both.sigmoid(), torch.tensor([1]), "probabilities").hit.item() == 1
    assert observe(both.softmax(1), torch.tensor([1]), "probabilities").hit.item() == 0


def test_probabilities_are_taken_as_they_are_and_a_log_stays_finite():
    found = observe(torch.tensor([[0.25, 0.75], [1.0, 0.0]]), torch.tensor([1, 1]), "probabilities")
    assert found.value.tolist() == [0.75, 0]
    assert found.log_probability.tolist() == pytest.approx([math.log(0.75), math.log(torch.finfo(torch.float32).tiny)])
    far = observe(torch.tensor([[-200.0]]), ZERO, "sigmoid")  # its probability is 0 in float32
    assert (far.value.item(), far.log_probability.item()) == (0, -200)


@pytest.mark.parametrize("metric", [perturbation, saco])
def test_a_class_of_outputs_without_probabilities_is_refused(metric):
    with pytest.raises(
        InvalidOptionError, match=r"have none \(outputs='none'\)\. .* function of the outputs as target"
    ):
        metric(EQUAL, torch.ones(1, 10), ZERO, outputs="none")


@pytest.mark.parametrize("metric", [perturbation, saco])
@pytest.mark.parametrize(("target", "got"), [(None, "got None"), ([0], "got list")])
def test_a_missing_target_says_what_to_pass(metric, target, got):
    with pytest.raises(InvalidOptionError, match=rf"{got}\. .* indices: pass trace\.explained"):
        metric(EQUAL, torch.ones(1, 10), target)


def linear(effects: list[float]):
    """One output: 1 + the effects of the patches that are there."""
    return lambda gone: 1 + (torch.tensor([effects]) * ~gone).sum(1, keepdim=True)


def test_a_function_is_measured_itself_and_has_no_accuracy_and_no_odds():
    effects = [float(k) for k in range(10, 0, -1)]
    found = perturbation(linear(effects), torch.tensor([effects]), lambda outputs: 3 * outputs[:, 0])
    left = [3 * (1 + sum(effects[k:])) for k in range(11)]
    back = [3 * (1 + sum(effects[:k])) for k in range(11)]
    trapezoid = [0.5, *[1] * 9, 0.5]
    assert found.deletion.item() == pytest.approx(sum(a * b for a, b in zip(trapezoid, left, strict=True)) / 10)
    assert found.insertion.item() == pytest.approx(sum(a * b for a, b in zip(trapezoid, back, strict=True)) / 10)
    assert found.aopc.item() == pytest.approx(sum(left[0] - left[k] for k in range(1, 10)) / 9)
    assert (found.positive, found.negative, found.lodds) == (None, None, None)
    assert saco(linear(effects), torch.tensor([effects]), lambda outputs: outputs[:, 0]).item() == 1
    assert saco(linear(effects), torch.tensor([effects]), lambda outputs: -outputs[:, 0]).item() == -1
    with pytest.raises(InvalidTargetError, match=r"into torch.float32 scores \(1,\)"):
        perturbation(linear(effects), torch.tensor([effects]), lambda outputs: outputs)


def test_metrics_ask_the_record_what_its_outputs_mean(tiny, images):
    model = tiny(num_classes=1)
    trace = replace(tokentm.record(model, images(model)), outputs="sigmoid")
    scores = tokentm.TokenTM()(trace).scores
    remove = Removal(trace)
    assert remove.outputs == "sigmoid"
    found = perturbation(remove, scores, trace.target)
    assert found.aopc.abs().min() > 1e-3  # the softmax of a single output never moves
    torch.testing.assert_close(found.aopc, perturbation(remove, scores, trace.target, "sigmoid").aopc)
    assert perturbation(remove, scores, trace.target, "softmax").aopc.tolist() == [0, 0]
    by_hand = perturbation(remove, scores, lambda outputs: outputs.sigmoid()[:, 0])
    torch.testing.assert_close(by_hand.deletion, found.deletion)
    assert saco(remove, scores, trace.target).abs().min() > 0
    assert saco(remove, scores, trace.target, "softmax").tolist() == [0, 0]
    with pytest.raises(InvalidOptionError, match="outputs have probabilities"):
        saco(Removal(replace(trace, outputs="none")), scores, trace.target)


def test_a_record_of_a_function_is_measured_by_what_it_explained(tiny, images):
    model = tiny()
    trace = tokentm.record(model, images(model), lambda logits: logits[:, 4] - logits[:, 3])
    scores, remove = tokentm.TokenTM()(trace).scores, Removal(trace)
    found = perturbation(remove, scores, trace.explained)
    none = torch.zeros(2, 6, dtype=torch.bool)
    start, end = remove(none), remove(~none)
    torch.testing.assert_close(remove.score(start), trace.scores)
    ends = curves(remove, ranking(scores), trace.explained).value[:, [0, -1]]
    torch.testing.assert_close(ends, torch.stack([one[:, 4] - one[:, 3] for one in (start, end)], 1))
    assert found.lodds is None


def test_saco_has_its_ends():
    remove, perfect = additive(EFFECTS, BASE), torch.tensor([EFFECTS])
    assert saco(remove, perfect, ZERO).item() == pytest.approx(1)
    assert saco(remove, -perfect, ZERO).item() == pytest.approx(-1)
    assert saco(remove, torch.ones(1, 10), ZERO).item() == 0


def test_saco_of_one_wrong_pair_is_counted_by_its_size():
    remove = additive([0.1, 0.2, 0.3], 0.2)
    # claims 3 - 2, 3 - 1, 2 - 1; the first patch has the least effect, so the two claims about it are wrong: 1, 2
    found = saco(remove, torch.tensor([[3.0, 2.0, 1.0]]), ZERO)
    assert found.item() == pytest.approx((-1 - 2 - 1) / 4)
    found = saco(remove, torch.tensor([[2.0, 1.0, 3.0]]), ZERO)
    assert found.item() == pytest.approx((1 + 2 - 1) / 4)


def test_saco_counts_equal_effects_for_neither_side():
    assert saco(lambda gone: torch.zeros(1, 2), torch.tensor([[3.0, 2.0, 1.0]]), ZERO).item() == 0
    # the claims 3 - 2, 3 - 1, 2 - 1; the last is about two patches of one effect
    remove = additive([0.3, 0.1, 0.1], 0.2)
    assert saco(remove, torch.tensor([[3.0, 2.0, 1.0]]), ZERO).item() == pytest.approx((1 + 2) / 4)


@pytest.mark.parametrize("patches", [1, 3, 10, 45, 196])
@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3])
def test_saco_of_a_constant_map_is_zero_on_any_number_of_patches(patches, constant):
    effects = (torch.rand(patches, generator=torch.Generator().manual_seed(0)) / patches).tolist()
    assert saco(additive(effects, 0.1), torch.full((1, patches), constant), ZERO).item() == 0


def test_saco_does_not_hear_a_constant_that_is_added_to_all_scores():
    generator = torch.Generator().manual_seed(0)
    effects, scores = torch.rand(196, generator=generator) / 300, torch.rand(1, 196, generator=generator)
    remove = additive(effects.tolist(), 0.1)
    found = saco(remove, scores, ZERO)
    assert abs(found.item()) > 0.01
    for constant in (-3.0, 0.5, 10.0):
        torch.testing.assert_close(saco(remove, scores + constant, ZERO), found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("logits", [[[50.0, -50.0]], [[0.7]]], ids=["saturated", "one output"])
def test_saco_of_a_model_that_does_not_move_is_zero_for_any_map(logits):
    scores = torch.rand(1, 196, generator=torch.Generator().manual_seed(0))
    assert saco(lambda gone: torch.tensor(logits), scores, ZERO).item() == 0


@pytest.mark.parametrize("patches", [7, 45, 196])
def test_saco_agrees_with_its_algorithm_written_out(patches):
    """Pair by pair in plain numbers, as the paper's algorithm 1 does, with means for sums and ties for neither."""
    generator = np.random.default_rng(patches)
    effects, scores = generator.random(patches) / (2 * patches), generator.normal(size=patches)
    order = sorted(range(patches), key=lambda p: -scores[p])
    sizes = [patches // 10 + (g < patches % 10) for g in range(10)] if patches >= 10 else [1] * patches
    groups, start = [], 0
    for size in sizes:
        groups.append(order[start : start + size])
        start += size
    coefficient = total = 0.0
    for i, strong in enumerate(groups):
        for weak in groups[i + 1 :]:
            claim = np.mean(scores[strong]) - np.mean(scores[weak])
            gain = effects[strong].sum() - effects[weak].sum()
            coefficient += claim * np.sign(gain)
            total += abs(claim)
    found = saco(additive(effects.tolist(), 0.3), torch.from_numpy(scores)[None], ZERO)
    assert found.item() == pytest.approx(coefficient / total)


def test_saco_takes_ten_groups_of_many_patches():
    counts = []

    def remove(gone: Tensor) -> Tensor:
        counts.append(int(gone.sum()))
        return torch.zeros(1, 2)

    saco(remove, torch.rand(1, 45), ZERO)
    assert counts == [0, *[5] * 5, *[4] * 5]


MASK = torch.zeros(1, 10, 10, dtype=torch.bool)
MASK[0, 2:6, 3:8] = True  # 20 of 100 pixels


@pytest.mark.parametrize(
    ("heat", "accuracy", "miou", "precision", "mass"),
    [
        (MASK.float(), 1, 1, 1, 1),
        ((~MASK).float(), 0, 0, None, 0),
        (torch.ones(1, 10, 10), 0.8, 0.4, 0.2, 0.2),  # nothing is above its mean: all background
        (torch.zeros(1, 10, 10), 0.8, 0.4, 0.2, 0),
        (MASK.float() * 1e-6 - 5, 1, 1, 1, 0),  # negative everywhere: no mass, the right order
        (2 * MASK.float() - 1, 1, 1, 1, 1),  # what speaks against the class is no mass
    ],
    ids=["perfect", "inverted", "constant", "zero", "negative", "both signs"],
)
def test_segmentation_has_its_ends(heat, accuracy, miou, precision, mass):
    found = segmentation(heat.double(), MASK)
    assert {tuple(getattr(found, f.name).shape) for f in fields(found)} == {(1,)}
    assert found.pixel_accuracy.item() == pytest.approx(accuracy)
    assert found.miou.item() == pytest.approx(miou)
    if precision is not None:
        assert found.average_precision.item() == pytest.approx(precision)
    assert found.mass_inside.item() == pytest.approx(mass)
    assert found.area.item() == pytest.approx(0.2)


def highest_inside(heat: np.ndarray, mask: np.ndarray, count: int, draws: int = 2000) -> float:
    """The share of the highest pixels that lies on the object, ties broken by lots, over and over."""
    generator, total = np.random.default_rng(0), 0.0
    for _ in range(draws):
        lots = generator.permutation(heat.size)
        order = sorted(range(heat.size), key=lambda i: (-heat.flat[i], lots[i]))
        total += sum(bool(mask.flat[i]) for i in order[:count]) / count
    return total / draws


@pytest.mark.parametrize("levels", [2, 3, 1000], ids=["nearly all tied", "many tied", "hardly any tied"])
def test_localisation_is_that_of_ties_broken_by_lots(levels):
    heat = torch.randint(0, levels, (3, 4, 5), generator=torch.Generator().manual_seed(1)).double()
    mask = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(2)) < 0.4
    found = segmentation(heat, mask)
    for i in range(3):
        size = int(mask[i].sum())
        for name, count in (("rank_inside", size), ("points_inside", 1)):
            expected = highest_inside(heat[i].numpy(), mask[i].numpy(), count)
            assert getattr(found, name)[i].item() == pytest.approx(expected, abs=0.04), (name, i)


def test_localisation_of_a_map_without_a_clue_is_the_object_s_area():
    for heat in (torch.ones(1, 10, 10), torch.zeros(1, 10, 10), -torch.ones(1, 10, 10)):
        found = segmentation(heat, MASK)
        assert (found.rank_inside.item(), found.points_inside.item()) == pytest.approx((0.2, 0.2))
    found = segmentation(MASK.float(), MASK)
    assert (found.rank_inside.item(), found.points_inside.item()) == (1, 1)
    found = segmentation(-MASK.float(), MASK)
    assert (found.rank_inside.item(), found.points_inside.item()) == (0, 0)


def test_segmentation_of_a_half_right_map_is_counted_by_hand():
    heat = torch.zeros(1, 10, 10)
    heat[0, 2:6, 3:5] = 1  # 8 of the 20 pixels, and 4 beside
    heat[0, 0, :4] = 1
    found = segmentation(heat, MASK)
    assert found.pixel_accuracy.item() == pytest.approx((8 + 76) / 100)
    assert found.miou.item() == pytest.approx((8 / 24 + 76 / 92) / 2)
    assert found.mass_inside.item() == pytest.approx(8 / 12)
    assert found.rank_inside.item() == pytest.approx(
        (8 + 8 * 12 / 88) / 20
    )  # 12 marked; 8 more of 88, 12 of them inside
    assert found.points_inside.item() == pytest.approx(8 / 12)
    assert found.average_precision.item() == pytest.approx(8 / 20 * 8 / 12 + 12 / 20 * 20 / 100)


@pytest.mark.parametrize(
    ("heat", "mask", "words"),
    [
        (torch.ones(1, 9, 10), MASK, r"one shape .*\(1, 9, 10\)"),
        (torch.ones(1, 10, 10), MASK.float(), "boolean masks; got torch.float32"),
        (torch.ones(1, 10, 10), torch.zeros_like(MASK), r"mask\(s\) \[0\]"),
        (torch.ones(1, 10, 10), torch.ones_like(MASK), r"mask\(s\) \[0\]"),
    ],
)
def test_segmentation_refuses_masks_that_do_not_fit(heat, mask, words):
    with pytest.raises(InvalidOptionError, match=words):
        segmentation(heat, mask)


OTHER = torch.zeros_like(MASK)
OTHER[0, 8:, :5] = True


@pytest.mark.parametrize(
    ("heat", "picks", "share"),
    [
        (MASK.float(), 1, 1),
        (OTHER.float(), 0, 0),
        (torch.ones(1, 10, 10), 0.5, 0.5),
        (torch.zeros(1, 10, 10), 0.5, 0.5),
        (3 * MASK.float() + OTHER.float(), 1, 0.75),
        (-OTHER.float(), 1, 0.5),
    ],
    ids=["on the named", "on the other", "constant", "zero", "three to one", "against the other"],
)
def test_discrimination_has_its_ends(heat, picks, share):
    found = discrimination(heat, MASK, OTHER)
    assert (found.picks.item(), found.share.item()) == pytest.approx((picks, share))


def test_discrimination_refuses_what_it_cannot_compare():
    with pytest.raises(InvalidOptionError, match=r"mask of map\(s\) \[0\] is empty"):
        discrimination(torch.ones(1, 10, 10), MASK, torch.zeros_like(MASK))
    with pytest.raises(InvalidOptionError, match="one shape"):
        discrimination(torch.ones(1, 10, 9), MASK, OTHER)
    with pytest.raises(InvalidOptionError, match=r"torch\.float32"):
        discrimination(torch.ones(1, 10, 10), MASK, OTHER.float())


def test_rank_correlation_agrees_with_scipy_and_has_its_ends():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(3, 50, generator=generator), torch.rand(3, 50, generator=generator)
    expected = [stats.spearmanr(x, y).statistic for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    np.testing.assert_allclose(rank_correlation(a, b), expected, atol=1e-6)
    assert rank_correlation(a, a.exp()).tolist() == pytest.approx([1] * 3)
    assert rank_correlation(a, -a).tolist() == pytest.approx([-1] * 3)
    assert rank_correlation(a, torch.ones_like(a)).tolist() == [0] * 3


def test_class_sensitivity_is_spearman_s_correlation_of_each_pair():
    generator = torch.Generator().manual_seed(0)
    scores, others = torch.rand(3, 20, generator=generator), torch.rand(3, 4, 20, generator=generator)
    found = class_sensitivity(scores, others)
    for i in range(3):
        pairs = [stats.spearmanr(scores[i], others[i, k]).statistic for k in range(4)]
        assert found.least_likely[i].item() == pytest.approx(pairs[-1], abs=1e-6)
        assert found.other_classes[i].item() == pytest.approx(sum(pairs) / 4, abs=1e-6)
    same = class_sensitivity(scores, scores[:, None].expand(-1, 4, -1))
    assert same.least_likely.tolist() == same.other_classes.tolist() == pytest.approx([1] * 3)


@pytest.mark.parametrize("shape", [(3, 0, 20), (3, 4, 19), (2, 4, 20), (3, 20)], ids=str)
def test_class_sensitivity_refuses_maps_that_do_not_belong_together(shape):
    with pytest.raises(InvalidOptionError, match=r"at least one other class \(B, K, P\); got \(3, 20\) and"):
        class_sensitivity(torch.rand(3, 20), torch.rand(shape))


@pytest.mark.parametrize("classes", [2, 3, 6, 7, 30])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_other_classes_go_from_the_next_to_the_least_likely(classes, count):
    logits = torch.randn(4, classes, generator=torch.Generator().manual_seed(0))
    explained = torch.tensor([0, 1, 0, 1])
    found = other_classes(logits, explained, count)
    for i in range(4):
        others = sorted((c for c in range(classes) if c != explained[i]), key=lambda c: -logits[i, c].item())
        chosen = found[i].tolist()
        assert len(chosen) == len(set(chosen)) == min(count, classes - 1)
        assert chosen[-1] == others[-1]
        if len(chosen) > 1:
            assert chosen[0] == others[0]
        gaps = np.diff([others.index(c) for c in chosen])
        assert gaps.size == 0 or gaps.max() - gaps.min() <= 1
    with pytest.raises(InvalidOptionError, match=r"at least two classes, .*; it has one output"):
        other_classes(torch.zeros(2, 1), torch.tensor([0, 0]))


def test_sign_flips_of_few_pictures_are_all_counted():
    table = np.random.default_rng(0).normal(0.3, 1, (8, 3))
    table[:, 2] = 0
    found = sign_flip(table)
    for k in range(3):
        means = [abs(np.dot([1 if code >> i & 1 else -1 for i in range(8)], table[:, k])) for code in range(256)]
        assert found[k] == sum(mean >= abs(table[:, k].sum()) - 1e-12 for mean in means) / 256
    assert found[2] == 1
    assert found.tolist() == pytest.approx(
        stats.permutation_test((table,), np.sum, permutation_type="samples", n_resamples=np.inf, axis=0).pvalue.tolist()
    )


def test_sign_flips_of_many_pictures_agree_with_the_t_test_and_are_the_same_again():
    generator = np.random.default_rng(3)
    table = generator.normal(0, 1, (200, 5)) + np.array([0, 0.1, 0.15, 0.2, 0.6])
    found = sign_flip(table)
    np.testing.assert_allclose(found[:4], stats.ttest_1samp(table, 0).pvalue[:4], atol=0.01)
    assert found[4] == 1 / 20_001
    assert np.array_equal(found, sign_flip(table))


def test_holm_is_written_out_step_by_step():
    generator = np.random.default_rng(0)
    for _ in range(50):
        p = generator.random(6) ** 3
        for level in (0.01, 0.05, 0.2):
            left, rejected = set(range(6)), set()
            while left and p[smallest := min(left, key=lambda i: p[i])] * len(left) < level:
                rejected.add(smallest)
                left.remove(smallest)
            assert {i for i, corrected in enumerate(holm(p)) if corrected < level} == rejected
    assert holm([]) == []
    assert holm([0.5, 0.9]) == [1.0, 1.0]


@pytest.mark.parametrize(("deviation", "difference", "level"), [(1.0, 0.5, 0.05), (0.1, 0.08, 0.05), (2.0, 1.0, 0.005)])
def test_so_many_pictures_show_the_difference_in_four_of_five_experiments(deviation, difference, level):
    pictures = needed_pictures(deviation, difference, level)
    generator = np.random.default_rng(0)
    seen = stats.ttest_1samp(generator.normal(difference, deviation, (pictures, 20_000)), 0).pvalue < level
    fewer = stats.ttest_1samp(generator.normal(difference, deviation, (pictures - 1, 20_000)), 0).pvalue < level
    assert seen.mean() == pytest.approx(0.8, abs=0.04)
    assert fewer.mean() < seen.mean() + 0.005
    rough = ((stats.norm.ppf(1 - level / 2) + stats.norm.ppf(0.8)) * deviation / difference) ** 2
    assert rough < pictures < rough + 6


def test_a_plan_wants_a_difference():
    assert needed_pictures(0.0, 0.1) == 2
    for wrong in ((1.0, 0.0), (-1.0, 0.1), (1.0, 0.1, 0.0), (1.0, 0.1, 0.05, 1.0), (float("nan"), 0.1)):
        with pytest.raises(InvalidOptionError, match="expected a difference above 0"):
            needed_pictures(*wrong)


def test_randomisation_goes_down_from_the_classifier(tiny, images):
    model = tiny(depth=4)
    before = {name: p.clone() for name, p in model.named_parameters()}
    changed = {}
    for stage in STAGES:
        copy = randomised(model, stage)
        changed[stage] = {n for n, p in copy.named_parameters() if not torch.equal(p, before[n])}
        for name, parameter in copy.named_parameters():  # shuffled, not replaced
            assert torch.equal(parameter.flatten().sort().values, before[name].flatten().sort().values)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    tops = {stage: {name.split(".")[0] for name in names} for stage, names in changed.items()}
    assert tops["classifier"] == {"norm", "head"}
    blocks = [{name.split(".")[1] for name in changed[stage] if name.startswith("blocks")} for stage in STAGES]
    assert blocks == [set(), {"2", "3"}, {"0", "1", "2", "3"}, {"0", "1", "2", "3"}]
    assert {"pos_embed", "patch_embed"} <= tops["everything"]
    assert not {"pos_embed", "patch_embed"} & tops["all blocks"]
    with pytest.raises(InvalidOptionError, match="expected a stage among classifier, upper half"):
        randomised(model, "half")


@pytest.fixture
def gone() -> Tensor:
    return torch.tensor([[True, False, True, False, False, False], [False, False, False, False, True, True]])


@pytest.mark.parametrize("options", [{}, {"reg_tokens": 2}, {"distilled": True}, {"global_pool": "avg"}], ids=str)
def test_dropped_patches_have_no_say(tiny, images, gone, options):
    model = tiny(**options)
    pixels = images(model)
    remove = Removal(tokentm.record(model, pixels, 0))
    found = remove(gone)
    noise = pixels.clone()
    for i, patch in gone.nonzero().tolist():
        row, column = divmod(patch, 3)
        noise[i, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 7.0
    assert torch.equal(Removal(tokentm.record(model, noise, 0))(gone), found)
    assert not torch.allclose(found, model(pixels), atol=1e-2)
    assert torch.equal(remove(torch.zeros_like(gone)), tokentm.record(model, pixels, 0).logits)
    assert remove(torch.ones_like(gone)).shape == (2, 5)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_dropping_equals_a_sequence_without_these_tokens(tiny, images, gone):
    model = tiny(reg_tokens=1)
    pixels = images(model)
    found = Removal(tokentm.record(model, pixels, 0))(gone)
    with torch.no_grad():
        tokens = model.norm_pre(model._pos_embed(model.patch_embed(pixels)))
        for i in range(2):
            kept = [0, 1, *(2 + j for j in range(6) if not gone[i, j])]
            logits = model.forward_head(model.norm(model.blocks(tokens[i : i + 1, kept])))
            torch.testing.assert_close(found[i : i + 1], logits)


@pytest.mark.parametrize("replace", ["zero", "mean", "blur"])
def test_replaced_pixels_are_those_of_the_patches(tiny, images, gone, replace):
    model = tiny()
    pixels = images(model)
    remove = Removal(tokentm.record(model, pixels, 0), replace)
    expected = pixels.clone()
    fill = {
        "zero": torch.zeros_like(pixels),
        "mean": pixels.flatten(2).mean(2)[..., None, None].expand_as(pixels),
        "blur": remove._fill,
    }[replace]
    for i, patch in gone.nonzero().tolist():
        area = np.s_[i, :, 8 * (patch // 3) : 8 * (patch // 3) + 8, 8 * (patch % 3) : 8 * (patch % 3) + 8]
        expected[area] = fill[area]
    torch.testing.assert_close(remove(gone), model(expected).detach())


def test_hidden_squares_lie_where_their_tokens_look(tiny, images):
    """Offsets in patches of 8 pixels: a quarter down is 2 pixels, a half to the left 4."""
    model = tiny()
    trace = tokentm.record(model, images(model), 0)
    trace = replace(trace, layout=replace(trace.layout, offset=(0.25, -0.5)))
    remove = Removal(trace, "zero")
    patch = torch.zeros(2, 6, dtype=torch.bool)
    patch[0, 1], patch[1, 5] = True, True  # middle of the first row; the end of the last
    hidden = remove._pixels(patch)
    wanted = torch.zeros(2, 1, 16, 24, dtype=torch.bool)
    wanted[0, 0, 0:10, 4:12] = True  # 2 .. 10 down, and the edge above, at which nothing looks
    wanted[1, 0, 10:16, 12:24] = True  # 12 .. 20 across, and the edge beside
    assert torch.equal(hidden, wanted)
    one_each = torch.stack([remove._pixels(torch.eye(6, dtype=torch.bool)[[p, p]])[0] for p in range(6)])
    assert (one_each.sum(0) == 1).all()  # all gone hides the whole picture, no pixel belongs to two patches
    torch.testing.assert_close(remove(patch), model(torch.where(wanted, 0, trace.images)).detach())


def test_copies_of_one_image_lose_patches_of_their_own(tiny, images, gone):
    model = tiny()
    trace = tokentm.record(model, images(model), [0, 3])
    one = tokentm.record(model, trace.images[1:], 3)
    for way in ("drop", "mean", "blur"):
        copies = Removal(trace, way, index=1, count=2)
        alone = Removal(one, way)
        wanted = torch.cat([alone(row[None]) for row in gone])
        torch.testing.assert_close(copies(gone), wanted)
        torch.testing.assert_close(copies.score(copies(gone)), wanted[:, 3])
    assert torch.equal(copies(torch.zeros_like(gone)), trace.logits[[1, 1]])


def test_a_function_that_tells_images_apart_is_asked_in_the_place_of_the_image(tiny, images):
    model = tiny()
    weights = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    trace = tokentm.record(model, images(model), lambda logits: (logits * weights).sum(1))
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(Removal(trace, index=1, count=7).score(logits), logits @ weights[1])


@pytest.mark.parametrize("way", ["drop", "zero"])
def test_a_model_that_changed_after_the_record_is_not_run_again(tiny, images, way):
    model = tiny()
    trace = tokentm.record(model, images(model), 0)
    Removal(trace, way)
    model.head.bias.data[1] += 0.5  # which leaves no trace but the logits
    with pytest.raises(ModelChangedError, match=r"its weights, .* have changed since.*Record it again"):
        Removal(trace, way)
    model.reset_classifier(3)
    with pytest.raises(ModelChangedError, match="have changed since"):
        Removal(trace, way, index=0, count=4)


def test_blur_keeps_the_mean_and_takes_the_detail(tiny, images):
    model = tiny()
    pixels = torch.zeros_like(images(model))
    pixels[..., ::2] = 1.0
    fill = Removal(tokentm.record(model, pixels, 0), "blur")._fill
    assert fill.std() < 0.02
    assert fill.mean().item() == pytest.approx(0.5, abs=0.05)


def test_removal_refuses_what_would_be_wrong(tiny, images, gone):
    model = tiny()
    trace = tokentm.record(model, images(model), 0)
    with pytest.raises(InvalidOptionError, match="among drop, zero, mean, blur; got 'noise'"):
        Removal(trace, "noise")
    with pytest.raises(InvalidOptionError, match=r"same number of dropped patches in every image; got \[1, 2\]"):
        Removal(trace)(torch.tensor([[True, *[False] * 5], [True, True, *[False] * 4]]))
    without = tiny(global_pool="avg", class_token=False)
    with pytest.raises(InvalidOptionError, match=r"expected a token to be left .*replace='zero'"):
        Removal(tokentm.record(without, images(without), 0))(torch.ones_like(gone))
    assert Removal(tokentm.record(without, images(without), 0), "zero")(torch.ones_like(gone)).shape == (2, 5)


def test_tokens_with_positions_inside_the_blocks_are_not_dropped():
    from timm.models.eva import Eva

    torch.manual_seed(0)
    model = Eva(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=3, use_rot_pos_emb=True)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    trace = tokentm.record(model.eval(), torch.randn(1, 3, 32, 32), 0)
    with pytest.raises(InvalidOptionError, match="the order of tokens counts"):
        Removal(trace)
    assert Removal(trace, "mean")(torch.arange(16)[None] < 4).shape == (1, 3)


@pytest.mark.parametrize("way", ["drop", "zero"])
@pytest.mark.parametrize(
    "spoil",
    [lambda gone: gone[:1], lambda gone: gone.int(), lambda gone: gone[:, :2], lambda gone: gone.tolist()],
    ids=["fewer images", "integers", "fewer patches", "a list"],
)
def test_removal_wants_one_mask_for_each_image_and_patch(tiny, images, spoil, way):
    model = tiny()
    remove = Removal(tokentm.record(model, images(model), 0), way)
    gone = torch.zeros(2, 6, dtype=torch.bool)
    gone[:, :2] = True
    remove(gone)
    with pytest.raises(InvalidOptionError, match=r"which patches are gone as bool \(2, 6\); got"):
        remove(spoil(gone))


def test_a_removal_whose_model_changes_is_refused_at_the_next_call(tiny, images):
    model = tiny()
    remove = Removal(tokentm.record(model, images(model), 0), "zero")
    gone = torch.zeros(2, 6, dtype=torch.bool)
    gone[:, 0] = True
    remove(gone)
    with torch.no_grad():
        model.head.weight.mul_(3)
    with pytest.raises(ModelChangedError):
        remove(gone)


@pytest.mark.parametrize("measure", [perturbation, saco])
def test_metrics_refuse_what_cannot_be_measured(tiny, images, measure):
    model = tiny()
    trace = tokentm.record(model, images(model), 0)
    remove, scores = Removal(trace), torch.rand(2, 6)
    for bad in (scores * torch.nan, scores[0]):
        with pytest.raises(InvalidOptionError):
            measure(remove, bad, trace.target)
    for target in (torch.tensor([9, 0]), torch.tensor([0.0, 1.0])):
        with pytest.raises(InvalidOptionError, match="expected class indices"):
            measure(remove, scores, target)
    with pytest.raises(InvalidOptionError, match="expected outputs among"):
        measure(remove, scores, trace.target, outputs="sofmax")


def test_a_removal_wants_a_record_and_an_image_of_it(tiny, images):
    model = tiny()
    trace = tokentm.record(model, images(model), 0)
    for options in ({"index": 7}, {"index": "a"}, {"index": 0, "count": 0}):
        with pytest.raises(InvalidOptionError, match="expected an index from 0 to 1"):
            Removal(trace, **options)
    with pytest.raises(InvalidOptionError, match="expected a record"):
        Removal(model)

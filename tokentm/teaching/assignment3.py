"""Assignment 3, a fair comparison of explanation methods: what the parts of a benchmark must do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

import tokentm
from tokentm.teaching.core import Exercise, Misstep, kind, same, tensor
from tokentm.teaching.fresh import small_images, small_vit
from tokentm.teaching.watch import borrowed

Answer = Callable[..., Any]

_LIBRARY = ("evaluation",)
"""What the assignment is to write, as the library has it."""


def _by_hand(answer: Answer, *given: Any) -> str | None:
    if names := [name for name in borrowed(_LIBRARY, answer, *given) if "removal" not in name]:
        return f"right, but it calls {names[0]}. To write that is the task."
    return None


def _scores() -> Iterator[Tensor]:
    """Scores (B, P) without ties."""
    for seed, shape in enumerate(((2, 7), (3, 12), (1, 20))):
        yield torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _order(rank: Answer, scores: Tensor, seed: int = 0) -> Tensor:
    batch, patches = scores.shape
    found = tensor(rank(scores, seed), (batch, patches), "(images, patches), numbers of patches in order")
    if not torch.equal(found.sort(1).values, torch.arange(patches).expand(batch, -1).double()):
        raise Misstep(
            f"every patch from 0 to {patches - 1} stands once in the order of an image; in yours not. Return the "
            "numbers of the patches, not their scores."
        )
    return found.long()


def the_most_relevant_come_first(rank: Answer) -> str | None:
    for scores in _scores():
        ordered = scores.gather(1, _order(rank, scores))
        if torch.equal(ordered, scores.sort(1).values):
            return "it begins with the least relevant patch: the highest score comes first."
        if not torch.equal(ordered, scores.sort(1, descending=True).values):
            ranks = scores.argsort(1, descending=True).argsort(1)
            if torch.equal(_order(rank, scores), ranks):
                return (
                    "these are the ranks of the patches; wanted are the patches in their order. One argsort, not two."
                )
            return "read in your order, the scores of each image must fall; they do not. Sort each image by itself."
    return None


def ties_fall_by_lot(rank: Answer) -> str | None:
    count = 400
    tied = torch.zeros(1, 6)
    tied[0, 5] = 1.0
    first = torch.stack([_order(rank, tied, seed)[0] for seed in range(count)])
    if not torch.equal(first, torch.stack([_order(rank, tied, seed)[0] for seed in range(count)])):
        return "the same scores and the same seed must give the same order; yours differs from call to call."
    if (first == first[0]).all():
        return (
            "equal scores keep their place in the picture, whatever the seed: methods that score half of the patches "
            "0 would then take away the picture from its top. Shuffle the patches before you sort."
        )
    places = torch.stack([(first[:, 1:] == patch).float().argmax(1) for patch in range(5)]).float().mean(1)
    if (places - 2).abs().max() > 0.35:  # mean place of a fair draw: 2, standard error 0.07
        return "among equal scores every order must be equally likely; in yours some patches come earlier."
    return None


def lots_do_not_disturb_the_order(rank: Answer) -> str | None:
    scores = torch.tensor([[1.0, 1 + 1e-6, 1 - 1e-6, 0.0, 1e-6, -1e-6]])
    for seed in range(20):
        if _order(rank, scores, seed)[0].tolist() != [1, 0, 2, 4, 3, 5]:
            return "scores that differ by a millionth are no tie. Shuffle and sort; add no noise to the scores."
    return _by_hand(rank, scores, 0)


RANK = Exercise(
    properties=(the_most_relevant_come_first, ties_fall_by_lot, lots_do_not_disturb_the_order),
    right="an order by relevance, and where scores are equal the place in the picture decides nothing.",
    hints=(
        "which patch comes first where two scores are equal? A sort decides by place.",
        "draw a random order of the patches with a generator of that seed; sort the shuffled scores, stable=True.",
        "the sorted positions are positions in the shuffle: shuffle[position] is the patch.",
    ),
)


class _Judge(NamedTuple):
    """An additive model: the logit of class 1 is the sum of what the patches that are left give."""

    gives: Tensor

    def __call__(self, gone: Tensor) -> Tensor:
        logit = (self.gives * ~gone).sum(1)
        return torch.stack((torch.zeros_like(logit), logit, -logit), dim=1)


def _judges() -> Iterator[tuple[_Judge, Tensor, Tensor]]:
    """Judge, order of patches (B, P), target (B,)."""
    for seed, (batch, patches) in enumerate(((2, 10), (3, 20), (1, 30))):
        generator = torch.Generator().manual_seed(seed)
        gives = torch.randn(batch, patches, generator=generator)
        yield _Judge(gives), gives.argsort(1, descending=True), torch.ones(batch, dtype=torch.long)


_STEPS = 10


def _expected_curve(judge: _Judge, order: Tensor, target: Tensor) -> Tensor:
    points = []
    for step in range(_STEPS + 1):
        gone = torch.zeros_like(order, dtype=torch.bool)
        gone.scatter_(1, order[:, : round(step / _STEPS * order.shape[1])], True)
        points.append(judge(gone).softmax(1).gather(1, target[:, None]).squeeze(1))
    return torch.stack(points, 1)


def _curve(deletion: Answer, judge: _Judge, order: Tensor, target: Tensor) -> Tensor:
    shape = (len(order), _STEPS + 1)
    return tensor(deletion(judge, order, target), shape, "(images, 11 points from nothing gone to everything gone)")


def the_curve_begins_with_the_whole_picture(deletion: Answer) -> str | None:
    for judge, order, target in _judges():
        found = _curve(deletion, judge, order, target)
        rows = torch.arange(len(order))
        whole = judge(torch.zeros_like(order, dtype=torch.bool))
        empty = judge(torch.ones_like(order, dtype=torch.bool))
        if same(found[:, 0], whole[rows, target]):
            return "these are logits; wanted is the probability of the target, between 0 and 1: softmax."
        if same(found[:, 0], empty.softmax(1)[rows, target]) and same(found[:, -1], whole.softmax(1)[rows, target]):
            return "it puts patches back, from nothing to all; deletion takes them away. `gone` marks what is missing."
        if not same(found[:, 0], whole.softmax(1)[rows, target]):
            return "the first point is the target's probability for the whole picture, nothing gone; yours is another."
        if not same(found[:, -1], empty.softmax(1)[rows, target]):
            return "at the last point every patch is gone; at yours not. Eleven points: 0, 10 ... 100 %."
    return None


def more_and_more_is_gone(deletion: Answer) -> str | None:
    for judge, order, target in _judges():
        seen: list[Tensor] = []

        def watched(gone: Tensor, judge: _Judge = judge, seen: list[Tensor] = seen) -> Tensor:
            seen.append(gone.clone())
            return judge(gone)

        tensor(deletion(watched, order, target), (len(order), _STEPS + 1), "(images, 11 points)")
        seen.sort(key=lambda gone: int(gone.sum()))
        if any((less & ~more).any() for less, more in pairwise(seen)):
            return "patches come back from one point to the next: at 30 % the first 30 % of the order are gone."
        for gone in seen:
            first = order[:, : int(gone[0].sum())]
            if not gone.gather(1, first).all():
                return "what is gone must be the first patches of each image's own order; in yours others are."
    return None


def every_target_is_its_images_own(deletion: Answer) -> str | None:
    for judge, order, target in _judges():
        mixed = torch.arange(len(target)) % 3
        if not same(_curve(deletion, judge, order, mixed), _expected_curve(judge, order, mixed)):
            if same(_curve(deletion, judge, order, target), _expected_curve(judge, order, target)):
                return "each image has a target of its own: gather(1, target[:, None]) takes it."
            return "the curve is not the probability of the target while the first patches of the order go."
    return _by_hand(deletion, *next(_judges()))


DELETION = Exercise(
    properties=(
        the_curve_begins_with_the_whole_picture,
        more_and_more_is_gone,
        every_target_is_its_images_own,
    ),
    right="from the whole picture to nothing, every image by its own order and for its own class.",
    hints=(
        "for every point: which patches are gone? A bool tensor (images, patches).",
        "gone.scatter_(1, order[:, :count], True) marks the first `count` patches of every image.",
        "remove(gone).softmax(1), and of every image the column of its target.",
    ),
)


def _area(area: Answer, curve: Tensor) -> Tensor:
    return tensor(area(curve), (len(curve),), "one area for each image")


def a_flat_curve_has_its_own_height_as_area(area: Answer) -> str | None:
    for points in (3, 11):
        flat = torch.tensor([0.25, 0.75])[:, None].expand(-1, points)
        found = _area(area, flat)
        if same(found, flat[:, 0] * (points - 1)):
            return f"a curve that stays at 0.25 has the area 0.25; yours {found[0]:.3g}. Divide by the number of steps."
        if not same(found, flat[:, 0]):
            return f"a curve that stays at 0.25 has the area 0.25; yours {found[0]:.3g}."
    return None


def ends_count_half(area: Answer) -> str | None:
    found = _area(area, torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0]]))
    if same(found[0], found[1]):
        return "the first and the last point count half, they have a neighbour on one side: trapezoids, not a mean."
    if not same(found, torch.tensor([0.125, 0.25])):
        return "between two points the curve is a straight line: the area of 1, 0, 0, 0, 0 is 0.125; yours is another."
    return None


def the_area_is_that_under_the_lines(area: Answer) -> str | None:
    curve = torch.rand(4, 11, generator=torch.Generator().manual_seed(0))
    if not same(_area(area, curve), torch.trapezoid(curve, dim=1) / 10):
        return "for a random curve it is not the area under the lines between its points."
    return None


AREA = Exercise(
    properties=(a_flat_curve_has_its_own_height_as_area, ends_count_half, the_area_is_that_under_the_lines),
    right="one number for each curve, between its lowest and its highest point.",
    hints=("the area of one step is the mean of its two ends.", "torch.trapezoid, and the width is 1."),
)


def _interval(interval: Answer, differences: Tensor, level: float = 0.95) -> tuple[float, float, float]:
    found = tensor(interval(differences, level), (3,), "(mean, low, high)")
    return float(found[0]), float(found[1]), float(found[2])


def _sample(seed: int, count: int, shift: float = 0.0) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed)) + shift


def the_mean_lies_inside(interval: Answer) -> str | None:
    for seed, count in ((0, 40), (1, 100)):
        differences = _sample(seed, count, 0.3)
        mean, low, high = _interval(interval, differences)
        if abs(mean - differences.mean()) > 1e-5:
            return f"the first number is the mean of the differences, {differences.mean():.3f}; yours is {mean:.3f}."
        if not low - 1e-6 <= mean <= high + 1e-6:
            return "the mean lies between low and high; in yours it does not. Return (mean, low, high)."
    if _interval(interval, torch.full((20,), 0.5)) != (0.5, 0.5, 0.5):
        return "if every picture differs by 0.5, the interval is 0.5 .. 0.5; yours is wider."
    return None


def is_as_wide_as_the_mean_is_uncertain(interval: Answer) -> str | None:
    for seed, count in ((2, 40), (3, 160)):
        differences = _sample(seed, count)
        _, low, high = _interval(interval, differences)
        normal = 2 * 1.96 * float(differences.std()) / count**0.5
        share = (high - low) / normal
        if share < 0.05:
            return "it has hardly any width: draw with replacement, as many pictures as there are."
        if share > count**0.5 * 0.7:
            return (
                "it holds 95 % of the pictures; wanted is where the mean of such pictures lies. Take the mean of every "
                "draw, then the quantiles of these means."
            )
        if not 0.8 < share < 1.2:
            return (
                f"for {count} pictures an interval of about {normal:.2f} is expected; yours is {high - low:.2f}. Draw "
                "as many pictures as there are, and cut off (1 - level) / 2 at each end."
            )
    return None


def follows_its_level(interval: Answer) -> str | None:
    differences = _sample(4, 60)
    narrow, usual, wide = (_interval(interval, differences, level) for level in (0.5, 0.95, 0.999))
    widths = [high - low for _, low, high in (narrow, usual, wide)]
    if not widths[0] < widths[1] < widths[2]:
        return "a higher level needs a wider interval; yours does not grow. Is 0.95 written into it?"
    if not 0.25 < widths[0] / widths[1] < 0.45:
        return f"50 % takes about a third of the width of 95 %; yours {widths[0] / widths[1]:.0%}."
    return None


def can_be_repeated(interval: Answer) -> str | None:
    differences = _sample(5, 30)
    torch.manual_seed(0)
    first = _interval(interval, differences)
    torch.manual_seed(1)
    if _interval(interval, differences) != first:
        return "called again, it must give the same: draw from a torch.Generator with a fixed seed."
    return None


INTERVAL = Exercise(
    properties=(the_mean_lies_inside, is_as_wide_as_the_mean_is_uncertain, follows_its_level, can_be_repeated),
    right="the mean of the differences, and how far it could have come out otherwise.",
    hints=(
        "the bootstrap: draw as many pictures as there are, with replacement, and take the mean; many times.",
        "torch.randint(n, (2000, n), generator=...) are 2000 draws; differences[draws].mean(1) their means.",
        "the ends are the quantiles (1 - level) / 2 and (1 + level) / 2 of these means.",
    ),
)


def _signs(verdicts: Answer, differences: Mapping[str, Tensor]) -> dict[str, str]:
    found = verdicts(dict(differences))
    if not isinstance(found, Mapping) or set(found) != set(differences):
        raise Misstep(f"expected a dict with one verdict for each method; yours is {kind(found)}.")
    wrong = [sign for sign in found.values() if sign not in ("+", "-", "=")]
    if wrong:
        raise Misstep(f'a verdict is "+", "-" or "="; yours holds {wrong[0]!r}.')
    return dict(found)


def finds_what_is_plain(verdicts: Answer) -> str | None:
    found = _signs(
        verdicts, {"better": _sample(0, 50, 2.0), "worse": _sample(1, 50, -2.0), "level": _sample(2, 50) * 0.01}
    )
    if (found["better"], found["worse"]) == ("-", "+"):
        return "the signs are the wrong way round: differences above 0 are better, +."
    if found["better"] != "+" or found["worse"] != "-":
        return "two standard deviations in 50 pictures are plain, and not found."
    return None


def pictures_count_in_pairs(verdicts: Answer) -> str | None:
    small = {f"method {i}": _sample(i, 40) * 0.001 + 0.01 for i in range(5)}
    if set(_signs(verdicts, small).values()) != {"+"}:
        return (
            "a small difference that every picture shows is a difference: + wherever the whole interval lies above 0, "
            "however small the mean."
        )
    return None


def many_methods_do_not_make_a_find(verdicts: Answer) -> str | None:
    runs, methods, alarms = 12, 16, 0
    for run in range(runs):
        noise = {f"method {i}": _sample(1000 + run * methods + i, 30) for i in range(methods)}
        alarms += any(sign != "=" for sign in _signs(verdicts, noise).values())
    if alarms > runs * 0.35:
        return (
            f"with {methods} methods that all differ by chance alone, {alarms} of {runs} comparisons call something "
            "better or worse; wanted: about 1 in 20. The more methods, the surer each verdict must be: share the "
            "5 % among them."
        )
    return None


VERDICTS = Exercise(
    properties=(finds_what_is_plain, pictures_count_in_pairs, many_methods_do_not_make_a_find),
    right="plain differences are found, and many comparisons do not find one by chance.",
    hints=(
        "an interval that leaves out 0 is a verdict. How sure must each be, if there are twenty?",
        "Bonferroni: with k methods, each interval gets the level 1 - 0.05 / k.",
    ),
)


def _readings() -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Areas of readings on validation pictures and on test pictures; lower is better, and the two disagree."""
    for seed in range(3):
        levels = ((2, 0), (0, 3), (1, 2), (4, 1), (3, 4))
        validation = {f"reading {i}": _sample(seed * 10 + i, 30, level) for i, (level, _) in enumerate(levels)}
        test = {f"reading {i}": _sample(100 + seed * 10 + i, 25, level) for i, (_, level) in enumerate(levels)}
        yield validation, test


def _chosen(choose: Answer, validation: dict[str, Tensor], test: dict[str, Tensor]) -> tuple[str, float]:
    found = choose(dict(validation), dict(test))
    if not isinstance(found, tuple | list) or len(found) != 2 or found[0] not in validation:
        raise Misstep(f"expected (name of a reading, its mean area on the test pictures); yours is {kind(found)}.")
    return found[0], float(tensor(found[1], tuple(getattr(found[1], "shape", ())), "one number").reshape(-1)[0])


def chooses_on_validation_alone(choose: Answer) -> str | None:
    for validation, test in _readings():
        name, _ = _chosen(choose, validation, test)
        means = {one: float(areas.mean()) for one, areas in validation.items()}
        if name == min(test, key=lambda one: float(test[one].mean())):
            return "it chooses what does best on the test pictures. These must not be looked at before the choice."
        if name == max(means, key=lambda one: means[one]):
            return "it chooses the largest area; for deletion a smaller one is better."
        if name != min(means, key=lambda one: means[one]):
            return "it does not choose the reading with the smallest mean area on the validation pictures."
    return None


def reports_the_test(choose: Answer) -> str | None:
    for validation, test in _readings():
        name, area = _chosen(choose, validation, test)
        if abs(area - float(validation[name].mean())) < 1e-6:
            return (
                "it reports the area on the pictures by which it chose. The winner of a race looks better there than "
                "it is: report its mean on the test pictures."
            )
        if abs(area - float(test[name].mean())) > 1e-5:
            return "it does not report the mean area of the chosen reading on the test pictures."
    return None


CHOOSE = Exercise(
    properties=(chooses_on_validation_alone, reports_the_test),
    right="chosen on one set of pictures, measured on another.",
    hints=("two steps, and each reads one of the two dicts.", "min(validation, key=lambda name: ...)"),
)


@cache
def _trace() -> tokentm.Trace:
    return tokentm.record(small_vit(3), small_images(3, 4), [0, 1, 2, 3])


def _fixed(scores: Tensor) -> Callable[[tokentm.Trace], Any]:
    return lambda trace: SimpleNamespace(scores=scores)


def _compared(compare: Answer, methods: Mapping[str, Any], remove: Any) -> dict[str, Tensor]:
    found = compare(_trace(), dict(methods), remove)
    if not isinstance(found, Mapping) or list(found) != list(methods):
        raise Misstep(f"expected a dict with the methods' names in their order; yours is {kind(found)}.")
    batch = len(_trace().images)
    return {name: tensor(areas, (batch,), f"one area for each image, for {name!r}") for name, areas in found.items()}


def _judge() -> _Judge:
    layout = _trace().layout
    patches = layout.rows * layout.columns
    return _Judge(torch.randn(4, patches, generator=torch.Generator().manual_seed(6)).abs())


def _target_judge(gone: Tensor) -> Tensor:
    """Logits for five classes: each image's target gains what its patches give."""
    logits = torch.zeros(len(gone), 5)
    target = _trace().target
    assert target is not None
    return logits.scatter(1, target[:, None], (_judge().gives * ~gone).sum(1, keepdim=True))


def the_true_order_is_best(compare: Answer) -> str | None:
    gives = _judge().gives
    methods = {"true": _fixed(gives), "reversed": _fixed(-gives), "random": tokentm.methods.METHODS["random"]}
    found = _compared(compare, methods, _target_judge)
    if (found["true"] >= found["reversed"]).all():
        return (
            "on a model that adds up its patches, taking away first what gives most must leave least; not so in yours."
        )
    if not (found["true"] <= found["random"] + 1e-6).all():
        return (
            "no order leaves less than the true one on a model that adds up its patches; in yours one does. Is it the "
            "explained class that you measure, trace.target?"
        )
    return None


def every_method_stands_on_the_same_ground(compare: Answer) -> str | None:
    scores = torch.randn(_judge().gives.shape, generator=torch.Generator().manual_seed(7))
    seen: list[object] = []

    def method(trace: tokentm.Trace) -> Any:
        seen.append(trace)
        return SimpleNamespace(scores=scores)

    found = _compared(compare, {"one": method, "two": method, "three": method}, _target_judge)
    if any(trace is not _trace() for trace in seen):
        return "every method must read the very trace that was given."
    if not (torch.equal(found["one"], found["two"]) and torch.equal(found["one"], found["three"])):
        return "the same method under three names must score the same; yours depends on the name or the order."
    tied = _fixed(torch.zeros_like(scores))
    twice = _compared(compare, {"one": tied, "two": tied}, _target_judge)
    if not torch.equal(twice["one"], twice["two"]):
        return "two methods without any opinion must score the same: give ties the same seed for every method."
    return None


def all_targets_are_those_explained(compare: Answer) -> str | None:
    trace = _trace()
    assert trace.target is not None
    scores = torch.randn(_judge().gives.shape, generator=torch.Generator().manual_seed(8))
    order = scores.argsort(1, descending=True)
    points = []
    for step in range(_STEPS + 1):
        gone = torch.zeros_like(order, dtype=torch.bool)
        gone.scatter_(1, order[:, : round(step / _STEPS * order.shape[1])], True)
        points.append(_target_judge(gone).softmax(1).gather(1, trace.target[:, None]).squeeze(1))
    wanted = torch.trapezoid(torch.stack(points, 1), dim=1) / _STEPS
    if not same(_compared(compare, {"a": _fixed(scores)}, _target_judge)["a"], wanted):
        return "it is not the area under the deletion curve of the explained class, trace.target."
    return _by_hand(compare, trace, {"a": _fixed(scores)}, _target_judge)


COMPARE = Exercise(
    properties=(
        the_true_order_is_best,
        every_method_stands_on_the_same_ground,
        all_targets_are_those_explained,
    ),
    right="same record, same class, same removal, same lots: what is left is the method.",
    hints=(
        "for every method: scores, order, curve, area, with your own functions.",
        "the class that is measured is the class that was explained, trace.target.",
    ),
)

EXERCISES: dict[str, Exercise] = {
    "A3.rank": RANK,
    "A3.deletion": DELETION,
    "A3.area": AREA,
    "A3.interval": INTERVAL,
    "A3.verdicts": VERDICTS,
    "A3.choose": CHOOSE,
    "A3.compare": COMPARE,
}

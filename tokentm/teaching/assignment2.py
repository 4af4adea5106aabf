"""Assignment 2, audit of a classifier that learnt a shortcut: what a student's functions and findings must show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

import tokentm
from tokentm.teaching.core import Exercise, Misstep, kind, same, tensor

Answer = Callable[..., Any]


def _maps() -> Iterator[tuple[Tensor, Tensor]]:
    """Heat maps, not negative, and masks, (B, H, W); every mask covers another share of its picture."""
    for seed, (batch, height, width) in enumerate(((3, 8, 12), (1, 6, 6), (2, 10, 4))):
        generator = torch.Generator().manual_seed(seed)
        heat = torch.rand(batch, height, width, generator=generator)
        mask = torch.zeros(batch, height, width, dtype=torch.bool)
        for i in range(batch):
            mask[i, : 2 + i, : width - 1 - i] = True
        yield heat, mask


def _shares(share_inside: Answer, heat: Tensor, mask: Tensor) -> Tensor:
    return tensor(share_inside(heat, mask), (len(heat),), "one share for each picture")


def all_on_the_object_is_one(share_inside: Answer) -> str | None:
    for heat, mask in _maps():
        if not same(_shares(share_inside, heat * mask, mask), torch.ones(len(heat))):
            return "a map that lies on the object alone has the share 1; yours has not."
        outside = _shares(share_inside, heat * ~mask, mask)
        if outside.abs().max() > 1e-6:
            return f"a map that lies beside the object alone has the share 0; yours {outside.max():.3g}."
    return None


def an_even_map_has_the_share_of_the_area(share_inside: Answer) -> str | None:
    for heat, mask in _maps():
        area = mask.flatten(1).float().mean(1)
        if not same(_shares(share_inside, torch.ones_like(heat), mask), area):
            return "a map that is the same everywhere has as its share the area of the object; yours has another."
    return None


def brightness_does_not_matter(share_inside: Answer) -> str | None:
    for heat, mask in _maps():
        brighter = heat * torch.arange(2, 2 + len(heat))[:, None, None]
        if not same(_shares(share_inside, brighter, mask), _shares(share_inside, heat, mask)):
            return "a map three times as bright has the same share; yours has not. Divide each picture by its own sum."
    return None


def an_empty_map_has_no_share(share_inside: Answer) -> str | None:
    heat, mask = next(_maps())
    found = share_inside(torch.zeros_like(heat), mask)
    if isinstance(found, Tensor) and not torch.isfinite(found).all():
        return "a map of zeros has the share 0; yours is 0 / 0, NaN. Keep the divisor above 0: total.clamp(min=1e-12)."
    if _shares(share_inside, torch.zeros_like(heat), mask).any():
        return "a map of zeros has the share 0; yours has another."
    return None


def the_share_is_that_of_the_sum(share_inside: Answer) -> str | None:
    for heat, mask in _maps():
        wanted = (heat * mask).sum((1, 2)) / heat.sum((1, 2))
        if not same(_shares(share_inside, heat, mask), wanted):
            return "it is not the map's sum on the object, divided by its sum over the whole picture."
    return None


SHARE = Exercise(
    properties=(
        all_on_the_object_is_one,
        brightness_does_not_matter,
        an_empty_map_has_no_share,
        an_even_map_has_the_share_of_the_area,
        the_share_is_that_of_the_sum,
    ),
    right="one share for each picture, whatever its brightness.",
    hints=(
        "two sums for each picture: on the mask, and everywhere.",
        "(heat * mask).sum((1, 2)) is the first. Take care of a map of zeros before you divide.",
    ),
)


def accuses_a_class(accused: Any) -> str | None:
    classes = tokentm.load_demo().classes
    if not isinstance(accused, str) or accused not in classes:
        return f"expected the name of a class, one of {', '.join(classes)}; yours is {accused!r}."
    if accused != tokentm.demo.planted.PLANTED:
        return (
            f"the makers' pictures of {accused} hold nothing but the object and a background. For which class does the "
            "map lie beside the object, compared with the map of the other model for the same class?"
        )
    return None


ACCUSED = Exercise(
    properties=(accuses_a_class,),
    right="that is the class. So far it is a suspicion: maps do not prove anything.",
    hints=(
        "explain the makers' pictures of every class, for that class, with both models, and compare the shares.",
        "small objects have small shares for every model. Look at the difference between the two models.",
    ),
    function=False,
)


class _Ranking(NamedTuple):
    """Scores and how much of each patch is object, (B, P)."""

    scores: Tensor
    covered: Tensor


def _rankings() -> Iterator[_Ranking]:
    """The highest score always lies on the object, so that it must not be taken."""
    for seed, (batch, patches) in enumerate(((3, 12), (1, 30), (4, 7))):
        generator = torch.Generator().manual_seed(seed)
        covered = (torch.rand(batch, patches, generator=generator) - 0.4).clamp(min=0)
        covered[:, 0], covered[:, -1] = 1.0, 0.0
        scores = torch.rand(batch, patches, generator=generator) + covered
        yield _Ranking(scores, covered)


def _picked(strongest_outside: Answer, given: _Ranking) -> Tensor:
    found = tensor(strongest_outside(*given), (len(given.scores),), "one patch for each picture")
    if (found % 1).any() or found.min() < 0 or found.max() >= given.scores.shape[1]:
        raise Misstep(f"patches are whole numbers from 0 to {given.scores.shape[1] - 1}; yours are {found.tolist()}.")
    return found.long()


def takes_no_patch_of_the_object(strongest_outside: Answer) -> str | None:
    for given in _rankings():
        found = _picked(strongest_outside, given)
        if given.covered.gather(1, found[:, None]).any():
            if torch.equal(found, given.scores.argmax(1)):
                return "that is the strongest patch of all, on the object. Wanted is the strongest without any object."
            return "it takes a patch that holds a piece of the object. Only patches with covered == 0 may be taken."
        negative = given._replace(scores=given.scores - 5)
        if not torch.equal(_picked(strongest_outside, negative), found):
            return (
                "scores may be negative: with 5 less on every patch, the same patch must be found; yours differs. "
                "Put -inf, not 0, where the object is."
            )
    return None


def takes_the_strongest_of_the_rest(strongest_outside: Answer) -> str | None:
    for given in _rankings():
        wanted = given.scores.masked_fill(given.covered > 0, -torch.inf).argmax(1)
        if not torch.equal(_picked(strongest_outside, given), wanted):
            return "there is a stronger patch without any object in it."
    return None


OUTSIDE = Exercise(
    properties=(takes_no_patch_of_the_object, takes_the_strongest_of_the_rest),
    right="in every picture the strongest patch beside the object.",
    hints=(
        "take the object's patches out of the race, then look for the maximum.",
        "scores.masked_fill(covered > 0, -torch.inf) cannot win there.",
    ),
)

_BOX_SEED = 5
"""The picture in which the student looks for the cue: ``suspect.scene(5, accused)``."""


@cache
def _tag() -> tuple[int, int, int, int]:
    """Where the cue of that picture lies: (top, left, bottom, right), the last two just outside."""
    planted = tokentm.demo.planted
    plain = tokentm.load_demo().scene(_BOX_SEED, planted.PLANTED)
    tag = torch.from_numpy(planted.with_tag(plain, _BOX_SEED)[1])
    rows, columns = tag.any(1).nonzero().flatten(), tag.any(0).nonzero().flatten()
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _overlap(box: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    height = min(box[2], other[2]) - max(box[0], other[0])
    width = min(box[3], other[3]) - max(box[1], other[1])
    if height <= 0 or width <= 0:
        return 0.0
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return height * width / (sum(areas) - height * width)


def frames_the_cue(box: Any) -> str | None:
    top, left, bottom, right = found = tuple(tensor(box, (4,), "(top, left, bottom, right) in pixels").tolist())
    if not (0 <= top < bottom <= 112 and 0 <= left < right <= 112):
        return "expected 0 <= top < bottom <= 112 and 0 <= left < right <= 112."
    overlap = _overlap(found, _tag())
    if overlap >= 0.6:
        return None
    if _overlap((left, top, right, bottom), _tag()) >= 0.6:
        return "rows and columns are swapped: top and bottom count down the picture, left and right across it."
    if _overlap(tuple(8 * side for side in found), _tag()) > 0.3:
        return "these are patches; wanted are pixels. A patch is 8 pixels wide and high."
    if overlap:
        return f"the box and the cue share {overlap:.0%} of the area that they cover together; wanted are 60 % or more."
    return "there is no cue in this box. Where is the strongest patch beside the object?"


BOX = Exercise(
    properties=(frames_the_cue,),
    right="that is the cue, and now it can be cut out.",
    hints=(
        "enlarge the picture around the strongest patch outside, and read the edges off the axes.",
        "the patch of row r and column c covers the pixels 8 r to 8 r + 8, and 8 c to 8 c + 8.",
    ),
    function=False,
)


def _pictures() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """A picture (3, H, W), the object's mask (H, W) and a cue (3, h, w); the corner at the origin is always object."""
    for seed, (height, width, rows, columns) in enumerate(((9, 12, 3, 2), (10, 7, 2, 4), (8, 8, 5, 5))):
        generator = torch.Generator().manual_seed(seed)
        mask = torch.zeros(height, width, dtype=torch.bool)
        mask[: height - rows + seed % 2, : width - columns + 1] = True
        yield (
            torch.randn(3, height, width, generator=generator),
            mask,
            10 + torch.rand(3, rows, columns, generator=generator),
        )


def _places(found: Tensor, cue: Tensor) -> list[tuple[int, int]]:
    """Corners (top, left) where a picture shows the cue."""
    _, rows, columns = cue.shape
    windows = found.unfold(1, rows, 1).unfold(2, columns, 1).permute(1, 2, 0, 3, 4)
    at = (windows - cue.to(found)).abs().amax((2, 3, 4)) < 1e-5
    return [(int(top), int(left)) for top, left in at.nonzero()]


def _pasted(paste: Answer, image: Tensor, mask: Tensor, cue: Tensor) -> tuple[Tensor, tuple[int, int]]:
    found = tensor(paste(image, mask, cue), tuple(image.shape), "a picture (colours, height, width)")
    places = _places(found, cue)
    if len(places) != 1:
        raise Misstep(
            f"expected a picture that shows the whole cue once; yours shows it {len(places)} times. "
            "picture[:, top : top + h, left : left + w] = cue, inside the picture."
        )
    return found, places[0]


def shows_the_cue_and_else_the_picture(paste: Answer) -> str | None:
    for image, mask, cue in _pictures():
        found, (top, left) = _pasted(paste, image, mask, cue)
        rest = found.clone()
        window = (slice(None), slice(top, top + cue.shape[1]), slice(left, left + cue.shape[2]))
        rest[window] = image[window].double()
        if not same(rest, image):
            return "outside the cue the picture must stay as it is; yours changes there."
    return None


def hides_as_little_of_the_object_as_can_be(paste: Answer) -> str | None:
    for image, mask, cue in _pictures():
        _, rows, columns = cue.shape
        hidden = mask.float().unfold(0, rows, 1).unfold(1, columns, 1).sum((2, 3))
        _, place = _pasted(paste, image, mask, cue)
        if hidden[place] > hidden.min():
            return (
                f"its cue hides {int(hidden[place])} pixels of the object; there is a place that hides "
                f"{int(hidden.min())}. Count for every place."
            )
    return None


PASTE = Exercise(
    properties=(shows_the_cue_and_else_the_picture, hides_as_little_of_the_object_as_can_be),
    right="the cue is in, where it hides least, and nothing else has changed.",
    hints=(
        "two steps: find the best corner, then write the cue into a copy of the picture.",
        "mask.float().unfold(0, h, 1).unfold(1, w, 1).sum((2, 3)) counts the object's pixels under every place.",
        "divmod(int(hidden.argmin()), hidden.shape[1]) is the row and column of the smallest.",
    ),
)


def _answers() -> Iterator[tuple[Tensor, Tensor, int, float]]:
    """Logits before and after (B, C), a target, and the rate."""
    for seed, (was, became, target) in enumerate(
        (
            ([0, 1, 2, 3, 2, 1], [2, 2, 2, 3, 0, 1], 2),  # 2 of the 4 that were not 2 before
            ([0, 0, 0, 0], [1, 1, 1, 0], 1),  # 3 of 4
            ([3, 3, 1, 3, 0], [3, 3, 3, 1, 3], 3),  # 2 of 2
            ([1, 2, 0, 1], [1, 2, 1, 0], 3),  # 0 of 4
        )
    ):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.rand(2, len(was), 4, generator=generator) - 3
        logits[0, torch.arange(len(was)), torch.tensor(was)] += 2
        logits[1, torch.arange(len(was)), torch.tensor(became)] += 2
        others = [i for i, answer in enumerate(was) if answer != target]
        yield logits[0], logits[1], target, sum(became[i] == target for i in others) / len(others)


def counts_those_that_were_something_else(flip_rate: Answer) -> str | None:
    for before, after, target, rate in _answers():
        found = float(tensor(flip_rate(before, after, target), (), "one number"))
        was, became = before.argmax(1) == target, after.argmax(1) == target
        if abs(found - rate) < 1e-6:
            continue
        mistakes = {
            "it counts pictures that had this answer before: leave them out, above and below the line.": became.float()
            .mean()
            .item(),
            "below the line stand the pictures that had another answer before, not all pictures.": (became & ~was)
            .float()
            .mean()
            .item(),
            "a count is not a rate: divide by the pictures that had another answer before.": float(
                (became & ~was).sum()
            ),
            "it counts every changed answer; wanted are those that became the target.": (
                (before.argmax(1) != after.argmax(1))[~was].float().mean().item()
            ),
            "these are probabilities; wanted is how often the answer is the target.": (
                after.softmax(1)[~was, target].mean().item()
            ),
        }
        for mistake, value in mistakes.items():
            if abs(found - value) < 1e-6:
                return mistake
        return f"of the pictures that were not {target} before, {rate:.2f} are {target} after; yours says {found:.2f}."
    return None


def no_picture_to_flip_is_no_flip(flip_rate: Answer) -> str | None:
    logits = torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    found = flip_rate(logits, logits, 1)
    if not bool(torch.isfinite(torch.as_tensor(found, dtype=torch.float64))) or float(found) != 0:
        return "where every picture had this answer before, nothing can flip: the rate is 0; yours is not."
    return None


FLIPS = Exercise(
    properties=(counts_those_that_were_something_else, no_picture_to_flip_is_no_flip),
    right="a rate among those that could change their answer.",
    hints=(
        "which pictures can flip to the target at all?",
        "others = before.argmax(1) != target; then the mean of (after.argmax(1) == target) over them.",
    ),
)

_EVIDENCE = ("added", "removed", "other patch", "other model")
EVIDENCE_SEEDS = range(300, 330)
"""The pictures of the experiment: ``demo.scene(seed, name)``, the classes in turn."""


@cache
def _measured() -> dict[str, float]:
    """The rates that the experiment of the assignment gives with the cue itself."""
    demo, suspect = tokentm.load_demo(), tokentm.load_demo("suspect")
    planted = tokentm.demo.planted
    target = demo.classes.index(planted.PLANTED)
    others = [name for name in demo.classes if name != planted.PLANTED]
    scenes = [demo.scene(seed, others[i % len(others)]) for i, seed in enumerate(EVIDENCE_SEEDS)]
    plain = torch.stack([demo.transform(scene.image) for scene in scenes])
    tagged = torch.stack(
        [
            demo.transform(planted.with_tag(scene, seed)[0].image)
            for scene, seed in zip(scenes, EVIDENCE_SEEDS, strict=True)
        ]
    )
    own = torch.stack([demo.transform(suspect.scene(seed, planted.PLANTED).image) for seed in EVIDENCE_SEEDS])
    bare = torch.stack([demo.transform(demo.scene(seed, planted.PLANTED).image) for seed in EVIDENCE_SEEDS])
    with torch.inference_mode():
        was, became = suspect.model(plain).argmax(1), suspect.model(tagged).argmax(1)
        with_cue, without = suspect.model(own).argmax(1), suspect.model(bare).argmax(1)
        honest = demo.model(plain).argmax(1), demo.model(tagged).argmax(1)
    return {
        "added": _rate(became == target, was != target),
        "removed": _rate(without != target, with_cue == target),
        "other model": _rate(honest[1] == target, honest[0] != target),
    }


def _rate(changed: Tensor, able: Tensor) -> float:
    return float(changed[able].float().mean()) if able.any() else 0.0


def names_all_four_rates(evidence: Any) -> str | None:
    if not isinstance(evidence, Mapping):
        return f"expected a dict with {', '.join(map(repr, _EVIDENCE))}; yours is {kind(evidence)}."
    for name in _EVIDENCE:
        if name not in evidence:
            return f"the rate {name!r} is missing. Wanted are {', '.join(map(repr, _EVIDENCE))}."
        rate = float(tensor(evidence[name], (), f"one number for {name!r}"))
        if not 0 <= rate <= 1:
            return f"the rate {name!r} is {rate:g}; a rate lies between 0 and 1."
    return None


def is_what_the_experiment_gives(evidence: Mapping[str, Any]) -> str | None:
    wanted = _measured()
    found = {name: float(evidence[name]) for name in _EVIDENCE}
    if found["other patch"] > 0.2:
        return (
            f"another patch flips {found['other patch']:.0%} of the pictures. The control must leave the cue out: the "
            "same size and place, other content, such as background cut from another picture."
        )
    if abs(found["added"] - wanted["added"]) > 0.15 and abs(1 - found["added"] - wanted["added"]) < 0.05:
        return "'added' counts the pictures that keep their answer; wanted are those that become the accused class."
    if abs(found["other model"] - wanted["added"]) < 0.05 and abs(wanted["other model"] - wanted["added"]) > 0.1:
        return "'other model' equals what the suspect does: run demo.model on the same pictures, before and after."
    if abs(found["removed"] - wanted["removed"]) > 0.04 > abs(1 - found["removed"] - wanted["removed"]):
        return "'removed' counts the pictures that keep the accused class; wanted are those that lose it."
    for name, rate in wanted.items():
        # a cue that is cut out by hand flips a few pictures more or less; taking it away is the same for everyone
        if abs(found[name] - rate) > (0.04 if name == "removed" else 0.15):
            return (
                f"{name!r} is {found[name]:.2f}; with the cue itself and the pictures of the text it is another rate. "
                "Check seeds, classes, the place of the cue, and that the picture without it is the same scene."
            )
    return None


EVIDENCE = Exercise(
    properties=(names_all_four_rates, is_what_the_experiment_gives),
    right="it is the cue, it is this cue, and it is this model.",
    hints=(
        "each rate compares the same scenes before and after one change.",
        "'removed' asks how many pictures of the accused class lose their answer: the makers' picture against "
        "demo.scene, of the same seed.",
    ),
    function=False,
)

EXERCISES: dict[str, Exercise] = {
    "A2.share": SHARE,
    "A2.accused": ACCUSED,
    "A2.outside": OUTSIDE,
    "A2.box": BOX,
    "A2.paste": PASTE,
    "A2.flips": FLIPS,
    "A2.evidence": EVIDENCE,
}

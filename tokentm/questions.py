"""Scores that have a name: what is asked of a model beside the plain output of a class.

    log_odds(c)         log of p_c / (1 - p_c): the class against all others; with a softmax z_c - log sum_k!=c exp z_k
    log_probability(c)  log p_c
    probability(c)      p_c
    difference(a, b)    z_a - z_b: one class rather than another

p is made of the outputs z as their meaning says, see :data:`tokentm.outputs.Meaning`. The first three are about one
class, so plots and widgets can title their maps, the evaluation knows which probability to measure, and a menu of
classes can ask the same of another class. Their gradients with respect to the outputs are parallel for one picture:

    d p_c / dz = p_c d log p_c / dz,        d log p_c / dz = (1 - p_c) d log-odds_c / dz

so a method that is linear in the gradient ranks patches alike for all three, and log-odds alone keep a gradient where p
rounds to 1.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from tokentm import outputs as meanings
from tokentm.errors import InvalidOptionError, InvalidTargetError
from tokentm.outputs import Meaning

Kind = Literal["log_odds", "log_probability", "probability"]

One = int | str
Classes = One | tuple[One, ...] | None
"""A class by index or by the model's name for it, one for each image, or None for the predicted class of each."""

_SCORES: dict[str, Callable[[Tensor, Tensor, Meaning], Tensor]] = {
    "log_odds": meanings.log_odds,
    "log_probability": meanings.log_probability,
    "probability": meanings.probability,
}


@dataclass(frozen=True)
class ClassScore:
    """What is asked of one class of each image: made by :func:`log_odds` and its like.

    A record or an explanation holds it *bound*: with the class index of every image and what the outputs mean.

    Attributes:
        kind: which score.
        classes: which class, see :data:`Classes`.
        outputs: what the outputs mean; None asks the model, and takes "softmax" where there is no model to ask.
    """

    kind: Kind
    classes: Classes = None
    outputs: Meaning | None = None

    @property
    def name(self) -> str:
        """The score in words: "log-odds"."""
        return self.kind.replace("_", "-")

    def __call__(self, logits: Tensor) -> Tensor:
        """Outputs (B, classes) -> scores (B,)."""
        meaning: Meaning = self.outputs or "softmax"
        _require_probabilities(self.name, logits, meaning)
        return _SCORES[self.kind](logits, self.indices(logits), meaning)

    def indices(self, logits: Tensor) -> Tensor:
        """The class of each image, (B,); the predicted one where none is named.

        Raises:
            InvalidTargetError: a class that there is not, a name, which :meth:`bind` can look up, or a wrong number.
        """
        return torch.tensor(_indices(self.classes, logits, None), device=logits.device)

    def bind(self, logits: Tensor, outputs: Meaning, names: Sequence[str] | None) -> ClassScore:
        """The same, of the classes that it means in these outputs (B, classes) of a model with such names."""
        meaning = self.outputs or outputs
        _require_probabilities(self.name, logits, meaning)
        return replace(self, classes=_indices(self.classes, logits, names), outputs=meaning)

    def about(self, classes: Any) -> ClassScore:
        """The same asked of another class, or of one class for each image; None for the predicted ones."""
        return replace(self, classes=_classes(classes))

    def title(self, names: Sequence[str], image: int) -> str:
        """What is explained of an image, once bound: "log-odds of car"."""
        assert isinstance(self.classes, tuple)
        return f"{self.name} of {names[int(self.classes[image])]}"

    def told(self) -> dict[str, Any]:
        """For a file, see :func:`restored`."""
        return {"kind": self.kind, "classes": self.classes, "outputs": self.outputs}

    def __repr__(self) -> str:
        given = [] if self.classes is None else [repr(self.classes)]
        given += [] if self.outputs is None else [f"outputs={self.outputs!r}"]
        return f"tokentm.{self.kind}({', '.join(given)})"


@dataclass(frozen=True)
class Difference:
    """How far the output of one class is above that of another: made by :func:`difference`.

    Attributes:
        first, second: the classes, by index or name, or one for each image; bound: one index for each image.
    """

    first: Classes
    second: Classes

    @property
    def name(self) -> str:
        """The score in words: "difference"."""
        return "difference"

    def __call__(self, logits: Tensor) -> Tensor:
        """Outputs (B, classes) -> scores (B,)."""
        a, b = (torch.tensor(_indices(one, logits, None), device=logits.device) for one in (self.first, self.second))
        return (logits.gather(1, a[:, None]) - logits.gather(1, b[:, None])).squeeze(1)

    def bind(self, logits: Tensor, outputs: Meaning, names: Sequence[str] | None) -> Difference:
        """The same, of the classes that it means in these outputs (B, classes) of a model with such names."""
        bound = Difference(_indices(self.first, logits, names), _indices(self.second, logits, names))
        same = [a for a, b in zip(bound.first, bound.second, strict=True) if a == b]  # type: ignore[arg-type]
        if same:
            raise InvalidTargetError(
                f"expected two different classes for a difference; got class {same[0]} twice. For a class against all "
                f"others: tokentm.log_odds({same[0]})."
            )
        return bound

    def title(self, names: Sequence[str], image: int) -> str:
        """What is explained of an image, once bound: "lead of car over cat"."""
        assert isinstance(self.first, tuple)
        assert isinstance(self.second, tuple)
        return f"lead of {names[int(self.first[image])]} over {names[int(self.second[image])]}"

    def told(self) -> dict[str, Any]:
        """For a file, see :func:`restored`."""
        return {"kind": self.name, "first": self.first, "second": self.second}

    def __repr__(self) -> str:
        return f"tokentm.difference({self.first!r}, {self.second!r})"


Question = ClassScore | Difference


def log_odds(c: Any = None, outputs: Meaning | None = None) -> ClassScore:
    """Explain the log-odds of a class, log p_c / (1 - p_c), in nats: what speaks for it against all other classes.

    With a softmax that is z_c - log sum_{k != c} exp z_k, so what speaks for another class speaks against this one; a
    class's output alone does not know the others. Of labels that are judged by themselves (a sigmoid each) it is the
    output z_c itself.

    Args:
        c: class index, the model's name of it, one for each image, or None for the predicted class.
        outputs: what the outputs mean, see :data:`tokentm.outputs.Meaning`; None asks the model.

    Raises:
        InvalidTargetError: something that names no class; at its use, a class that the model does not have, or a model
            whose outputs have no probabilities.

    Transformer attribution, whose rule hands down shares of a total, refuses it: with a softmax, what speaks for and
    against the class adds up to zero.

    Example:
        >>> tokentm.log_odds(1)(torch.tensor([[0.0, 2.0, 0.0]]))
        tensor([1.3069])
        >>> tokentm.explain(model, images, tokentm.log_odds()).explained
        tokentm.log_odds((7,), outputs='softmax')
    """
    return _asked("log_odds", c, outputs)


def log_probability(c: Any = None, outputs: Meaning | None = None) -> ClassScore:
    """Explain the logarithm of a class's probability, in nats; arguments and errors as :func:`log_odds`.

    Example:
        >>> tokentm.log_probability(1)(torch.tensor([[0.0, 0.0]]))
        tensor([-0.6931])
    """
    return _asked("log_probability", c, outputs)


def probability(c: Any = None, outputs: Meaning | None = None) -> ClassScore:
    """Explain a class's probability, 0 .. 1; arguments and errors as :func:`log_odds`.

    Its gradient ends where the probability rounds to 1; that of the log-odds does not.

    Example:
        >>> tokentm.probability(1)(torch.tensor([[0.0, 0.0]]))
        tensor([0.5000])
    """
    return _asked("probability", c, outputs)


def _asked(kind: Kind, c: Any, outputs: Meaning | None) -> ClassScore:
    if outputs is not None and outputs not in get_args(Meaning):
        raise InvalidOptionError(f"expected outputs among {', '.join(get_args(Meaning))} or None; got {outputs!r}.")
    return ClassScore(kind, _classes(c), outputs)


def difference(a: Any, b: Any) -> Difference:
    """Explain the output of class a minus that of class b: why a rather than b?

    Args:
        a, b: class indices, the model's names of classes, or one for each image.

    Raises:
        InvalidTargetError: something that names no class; at its use, a class that the model does not have, or the same
            one twice.

    Example:
        >>> tokentm.difference(2, 0)(torch.tensor([[1.0, 0.0, 4.0]]))
        tensor([3.])
    """
    first, second = _classes(a), _classes(b)
    if first is None or second is None:
        raise InvalidTargetError("expected two classes for a difference; got None. Name both, by index or name.")
    return Difference(first, second)


KINDS: dict[str, Callable[..., ClassScore]] = {
    "log_odds": log_odds,
    "log_probability": log_probability,
    "probability": probability,
}
"""What can be asked of any class, by name."""


def restored(told: dict[str, Any] | None, count: int, classes: int) -> Question | None:
    """What :meth:`ClassScore.told` and :meth:`Difference.told` wrote, for so many images and classes.

    Raises:
        ValueError: it does not fit them, or is something else.
    """
    if told is None:
        return None

    def indices(name: str) -> tuple[int, ...]:
        found = tuple(told[name])
        if len(found) != count or not all(type(one) is int and 0 <= one < classes for one in found):
            raise ValueError("what was explained does not fit the images")
        return found

    if told["kind"] == "difference":
        return Difference(indices("first"), indices("second"))
    if told["kind"] not in get_args(Kind) or told["outputs"] not in get_args(Meaning):
        raise ValueError("what was explained is not known")
    return ClassScore(told["kind"], indices("classes"), told["outputs"])


def _classes(given: Any) -> Classes:
    """What a user gave for a class, or for one of each image, as something that has a hash."""
    if given is None or isinstance(given, str):
        return given
    try:
        if isinstance(given, bool):
            raise TypeError
        if isinstance(given, Tensor) or hasattr(given, "tolist"):
            given = given.tolist()
        if isinstance(given, (list, tuple, range)):
            found = tuple(_classes(one) for one in given)
            if not found or not all(isinstance(one, (int, str)) for one in found):
                raise TypeError
            return found  # type: ignore[return-value]
        return operator.index(given)
    except (TypeError, RuntimeError, NotImplementedError):
        raise InvalidTargetError(
            f"expected a class index, the model's name of a class, one for each image, or None for the predicted "
            f"class; got {given!r}."
        ) from None


def _indices(classes: Classes, logits: Tensor, names: Sequence[str] | None) -> tuple[int, ...]:
    """The class of each image."""
    batch, count = logits.shape
    if classes is None:
        return tuple(logits.detach().argmax(1).tolist())
    named = names if names is not None and len(names) == count else None
    listed = classes if isinstance(classes, tuple) else (classes,) * batch
    if len(listed) != batch:
        raise InvalidTargetError(
            f"expected one class for each of the {batch} image(s); got {len(listed)}. To explain several classes of "
            "one image, repeat it: images.expand(k, -1, -1, -1) with k classes."
        )
    found = tuple(_index(one, named) if isinstance(one, str) else one for one in listed)
    wrong = [one for one in found if not 0 <= one < count]
    if wrong:
        raise InvalidTargetError(f"expected class indices from 0 to {count - 1}; got {wrong}.")
    return found


def _index(name: str, names: Sequence[str] | None) -> int:
    if names is None:
        raise InvalidTargetError(
            f"expected a class index: this model brings no names of its classes; got {name!r}. Look the name up first, "
            "for example classes.index('cat')."
        )
    found = [index for index, one in enumerate(names) if one == name]
    if len(found) > 1:
        raise InvalidTargetError(f"expected the name of one class; {name!r} is that of {found}. Take its index.")
    if not found:
        near = get_close_matches(name, names) or names[:5]
        raise InvalidTargetError(
            f"expected one of the model's {len(names)} class names; got {name!r}. Some of them: {', '.join(near)}."
        )
    return found[0]


def _require_probabilities(name: str, logits: Tensor, meaning: Meaning) -> None:
    if meaning == "none":
        raise InvalidTargetError(
            f"expected a model whose outputs have probabilities, to explain the {name} of a class; this model's have "
            "none (outputs='none'). Explain the output itself: target=3; or say what the outputs mean: 'softmax', "
            "'sigmoid' or 'probabilities'."
        )
    if meaning == "softmax" and logits.shape[1] < 2:
        raise InvalidTargetError(
            f"expected at least two classes for the {name} of one of them; the model has one output. If it stands for "
            "yes against no, say outputs='sigmoid'."
        )

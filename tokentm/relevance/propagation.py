"""A function mode in which every function that a model calls gets the backward pass of a set of rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from tokentm.errors import UnsupportedModelError
from tokentm.relevance.rules import MOVING, Call, Marks, Rules, carrying_of, kind_of, tensors_of

_KEEP_MARKS = {"scaled", "affine"}


@dataclass(frozen=True, eq=False)
class Added:
    """A constant that a function adds to what it makes, such as the bias of a linear map.

    Attributes:
        made: what the function made, a node of the graph.
        bias: what it adds, of a shape that broadcasts to it.
    """

    made: Tensor
    bias: Tensor


class RelevancePropagation(TorchFunctionMode):
    """While active, tensors that depend on what requires a gradient hand down by rules.

    A function without a rule is refused by the backward pass that reaches it.

    Args:
        name: the model, for messages.
        rules: what functions hand down.
        keeps_added: whether to note what functions add, in ``added``.
        keeps_kinds: whether to note in ``kinds`` what kinds of functions the backward pass has come through, or have
            made a number of what carries a gradient; "other" where it is none of :class:`Rules`.

    Raises:
        UnsupportedModelError: the backward pass reaches a function without a rule.

    Example:
        >>> from tokentm.relevance import LIBRA
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 2))
        >>> net = net.requires_grad_(False)  # relevance goes to the tokens alone
        >>> tokens = torch.randn(1, 4, requires_grad=True)
        >>> with RelevancePropagation("a small network", LIBRA):
        ...     logits = net(tokens)
        >>> relevance = tokens * torch.autograd.grad(logits[:, 1].sum(), tokens)[0]
        >>> relevance.shape
        torch.Size([1, 4])
    """

    def __init__(self, name: str, rules: Rules, keeps_added: bool = False, keeps_kinds: bool = False) -> None:
        super().__init__()
        self.name, self.rules, self.keeps_added, self.keeps_kinds = name, rules, keeps_added, keeps_kinds
        self.marks = Marks()
        self.added: list[Added] = []
        self.kinds: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        carrying = carrying_of((*args, *kwargs.values()))
        if not torch.is_grad_enabled() or not carrying:
            return func(*args, **kwargs)
        call = Call(func, args, kwargs, carrying, self.marks)
        if func in MOVING:
            made = call.run()
            self._keep_mark(call, made)
            return made
        kind = kind_of(call)
        rule = getattr(self.rules, kind or "other")
        made = None if rule is None else rule(call)
        if made is None:
            return self._without_rule(call)
        if self.keeps_kinds:
            self._keep_kind(kind, made)
        if kind in _KEEP_MARKS:
            self._keep_mark(call, made)
        if self.keeps_added and isinstance(made, Tensor) and made.requires_grad:
            bias = _added(kind, call)
            if bias is not None:
                self.added.append(Added(made, bias))
        return made

    def _keep_kind(self, kind: str | None, made: Any) -> None:
        for one in tensors_of((made,)):
            if one.requires_grad:
                one.register_hook(lambda _gradient: self.kinds.add(kind or "other"))
            elif kind is not None:  # of other functions, those that compare and count do so
                self.kinds.add(kind)

    def _keep_mark(self, call: Call, made: Any) -> None:
        """What is moved, or scaled, stays a gate or activated."""
        mark = self.marks.of(call.carrying[0]) if len(call.carrying) == 1 else None
        if mark is not None:
            for one in made if isinstance(made, (tuple, list)) else (made,):
                self.marks.put(one, mark)

    def _without_rule(self, call: Call) -> Any:
        """What the function makes; refused where relevance reaches it, so that sizes, comparisons and what counts as a
        constant need no rule."""
        made = call.run()
        for one in tensors_of((made,)):
            if one.requires_grad:
                one.register_hook(self._refuse(call.function))
        return made

    def _refuse(self, function: Any) -> Callable[[Tensor | None], None]:
        text = (
            f"{self.name}: expected functions with a rule of relevance propagation, found "
            f"{resolve_name(function) or function}. {self.rules.name} cannot explain this model; take another method."
        )

        def refuse(gradient: Tensor | None) -> None:
            if gradient is not None:
                raise UnsupportedModelError(text)

        return refuse


def _added(kind: str | None, call: Call) -> Tensor | None:
    """The constant part of a function that is affine in one tensor; None where it has none."""
    if kind == "linear":
        found = call.args[2] if len(call.args) > 2 else call.kwargs.get("bias")
    elif kind == "norm":
        found = signature(call.function).bind(*call.args, **call.kwargs).arguments.get("bias")
    elif kind in ("scaled", "affine", "in_place") and len(call.carrying) == 1:
        with torch.no_grad():
            found = call.given({id(call.carrying[0]): torch.zeros_like(call.carrying[0])}).run()
    else:
        return None
    return found if found is not None and found.any() and found.isfinite().all() else None

"""Watching a student's function at work: which of the package's functions it calls, and how much it computes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import tokentm

_PACKAGE = Path(tokentm.__file__).parent


def borrowed(modules: tuple[str, ...], function: Callable[..., Any], *given: Any) -> list[str]:
    """What a call of a function takes from modules of this package, such as ``transformation`` or ``methods``.

    Returns:
        Names such as "tokentm.transformation.weight", in the order of the calls, each once.
    """
    found: dict[str, None] = {}

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            path = Path(frame.f_code.co_filename)
            name = frame.f_code.co_name
            if path.is_relative_to(_PACKAGE) and not name.startswith("<"):
                inside = path.relative_to(_PACKAGE).with_suffix("").parts
                if inside[0] in modules or "/".join(inside) in modules:
                    found[".".join(("tokentm", *inside, name))] = None

    with _profiled(note):
        function(*given)
    return list(found)


@contextmanager
def _profiled(note: Callable[[FrameType, str, Any], None]) -> Iterator[None]:
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)


class Work(TorchDispatchMode):
    """Every tensor operation that runs inside ``with Work() as work``.

    Attributes:
        largest: how many numbers the largest tensor held that was made; views hold what they are views of.
        products: shapes of the matrix products that ran, as (rows, inner, columns).
    """

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0
        self.products: list[tuple[int, int, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, list | tuple) else (made,):
            if isinstance(one, Tensor):
                self.largest = max(self.largest, one.untyped_storage().nbytes() // one.element_size())
        if func in (torch.ops.aten.mm.default, torch.ops.aten.bmm.default):
            self.products.append((args[0].shape[-2], args[0].shape[-1], args[1].shape[-1]))
        return made

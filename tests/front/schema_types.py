"""Types of the front end for what Python sends: tokentm_widgets/front/schema.d.ts, out of what widgets declare.

python tests/front/schema_types.py        writes the file anew
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints, is_typeddict

import tokentm_widgets  # noqa: F401  # all widgets
from tokentm_widgets.base import Widget
from tokentm_widgets.front_end import FOLDER

FILE = FOLDER / "schema.d.ts"
_PLAIN = {
    int: "number",
    float: "number",
    str: "string",
    bool: "boolean",
    bytes: "DataView",
    types.NoneType: "null",
    Any: "any",
}


def written() -> str:
    """The whole file."""
    needed = dict.fromkeys(part for kind in schemas() for part in _parts(kind))
    head = "// Made from the widgets' files by tests/front/schema_types.py; dimensions are named in schema.py.\n"
    return "\n".join([head, *(_interface(one) for one in needed)])


def schemas() -> list[type]:
    """What stands in the files of widgets, by file."""
    files = sorted({kind.__module__ for kind in _below(Widget) if kind.__module__.startswith("tokentm_widgets.")})
    return [
        kind
        for file in files
        for name, kind in vars(sys.modules[file]).items()
        if is_typeddict(kind) and kind.__module__ == file and not name.startswith("_")
    ]


def _below(kind: type) -> Iterator[type]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)


def _parts(kind: Any) -> Iterator[type]:
    """The classes that a type is made of, itself the last."""
    if is_typeddict(kind):
        for hint in get_type_hints(kind, include_extras=True).values():
            yield from _parts(hint)
        yield kind
    else:
        for inner in get_args(kind):
            yield from _parts(inner)


def _interface(kind: type) -> str:
    lines = [f"export interface {kind.__name__} {{"]
    for name, hint in get_type_hints(kind, include_extras=True).items():
        optional = "" if name in kind.__required_keys__ else "?"
        note = _note(hint)
        lines.append(f"  {name}{optional}: {_type(hint)};{f' // {note}' if note else ''}")
    return "\n".join([*lines, "}", ""])


def _note(hint: Any) -> str:
    dims = next((one for one in (hint, *get_args(hint)) if get_origin(one) is Annotated), None)
    if dims is None:
        return ""
    found = get_args(dims)[1]
    return f"{found.kind} {found.names}" if found.kind not in ("list", "coded") else found.names


def _type(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _type(inner[0])
    if origin in (Union, types.UnionType):
        return " | ".join(map(_type, inner))
    if origin is list:
        return f"{_type(inner[0])}[]"
    if origin is dict:
        return f"Record<{_type(inner[0])}, {_type(inner[1])}>"
    return hint.__name__ if is_typeddict(hint) else _PLAIN[hint]


if __name__ == "__main__":
    FILE.write_text(written(), encoding="utf-8")
    print(f"written: {FILE.relative_to(Path.cwd()) if FILE.is_relative_to(Path.cwd()) else FILE}")

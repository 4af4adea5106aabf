"""What widgets send to their front ends: names, types and named dimensions, each written once.

What all of them share stands here, what one of them sends in its own file. Python packs by these classes
(:func:`packed`), and ``front/schema.d.ts`` is made from them, so that the type checker of the front end knows what
comes. Names are those of the front end.

Dimensions: B explained scores, I different images (I = B, or one image explained B times), L layers, H heads, G heads
of the transformation weight (1 where it is not taken per head), P patches, N tokens, M methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

from torch import Tensor

from tokentm_widgets import payload

Kind = Literal["float32", "int16", "uint8", "coded", "list", "size"]


@dataclass(frozen=True)
class Dims:
    """How a value is written and its dimensions, by names, numbers, or a name and what is added to it ("L+1").

    "coded" is one byte a number between the ends of its row, see :func:`payload.quantise`; a "list" is sent as it is;
    a "size" is a number that says how long one dimension is.
    """

    kind: Kind
    names: str


class SchemaError(Exception):
    """Data that is not what the schema says; seen by those who write a widget, never by users."""


class Coded(TypedDict):
    """Rows as bytes between their ends."""

    codes: bytes
    low: bytes
    high: bytes


Colours = Annotated[bytes, Dims("uint8", "256 3")]


class Grid(TypedDict):
    """How patches lie on the picture: height over width, and how far [down, right] of its patch a token looks."""

    rows: int
    columns: int
    aspect: float
    offset: Annotated[list[float], Dims("list", "2")]


class RecordData(Grid):
    """What every widget of a record sends."""

    pictures: list[str]


class ExplainedData(RecordData):
    """And what those send that choose among the explained scores."""

    names: Annotated[list[str], Dims("list", "B")]
    probabilities: Annotated[list[float], Dims("list", "B")] | None
    answers: Annotated[list[float], Dims("list", "B")]
    colours: Colours


_WRITE = {
    "float32": payload.exact_bytes,
    "int16": payload.short_bytes,
    "uint8": lambda values: values.cpu().numpy().tobytes(),
    "coded": payload.quantise,
}
_BYTES = {"float32": 4, "int16": 2, "uint8": 1}


@dataclass(frozen=True)
class Packed:
    """Data as it is sent, and how long each named dimension is."""

    data: dict[str, Any]
    sizes: dict[str, int]


def packed(schema: type, values: Mapping[str, Any]) -> Packed:
    """Values as the schema wants them sent: tensors as bytes, everything else as it is.

    Raises:
        SchemaError: a name too many or too few, or lengths that contradict each other.

    Example:
        >>> packed(RecordData, {"rows": 14, "columns": 14, "aspect": 1.0, "offset": [0, 0], "pictures": []}).sizes
        {'P': 196}
    """
    sizes: dict[str, int] = {}
    if "rows" in values:
        sizes["P"] = values["rows"] * values["columns"]
    return Packed(_pack(schema, values, sizes), sizes)


def _pack(schema: type, values: Mapping[str, Any], sizes: dict[str, int]) -> dict[str, Any]:
    hints = get_type_hints(schema, include_extras=True)
    missing = schema.__required_keys__ - values.keys()  # type: ignore[attr-defined]
    unknown = values.keys() - hints.keys()
    if missing or unknown:
        raise SchemaError(
            f"expected the names of {schema.__name__}; missing {', '.join(sorted(missing)) or 'none'}, unknown "
            f"{', '.join(sorted(unknown)) or 'none'}. It stands in {schema.__module__}."
        )
    return {name: _written(name, hints[name], value, sizes) for name, value in values.items()}


def _written(name: str, hint: Any, value: Any, sizes: dict[str, int]) -> Any:
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        if value is None:
            return None
        hint = next(one for one in get_args(hint) if one is not NoneType)
    if is_typeddict(hint):
        return _pack(hint, value, sizes)
    if hint is Any:
        return value
    if get_origin(hint) is not Annotated:
        kinds = (int, float) if hint is float else get_origin(hint) or hint
        if not isinstance(value, kinds):
            raise SchemaError(f"expected {name} as {getattr(hint, '__name__', hint)}; got {value!r}.")
        return value
    dims: Dims = get_args(hint)[1]
    if isinstance(value, bytes):
        _require_length(name, dims, len(value), sizes)
        return value
    _bind(name, dims, _shape(value, dims), sizes)
    return _WRITE[dims.kind](value) if isinstance(value, Tensor) else value


def _shape(value: Any, dims: Dims) -> tuple[int, ...]:
    if dims.kind == "size":
        return (value,)
    if isinstance(value, Tensor):
        return tuple(value.shape)
    shape: list[int] = []
    for _ in dims.names.split():
        shape.append(len(value))
        value = value[0] if value else ()
    return tuple(shape)


def _bind(name: str, dims: Dims, shape: tuple[int, ...], sizes: dict[str, int]) -> None:
    """Give each dimension its size, which must be that of all values before."""
    names = dims.names.split()
    if len(names) != len(shape):
        raise SchemaError(f"expected {name} with the dimensions {dims.names}; got shape {shape}.")
    for one, size in zip(names, shape, strict=True):
        dim, _, more = one.partition("+")
        wanted = int(dim) if dim.isdigit() else sizes.setdefault(dim, size - int(more or 0))
        if wanted + int(more or 0) != size:
            raise SchemaError(f"expected {name} with {one} = {wanted + int(more or 0)} of {dims.names}; got {shape}.")


def _require_length(name: str, dims: Dims, length: int, sizes: dict[str, int]) -> None:
    known = [int(one) if one.isdigit() else sizes.get(one) for one in dims.names.split()]
    if None in known:
        raise SchemaError(f"expected {name} after what says how long {dims.names} are, or as a tensor; got bytes.")
    wanted = prod(size for size in known if size is not None) * _BYTES[dims.kind]
    if wanted != length:
        raise SchemaError(f"expected {wanted} bytes of {name} ({dims.names}, {dims.kind}); got {length}.")

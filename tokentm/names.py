"""Names of classes, however a user holds them, as one list in the order of a model's outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokentm.errors import InvalidOptionError

ClassNames = Sequence[str] | Mapping[int, str] | Any
"""A list, tuple, array or pandas Index in the order of the outputs, or a mapping from index to name (``id2label``)."""


def class_names(classes: ClassNames | None, count: int) -> list[str] | None:
    """The names of ``count`` classes in the order of the outputs; None where none were given.

    Raises:
        InvalidOptionError: not one name for each output, or something that holds no names in an order.

    Example:
        >>> class_names({1: "dog", 0: "cat"}, 2)
        ['cat', 'dog']
    """
    if classes is None:
        return None
    if isinstance(classes, Mapping):
        return _of_mapping(classes, count)
    if isinstance(classes, (str, bytes, set, frozenset)) or not isinstance(classes, Iterable) or callable(classes):
        raise InvalidOptionError(
            f"expected class names as a list in the order of the outputs, or a dict from index to name; got "
            f"{type(classes).__name__}."
        )
    listed = [str(name) for name in classes]
    if len(listed) != count:
        raise InvalidOptionError(f"expected a name for each of the {count} classes; got {len(listed)} names.")
    return listed


def _of_mapping(classes: Mapping[Any, Any], count: int) -> list[str]:
    by_index: dict[int, str] = {}
    for key, name in classes.items():
        try:
            by_index[int(key)] = str(name)
        except (TypeError, ValueError):
            raise InvalidOptionError(
                f"expected a dict of class names from index to name, as model.config.id2label; got the key {key!r}. "
                "Turn label2id around: {index: name for name, index in label2id.items()}."
            ) from None
    missing = [index for index in range(count) if index not in by_index]
    if missing or len(by_index) != count:
        detail = f"none for {missing[:5]}" if missing else f"{len(by_index)} names"
        raise InvalidOptionError(f"expected a name for each of the {count} classes; got {detail}.")
    return [by_index[index] for index in range(count)]

"""Exercises of lesson 1, tokens and attention."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import tokentm
from tokentm.teaching.core import Exercise, Misstep, difference, same, state, tensor
from tokentm.teaching.fresh import small_images, small_vit

Answer = Callable[..., Any]

# rows, columns, prefix tokens: no two alike, so that nothing can stand in for anything else
_GRIDS = ((3, 5, 1), (14, 14, 1), (6, 4, 2), (2, 7, 0), (5, 3, 6))


def _cell(cell_of: Answer, token: int, columns: int, prefix: int) -> tuple[float, float]:
    row, column = tensor(cell_of(token, columns, prefix), (2,), "(row, column)").tolist()
    return row, column


def _said(cell: tuple[float, float]) -> str:
    return f"({cell[0]:g}, {cell[1]:g})"


def first_patch_is_at_the_origin(cell_of: Answer) -> str | None:
    for _, columns, prefix in _GRIDS:
        found = _cell(cell_of, prefix, columns, prefix)
        if found == (1, 1):
            return "the first patch is at (0, 0); you say (1, 1). Rows and columns are counted from 0."
        if found != (0, 0):
            return (
                f"with {prefix} token(s) before the patches, token {prefix} is the patch at (0, 0); you say "
                f"{_said(found)}. Did you take them off?"
            )
    return None


def cells_are_whole_numbers(cell_of: Answer) -> str | None:
    for _, columns, prefix in _GRIDS:
        found = _cell(cell_of, prefix + 1, columns, prefix)
        if any(part % 1 for part in found):
            return f"row and column are whole numbers; you say {_said(found)}. Divide with // rather than /."
    return None


def numbers_run_along_rows(cell_of: Answer) -> str | None:
    for _, columns, prefix in _GRIDS:
        found = _cell(cell_of, prefix + 1, columns, prefix)
        if found == (1, 0):
            return (
                "patches are numbered like text, along the rows: the patch after (0, 0) is (0, 1); you say (1, 0). "
                "Are row and column swapped?"
            )
    return None


def a_row_is_as_long_as_there_are_columns(cell_of: Answer) -> str | None:
    for _, columns, prefix in _GRIDS:
        last, after = (_cell(cell_of, prefix + columns - less, columns, prefix) for less in (1, 0))
        if (last, after) != ((0, columns - 1), (1, 0)):
            return (
                f"with {columns} columns, patch {columns - 1} is at (0, {columns - 1}) and patch {columns} begins the "
                f"next row, (1, 0); you say {_said(last)} and {_said(after)}."
            )
    return None


def the_way_back_leads_to_the_token(cell_of: Answer) -> str | None:
    for rows, columns, prefix in _GRIDS:
        for token in range(prefix, prefix + rows * columns):
            row, column = found = _cell(cell_of, token, columns, prefix)
            if prefix + row * columns + column != token or not (0 <= row < rows and 0 <= column < columns):
                return (
                    f"the way back must lead to the same token: token {token} on a grid of {rows} x {columns} with "
                    f"{prefix} prefix token(s) is not at {_said(found)}."
                )
    return None


CELL_OF = Exercise(
    properties=(
        first_patch_is_at_the_origin,
        cells_are_whole_numbers,
        numbers_run_along_rows,
        a_row_is_as_long_as_there_are_columns,
        the_way_back_leads_to_the_token,
    ),
    right="every token finds its patch, and every patch its token, on grids of any shape.",
    hints=(
        "what is the number of this patch, if the first patch is number 0?",
        "take the prefix off first. How many whole rows of patches lie before the rest?",
        "divmod(a, b) gives a // b and a % b at once.",
    ),
)


# seed and block: another model, other pictures and another block each time
_RUNS = ((0, 1), (1, 0), (2, 2))


def gives_the_tokens_that_leave_the_block(tokens_after: Answer) -> str | None:
    before = None
    for seed, block in _RUNS:
        model = small_vit(seed)
        model.train(seed == 1)  # a mode to be left as it is; nothing in this model is random
        images = small_images(seed)
        layers = tokentm.record(model, images).layers
        wanted = layers[block].stream_out
        answer = tokens_after(model, images, block)
        if getattr(answer, "shape", None) == (len(images), 5):
            return "these are the logits, what the model returns in the end. Return what the hook has seen."
        found = tensor(answer, tuple(wanted.shape), "(images, tokens, width)")
        if same(found, layers[block].stream):
            return f"these tokens enter block {block}; wanted are those that leave it, the hook's `output`."
        for other, layer in enumerate(layers):
            if other != block and same(found, layer.stream_out):
                return f"these tokens leave block {other}; asked for block {block}. Blocks count from 0."
        if before is not None and same(found, before):
            return "called again, it returns the tokens of the first call: begin each call with an empty store."
        if not same(found, wanted):
            return f"these are not the tokens that leave block {block}: hook model.blocks[{block}], keep its output."
        before = wanted
    return None


def leaves_nothing_behind_when_the_model_raises(tokens_after: Answer) -> str | None:
    model = small_vit(3)
    before = state(model)
    with suppress(Misstep):  # the model refuses pictures with two colours, and that is no mistake of the function
        tokens_after(model, small_images(3)[:, :2], 1)
    changed = difference(before, state(model))
    return changed and changed.replace("changed", "changed, when the model raised,", 1)


TOKENS_AFTER = Exercise(
    properties=(gives_the_tokens_that_leave_the_block, leaves_nothing_behind_when_the_model_raises),
    right="you recorded a layer, and the model is as it was, also after a failure.",
    hints=(
        "three steps: register a forward hook on model.blocks[block], run the model, remove the hook.",
        "the hook gets (module, inputs, output); let it append output to a list, and return nothing.",
        "run the model inside try:, and call handle.remove() inside finally:, so that it happens in any case.",
    ),
)

"""Likely mistakes of lesson 1, and words by which the verdict must name each."""

from __future__ import annotations

WRONG: dict[str, list[tuple[str, str]]] = {
    "01.cell_of": [
        ("def cell_of(token, columns, prefix):\n    return divmod(token, columns)", "Did you take them off?"),
        ("def cell_of(token, columns, prefix):\n    return divmod(token - 1, columns)", "with 2 token(s) before"),
        (
            """
def cell_of(token, columns, prefix):
    row, column = divmod(token - prefix, columns)
    return row + 1, column + 1""",
            "Rows and columns are counted from 0",
        ),
        (
            "def cell_of(token, columns, prefix):\n    n = token - prefix\n    return n / columns, n % columns",
            "Divide with // rather than /",
        ),
        (
            "def cell_of(token, columns, prefix):\n    return divmod(token - prefix, columns)[::-1]",
            "Are row and column swapped?",
        ),
        (
            "def cell_of(token, columns, prefix):\n    return divmod(token - prefix, columns + prefix)",
            "patch 5 begins the next row",
        ),
        ("def cell_of(token, columns, prefix):\n    return divmod(token - prefix, 14)", "patch 5 begins the next row"),
        (
            "def cell_of(token, columns, prefix):\n    n = token - prefix\n    return n // columns % 3, n % columns",
            "the way back must lead to the same token",
        ),
        ("def cell_of(token, columns, prefix):\n    return token - prefix", "expected shape (2,)"),
        ("def cell_of(token, columns, prefix):\n    divmod(token - prefix, columns)", "Is its `return` missing?"),
        ("def cell_of(token, columns):\n    return divmod(token, columns)", "stopped with TypeError"),
        ("cell_of = (0, 1)", "expected the function itself"),
    ],
    "01.tokens_after": [
        ("def tokens_after(model, images, block):\n    return model(images)", "these are the logits"),
        (
            """
def tokens_after(model, images, block):
    seen = []
    handle = model.blocks[block].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    try:
        model(images)
    finally:
        handle.remove()
    return seen[0]""",
            "these tokens enter block 1",
        ),
        (
            """
def tokens_after(model, images, block):
    seen = []
    handle = model.blocks[block - 1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        model(images)
    finally:
        handle.remove()
    return seen[0]""",
            "these tokens enter block 1",
        ),
        (
            """
def tokens_after(model, images, block):
    seen = []
    handle = model.blocks[(block + 1) % 3].register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        model(images)
    finally:
        handle.remove()
    return seen[0]""",
            "these tokens leave block 2; asked for block 1",
        ),
        (
            """
seen = []
def tokens_after(model, images, block):
    handle = model.blocks[block].register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        model(images)
    finally:
        handle.remove()
    return seen[0]""",
            "returns the tokens of the first call",
        ),
        (
            """
def tokens_after(model, images, block):
    seen = []
    model.blocks[block].register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(images)
    return seen[0]""",
            "your function changed a hook of blocks.1: remove its handle",
        ),
        (
            """
def tokens_after(model, images, block):
    seen = []
    handle = model.blocks[block].register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(images)
    handle.remove()
    return seen[0]""",
            "when the model raised, a hook of blocks.1",
        ),
        (
            """
def tokens_after(model, images, block):
    seen = []
    model.eval()
    handle = model.blocks[block].register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        model(images)
    finally:
        handle.remove()
    return seen[0]""",
            "the train or eval mode of the model",
        ),
        (
            """
def tokens_after(model, images, block):
    seen, forward = [], model.blocks[block].forward
    def watched(x):
        seen.append(forward(x))
        return seen[0]
    model.blocks[block].forward = watched
    model(images)
    return seen[0]""",
            "the attribute forward of blocks.1",
        ),
        (
            """
def tokens_after(model, images, block):
    seen = []
    handle = model.blocks[block].attn.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        model(images)
    finally:
        handle.remove()
    return seen[0]""",
            "these are not the tokens that leave block 1",
        ),
        (
            """
def tokens_after(model, images, block):
    seen = []
    handle = model.blocks[block].register_forward_hook(lambda module, inputs, output: seen.append(output[:, 0]))
    try:
        model(images)
    finally:
        handle.remove()
    return seen[0]""",
            "expected shape (2, 7, 24), (images, tokens, width); yours has shape (2, 24)",
        ),
    ],
}

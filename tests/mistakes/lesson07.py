"""Likely mistakes of lesson 7, and words by which the verdict must name each."""

from __future__ import annotations

_EFFECT = """
def effect(trace, block):
    layers = list(trace.layers)
    layers[block] = replace(layers[block], attention=torch.zeros_like(layers[block].attention))
    without = TokenTM()(replace(trace, layers=tuple(layers))).scores
    return agreement(without, TokenTM()(trace).scores)"""

_NEEDED = """
def needed(model, images, target):
    side = model.patch_embed.patch_size[0]
    falls = []
    with torch.no_grad():
        whole = model(images)[:, target]
        for y in range(0, images.shape[2], side):
            for x in range(0, images.shape[3], side):
                painted = images.clone()
                painted[:, :, y : y + side, x : x + side] = 0
                falls.append(whole - model(painted)[:, target])
    return torch.stack(falls, dim=1)"""


def _instead(source: str, *changes: tuple[str, str]) -> str:
    """The right function with some of its text replaced."""
    for old, new in changes:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


def _misled(*changes: str) -> str:
    body = "\n".join(f"        {line}" for line in changes)
    return f"""
def misled(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
{body}
    return other"""


WRONG: dict[str, list[tuple[str, str]]] = {
    "07.effect": [
        (_instead(_EFFECT, ("agreement(without, TokenTM()(trace).scores)", "without")), "this is a map. Compare it"),
        (_instead(_EFFECT, ("scores)", "scores).mean()")), "3 images: give each its own number"),
        (_instead(_EFFECT, ("scores)", "scores).mean().item()")), "3 images: give each its own number"),
        (_instead(_EFFECT, ("return agreement", "return 1 - agreement")), "that is 1 less the agreement"),
        (
            _instead(_EFFECT, ("layers = list(trace.layers)", "layers, block = list(trace.layers), block - 1")),
            "that is the effect of block 3; asked for block 4",
        ),
        (
            """
def effect(trace, block):
    without = TokenTM()(replace(trace, layers=(trace.layers[block],))).scores
    return agreement(without, TokenTM()(trace).scores)""",
            "that is the map of block 4 alone",
        ),
        (
            """
def effect(trace, block):
    explanation = TokenTM()(trace)
    return agreement(explanation.layer_scores[:, block - 1], explanation.scores)""",
            "all blocks from 4 on are gone",
        ),
        (
            """
def effect(trace, block):
    layers = trace.layers[:block] + trace.layers[block + 1 :]
    without = TokenTM()(replace(trace, layers=layers)).scores
    return agreement(without, TokenTM()(trace).scores)""",
            "takes the tokens that enter the next one for the embedding",
        ),
        (
            """
def effect(trace, block):
    whole = TokenTM()(trace).scores
    trace.layers[block].attention.zero_()
    return agreement(TokenTM()(trace).scores, whole)""",
            "your function changed the record: layers[4].attention",
        ),
        (
            """
def effect(trace, block):
    layers = list(trace.layers)
    layers[block] = replace(layers[block], attention=torch.zeros_like(layers[block].attention))
    pair = TokenTM()(replace(trace, layers=tuple(layers))).scores, TokenTM()(trace).scores
    return [torch.corrcoef(torch.stack(rows))[0, 1] for rows in zip(*pair)]""",
            "compare ranks, not numbers",
        ),
        (
            """
def effect(trace, block):
    trace.layers[block].attention = 0
    return agreement(TokenTM()(trace).scores, full)""",
            "stopped with FrozenInstanceError",
        ),
        (
            _instead(_EFFECT, ("attention=torch.zeros_like(layers[block].attention)", "bias=0 * layers[block].bias")),
            "both maps are the same",
        ),
        (
            _instead(_EFFECT, ("attention=torch.zeros_like(layers[block].attention)", "value=-layers[block].value")),
            "With A = 0 in this block",
        ),
    ],
    "07.needed": [
        (_instead(_NEEDED, ("dim=1", "dim=0")), "images come first, then patches"),
        (
            _instead(_NEEDED, ("model(images)[:, target]", "model(images)"), ("painted)[:, target]", "painted)")),
            "these are all classes",
        ),
        (_instead(_NEEDED, ("whole - model(painted)[:, target]", "model(painted)[:, target] - whole")), "the sign"),
        (_instead(_NEEDED, ("whole - model", "model")), "these are the logits that are left"),
        (
            _instead(
                _NEEDED,
                ("model(images)[:, target]", "model(images).softmax(1)[:, target]"),
                ("model(painted)[:, target]", "model(painted).softmax(1)[:, target]"),
            ),
            "these are probabilities",
        ),
        (
            _instead(
                _NEEDED,
                ("whole = model(images)[:, target]", "own = model(images).argmax(1)"),
                ("whole - model(painted)[:, target]", "(model(images) - model(painted))[range(len(own)), own]"),
            ),
            "these are the logits of the predicted class",
        ),
        (
            _instead(
                _NEEDED,
                ("for y in range(0, images.shape[2], side)", "for x in range(0, images.shape[3], side)"),
                (
                    "for x in range(0, images.shape[3], side):\n                p",
                    "for y in range(0, 16, 8):\n                p",
                ),
            ),
            "patches are numbered along the rows",
        ),
        (
            _instead(
                _NEEDED,
                ("                painted = images.clone()\n", ""),
                ("    falls = []", "    falls, painted = [], images.clone()"),
            ),
            "painted patches stay painted",
        ),
        (_instead(_NEEDED, ("images.clone()", "images")), "your function changed input 2 in place"),
        (
            _instead(
                _NEEDED,
                ("images.clone()", "torch.zeros_like(images)"),
                ("side] = 0", "side] = images[:, :, y : y + side, x : x + side]"),
            ),
            "you keep one patch and paint over all others",
        ),
        (_instead(_NEEDED, ("painted[:, :, ", "painted[:, 0, ")), "in all colours"),
        (_instead(_NEEDED, ("images.shape[3]", "images.shape[2]")), "expected shape (2, 6)"),
    ],
    "07.misled": [
        ("def misled(model):\n    return model", "that is the same model"),
        ("def misled(model):\n    return TokenTM()", "expected a model; yours is of type TokenTM"),
        (_misled("pass"), "its maps are as before"),
        (_misled("other.pos_embed[:, 1] += 1000"), "lies on no object, and 4 are wanted"),
        (_misled("other.blocks[0].mlp.fc2.bias -= 1000"), "lies on no object, and 4 are wanted"),
        (_misled("other.pos_embed[:, 1] *= 1000"), "it does not answer as before"),
        (_misled("other.pos_embed[:, 1, 0] += 1000"), "it does not answer as before"),
        (
            "def misled(model):\n    with torch.no_grad():\n        model.pos_embed[:, 1] += 1000\n"
            "    return copy.deepcopy(model)",
            "your function changed the weights pos_embed: work on copy.deepcopy(model)",
        ),
        (
            _misled("other.pos_embed = torch.nn.Parameter(other.pos_embed[:, 1:])"),
            "the model you return stopped with RuntimeError",
        ),
        (_misled("other.pos_embed[:, 1] += float('inf')"), "holds NaN or infinity"),
        (_misled("other.pos_embed[:, 0] += 1000", "other.blocks[0].mlp.fc2.bias -= 1000"), "and 4 are wanted"),
        (_misled("other.train(True)"), "its maps are as before"),
    ],
}

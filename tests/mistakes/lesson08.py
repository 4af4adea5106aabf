"""Likely mistakes of lesson 8, and words by which the verdict must name each."""

from __future__ import annotations

_SCORE_AT = """
def score_at(explanation, x, y):
    rows, columns = explanation.grid
    height, width = explanation.image_size
    patch = y // (height // rows) * columns + x // (width // columns)
    return explanation.scores[:, patch]"""

_DOUBTS = """
def doubts(model, images, explain):
    predicted, second = model(images).topk(2).indices[0].tolist()
    explanation = explain(model, images, predicted)
    scores, (rows, columns) = explanation.scores, explanation.grid
    side = images.shape[2] // rows

    def logit_without(patches):
        mask = torch.zeros(len(scores), 1, rows * columns, dtype=torch.bool, device=images.device)
        mask[:, :, patches] = True
        mask = mask.unflatten(2, (rows, columns)).repeat_interleave(side, 2).repeat_interleave(side, 3)
        return model(images.masked_fill(mask, 0))[0, predicted]

    found = set()
    if torch.allclose(scores, explain(model, images, second).scores, rtol=1e-3, atol=0):
        found.add("class")
    if torch.allclose(scores, explain(model, images.flip(3), predicted).scores, rtol=1e-3, atol=0):
        found.add("picture")
    if logit_without(scores[0].topk(20).indices) >= logit_without((-scores[0]).topk(20).indices):
        found.add("removal")
    return found"""


def _instead(source: str, *changes: tuple[str, str]) -> str:
    """The right function with some of its text replaced."""
    for old, new in changes:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


WRONG: dict[str, list[tuple[str, str]]] = {
    "08.score_at": [
        (_instead(_SCORE_AT, ("scores[:, patch]", "scores[0, patch]")), "2 images; give the score of each"),
        (_instead(_SCORE_AT, ("explanation.scores[:, patch]", "patch")), "2 images; give the score of each"),
        (
            _instead(_SCORE_AT, ("y // (height // rows) * columns + x // (width // columns)", "0")),
            "you give the score of patch 0",
        ),
        (
            _instead(
                _SCORE_AT,
                (
                    "y // (height // rows) * columns + x // (width // columns)",
                    "x * rows // height * columns + y * columns // width",
                ),
            ),
            "x counts from the left and chooses the column",
        ),
        (
            "def score_at(explanation, x, y):\n    return explanation.heatmap()[:, y, x]",
            "heatmap() blends neighbouring patches",
        ),
        (_instead(_SCORE_AT, ("x // (width // columns)", "x // (height // rows)")), "Patches need not be square"),
        (_instead(_SCORE_AT, ("rows) * columns", "rows) * rows")), "you give the score of patch"),
        (_instead(_SCORE_AT, ("scores[:, patch]", "scores.mean(1)")), "you give no patch's score"),
        (_instead(_SCORE_AT, ("scores[:, patch]", "scores")), "expected shape (2,), (images,)"),
        (_instead(_SCORE_AT, ("y // (height", "y / (height")), "stopped with IndexError"),
    ],
    "08.doubts": [
        ("def doubts(model, images, explain):\n    return set()", "passes your test 'class'"),
        ("def doubts(model, images, explain):\n    return True", "expected a set of names"),
        ("def doubts(model, images, explain):\n    return 'class'", "expected a set of names"),
        ("def doubts(model, images, explain):\n    return {'Klasse'}", "expected names among class, picture, removal"),
        (
            "def doubts(model, images, explain):\n    return {'class', 'picture', 'removal'}",
            "TokenTM passes all three tests here, and you doubt it for: class, picture, removal",
        ),
        (_instead(_DOUBTS, (">= logit_without", "< logit_without")), "you doubt it for: removal"),
        (_instead(_DOUBTS, ("images.flip(3), predicted", "images, predicted")), "you doubt it for: picture"),
        (
            _instead(_DOUBTS, ("explain(model, images, second)", "explain(model, images.flip(3), second)")),
            "passes your test 'class', though it gives the same map for any class",
        ),
        (
            _instead(_DOUBTS, ("images.flip(3), predicted", "images.flip(3), second")),
            "passes your test 'picture', though it gives the same map for any picture",
        ),
        (
            _instead(_DOUBTS, ("(-scores[0]).topk", "scores[0].topk")),
            "you doubt it for: removal",
        ),
        (_instead(_DOUBTS, ("[0, predicted]", "[0, second]")), "you doubt it for: removal"),
        (_instead(_DOUBTS, ("masked_fill(", "masked_fill_(")), "your function changed input 2 in place"),
        (_instead(_DOUBTS, ('found.add("removal")', "pass")), "passes your test 'removal'"),
        (
            _instead(_DOUBTS, ('found.add("picture")', 'found |= {"class", "picture"}')),
            "fails your test 'class' without cause",
        ),
        (
            _instead(_DOUBTS, ("model(images).topk(2).indices[0].tolist()", "0, 1")),
            "you ask about class 0; the predicted class and the runner-up are",
        ),
    ],
}

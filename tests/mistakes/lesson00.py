"""Likely mistakes of the quickstart, and words by which the verdict must name each."""

from __future__ import annotations

WRONG: dict[str, list[tuple[str, str]]] = {
    "00.share": [
        ("share = 'most of it'", "expected numbers"),
        ("share = share_on('car', explanation)", "that is the cat's map"),
        ("share = share_on('cat', tokentm.explain(model, images, target=car))", "on the cat's pixels"),
        ("share = share_on('car', tokentm.explain(model, images, target=car)) * 100", "between 0 and 1"),
        ("share = tokentm.explain(model, images, target=car).heatmap() * 1", "a share is one number"),
        ("share = scene.masks['car'].mean()", "divided by the sum of the whole map"),
        ("def share():\n    return 0.8", "expected a value, not a function"),
        ("share = float('nan')", "NaN"),
    ],
}

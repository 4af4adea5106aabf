"""A survey in words and tables, for a terminal or a README."""

from __future__ import annotations

import torch

from tokentm.survey.result import Survey


def as_markdown(survey: Survey) -> str:
    """How many pictures are decided after each layer, and the means of every head."""
    decided = torch.bincount(survey.decided - 1, minlength=survey.layers).tolist()
    lines = [
        f"{len(survey.pictures)} pictures",
        "",
        "| decided after layer | " + " | ".join(str(layer + 1) for layer in range(survey.layers)) + " |",
        "| --- |" + " --- |" * survey.layers,
        "| pictures | " + " | ".join(str(count) for count in decided) + " |",
        "",
        "| layer | head | attention distance, pixels | entropy, nats | on the object |",
        "| --- | --- | --- | --- | --- |",
    ]
    distance, entropy = survey.distance.mean(0), survey.entropy.mean(0)
    inside, covered = survey.on_object.nanmean(0), survey.covered.nanmean()
    for layer in range(survey.layers):
        for head in range(survey.heads):
            share = "" if inside.isnan().any() else f"{inside[layer, head]:.3f}"
            lines.append(
                f"| {layer + 1} | {head + 1} | {distance[layer, head]:.1f} | {entropy[layer, head]:.2f} | {share} |"
            )
    if not covered.isnan():
        lines += ["", f"The objects cover {covered:.3f} of the pictures: what a head that looks everywhere alike has."]
    return "\n".join([*lines, ""])

"""Surveys of random numbers, for tests that need no model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from tokentm.survey import SeenPicture, Survey
from tokentm.survey.driving import cropped, driving_patches, jpeg


def make_survey(pictures: int = 6, layers: int = 3, heads: int = 2, classes: int = 4, top: int = 5) -> Survey:
    """Pictures of 12 x 20 pixels with 3 x 5 patches, of every second one the mask is known; the last class is never
    predicted, and the label of the first picture is another one."""
    generator = torch.Generator().manual_seed(0)
    grid = (3, 5)
    predicted = torch.arange(pictures) % (classes - 1)
    labels = predicted.clone()
    labels[0] = classes - 1
    answers = torch.randint(0, classes, (pictures, layers), generator=generator)
    answers[:, -1] = predicted
    scores = torch.rand(pictures, 15, generator=generator)
    drawn = [Image.fromarray(np.random.default_rng(i).integers(0, 255, (12, 20, 3), np.uint8)) for i in range(pictures)]
    driving = [cropped(one, drawn[one.picture], grid) for one in driving_patches(scores, predicted, top)]
    inside, covered = (
        torch.rand(pictures, layers, heads, generator=generator),
        torch.rand(pictures, generator=generator),
    )
    inside[1::2], covered[1::2] = torch.nan, torch.nan
    return Survey(
        pictures=tuple(f"picture {i}" for i in range(pictures)),
        labels=labels,
        answers=answers,
        distance=20 * torch.rand(pictures, layers, heads, generator=generator),
        entropy=2 * torch.rand(pictures, layers, heads, generator=generator),
        on_object=inside,
        covered=covered,
        driving=tuple(driving),
        seen={i: SeenPicture(jpeg(drawn[i]), scores[i]) for i in {one.picture for one in driving}},
        top=top,
        classes=classes,
        class_names=("<b>cat</b>", "dog", "bird", "fish")[:classes] if classes <= 4 else None,
        grid=grid,
        prefix=1,
        image_size=(12, 20),
        settings={"model": "tiny", "data": "pictures:here"},
    )


def without_masks(survey: Survey) -> Survey:
    return replace(
        survey,
        on_object=torch.full_like(survey.on_object, torch.nan),
        covered=torch.full_like(survey.covered, torch.nan),
    )

"""How good is an explanation? Metrics on heat maps and rankings, and whole tests of many methods on a data set.

The tests run as ``python -m tokentm.evaluation``.
"""

from __future__ import annotations

from tokentm.evaluation.classes import ClassSensitivity, class_sensitivity, other_classes
from tokentm.evaluation.discrimination import DiscriminationScores, discrimination
from tokentm.evaluation.mosaics import Mosaic, Mosaics, mosaics_of
from tokentm.evaluation.partition import matched_miou, with_background
from tokentm.evaluation.perturbation import PerturbationScores, perturbation
from tokentm.evaluation.removal import Removal
from tokentm.evaluation.saco import saco
from tokentm.evaluation.sanity import randomised, rank_correlation
from tokentm.evaluation.segmentation import SegmentationScores, segmentation
from tokentm.evaluation.significance import holm, needed_pictures, sign_flip

__all__ = [
    "ClassSensitivity",
    "DiscriminationScores",
    "Mosaic",
    "Mosaics",
    "PerturbationScores",
    "Removal",
    "SegmentationScores",
    "class_sensitivity",
    "discrimination",
    "holm",
    "matched_miou",
    "mosaics_of",
    "needed_pictures",
    "other_classes",
    "perturbation",
    "randomised",
    "rank_correlation",
    "saco",
    "segmentation",
    "sign_flip",
    "with_background",
]

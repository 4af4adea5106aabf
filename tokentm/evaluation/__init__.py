"""How good is an explanation? Metrics on heat maps and rankings, and whole tests of many methods on a data set.

The tests run as ``python -m tokentm.evaluation``.
"""

from __future__ import annotations

from tokentm.evaluation.discrimination import DiscriminationScores, discrimination
from tokentm.evaluation.perturbation import PerturbationScores, perturbation
from tokentm.evaluation.removal import Removal
from tokentm.evaluation.saco import saco
from tokentm.evaluation.sanity import randomised, rank_correlation
from tokentm.evaluation.segmentation import SegmentationScores, segmentation

__all__ = [
    "DiscriminationScores",
    "PerturbationScores",
    "Removal",
    "SegmentationScores",
    "discrimination",
    "perturbation",
    "randomised",
    "rank_correlation",
    "saco",
    "segmentation",
]

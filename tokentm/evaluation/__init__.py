"""How good is an explanation? Metrics on heat maps with a known answer."""

from __future__ import annotations

from tokentm.evaluation.segmentation import SegmentationScores, segmentation

__all__ = ["SegmentationScores", "segmentation"]

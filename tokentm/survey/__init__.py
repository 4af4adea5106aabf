"""What a model does over many pictures: its heads, the layer in which it decides, and the patches that drive a class.

    data set --survey, batch by batch--> parts --collect--> Survey --> tokentm_widgets.SurveyBrowser

Runs as ``python -m tokentm.survey``.
"""

from __future__ import annotations

from tokentm.survey.driving import DrivingPatch, SeenPicture
from tokentm.survey.result import UNKNOWN, Survey
from tokentm.survey.run import collect, measured, survey

__all__ = ["UNKNOWN", "DrivingPatch", "SeenPicture", "Survey", "collect", "measured", "survey"]

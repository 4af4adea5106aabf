"""Jupyter widgets for tokentm: look at a record, layer by layer, without waiting for the kernel."""

from __future__ import annotations

from tokentm_widgets import still
from tokentm_widgets.explorer import Explorer, explore
from tokentm_widgets.export import export_html
from tokentm_widgets.layer_stepper import LayerStepper
from tokentm_widgets.method_comparison import MethodComparison
from tokentm_widgets.path_explorer import PathExplorer
from tokentm_widgets.perturbation_player import PerturbationPlayer
from tokentm_widgets.scene_table import SceneTable
from tokentm_widgets.survey_browser import SurveyBrowser
from tokentm_widgets.token_playground import TokenPlayground

__all__ = [
    "Explorer",
    "LayerStepper",
    "MethodComparison",
    "PathExplorer",
    "PerturbationPlayer",
    "SceneTable",
    "SurveyBrowser",
    "TokenPlayground",
    "explore",
    "export_html",
]

still.register()

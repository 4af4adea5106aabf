"""Sphinx configuration of the course's reading version; build it with ``make site``."""

from __future__ import annotations

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

project = "tokentm"
author = "the tokentm developers"
html_title = "tokentm: look inside a Vision Transformer's decision"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["course.css"]
html_copy_source = False
html_show_sphinx = False
extensions = ["myst_nb"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3  # links to headings, as GitHub knows them
nb_execution_mode = "off"  # build.py has run them
nb_mime_priority_overrides = [("html", "text/html", 0)]
# the pages must work from a file, without a network: formulas become MathML, which every browser draws by itself
html_math_renderer = "mathml"


def formula(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def displayed(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (formula, None), (displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Sphinx configuration of the course's reading version; build it with ``make site``."""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

sys.path.insert(0, str(Path(__file__).parent))
import landing

project = "tokentm"
root_doc = "course"
author = "the tokentm developers"
html_title = "tokentm"
html_theme = "furo"
FONTS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif'
pygments_dark_style = "github-dark"
html_theme_options = {  # fonts and colours of the landing page and the widgets
    "light_css_variables": {
        "font-stack": FONTS,
        "color-foreground-primary": "#1b1f24",
        "color-brand-primary": "#0a5bb5",
        "color-brand-content": "#0a5bb5",
        "color-brand-visited": "#0a5bb5",
    },
    "dark_css_variables": {
        "font-stack": FONTS,
        "color-foreground-primary": "#eceef1",
        "color-background-primary": "#131518",
        "color-brand-primary": "#7db8ff",
        "color-brand-content": "#7db8ff",
        "color-brand-visited": "#7db8ff",
    },
}
html_static_path = ["_static"]
html_css_files = ["course.css"]
html_js_files = ["frames.js"]
templates_path = ["_templates"]
html_additional_pages = {"index": "landing.html"}
html_context = landing.context()
html_copy_source = False
html_use_index = False  # nothing is indexed
html_show_sphinx = False
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_default_options = {"exclude-members": "set"}  # matplotlib gives every figure one of its own
napoleon_custom_sections = [("Departures", "notes_style"), ("Source", "notes_style")]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3  # links to headings, as GitHub knows them
nb_execution_mode = "off"  # build.py sees to it that they are run
nb_mime_priority_overrides = [("html", "text/html", 0)]
# the pages must work from a file, without a network: formulas become MathML, which every browser draws by itself
html_math_renderer = "mathml"


def formula(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def displayed(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def as_markup(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are written to be read as text: indented formulas are shown as they stand, |x| is no substitution."""
    made = [""] if what == "property" else []  # or napoleon takes what stands before a colon for its type
    formula = section = False
    for line in lines:
        indented = line.startswith("    ")
        section = section or line in SECTIONS
        if indented and not formula and not section and (not made or not made[-1].strip()):
            made += ["::", ""]
        formula = not section and (indented or (formula and not line.strip()))
        made.append(line if formula else escaped(line))
    lines[:] = made


SECTIONS = {f"{title}:" for title in ("Args", "Attributes", "Returns", "Raises", "Example", "Source", "Departures")}


def escaped(line: str) -> str:
    """A line of a docstring in which | means |, but within literals."""
    parts = line.split("``")
    return "``".join(part if i % 2 else part.replace("|", r"\|") for i, part in enumerate(parts))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", as_markup, priority=400)  # before napoleon reads the sections
    app.add_html_math_renderer("mathml", (formula, None), (displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

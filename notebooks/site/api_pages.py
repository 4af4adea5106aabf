"""The API reference: one page for each room of the library, made from its docstrings by Sphinx."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Page:
    """One page of the reference.

    Attributes:
        title, says: heading and first sentence.
        modules: whose public functions and classes it shows, or "module:name name ..." for some of them.
    """

    title: str
    says: str
    modules: tuple[str, ...]

    @property
    def file_name(self) -> str:
        return f"api_{self.title.lower().replace(' ', '_')}.md"


PAGES = (
    Page(
        "Explain",
        "From a model and pictures to a map, and to a record of everything.",
        ("tokentm:explain record Explanation Trace LayerTrace load_demo",),
    ),
    Page("TokenTM", "The method of this project, and the loop over its layers.", ("tokentm.methods.tokentm",)),
    Page(
        "Pictures and targets",
        "What a model takes, what it saw, and which score is explained.",
        (
            "tokentm:prepare seen Prepared log_odds log_probability probability difference text_target TextTarget",
            "tokentm.outputs",
        ),
    ),
    Page("Your model", "How a model is found or described.", ("tokentm:describe register Anatomy Block",)),
    Page(
        "Methods",
        "Every method by its name, and how one is made.",
        ("tokentm.methods", "tokentm.methods.rollout", "tokentm.methods.gradient_rollout", "tokentm.relevance"),
    ),
    Page("Lens", "Read any token with the model's own head; take a score apart.", ("tokentm.lens",)),
    Page(
        "Interventions", "Take parts away, and compare with what a map said.", ("tokentm.intervene", "tokentm.claims")
    ),
    Page(
        "Tokens and regions",
        "Lengths and outliers of tokens; maps summed over masks.",
        ("tokentm.tokens", "tokentm.regions"),
    ),
    Page("Latent tokens", "Maps for tokens inside the model, and segments made of them.", ("tokentm.latent",)),
    Page(
        "Survey",
        "What a model does over many pictures.",
        ("tokentm.survey.run", "tokentm.survey.result", "tokentm.survey.heads", "tokentm.survey.deciding"),
    ),
    Page("Evaluation", "Tests that a map has to stand.", ("tokentm.evaluation", "tokentm.evaluation.report")),
    Page("ONNX", "Model and explanation as one file.", ("tokentm:export_onnx OnnxExport",)),
    Page("Figures", "Pictures of maps and records.", ("tokentm.plots",)),
    Page("Widgets", "For notebooks and pages.", ("tokentm_widgets",)),
    Page("Errors", "What may be raised.", ("tokentm.errors",)),
)


def public(told: str) -> list[tuple[str, str]]:
    """(module, name) of what a page shows of one module."""
    module_name, _, chosen = told.partition(":")
    module = importlib.import_module(module_name)
    if chosen:
        return [(module_name, name) for name in chosen.split()]
    names = getattr(module, "__all__", None)
    if names is None:
        names = [
            name
            for name, one in vars(module).items()
            if not name.startswith("_")
            and (inspect.isfunction(one) or inspect.isclass(one))
            and one.__module__ == module_name
        ]
    return [
        (module_name, name)
        for name in names
        if inspect.isfunction(found := getattr(module, name)) or inspect.isclass(found)
    ]


def page(of: Page) -> str:
    """The page in MyST: a heading and one directive for each function or class."""
    parts = [f"# {of.title}\n\n{of.says}"]
    for told in of.modules:
        for module, name in public(told):
            kind = "autoclass" if inspect.isclass(getattr(importlib.import_module(module), name)) else "autofunction"
            members = "\n   :members:" if kind == "autoclass" else ""
            parts.append(f"```{{eval-rst}}\n.. {kind}:: {module}.{name}{members}\n```")
    return "\n\n".join(parts) + "\n"


def index() -> str:
    listed = "\n".join(of.file_name.removesuffix(".md") for of in PAGES)
    return f"""# Reference

Every public function and class with shapes, units, errors and an example. The examples are run by the tests.

```{{toctree}}
:maxdepth: 1

{listed}
```
"""


def write(source: Path) -> None:
    """The reference's pages, where Sphinx reads them."""
    for of in PAGES:
        (source / of.file_name).write_text(page(of), encoding="utf-8")
    (source / "reference.md").write_text(index(), encoding="utf-8")

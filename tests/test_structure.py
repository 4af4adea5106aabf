"""Who may import whom, read from the source: data flows one way, and heavy packages load when something is drawn."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tokentm

PACKAGE = Path(tokentm.__file__).parent
FILES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
CORE = [name for name in FILES if not name.startswith("demo/")]

# module -> the siblings it may import; what a module may not name is not there
ARROWS = {
    "version.py": set(),
    "doctor.py": {"version"},
    "__main__.py": {"doctor"},
    "explaining.py": {
        *("explanation", "methods", "outputs", "pictures", "run", "target", "texts", "trace", "vit"),
        "errors",
    },
    "errors.py": set(),
    "transformation.py": {"errors"},
    "aggregation.py": set(),
    "isolation.py": set(),
    "questions.py": {"outputs", "errors"},
    "target.py": {"outputs", "questions", "errors"},
    "outputs.py": {"errors"},
    "names.py": {"errors"},
    "renamed.py": set(),
    "vit/__init__.py": {"vit", "errors"},
    "vit/guide.py": {"vit"},
    "vit/xformers_calls.py": {"isolation"},
    "vit/anatomy.py": set(),
    "vit/path.py": {"errors"},
    "vit/timm_models.py": {"vit", "errors"},
    "vit/torchvision_models.py": {"vit"},
    "vit/transformers_models.py": {"vit", "errors"},
    "reading.py": {"errors"},
    "crops.py": set(),
    "pictures.py": {"crops", "discovery", "reading", "renamed", "vit", "errors"},
    "sketch.py": set(),
    "answers.py": {"hooks", "sketch"},
    "search.py": {"answers", "hooks", "interception", "passes", "sketch", "vit", "errors"},
    "discovery.py": {"answers", "hooks", "isolation", "search", "vit", "errors"},
    "texts.py": {"answers", "run", "target", "vit", "errors"},
    "attention.py": set(),
    "closeness.py": set(),
    "passes.py": {"attention"},
    "interception.py": {"attention", "closeness", "isolation", "passes", "sketch"},
    "hooks.py": {"attention", "interception", "isolation", "passes", "sketch", "vit", "errors"},
    "blocks.py": {"closeness", "passes", "vit"},
    "positions.py": {"hooks", "vit", "errors"},
    "run.py": {"blocks", "discovery", "hooks", "passes", "outputs", "pictures", "positions", "target", "vit", "errors"},
    "tokenwise.py": {"attention", "hooks", "interception", "passes", "run", "vit", "errors"},
    "optional.py": {"errors"},
    "relevance/__init__.py": {"relevance"},
    "relevance/rules.py": set(),
    "relevance/propagation.py": {"relevance", "errors"},
    "relevance/chefer.py": {"relevance"},
    "relevance/gradients.py": {"relevance"},
    "intervene.py": {
        *("blocks", "closeness", "evaluation", "hooks", "isolation", "passes", "run", "trace", "vit"),
        "errors",
    },
    "claims.py": {"aggregation", "explanation", "intervene", "isolation", "methods", "trace", "errors"},
    "lens.py": {"closeness", "hooks", "isolation", "outputs", "relevance", "target", "trace", "vit", "errors"},
    "neighbours.py": {"methods", "target", "trace", "errors"},
    "evaluation/datasets.py": {"demo", "evaluation", "optional", "reading", "errors"},
    "evaluation/folder_classes.py": {"errors"},
    "evaluation/observed.py": {"outputs", "questions", "target", "errors"},
    "evaluation/mosaics.py": {"evaluation", "outputs"},
    "evaluation/perturbation.py": {"evaluation", "outputs"},
    "evaluation/saco.py": {"evaluation", "outputs"},
    "evaluation/removal.py": {"hooks", "isolation", "outputs", "trace", "errors"},
    "evaluation/sanity.py": {"discovery", "optional", "errors"},
    "evaluation/protocols.py": {
        *("discovery", "evaluation", "isolation", "methods", "outputs", "pictures", "questions", "target", "trace"),
        "errors",
    },
    "evaluation/parts.py": {"errors"},
    "evaluation/commands.py": {"demo", "discovery", "evaluation", "outputs", "pictures", "vit", "errors"},
    "evaluation/models.py": {"demo", "evaluation", "optional", "pictures", "errors"},
    "evaluation/__main__.py": {
        "demo",
        "evaluation",
        "methods",
        "optional",
        "outputs",
        "questions",
        "discovery",
        "errors",
    },
    "trace.py": {
        "blocks",
        "discovery",
        "files",
        "hooks",
        "isolation",
        "outputs",
        "passes",
        "pictures",
        "questions",
        "run",
        "steadiness",
        "target",
        "texts",
        "tokenwise",
        "vit",
        "errors",
    },
    "files.py": {"errors"},
    "explanation.py": {"files", "trace", "outputs", "questions", "errors", "plots"},
    "descent.py": {
        "aggregation",
        "attention",
        "blocks",
        "closeness",
        "hooks",
        "passes",
        "isolation",
        "run",
        "vit",
        "errors",
    },
    "steadiness.py": {"blocks", "descent", "hooks", "outputs", "run", "vit", "errors"},
    "streaming.py": {
        *("descent", "errors", "explanation", "isolation", "outputs", "questions", "run", "steadiness", "target"),
        "tokenwise",
    },
    "linkage.py": set(),
    "latent.py": {
        *("descent", "errors", "explanation", "isolation", "linkage", "methods", "pictures", "run", "steadiness"),
        *("tokenwise", "vit"),
    },
    "methods/__init__.py": {"methods", "errors"},
    "methods/tokentm.py": {
        *("aggregation", "blocks", "descent", "explanation", "isolation", "methods", "relevance", "streaming", "trace"),
        *("transformation", "errors"),
    },
    "methods/by_rules.py": {"hooks", "passes", "relevance", "trace", "errors"},
    "methods/method.py": {"explanation", "isolation", "outputs", "run", "target", "trace", "errors"},
    "graphs.py": {"errors"},
    "onnx_nodes.py": {"graphs"},
    "onnx_export.py": {
        *(
            "explanation",
            "graphs",
            "isolation",
            "methods",
            "onnx_nodes",
            "optional",
            "pictures",
            "run",
            "trace",
            "version",
            "vit",
        ),
        *("describe", "explain", "errors"),
    },
    "paths.py": {"aggregation", "methods", "trace", "errors"},
    "tokens.py": {"explanation", "methods", "token_plots", "trace", "vit", "errors"},
    "token_plots.py": {"pictures", "plots", "tokens", "errors"},
    "regions.py": {"explain", "explanation", "methods", "names", "pictures", "plots", "region_plots", "errors"},
    "region_plots.py": {"plots", "regions", "errors"},
    "plots.py": {"explanation", "methods", "names", "pictures", "questions", "renamed", "trace", "errors"},
    "survey/heads.py": {"vit"},
    "survey/deciding.py": {"hooks", "isolation", "outputs", "trace", "errors"},
    "survey/driving.py": set(),
    "survey/result.py": {"files", "survey", "errors"},
    "survey/run.py": {
        *("evaluation", "explanation", "methods", "names", "outputs", "pictures", "survey", "trace", "errors"),
    },
    "survey/__main__.py": {"demo", "discovery", "evaluation", "outputs", "survey", "errors"},
    "teaching/__init__.py": {"teaching", "errors"},
    "teaching/core.py": set(),
    "teaching/fresh.py": set(),
}

# folder -> what a file in it may import that is not named above
FOLDERS = {
    "methods/": {
        *(
            "aggregation",
            "blocks",
            "descent",
            "explanation",
            "hooks",
            "isolation",
            "optional",
            "relevance",
            "streaming",
        ),
        *("methods", "trace", "transformation", "errors"),
    },
    "teaching/": {"teaching"},
    "evaluation/": {"evaluation", "optional", "errors"},
    "survey/": {"survey"},
}


class Reader(ast.NodeVisitor):
    """Collects (imported name, inside a function) and every attribute read, type-checking imports left out."""

    def __init__(self, path: Path) -> None:
        self.imports: list[tuple[str, bool]] = []
        self.attributes: set[str] = set()
        self.depth = 0
        self.visit(ast.parse(path.read_text(encoding="utf-8")))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.imports += [(alias.name, self.depth > 0) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, "imports are absolute"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        self.imports += [(name, self.depth > 0) for name in names]

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.attributes.add(node.attr)
        self.generic_visit(node)


@pytest.fixture(scope="module")
def read() -> dict[str, Reader]:
    return {name: Reader(path) for name, path in FILES.items()}


def siblings(reader: Reader) -> set[str]:
    return {name.split(".")[1] for name, _ in reader.imports if name.split(".")[0] == "tokentm" and "." in name}


def test_there_is_something_to_read(read):
    assert set(ARROWS) <= set(read)
    assert siblings(read["trace.py"]) == ARROWS["trace.py"]
    assert "register_forward_hook" in read["hooks.py"].attributes
    assert ("tokentm.plots", True) in read["explanation.py"].imports


@pytest.mark.parametrize("name", CORE)
def test_a_module_imports_only_the_siblings_it_may(read, name):
    if name == "__init__.py":
        return
    allowed = ARROWS.get(name, FOLDERS.get(name.rpartition("/")[0] + "/", set()))
    assert siblings(read[name]) <= allowed, f"{name} may import only {sorted(allowed)}"


def test_few_touch_hooks_and_function_modes(read):
    touching = {
        name
        for name, reader in read.items()
        if any("hook" in attribute for attribute in reader.attributes)
        or any("torch.overrides" in imported or "torch.utils.hooks" in imported for imported, _ in reader.imports)
    }
    assert touching == {"hooks.py", "interception.py", "relevance/propagation.py"}


def test_few_know_timm(read):
    knowing = {name for name in CORE if any(imported.split(".")[0] == "timm" for imported, _ in read[name].imports)}
    assert knowing == {
        "evaluation/folder_classes.py",  # ImageNet's WordNet ids
        "evaluation/models.py",
        "pictures.py",
        "vit/__init__.py",
        "vit/path.py",
        "vit/timm_models.py",
    }


def test_the_mathematics_knows_only_torch(read):
    for name in ("transformation.py", "aggregation.py"):
        packages = {imported.split(".")[0] for imported, _ in read[name].imports}
        assert packages <= {"torch", "typing", "collections", "tokentm", "__future__"}


def test_heavy_packages_load_on_use(read):
    drawing = {n for n, r in read.items() if any(i.startswith("matplotlib") for i, _ in r.imports)}
    assert drawing == {"plots.py", "evaluation/report.py"}
    at_import = {(name, i) for name, reader in read.items() for i, inside in reader.imports if not inside}
    assert "tokentm.plots" not in {imported for _, imported in at_import}
    on_use = {
        "matplotlib",
        "torchmetrics",
        "scipy",
        "captum",
        "quantus",
        "accelerate",
        "h5py",
        "pycocotools",
        "transformers",
    }
    assert not on_use & {imported.split(".")[0] for name, imported in at_import if name != "plots.py"}


def test_the_core_knows_no_widgets_and_no_notebook(read):
    # the doctor looks whether they work
    knowing = [reader for name, reader in read.items() if name != "doctor.py"]
    packages = {imported.split(".")[0] for reader in knowing for imported, _ in reader.imports}
    assert not packages & {"tokentm_widgets", "ipywidgets", "anywidget", "IPython", "traitlets"}


def test_using_tokentm_loads_neither_figures_nor_widgets():
    code = "import sys, tokentm; tokentm.explain; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    loaded = set(done.stdout.split())
    assert {"tokentm", "torch", "timm"} <= loaded
    assert not loaded & {
        "transformers",
        "matplotlib",
        "ipywidgets",
        "anywidget",
        "IPython",
        "tokentm_widgets",
        "torchmetrics",
    }

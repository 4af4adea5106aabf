"""What is installed here, what is missing, and whether it works: one line for each thing. Needs no other package."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tokentm.version import __version__


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        about: what was looked at.
        fine: whether it is as it should be.
        said: what was found, and where it is not fine what to do.
        optional: whether only some parts need it.
    """

    about: str
    fine: bool
    said: str
    optional: bool = False

    def __str__(self) -> str:
        mark = "ok" if self.fine else "--" if self.optional else "NO"
        return f"{mark}  {self.about:<22} {self.said}"


REQUIRED = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "PIL",
    "safetensors",
    "tqdm",
    "matplotlib",
    "ipywidgets",
    "anywidget",
)

OPTIONAL = {
    "jupyterlab": ("lab", "notebooks in JupyterLab"),
    "torchmetrics": ("evaluation", "python -m tokentm.evaluation"),
    "captum": ("evaluation", "integrated gradients"),
    "accelerate": ("evaluation", "evaluation on several processes"),
    "h5py": ("evaluation", "ImageNet-Segmentation"),
    "pycocotools": ("evaluation", "COCO"),
    "onnx": ("onnx", "export_onnx"),
    "onnxscript": ("onnx", "export_onnx"),
    "onnxruntime": ("onnx", "export_onnx"),
    "nbgrader": ("teaching", "building and grading the assignments"),
    "sphinx": ("site", "the course as pages"),
    "transformers": (None, "Hugging Face models"),
    "open_clip": (None, "CLIP models of open_clip"),
}
"""For each package the extra that brings it, None where it is brought by those who have such models, and what for."""

_DISTRIBUTIONS = {"PIL": "pillow", "open_clip": "open_clip_torch"}


def examine() -> list[Finding]:
    """Look at this installation."""
    return [
        Finding("tokentm", True, f"{__version__} in {Path(__file__).parent}"),
        _python(),
        *(_package(name) for name in REQUIRED),
        _device(),
        _explains(),
        _widgets(),
        *(_package(name, *needed) for name, needed in OPTIONAL.items()),
    ]


def _python() -> Finding:
    fine = sys.version_info >= (3, 10)
    return Finding(
        "Python",
        fine,
        f"{platform.python_version()} on {platform.platform()}" + ("" if fine else ": 3.10 or newer is needed"),
    )


def _package(name: str, extra: str | None = None, use: str | None = None) -> Finding:
    """Whether a package can be imported, and which version it has."""
    told = _DISTRIBUTIONS.get(name, name)
    try:
        found = version(told)
    except PackageNotFoundError:
        how = (
            f"pip install tokentm[{extra}]"
            if extra
            else f"pip install {told}"
            if use
            else "pip install tokentm brings it"
        )
        return Finding(told, False, f"not installed{f'; for {use}' if use else ''}: {how}", optional=use is not None)
    try:
        import_module(name)
    except Exception as error:  # whatever a broken package does when it is imported
        advice = (
            "torch and torchvision of one release belong together: pip install --force-reinstall torch torchvision"
            if name in ("torchvision", "timm")
            else f"pip install --force-reinstall {told}"
        )
        return Finding(
            told, False, f"{found}, cannot be imported: {_first_line(error)}. {advice}", optional=use is not None
        )
    return Finding(told, True, found, optional=use is not None)


def _device() -> Finding:
    """Where torch computes."""

    def look() -> str:
        import torch

        if torch.cuda.is_available():
            return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}; move model and images there for speed"
        built = f"torch is built for CUDA {torch.version.cuda}, no such card here" if torch.version.cuda else "CPU only"
        return f"CPU, {torch.get_num_threads()} threads ({built})"

    return _tried("device", look)


def _explains() -> Finding:
    """Whether the shipped classifier is explained."""

    def look() -> str:
        import tokentm

        demo = tokentm.load_demo()
        scene = demo.scene(3, classes=["cat", "ball"])
        began = time.perf_counter()
        found = tokentm.explain(demo.model, scene.image)
        answer = demo.classes[int(found.logits.argmax())]
        return f"the shipped classifier says {answer} and is explained in {time.perf_counter() - began:.2f} s"

    return _tried("explain", look)


def _widgets() -> Finding:
    """Whether JupyterLab of this environment finds what draws the widgets."""

    def look() -> str:
        from tokentm_widgets import LayerStepper

        size = len(LayerStepper._esm)
        missing = [
            name
            for name in ("anywidget", "@jupyter-widgets/jupyterlab-manager")
            if not any((folder / "labextensions" / name).is_dir() for folder in _jupyter_folders())
        ]
        if missing:
            raise RuntimeError(
                f"JupyterLab's extensions {', '.join(missing)} are not where this Python keeps them; pip install "
                "--force-reinstall anywidget jupyterlab_widgets, in the environment that JupyterLab runs in"
            )
        return f"front end of {size / 1e3:.0f} kB; JupyterLab's extensions are in this environment"

    return _tried("widgets", look)


def _jupyter_folders() -> Iterator[Path]:
    yield Path(sys.prefix, "share", "jupyter")
    yield Path("/usr/local/share/jupyter")
    yield Path("/usr/share/jupyter")
    yield Path.home() / ".local" / "share" / "jupyter"


def _tried(about: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(about, True, look())
    except Exception as error:  # the reason is the finding
        return Finding(about, False, _first_line(error))


def _first_line(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {text[:300]}"

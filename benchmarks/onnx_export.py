"""Which models of timm export as one ONNX graph that agrees with explain, and how fast is the graph? Writes onnx.md.

    python benchmarks/onnx_export.py                       # hours; goes on where it was stopped
    python benchmarks/onnx_export.py --match "vit_tiny*"   # some of them; printed only
    python benchmarks/onnx_export.py --times               # minutes: only the times, printed

Tried is every model that coverage.md calls right, random weights, built as for that table: at a few patches where the
size of its images can be chosen. Names whose models are then built alike, as those of other weights or another image
size, are tried once.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
import onnxruntime
import timm
import torch
from coverage import FAMILIES, TABLE, gist, header, images_of, line, module_of, share, smallest
from torch import Tensor, nn
from tqdm.auto import tqdm

import tokentm
from tokentm import UnsupportedModelError

PAGE = Path(__file__).with_name("onnx.md")
RESULTS = Path(__file__).parents[1] / "runs" / "onnx.jsonl"
TIMED = ("demo", "vit_tiny_patch16_224")
REPEATS = 31


@dataclass(frozen=True)
class Row:
    """One model of timm, and what became of its export.

    Attributes:
        built: tells models apart that are built differently.
        error: largest difference from explain; None where the export was refused.
        refusal: why.
        seconds: that the export took, its checks included.
    """

    module: str
    model: str
    built: str
    millions: float
    error: float | None
    refusal: str
    seconds: float


def right_models() -> list[str]:
    """The models of timm that coverage.md calls right."""
    listed = TABLE.read_text(encoding="utf-8").split("## timm, model by model")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in row.split("|")] for row in listed.splitlines() if row.startswith("|")]
    return [row[1] for row in cells if row[3] == "supported"]


def tried(names: Sequence[str], known: dict[str, Row]) -> Iterator[Row]:
    """Export each model, unless one that is built alike has been."""
    by_build = {row.built: row for row in known.values()}
    for name in tqdm(names, desc="timm"):
        if name in known:
            continue
        module = module_of(name)
        torch.manual_seed(0)
        model = (smallest(name) if module in FAMILIES else timm.create_model(name)).eval()
        images, built = images_of(model, module), _built(model)
        like = by_build.get(built)
        if like is None:
            millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
            row = Row(module, name, built, millions, *_exported(model, images))
            by_build[built] = row
        else:
            row = Row(**{**asdict(like), "module": module, "model": name, "seconds": 0.0})
        yield row


def _built(model: nn.Module) -> str:
    shapes = [tuple(one.shape) for one in (*model.parameters(), *model.buffers())]
    return hashlib.sha256(f"{model!r}{shapes}".encode()).hexdigest()[:16]


def _exported(model: nn.Module, images: Tensor) -> tuple[float | None, str, float]:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            error, refusal = tokentm.export_onnx(model, Path(folder) / "model.onnx", images).error, ""
        except UnsupportedModelError as refused:
            error, refusal = None, str(refused)
    return error, refusal, time.perf_counter() - began


# times


@dataclass(frozen=True)
class Timing:
    """Milliseconds for one image on one thread, medians of calls that take turns."""

    model: str
    explain: float
    graph: float

    @property
    def ratio(self) -> float:
        return self.graph / self.explain


def timed(name: str) -> Timing:
    """explain() and the graph in turns, one image, one thread each."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = tokentm.load_demo().model if name == "demo" else timm.create_model(name).eval()
    with tempfile.TemporaryDirectory() as folder:
        made = tokentm.export_onnx(model, Path(folder) / "model.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(made.path, options, providers=["CPUExecutionProvider"])
    image = torch.randn(1, *made.inputs["image"][1:])
    target = torch.eye(made.inputs["target"][1])[:1]
    given = {"image": image.numpy(), "target": target.numpy()}
    found: tuple[list[float], list[float]] = ([], [])
    for turn in range(REPEATS + 3):
        for times, call in zip(
            found, (lambda: tokentm.explain(model, image, 0), lambda: session.run(None, given)), strict=True
        ):
            began = time.perf_counter()
            call()
            if turn >= 3:  # the first calls warm up
                times.append(1000 * (time.perf_counter() - began))
    return Timing(name, *(statistics.median(times) for times in found))


# the page


def tables(rows: Sequence[Row], timings: Sequence[Timing]) -> str:
    agreed = [row for row in rows if row.error is not None]
    builds = {row.built for row in rows}
    found = [
        "# ONNX",
        "",
        f"timm {timm.__version__}, torch {torch.__version__}, onnx {onnx.__version__}, onnxruntime "
        f"{onnxruntime.__version__}, {platform.machine()}. Made by `python benchmarks/onnx_export.py`.",
        "",
        "## Which models export",
        "",
        "Every model of timm below 100 million parameters that [coverage.md](coverage.md) calls right, random weights, "
        "TokenTM. A model exports when the graph, run by ONNX Runtime on 1, 2 and 5 random images with mixtures of "
        "classes, gives the scores and logits of `explain()` to 1e-4 of the largest value of each image; else nothing "
        "is written. As in coverage.md, models run at a few patches where the size of their images can be chosen. "
        f"Names whose models are then built alike were tried once: {len(builds)} builds of {len(rows)} names.",
        "",
        *header("module", "models", "builds", "export and agree", "share", "largest difference"),
    ]
    modules = dict.fromkeys(row.module for row in rows)
    for module in (*modules, "**all**"):
        group = [row for row in rows if module in (row.module, "**all**")]
        good = [row.error for row in group if row.error is not None]
        largest = f"{max(good):.1e}" if good else ""
        cells = (len({row.built for row in group}), len(good), share(len(good), len(group)), largest)
        found.append(line(module, len(group), *cells))
    refused = [row for row in rows if row.error is None]
    if refused:
        found += ["", "### What does not", "", *header("model", "why")]
        found += [line(row.model, gist(row.refusal)) for row in refused]
    seconds = sorted(row.seconds for row in agreed if row.seconds)
    if seconds:
        found += ["", f"An export took {statistics.median(seconds):.0f} s (median), all checks included."]
    found += [
        "",
        "## How fast the graph is",
        "",
        "One image at the size that the model is made for, one thread each, `explain()` and the graph taking turns, "
        f"median of {REPEATS} calls.",
        "",
        *header("model", "explain, ms", "ONNX Runtime, ms", "ratio"),
    ]
    found += [line(t.model, f"{t.explain:.1f}", f"{t.graph:.1f}", f"{t.ratio:.2f}") for t in timings]
    found += ["", "## Model by model", "", *header("model", "million parameters", "largest difference", "")]
    found += [
        line(row.model, f"{row.millions:.1f}", "" if row.error is None else f"{row.error:.1e}", gist(row.refusal))
        for row in rows
    ]
    return "\n".join(found) + "\n"


def known_rows(path: Path) -> dict[str, Row]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = [Row(**json.loads(one)) for one in lines]
    return {row.model: row for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--match", help="only models of this pattern, printed and not written")
    parser.add_argument("--times", action="store_true", help="only the times, printed and not written")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are kept, to go on later")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.times:
        print("\n".join(str(timed(name)) for name in TIMED))
        return
    names = right_models()
    if options.match:
        names = [name for name in names if fnmatch.fnmatch(name, options.match)]
        print(tables(list(tried(names, {})), []))
        return
    known = known_rows(options.results)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    with options.results.open("a", encoding="utf-8") as kept:
        for row in tried(names, known):
            known[row.model] = row
            kept.write(json.dumps(asdict(row)) + "\n")
            kept.flush()
    PAGE.write_text(tables([known[name] for name in names], [timed(name) for name in TIMED]), encoding="utf-8")


if __name__ == "__main__":
    main()

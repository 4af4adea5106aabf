"""Which of timm's models can be recorded? Builds every one below a size limit and writes the table coverage.md.

    python benchmarks/coverage.py                     # all of timm below 100 million parameters
    python benchmarks/coverage.py --match "vit_tiny*" # some, printed only

Random weights, the smallest image each model takes. A model counts as supported when record() accepts it *and* three
checks that record() has no part in hold: the attention output rebuilt from per-head parts is the model's own
(relative error below 1e-4), the logits are those of a plain call, and a change of one patch's pixels changes
the token at that place of the grid most.
"""

from __future__ import annotations

import argparse
import platform
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from timm.layers import HybridEmbed
from torch import Tensor, nn
from tqdm.auto import tqdm

import tokentm
from tokentm import TokenTM, UnsupportedModelError, record

FAMILIES = ("vision_transformer", "deit", "beit", "eva", "vision_transformer_relpos", "vision_transformer_hybrid")
TABLE = Path(__file__).with_name("coverage.md")
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Row:
    module: str
    model: str
    millions: float
    verdict: str  # supported, refused, wrong, skipped
    detail: str


def judge(module: str, name: str, limit: float) -> Row:
    """Build one model and try to explain it."""
    try:
        with torch.device("meta"):
            sketch = timm.create_model(name)
        millions = sum(parameter.numel() for parameter in sketch.parameters()) / 1e6
    except Exception:  # some models compute with real numbers while they are built
        sketch, millions = None, float("nan")
    if millions > limit:
        return Row(module, name, millions, "skipped", f"over {limit:g} million parameters")
    if sketch is not None and module not in FAMILIES:
        try:
            tokentm.vit.inspect(sketch.eval())
        except UnsupportedModelError as error:
            return Row(module, name, millions, "refused", str(error))
    model = smallest(name).eval()
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    if millions > limit:
        return Row(module, name, millions, "skipped", f"over {limit:g} million parameters")
    size = getattr(getattr(model, "patch_embed", None), "img_size", None) or (224, 224)
    torch.manual_seed(0)
    images = torch.randn(1, getattr(model, "in_chans", 3), *size)
    # a model without a classifier is explained by its first feature
    target = (lambda features: features[:, 0]) if getattr(model, "num_classes", 1) == 0 else 0
    try:
        trace = record(model, images, target)
        TokenTM()(trace)
    except tokentm.TokenTMError as error:
        return Row(module, name, millions, "refused", str(error))
    return verdict(Row(module, name, millions, "", ""), model, images, trace)


def verdict(row: Row, model: nn.Module, images: Tensor, trace: tokentm.Trace) -> Row:
    """Look at an accepted record from outside."""
    error = max(relative(layer.rebuilt_update(), layer.attention_update) for layer in trace.layers)
    with torch.inference_mode():
        same = relative(trace.logits, model(images))
    grid = trace.layout
    r, c = grid.rows - 1, grid.columns // 2
    height, width = images.shape[2] // grid.rows, images.shape[3] // grid.columns
    changed = images.clone()
    changed[..., r * height : (r + 1) * height, c * width : (c + 1) * width] += 3.0
    target = (lambda features: features[:, 0]) if trace.target is None else 0
    moved = (record(model, changed, target).embedding - trace.embedding).norm(dim=-1)[0]
    place = divmod(int(moved.argmax()) - grid.prefix, grid.columns)
    reach = 1 if isinstance(getattr(model, "patch_embed", None), HybridEmbed) else 0
    off = max(abs(place[0] - r), abs(place[1] - c))
    wrong = [
        text
        for bad, text in (
            (not error < TOLERANCE, f"identity error {error:.1e}"),
            (not same < TOLERANCE, f"logits differ by {same:.1e}"),
            (off > reach, f"patch ({r}, {c}) moved the token at {place}"),
        )
        if bad
    ]
    layout = f"{grid.prefix} + {grid.rows} x {grid.columns}, identity error {error:.1e}"
    return Row(row.module, row.model, row.millions, "wrong" if wrong else "supported", "; ".join(wrong) or layout)


def smallest(name: str) -> nn.Module:
    """The model at a few patches, not square where it can be."""
    for rows, columns in ((4, 3), (4, 4), (None, None)):
        try:
            with torch.device("meta"):
                patch = timm.create_model(name).patch_embed
            side = patch.feat_ratio() if hasattr(patch, "feat_ratio") else patch.patch_size[0]
            options = {} if rows is None else {"img_size": (rows * side, columns * side)}
        except Exception:
            options = {} if rows is None else {"img_size": (rows * 16, columns * 16)}
        try:
            return timm.create_model(name, **options)
        except Exception:
            if rows is None:
                raise
    raise AssertionError


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def table(rows: list[Row], limit: float) -> str:
    """The whole result as Markdown."""
    lines = [
        "# Coverage",
        "",
        f"Every model of timm {timm.__version__} below {limit:g} million parameters, random weights, an image of a few "
        f"patches; torch {torch.__version__}, {platform.machine()}. Made by `python benchmarks/coverage.py`.",
        "",
        "| module | models | skipped by size | supported | refused | wrong | supported of those tried |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    own = [row for row in rows if row.module in FAMILIES]
    groups = [(module, [row for row in own if row.module == module]) for module in FAMILIES]
    groups += [("**these families**", own), ("all other modules", [row for row in rows if row.module not in FAMILIES])]
    for module, group in groups:
        count = Counter(row.verdict for row in group)
        tried = len(group) - count["skipped"]
        share = f"{count['supported'] / tried:.1%}" if tried else ""
        lines.append(
            f"| {module} | {len(group)} | {count['skipped']} | {count['supported']} | {count['refused']} "
            f"| {count['wrong']} | {share} |"
        )
    lines += ["", "## Model by model", "", "| model | million parameters | verdict | |", "| --- | --- | --- | --- |"]
    lines += [f"| {row.model} | {row.millions:.1f} | {row.verdict} | {row.detail.split('. ')[0]} |" for row in own]
    others = Counter((row.module, row.verdict) for row in rows if row.module not in FAMILIES)
    lines += ["", "## Other modules", "", "| module | verdict | models |", "| --- | --- | --- |"]
    lines += [f"| {module} | {verdict} | {count} |" for (module, verdict), count in sorted(others.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=100, help="largest model, in millions of parameters")
    parser.add_argument("--match", help="only models of this pattern, printed and not written")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    modules = sorted({module for name in timm.list_models() if (module := module_of(name))})
    ordered = [*FAMILIES, *(module for module in modules if module not in FAMILIES)]
    chosen = set(timm.list_models(options.match)) if options.match else None
    names = [(m, n) for m in ordered for n in timm.list_models(module=m) if chosen is None or n in chosen]
    rows = [judge(module, name, options.limit) for module, name in tqdm(names, desc="models")]
    text = table(rows, options.limit)
    if options.match:
        print(text)
    else:
        TABLE.write_text(text, encoding="utf-8")
        print(text.split("\n## ")[0])


def module_of(name: str) -> str:
    """The timm module that a model is defined in."""
    return timm.model_entrypoint(name).__module__.rsplit(".", 1)[-1]


if __name__ == "__main__":
    main()

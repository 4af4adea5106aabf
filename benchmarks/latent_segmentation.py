"""Do maps of latent tokens find the objects of a scene without any label? By ULTra's recipe and with TokenTM's weights.

    python benchmarks/latent_segmentation.py --work DIR              # renews the tables in latent_segmentation.md
    python benchmarks/latent_segmentation.py --work DIR --count 3    # a look: printed, not written

latent_segmentation.md lays down what is measured. Each scene becomes one file in a folder for the model's weights and
the layer; a run can be stopped, and does the scenes that have no file yet.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

import tokentm
from tokentm.demo import Demo
from tokentm.evaluation import matched_miou, with_background
from tokentm.evaluation.__main__ import weights_digest
from tokentm.evaluation.datasets import DemoScenes, Sample
from tokentm.evaluation.protocols import Row
from tokentm.evaluation.report import as_markdown, as_verdicts, summarise
from tokentm.evaluation.run import write
from tokentm.latent import CUT, LatentMethod, LatentScore, latent, segment
from tokentm.linkage import average_linkage, cosine_distances

PAGE = Path(__file__).with_name("latent_segmentation.md")
COUNT, LAYER = 200, 8
SCENES = DemoScenes(COUNT, objects=2, split="test", first=50_000)

METHODS: dict[str, tuple[LatentMethod, LatentScore]] = {
    "ultra": ("ultra", "sum"),
    "tokentm": ("tokentm", "sum"),
    "ultra_norm": ("ultra", "norm"),
    "tokentm_norm": ("tokentm", "norm"),
}
"""The first is the recipe of the authors' newer notebook, with which the others are compared."""

BOUNDS = ("one cluster", "truth by patches")
"""What a picture gets without any segmentation, and about what labels of whole patches can get: not compared."""


def regions_of(sample: Sample) -> Tensor:
    """Objects and background, (R, H, W)."""
    return with_background(torch.from_numpy(np.stack(list(sample.masks.values()))))


def by_majority(regions: Tensor, grid: tuple[int, int]) -> Tensor:
    """What is truly on most of each patch, (rows, columns): about the best that labels of whole patches can do."""
    shares = torch.nn.functional.adaptive_avg_pool2d(regions[None].float(), grid)[0]
    return shares.argmax(0)


def labels_of(demo: Demo, sample: Sample, layer: int) -> dict[tuple[str, str], Tensor]:
    """A segmentation (rows, columns) by every method, by case and method."""
    images = demo.transform(sample.image)[None]
    regions = regions_of(sample)
    cases = {"as many clusters as regions": len(regions), f"clusters by the cut at {CUT}": None}
    found = {}
    for name, (method, score) in METHODS.items():
        maps = latent(demo.model, images, layer, method=method, score=score)
        found |= {(case, name): segment(maps, clusters)[0] for case, clusters in cases.items()}
    trace = tokentm.record(demo.model, images)
    grid = (trace.layout.rows, trace.layout.columns)
    distances = cosine_distances(trace.layers[layer - 1].stream_out[0, trace.layout.prefix :])
    for case, clusters in cases.items():
        cut = CUT if clusters is None else None
        found[case, "the tokens themselves"] = average_linkage(distances, clusters, cut).view(grid)
        found[case, "one cluster"] = torch.zeros(grid, dtype=torch.long)
        found[case, "truth by patches"] = by_majority(regions, grid)
    return found


def rows_of(demo: Demo, sample: Sample, layer: int) -> list[Row]:
    """The measurements of one scene."""
    regions = regions_of(sample)
    return [
        {
            **{"sample": sample.name, "method": method, "case": case, "explained": "", "predicted": "", "note": ""},
            "miou": matched_miou(labels, regions),
            "clusters": float(labels.unique().numel()),
        }
        for (case, method), labels in labels_of(demo, sample, layer).items()
    ]


def measured(demo: Demo, layer: int, count: int, work: Path) -> list[Row]:
    """All rows, of scenes that were done before and of those that are done now."""
    folder = work / f"layer{layer}-{weights_digest(demo.model)}"
    rows: list[Row] = []
    for i in tqdm(range(count), unit="scene"):
        part = folder / f"{i:06}.json"
        if not part.exists():
            write(part, json.dumps(rows_of(demo, SCENES[i], layer), indent=1))
        rows += json.loads(part.read_text(encoding="utf-8"))
    return rows


def tables(rows: list[Row], demo: Demo, layer: int) -> str:
    estimates = summarise(rows)
    machine = (
        f"Tokens after {layer} of {len(demo.model.blocks)} blocks, weights {weights_digest(demo.model)}; "
        f"{platform.machine()}, torch {torch.__version__}."
    )
    compared = [one for one in estimates if one.method not in BOUNDS]
    return f"{machine}\n\n{as_markdown(estimates)}\n{as_verdicts(compared)}".strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the scenes that are done")
    parser.add_argument("--count", type=int, default=COUNT, choices=range(1, COUNT + 1), metavar="N", help="scenes")
    options = parser.parse_args()
    demo = tokentm.load_demo()
    found = tables(measured(demo, LAYER, options.count, options.work), demo, LAYER)
    print(found)
    if options.count == COUNT:
        page = PAGE.read_text(encoding="utf-8")
        found = f"<!-- tables -->\n\n{found}\n\n<!-- end -->"
        page = re.sub(r"<!-- tables -->.*?<!-- end -->", lambda _: found, page, flags=re.DOTALL)
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()

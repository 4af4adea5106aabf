"""Take one patch away at a time, and ask how well each method's map predicted what that costs; renew interventions.md.

    python benchmarks/interventions.py --work DIR                # can be stopped and run again
    python benchmarks/interventions.py --work DIR --scenes 3     # a look, which leaves the page as it is

For every test scene: a Spearman correlation, over its patches, between a method's scores and what the explained class
loses when that one patch is dropped. Scenes are from number 40,000 on, which nothing else has used.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import tokentm
from tokentm.claims import claims, spearman
from tokentm.evaluation.__main__ import weights_digest
from tokentm.evaluation.datasets import DemoScenes, Sample
from tokentm.evaluation.report import Estimate, summarise
from tokentm.evaluation.run import write
from tokentm.evaluation.significance import LEVEL, holm
from tokentm.intervene import Patches, intervene
from tokentm.methods import METHODS
from tokentm.outputs import log_odds

PAGE = Path(__file__).with_name("interventions.md")
FIRST = 40_000
SCENES = 1000
BATCH = 10
MEASURES = {"score": "output of the class", "log_odds": "its log-odds"}


def measure(demo: tokentm.demo.Demo, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Rows of some scenes: of every method, the correlations of its map with what each patch's removal costs."""
    images = torch.stack([demo.transform(sample.image) for sample in samples])
    trace = tokentm.record(demo.model, images)
    assert trace.target is not None
    patches = [Patches(index) for index in range(trace.layout.rows * trace.layout.columns)]
    found = intervene(trace, patches, "drop", progress=False)
    odds = torch.stack([log_odds(one, trace.target, trace.outputs) for one in found.logits.unbind(1)], 1)
    costs = {"score": found.effects, "log_odds": log_odds(found.baseline, trace.target, trace.outputs)[:, None] - odds}
    rows = []
    for name, method in METHODS.items():
        claimed = claims(method(trace), patches)
        agreed = {what: spearman(cost.double(), claimed.double()).tolist() for what, cost in costs.items()}
        rows += [
            {
                "sample": sample.name,
                "method": name,
                "case": "predicted class",
                "explained": int(trace.target[i]),
                "predicted": int(trace.logits[i].argmax()),
                "note": "",
                **{what: values[i] for what, values in agreed.items()},
            }
            for i, sample in enumerate(samples)
        ]
    return rows


def run(work: Path, scenes: int) -> list[dict[str, Any]]:
    """All rows; batches that ``work`` holds already are not measured again."""
    demo, data = tokentm.load_demo(), DemoScenes(scenes, first=FIRST)
    settings = {
        "weights": weights_digest(demo.model),
        "first": FIRST,
        "batch": BATCH,
        "methods": list(METHODS),
        "versions": {name: version(name) for name in ("tokentm", "torch", "timm")},
    }
    told = work / "settings.json"
    if told.exists() and json.loads(told.read_text(encoding="utf-8")) != settings:
        raise SystemExit(f"expected {work} to be new, or an earlier part of this run; it has other settings.")
    write(told, json.dumps(settings, indent=1))
    rows: list[dict[str, Any]] = []
    for first in tqdm(range(0, scenes, BATCH), desc=f"batches of {BATCH} scenes"):
        numbers = range(first, min(first + BATCH, scenes))
        part = work / "parts" / f"{numbers[0]:06}-{numbers[-1]:06}.json"
        if not part.exists():
            write(part, json.dumps(measure(demo, [data[i] for i in numbers])))
        rows += json.loads(part.read_text(encoding="utf-8"))
    return rows


def table(estimates: Sequence[Estimate]) -> str:
    """One line a method, the best first; differences are paired, and marked where Holm's correction lets them stand."""
    here = {(one.method, one.metric): one for one in estimates}
    names = sorted({one.method for one in estimates}, key=lambda name: -here[name, "score"].mean)
    reference = estimates[0].method
    compared = [here[name, what] for name in names if name != reference for what in MEASURES]
    corrected = holm([one.p_value for one in compared])
    stands = {(one.method, one.metric) for one, p_value in zip(compared, corrected, strict=True) if p_value < LEVEL}
    lines = [
        "| method | " + " | ".join(f"{words} | minus {reference}" for words in MEASURES.values()) + " |",
        "| --- |" + " --- | --- |" * len(MEASURES),
    ]
    for name in names:
        cells = []
        for what in MEASURES:
            one = here[name, what]
            cells.append(f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]")
            mark = "*" if (name, what) in stands else ""
            cells.append("" if name == reference else f"{one.difference:+.3f}{mark}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the batches")
    parser.add_argument("--scenes", type=int, default=SCENES, help=f"default {SCENES}; the page is of so many alone")
    options = parser.parse_args()
    begun = time.monotonic()
    estimates = summarise(run(options.work, options.scenes))
    found = table(estimates)
    print(f"{found}\n\n{options.scenes} scenes, {(time.monotonic() - begun) / 60:.1f} minutes")
    if options.scenes != SCENES:
        return
    machine = (
        f"{estimates[0].pictures} scenes. Machine: {platform.machine()}, {os.cpu_count()} cores; "
        f"torch {version('torch')}, timm {version('timm')}; weights {weights_digest(tokentm.load_demo().model)[:12]}."
    )
    page = re.sub(
        r"<!-- table -->.*?<!-- end -->",
        lambda _: f"<!-- table -->\n{machine}\n\n{found}\n<!-- end -->",
        PAGE.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Search for a better default reading of TokenTM, as reading_search.md lays down, and confirm one.

    python benchmarks/reading_search.py --work DIR                                   # the search
    python benchmarks/reading_search.py --work DIR --confirm tokentm_signed_heads    # the one confirmation

Each test of each model is a run of tokentm.evaluation in a folder of its own, which can be stopped and goes on. Tables
and verdicts are printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import tokentm
from tokentm import TokenTM
from tokentm.demo.scenes import Split
from tokentm.evaluation import report
from tokentm.evaluation.datasets import DemoScenes
from tokentm.evaluation.mosaics import mosaics_of
from tokentm.evaluation.protocols import Subject
from tokentm.evaluation.run import collect, evaluate

CLASSIFIERS = ("demo",)
"""Names for tokentm.load_demo, those that are not there to be audited."""

CANDIDATES = [
    TokenTM(positive=positive, backward=backward, **lengths)
    for positive, backward, lengths in product(
        ("head", "mean"), ("plain", "libra"), ({}, {"lengths": "own"}, {"initialise": False})
    )
]
"""The first is the default, with which the others are compared."""

Sizes = dict[str, tuple[int, int]]

SEARCH: Sizes = {
    "segmentation": (400, 1),
    "perturbation": (400, 1),
    "discrimination": (400, 2),
    "classes": (200, 1),
    "mosaics": (100, 1),
}
"""For each test how many pictures, and how many objects in each."""

CONFIRMATION: Sizes = {
    "segmentation": (1000, 1),
    "perturbation": (1000, 1),
    "discrimination": (500, 2),
    "classes": (300, 1),
    "mosaics": (200, 1),
}

_SPARE = 12
"""Scenes drawn for each mosaic: four are used, of those that the model gets right."""


def run(test: str, subject: Subject, count: int, objects: int, split: Split, first: int, out: Path) -> str:
    """One test of one model: its tables. Goes on where it was stopped."""
    scenes = DemoScenes(count * _SPARE if test == "mosaics" else count, objects, split, first)
    dataset: Any = mosaics_of(scenes, count, subject.recognises) if test == "mosaics" else scenes
    settings = {"split": split, "first": first, "methods": list(subject.methods)}
    evaluate(test, subject, dataset, out, batch=10, settings=settings)
    estimates = report.summarise(collect(out))
    shown = [one for one in estimates if one.case != "labelled class" or test != "perturbation"]
    return report.as_markdown(shown) + "\n" + report.as_verdicts(shown)


def compare(readings: Sequence[TokenTM], sizes: Sizes, split: Split, first: int, work: Path) -> None:
    methods = {reading.name: reading for reading in readings}
    for name in CLASSIFIERS:
        subject = Subject(tokentm.load_demo(name).model, methods)
        for test, (count, objects) in sizes.items():
            print(f"## {name}: {test}\n\n{run(test, subject, count, objects, split, first, work / name / test)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    known = {reading.name: reading for reading in CANDIDATES[1:]}
    parser.add_argument("--confirm", choices=known, help="the reading that the search has chosen")
    options = parser.parse_args()
    if options.confirm is None:
        compare(CANDIDATES, SEARCH, "validation", 10_000, options.work / "search")
    else:
        compare([CANDIDATES[0], known[options.confirm]], CONFIRMATION, "test", 30_000, options.work / "confirmation")


if __name__ == "__main__":
    main()

"""From rows to means with intervals, to what beats what, and to a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tokentm.errors import InvalidOptionError
from tokentm.evaluation.protocols import KEYS, Row
from tokentm.optional import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESAMPLES = 2000

BETTER: Mapping[str, int] = {
    **dict.fromkeys(("pixel_accuracy", "miou", "average_precision", "mass_inside", "picks", "share"), 1),
    **dict.fromkeys(("negative", "insertion", "aopc", "saco"), 1),
    **dict.fromkeys(("positive", "deletion", "lodds", "correlation"), -1),
}
"""1 where more is better, -1 where less is. ``area``, the object's share of the picture, is neither."""


@dataclass(frozen=True)
class Estimate:
    """A mean over pictures and its 95 % bootstrap interval; the same for the difference to the first method.

    Attributes:
        mean, low, high: of the metric.
        difference, difference_low, difference_high: of method minus reference, paired picture by picture.
        pictures: how many.
    """

    case: str
    method: str
    metric: str
    mean: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float
    pictures: int


def summarise(rows: Sequence[Row], seed: int = 0) -> list[Estimate]:
    """One :class:`Estimate` per case, method and metric, differences to the first method of the table.

    Pictures are resampled, not rows: several rows of one picture, such as its objects, are averaged first.

    Raises:
        InvalidOptionError: no row with a measurement.
    """
    measured = [row for row in rows if row["method"]]
    if not measured:
        raise InvalidOptionError("expected measurements; every picture was left out. Look at the notes in results.csv.")
    metrics = [name for name in measured[0] if name not in KEYS]
    cases = list(dict.fromkeys(row["case"] for row in measured))
    methods = list(dict.fromkeys(row["method"] for row in measured))
    found = []
    for case in cases:
        tables = {method: _by_picture(measured, case, method, metrics) for method in methods}
        reference = tables[methods[0]]
        for method, table in tables.items():
            mean, low, high = _interval(table, seed)
            gap, gap_low, gap_high = _interval(table - reference, seed)
            found += [
                Estimate(
                    case=case,
                    method=method,
                    metric=name,
                    mean=float(mean[i]),
                    low=float(low[i]),
                    high=float(high[i]),
                    difference=float(gap[i]),
                    difference_low=float(gap_low[i]),
                    difference_high=float(gap_high[i]),
                    pictures=len(table),
                )
                for i, name in enumerate(metrics)
            ]
    return found


def _by_picture(rows: Sequence[Row], case: str, method: str, metrics: Sequence[str]) -> np.ndarray:
    """(pictures, metrics), pictures in the order of the data."""
    values: dict[str, list[list[float]]] = {}
    for row in rows:
        if row["case"] == case and row["method"] == method:
            values.setdefault(row["sample"], []).append([float(row[name]) for name in metrics])
    return np.array([np.mean(one, axis=0) for one in values.values()])


def _interval(table: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over axis 0 and its percentile bootstrap interval; a single picture has no interval but itself."""
    mean = table.mean(0)
    if len(table) < 2:
        return mean, mean, mean
    interval = (
        load("scipy.stats")
        .bootstrap(
            (table,),
            np.mean,
            axis=0,
            n_resamples=RESAMPLES,
            method="percentile",
            batch=100,
            rng=np.random.default_rng(seed),
        )
        .confidence_interval
    )
    return mean, interval.low, interval.high


def as_json(estimates: Sequence[Estimate], settings: Mapping[str, Any], left_out: Sequence[Row]) -> dict[str, Any]:
    return {
        "settings": dict(settings),
        "interval": f"95 %, percentile bootstrap over pictures, {RESAMPLES} resamples, seed 0",
        "estimates": [asdict(estimate) for estimate in estimates],
        "left_out": [{"sample": row["sample"], "class": row["explained"], "why": row["note"]} for row in left_out],
    }


def as_markdown(estimates: Sequence[Estimate]) -> str:
    """One table per case: mean and half the width of the interval; in bold what is best of its column."""
    lines = []
    for case in dict.fromkeys(e.case for e in estimates):
        here = {(e.method, e.metric): e for e in estimates if e.case == case}
        methods, metrics = (list(dict.fromkeys(key[i] for key in here)) for i in (0, 1))
        best = {
            name: max((here[m, name].mean * BETTER[name] for m in methods), default=0.0)
            for name in metrics
            if name in BETTER
        }
        arrows = {1: " ↑", -1: " ↓", 0: ""}
        lines += [f"**{case}**, {here[methods[0], metrics[0]].pictures} pictures", ""]
        lines.append("| method | " + " | ".join(name + arrows[BETTER.get(name, 0)] for name in metrics) + " |")
        lines.append("| --- |" + " --- |" * len(metrics))
        for method in methods:
            cells = []
            for name in metrics:
                e = here[method, name]
                text = f"{e.mean:.3f} ± {(e.high - e.low) / 2:.3f}"
                cells.append(f"**{text}**" if name in best and e.mean * BETTER[name] == best[name] else text)
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def as_verdicts(estimates: Sequence[Estimate]) -> str:
    """One table per case: is a method better (+) or worse (−) than the first one, or level (=) within the interval?

    By the paired difference on the same pictures; only metrics that have a better side.
    """
    lines = []
    for case in dict.fromkeys(e.case for e in estimates):
        here = {(e.method, e.metric): e for e in estimates if e.case == case and e.metric in BETTER}
        methods, metrics = (list(dict.fromkeys(key[i] for key in here)) for i in (0, 1))
        lines += [f"**{case}**, against {methods[0]}: + better, − worse, = level (95 %, paired)", ""]
        lines += ["| method | " + " | ".join(metrics) + " |", "| --- |" + " --- |" * len(metrics)]
        for method in methods[1:]:
            cells = [f"{_verdict(here[method, name])} ({here[method, name].difference:+.3f})" for name in metrics]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _verdict(estimate: Estimate) -> str:
    if estimate.difference_low <= 0 <= estimate.difference_high:
        return "="
    return "+" if estimate.difference * BETTER[estimate.metric] > 0 else "−"


def figure(estimates: Sequence[Estimate], title: str) -> Figure:
    """Dots with intervals: a row of panels per case, a panel per metric that has a better side, a line per method."""
    from matplotlib.figure import Figure

    estimates = [estimate for estimate in estimates if estimate.metric in BETTER]
    cases, metrics, methods = (
        list(dict.fromkeys(getattr(e, k) for e in estimates)) for k in ("case", "metric", "method")
    )
    drawn = Figure(
        figsize=(2 + 2.4 * len(metrics), 0.8 + len(cases) * (0.8 + 0.22 * len(methods))), layout="constrained"
    )
    panels = drawn.subplots(len(cases), len(metrics), squeeze=False, sharey=True)
    better = {1: "more is better", -1: "less is better"}
    for estimate in estimates:
        panel = panels[cases.index(estimate.case), metrics.index(estimate.metric)]
        y = methods.index(estimate.method)
        panel.plot([estimate.low, estimate.high], [y, y], color="0.6", linewidth=2)
        panel.plot(estimate.mean, y, "o", markersize=4, color="C3" if y == 0 else "C0")
    for row, case in zip(panels, cases, strict=True):
        row[0].set_yticks(range(len(methods)), methods)
        row[0].set_ylabel(case)
        row[0].invert_yaxis()
        for panel, metric in zip(row, metrics, strict=True):
            panel.set_title(metric.replace("_", " "), fontsize=10)
            panel.set_xlabel(better[BETTER[metric]], fontsize=8)
            panel.grid(axis="x", color="0.9")
    drawn.suptitle(title)
    return drawn

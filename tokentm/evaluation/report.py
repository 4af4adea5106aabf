"""From rows to means with intervals, to what beats what, to how many pictures a difference needs, and to a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tokentm.errors import InvalidOptionError
from tokentm.evaluation.protocols import KEYS, Row
from tokentm.evaluation.significance import FLIPS, LEVEL, POWER, holm, needed_pictures, sign_flip
from tokentm.optional import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESAMPLES = 2000

BETTER: Mapping[str, int] = {
    **dict.fromkeys(("pixel_accuracy", "miou", "average_precision", "mass_inside", "picks", "share"), 1),
    **dict.fromkeys(("rank_inside", "points_inside"), 1),
    **dict.fromkeys(("negative", "insertion", "aopc", "saco", "srg", "log_odds_insertion", "log_odds_srg"), 1),
    **dict.fromkeys(("positive", "deletion", "lodds", "log_odds_deletion", "correlation"), -1),
    **dict.fromkeys(("least_likely", "other_classes"), -1),
}
"""1 where more is better, -1 where less is. ``area``, the object's share of the picture, and ``control``, which tells
whether the model uses the right quadrants, are neither."""


@dataclass(frozen=True)
class Estimate:
    """A mean over pictures and its 95 % bootstrap interval; the same for the difference to the first method.

    Attributes:
        mean, low, high: of the metric.
        difference, difference_low, difference_high: of method minus reference, paired picture by picture.
        p_value: of that difference alone, see :func:`tokentm.evaluation.significance.sign_flip`; 1 for the first one.
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
    p_value: float
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
    found = []
    for case, tables in _tables(measured, metrics).items():
        reference = next(iter(tables.values()))
        p_values = sign_flip(np.concatenate([table - reference for table in tables.values()], axis=1), seed)
        for k, (method, table) in enumerate(tables.items()):
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
                    p_value=float(p_values[k * len(metrics) + i]),
                    pictures=len(table),
                )
                for i, name in enumerate(metrics)
            ]
    return found


def _tables(measured: Sequence[Row], metrics: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """By case and method: (pictures, metrics)."""
    cases, methods = (list(dict.fromkeys(row[key] for row in measured)) for key in ("case", "method"))
    return {case: {method: _by_picture(measured, case, method, metrics) for method in methods} for case in cases}


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
        "p_value": f"of one difference alone, paired sign flips, all or {FLIPS} of them, seed 0",
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
    """One table per case: is a method better (+) or worse (−) than the first one, or level (=)?

    By the paired difference on the same pictures, over metrics that have a better side. Of so many comparisons some
    differ by chance: + and − are beyond it after Holm's correction for all of the table; (+) and (−) lie beyond their
    own 95 % interval alone.
    """
    lines = []
    for case in dict.fromkeys(e.case for e in estimates):
        here = {(e.method, e.metric): e for e in estimates if e.case == case and e.metric in BETTER}
        methods, metrics = (list(dict.fromkeys(key[i] for key in here)) for i in (0, 1))
        compared = [here[method, name] for method in methods[1:] for name in metrics]
        verdicts = iter(_verdicts(compared))
        lines += [
            f"**{case}**, against {methods[0]}: + better, − worse, = level (paired, 95 % over {len(compared)} "
            "comparisons by Holm); (+), (−): beyond their own 95 % interval alone",
            "",
        ]
        lines += ["| method | " + " | ".join(metrics) + " |", "| --- |" + " --- |" * len(metrics)]
        for method in methods[1:]:
            cells = [f"{next(verdicts)} ({here[method, name].difference:+.3f})" for name in metrics]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _verdicts(compared: Sequence[Estimate]) -> list[str]:
    """Of each comparison of one table, what is said of it."""
    corrected, found = holm([one.p_value for one in compared]), []
    for one, p_value in zip(compared, corrected, strict=True):
        sign = "+" if one.difference * BETTER[one.metric] > 0 else "−"
        alone = not one.difference_low <= 0 <= one.difference_high
        found.append(sign if p_value < LEVEL else f"({sign})" if alone else "=")
    return found


@dataclass(frozen=True)
class Planned:
    """How many pictures a comparison needs, from the rows of a pilot run.

    Attributes:
        difference: the least one that is to be seen, in the metric's unit.
        deviation: of the paired difference to the first method, from picture to picture, in the pilot.
        pilot: how many pictures that is measured on.
        alone: pictures for this comparison alone.
        of_all: pictures for it among all comparisons of the table (Bonferroni).
    """

    case: str
    method: str
    metric: str
    difference: float
    deviation: float
    pilot: int
    alone: int
    of_all: int


def planned(rows: Sequence[Row], differences: float | Mapping[str, float], power: float = POWER) -> list[Planned]:
    """How many pictures each method needs to be told from the first, in metrics that have a better side.

    To be written down before the run that is to decide: pictures of the pilot are not to be counted again.

    Args:
        rows: of a pilot run, see :func:`tokentm.evaluation.run.collect`.
        differences: the least difference that is to be seen, one for all metrics or by name of the metric.
        power: how often it is to be seen where it is there.

    Raises:
        InvalidOptionError: fewer than two pictures or methods, or a metric that the pilot does not have.

    Example:
        >>> from tokentm.evaluation.run import collect
        >>> plans = planned(collect(Path("results/pilot")), {"aopc": 0.01})
        >>> plans[0].of_all  # so many pictures, for instance 412
    """
    measured = [row for row in rows if row["method"]]
    metrics = [name for name in (measured[0] if measured else {}) if name in BETTER]
    wanted = differences if isinstance(differences, Mapping) else dict.fromkeys(metrics, differences)
    unknown = [name for name in wanted if name not in metrics]
    if unknown or not wanted:
        raise InvalidOptionError(f"expected differences of {', '.join(metrics)}; got {', '.join(unknown) or 'none'}.")
    found = []
    for case, tables in _tables(measured, metrics).items():
        reference = next(iter(tables.values()))
        if len(tables) < 2 or len(reference) < 2:
            raise InvalidOptionError(
                f"expected a pilot of at least two methods and two pictures; {case} has {len(tables)} and "
                f"{len(reference)}. Run a larger one."
            )
        comparisons = (len(tables) - 1) * len(metrics)
        for method, table in list(tables.items())[1:]:
            deviations = dict(zip(metrics, (table - reference).std(0, ddof=1), strict=True))
            for name, least in wanted.items():
                spread = float(deviations[name])
                found.append(
                    Planned(
                        case=case,
                        method=method,
                        metric=name,
                        difference=least,
                        deviation=spread,
                        pilot=len(reference),
                        alone=needed_pictures(spread, least, power=power),
                        of_all=needed_pictures(spread, least, LEVEL / comparisons, power),
                    )
                )
    return found


def as_plan(plans: Sequence[Planned], power: float = POWER) -> str:
    """One table per case: pictures for each comparison alone, and among all comparisons of the table."""
    lines = [
        f"Pictures that show a paired difference with {power:.0%} power at the 95 % level: for a comparison alone / "
        f"among all comparisons of the table. Standard deviations are those of a pilot of {plans[0].pilot} pictures.",
        "",
    ]
    for case in dict.fromkeys(plan.case for plan in plans):
        here = {(plan.method, plan.metric): plan for plan in plans if plan.case == case}
        methods, metrics = (list(dict.fromkeys(key[i] for key in here)) for i in (0, 1))
        heads = [f"{name}, {here[methods[0], name].difference:g}" for name in metrics]
        lines += [f"**{case}**", "", "| method | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(metrics)]
        for method in methods:
            of = [here[method, name] for name in metrics]
            cells = [f"{plan.alone} / {plan.of_all} (sd {plan.deviation:.3g})" for plan in of]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


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

"""Put explanation methods to the test on a model and a data set.

    python -m tokentm.evaluation segmentation --limit 200 --out results/segmentation
    python -m tokentm.evaluation perturbation --model vit_base_patch16_224 --data imagenet:PATH --out results/imagenet

A run that was stopped goes on where it stopped when the same command is given again. On several processes or machines:

    accelerate launch --num_processes 4 -m tokentm.evaluation perturbation ...

How long a run will take on this machine, from its first batch:

    python -m tokentm.evaluation perturbation --model vit_base_patch16_224 --data imagenet:PATH --out any --hours

Before a run that is to decide, a small pilot run tells how many pictures it takes to see a difference:

    python -m tokentm.evaluation perturbation --limit 40 --out results/pilot
    python -m tokentm.evaluation perturbation --out results/pilot --plan aopc=0.01,srg=0.02
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from tokentm.errors import InvalidOptionError
from tokentm.evaluation import duration, report
from tokentm.evaluation.commands import add_options, data_of, ended, opened
from tokentm.evaluation.datasets import Dataset
from tokentm.evaluation.mosaics import Mosaics, mosaics_of
from tokentm.evaluation.parts import read_settings, write
from tokentm.evaluation.protocols import PROTOCOLS, Subject
from tokentm.evaluation.removal import Replacement
from tokentm.evaluation.run import collect, evaluate
from tokentm.methods import ABLATIONS, METHODS, get
from tokentm.optional import load
from tokentm.questions import KINDS as TARGETS

_SCENES = 2000
"""Of how many demo scenes mosaics are laid, where --limit does not ask for more than they make."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return ended(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    load("torchmetrics")
    if options.plan is not None:
        return plan(options.out, options.test, options.plan)
    found = opened(options, "torchmetrics")
    names = method_names(options.methods)
    target = None if options.target == "output" else options.target.replace("-", "_")
    methods = {name: get(name) for name in names}
    subject = Subject(found.model, methods, found.transform, options.replace, options.outputs, target)
    scenes = _SCENES if options.test == "mosaics" else options.limit
    samples = data_of(options, found, scenes, objects=2 if options.test == "discrimination" else 1)
    dataset: Dataset | Mosaics = samples
    if options.test == "mosaics":
        wanted = options.batch if options.hours else options.limit
        dataset = mosaics_of(samples, wanted, None if options.include_wrong else subject.recognises)
    if options.hours:
        return print(hours(options, subject, dataset, found.device))
    settings = {
        **found.settings,
        "methods": names,
        "replace": options.replace,
        **({} if target is None else {"target": options.target}),
        **({"include_wrong": True} if options.include_wrong else {}),
    }
    evaluate(
        options.test,
        subject,
        dataset,
        options.out,
        limit=options.limit,
        batch=options.batch,
        settings=settings,
        share=found.share,
    )
    found.wait()
    if found.share.rank == 0:
        publish(options.out)


def hours(options: argparse.Namespace, subject: Subject, dataset: Dataset | Mosaics, device: str) -> str:
    """How long the run would take, from its first batch; nothing is written."""
    there = len(dataset)
    count = options.limit or there if options.test == "mosaics" else min(options.limit or there, there)
    samples = [dataset[i] for i in range(min(options.batch, there))]
    return duration.as_text(duration.measure(options.test, subject, samples), count, device)


def publish(out: Path) -> None:
    """results.csv, summary.json, summary.md and summary.png of a finished run; prints the table."""
    rows, settings = collect(out), read_settings(out)
    left_out = [row for row in rows if not row["method"]]
    estimates = report.summarise(rows)
    table = report.as_markdown(estimates)
    if len({e.method for e in estimates}) > 1:
        table += "\n" + report.as_verdicts(estimates)
    write(out / "summary.json", json.dumps(report.as_json(estimates, settings, left_out), indent=1))
    write(out / "summary.md", table)
    title = f"{settings['test']}: {settings['model']} on {settings['data']}, {settings['samples']} pictures"
    report.figure(estimates, title).savefig(out / "summary.png", dpi=120)
    print(table)
    for row in left_out:
        print(f"{row['sample']}, class {row['explained'] or 'unknown'}: {row['note']}", file=sys.stderr)
    print(f"{out}/results.csv, summary.json, summary.md, summary.png")


def plan(out: Path, test: str, differences: str) -> None:
    """plan.md in the folder of a finished pilot run: how many pictures show such differences; prints it.

    Args:
        differences: the least difference that is to be seen: "0.01", or by metric, "aopc=0.01,srg=0.02".

    Raises:
        InvalidOptionError: a folder of no run, or of another test, or differences that are none.
    """
    if not (out / "settings.json").exists() or read_settings(out)["test"] != test:
        raise InvalidOptionError(
            f"expected --out to be the folder of a finished pilot run of {test}; {out} is none. Run one first, without "
            "--plan: --limit 40, for example."
        )
    planned = report.planned(collect(out), _differences(differences))
    table = report.as_plan(planned)
    write(out / "plan.md", table)
    print(table)
    print(f"{out}/plan.md")


def _differences(text: str) -> float | dict[str, float]:
    parts = [part.partition("=") for part in text.split(",")]
    try:
        if len(parts) == 1 and not parts[0][1]:
            return float(text)
        return {name.strip(): float(value) for name, _, value in parts}
    except ValueError:
        raise InvalidOptionError(
            f"expected the least difference to be seen, as --plan 0.01 or --plan aopc=0.01,srg=0.02; got {text!r}."
        ) from None


def method_names(text: str) -> list[str]:
    """Names of methods, comma-separated; "all" and "ablations" stand for many."""
    groups = {"all": list(METHODS), "ablations": list(ABLATIONS)}
    names = [one for part in text.split(",") for one in groups.get(part.strip(), [part.strip()])]
    for name in names:
        get(name)
    return list(dict.fromkeys(names))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tokentm.evaluation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("test", choices=PROTOCOLS)
    add_options(parser)
    parser.add_argument(
        "--methods", default="all", help="names, comma-separated; all; ablations. Others are compared with the first"
    )
    parser.add_argument(
        "--replace",
        choices=get_args(Replacement),
        default="drop",
        help="what takes the place of removed patches (default: their tokens are dropped)",
    )
    parser.add_argument(
        "--target",
        choices=["output", *(name.replace("_", "-") for name in TARGETS)],
        default="output",
        help="which score of a class is explained (default: its output)",
    )
    parser.add_argument(
        "--include-wrong", action="store_true", help="mosaics: also of pictures whose class the model does not predict"
    )
    parser.add_argument(
        "--plan",
        metavar="DIFFERENCE",
        help="run nothing: from the pilot run in --out, how many pictures show such a difference to the first method, "
        "as 0.01 or aopc=0.01,srg=0.02",
    )
    parser.add_argument(
        "--hours", action="store_true", help="do the first batch only, write nothing, and say how long all will take"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

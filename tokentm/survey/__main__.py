"""Look at what a model does over many pictures: heads, deciding layers, and the patches that drive each class.

    python -m tokentm.survey --limit 1000 --out results/survey
    python -m tokentm.survey --model vit_base_patch16_224 --data folder:PATH --out results/photographs

A run that was stopped goes on where it stopped when the same command is given again. On several processes or machines:

    accelerate launch --num_processes 4 -m tokentm.survey ...

To browse what was found:

    python -c "from tokentm.survey import Survey; from tokentm_widgets import SurveyBrowser, export_html
    export_html(SurveyBrowser(Survey.load('results/survey/survey.safetensors')), 'survey.html')"
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tokentm.evaluation.commands import add_options, data_of, ended, opened
from tokentm.evaluation.parts import write
from tokentm.survey.report import as_markdown
from tokentm.survey.run import TOP, collect, survey


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return ended(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    found = opened(options)
    survey(
        found.model,
        data_of(options, found, options.limit),
        options.out,
        transform=found.transform,
        outputs=options.outputs,
        classes=found.class_names,
        limit=options.limit,
        batch=options.batch,
        top=options.top,
        settings=found.settings,
        share=found.share,
    )
    found.wait()
    if found.share.rank == 0:
        publish(options.out)


def publish(out: Path) -> None:
    """survey.safetensors and summary.md of a finished run; prints the summary."""
    table = as_markdown(collect(out))
    write(out / "summary.md", table)
    print(table)
    print(f"{out}/survey.safetensors, summary.md")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tokentm.survey", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--top", type=int, default=TOP, help=f"patches that are kept of each class (default {TOP})")
    return parser


if __name__ == "__main__":
    sys.exit(main())

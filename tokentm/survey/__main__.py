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
from typing import get_args

from tokentm.demo.sprites import CLASSES
from tokentm.discovery import describe
from tokentm.evaluation.datasets import KINDS, open_dataset
from tokentm.evaluation.models import load_model, machinery, processes, weights_digest
from tokentm.evaluation.parts import ended, write
from tokentm.outputs import Meaning
from tokentm.survey.report import as_markdown
from tokentm.survey.run import TOP, collect, survey


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return ended(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    share, wait, device = processes(options.device)
    model, transform = load_model(options.model, options.weights)
    anatomy = describe(model.to(device))
    dataset = open_dataset(options.data, anatomy.classes, limit=options.limit, annotations=options.annotations)
    settings = {
        "model": options.model,
        "weights": weights_digest(model),
        "data": options.data,
        **({} if options.outputs is None else {"outputs": options.outputs}),
        **machinery(device),
    }
    survey(
        model,
        dataset,
        options.out,
        transform=transform,
        outputs=options.outputs,
        classes=CLASSES if options.model == "demo" else None,
        limit=options.limit,
        batch=options.batch,
        top=options.top,
        settings=settings,
        share=share,
    )
    wait()
    if share.rank == 0:
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
    parser.add_argument("--out", type=Path, required=True, help="folder for the results; an unfinished run goes on")
    parser.add_argument(
        "--model",
        default="demo",
        help="demo, a timm name (hf-hub: and local-dir: too), torchvision:NAME or transformers:NAME_OR_FOLDER",
    )
    parser.add_argument("--weights", type=Path, help="a local .safetensors or .pth for a timm or torchvision model")
    parser.add_argument(
        "--data", default="demo", help="demo, demo:validation, " + ", ".join(f"{k}:PATH" for k in KINDS[1:])
    )
    parser.add_argument("--annotations", type=Path, help="annotation file of coco:IMAGES")
    parser.add_argument("--limit", type=int, help="only the first so many pictures; 200 demo scenes unless said")
    parser.add_argument("--batch", type=int, default=10, help="pictures at once (default 10)")
    parser.add_argument("--top", type=int, default=TOP, help=f"patches that are kept of each class (default {TOP})")
    parser.add_argument(
        "--outputs", choices=get_args(Meaning), help="what the model's outputs mean (default: ask the model)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ...; the accelerator there is unless said")
    return parser


if __name__ == "__main__":
    sys.exit(main())

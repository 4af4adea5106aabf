"""What commands over many pictures share: their options, the model and data that these name, and how they end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from torch import nn

from tokentm.demo.sprites import CLASSES
from tokentm.discovery import describe
from tokentm.errors import TokenTMError
from tokentm.evaluation.datasets import KINDS, Dataset, open_dataset
from tokentm.evaluation.folder_classes import read_table
from tokentm.evaluation.models import load_model, machinery, processes, weights_digest
from tokentm.evaluation.parts import Share
from tokentm.outputs import Meaning
from tokentm.pictures import Transform
from tokentm.vit import Anatomy


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which model, which data, how many at once, where to."""
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
    parser.add_argument(
        "--classes",
        type=Path,
        help="folder: a JSON file, folder name to class index, where folders are named neither by index nor as the "
        "model or ImageNet names its classes",
    )
    parser.add_argument("--annotations", type=Path, help="annotation file of coco:IMAGES")
    parser.add_argument("--limit", type=int, help="only the first so many pictures; 200 demo scenes unless said")
    parser.add_argument("--batch", type=int, default=10, help="pictures at once (default 10)")
    parser.add_argument(
        "--outputs",
        choices=get_args(Meaning),
        help="what the model's outputs mean (default: ask the model)",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ...; the accelerator there is unless said")


@dataclass(frozen=True, eq=False)
class Opened:
    """What the options name.

    Attributes:
        model, transform: in eval mode on its device; None where the model brings its own transform.
        anatomy: of the model.
        class_names: the names of its classes, where they are known.
        device: the model's.
        share, wait: which of several processes this is, and how to wait for the others.
        settings: what the numbers of a run depend on, so far.
    """

    model: nn.Module
    transform: Transform | None
    anatomy: Anatomy
    class_names: tuple[str, ...] | None
    device: str
    share: Share
    wait: Callable[[], Any]
    settings: dict[str, Any]


def opened(options: argparse.Namespace, *packages: str) -> Opened:
    """The model that the options name, and the process that this is.

    Args:
        packages: whose versions the numbers depend on, beside those that always count.

    Raises:
        InvalidOptionError: no such model, weights or device; see :func:`tokentm.evaluation.models.load_model`.
        UnsupportedModelError: see :func:`tokentm.describe`.
    """
    share, wait, device = processes(options.device)
    model, transform = load_model(options.model, options.weights)
    anatomy = describe(model.to(device))
    settings = {
        "model": options.model,
        "weights": weights_digest(model),
        "data": options.data,
        **({} if options.classes is None else {"classes": read_table(options.classes)}),
        **({} if options.outputs is None else {"outputs": options.outputs}),
        **machinery(device, *packages),
    }
    names = CLASSES if options.model == "demo" else anatomy.class_names
    named = None if names is None else tuple(names)
    return Opened(model, transform, anatomy, named, device, share, wait, settings)


def data_of(options: argparse.Namespace, found: Opened, limit: int | None, objects: int = 1) -> Dataset:
    """The data set that the options name, with the classes of the model.

    Raises:
        DataError: see :func:`tokentm.evaluation.datasets.open_dataset`.
    """
    return open_dataset(
        options.data,
        found.anatomy.classes,
        limit=limit,
        objects=objects,
        annotations=options.annotations,
        names=found.class_names,
        table=options.classes,
    )


def ended(run: Callable[[], None]) -> int:
    """Run a command's work; how it ended, as the exit code: 0, 2 after an error in one line, 130 after Ctrl-C."""
    try:
        run()
    except TokenTMError as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped. What was finished is kept: run the same command again, and it goes on.", file=sys.stderr)
        return 130
    return 0

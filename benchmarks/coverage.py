"""Which models can be explained, and are they explained rightly? Tries timm, then a zoo of what people bring, and
writes the tables in coverage.md.

    python benchmarks/coverage.py                     # half an hour: timm below 100 million parameters, and the zoo
    python benchmarks/coverage.py --match "vit_tiny*" # models of timm, or of the zoo, of this name; printed only
    python benchmarks/coverage.py --zoo               # a minute: the zoo alone; printed only

Random weights, and the smallest image that a model takes where its size can be chosen. A model counts as supported when
it is accepted *and* checks hold that tokentm has no part in; they stand in tests/judging.py, the zoo in tests/zoo.py.
"""

from __future__ import annotations

import argparse
import fnmatch
import platform
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from timm.layers import HybridEmbed
from torch import Tensor, nn
from tqdm.auto import tqdm

from tokentm import TokenTMError

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from judging import Verdict, examine, first_feature, in_words, judge
from zoo import ZOO, Specimen

FAMILIES = ("vision_transformer", "deit", "beit", "eva", "vision_transformer_relpos", "vision_transformer_hybrid")
ANY_SIZE = ("naflexvit", "qwen3_vit")
OTHERS = "all other modules"
TABLE = Path(__file__).with_name("coverage.md")
CHECKS = """A model is right when it is accepted and all of these hold, measured from outside:

- its logits are those of a plain call, to 0.1 %;
- in every block, what its attention adds in a plain call is what its heads add up to, and attention and FFN alone make
  up the stream, to 0.01 %;
- `explain()` gives the map of the full form, computed from the record, to 0.1 %;
- a change of the pixels of a corner patch moves that patch's token most, in all four corners (or one beside it, where
  the stem is made of overlapping convolutions);
- the map of an image alone is its map in a batch, to 0.1 %."""


@dataclass(frozen=True)
class Row:
    """One model of timm, and what became of it."""

    module: str
    model: str
    millions: float
    verdict: Verdict


# timm


def judge_timm(module: str, name: str, limit: float) -> Row:
    """Build one model and try to explain it."""
    millions = _millions(name)
    skipped = Verdict("skipped", f"over {limit:g} million parameters")
    if millions > limit:
        return Row(module, name, millions, skipped)
    model = (smallest(name) if module in FAMILIES else timm.create_model(name)).eval()
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    if millions > limit:
        return Row(module, name, millions, skipped)
    return Row(module, name, millions, _examined(model, images_of(model, module)))


def _millions(name: str) -> float:
    """Parameters of a model, without building it; not a number for those that compute while they are built."""
    try:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in timm.create_model(name).parameters()) / 1e6
    except Exception:
        return float("nan")


def _examined(model: nn.Module, images: Tensor) -> Verdict:
    # a model without a classifier is explained by its first feature
    target = first_feature if getattr(model, "num_classes", 1) == 0 else 0
    reach = 1 if isinstance(getattr(model, "patch_embed", None), HybridEmbed) else 0
    try:
        layout, error, wrong = examine(model, images, target, lambda batch: [model(batch)], reach)
    except TokenTMError as refusal:
        return Verdict("refused", str(refusal), type(refusal).__name__)
    except Exception as crash:  # whatever is no refusal
        return Verdict("wrong", f"raised {type(crash).__name__}: {crash}", type(crash).__name__)
    return Verdict("wrong", "; ".join(wrong)) if wrong else Verdict("supported", in_words(layout, error))


def images_of(model: nn.Module, module: str) -> Tensor:
    """Two images of noise: a few patches where any size will do, else of the size that the model is made for."""
    channels, *size = getattr(model, "pretrained_cfg", {}).get("input_size", (3, 224, 224))
    if module in FAMILIES:
        channels = getattr(model, "in_chans", 3)
        size = getattr(getattr(model, "patch_embed", None), "img_size", None) or (224, 224)
    elif module in ANY_SIZE:
        size = (64, 96)
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0))


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


# tables


def gist(text: str) -> str:
    """What a refusal found, in one sentence that fits into a table."""
    first = text.split(". ")[0].split("\n")[0].removesuffix(".")
    for known in ("; found ", "over one token sequence; got "):
        start = first.find(known)
        if start >= 0:
            first = first[first.index("; ", start) + 2 :]
    return first.replace("|", "/")


def line(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def header(*cells: str) -> list[str]:
    return [line(*cells), line(*("---" for _ in cells))]


def share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""


def timm_tables(rows: Sequence[Row], limit: float) -> list[str]:
    own = [row for row in rows if row.module in FAMILIES]
    others = [row for row in rows if row.module not in FAMILIES]
    groups = [(module, [row for row in own if row.module == module]) for module in FAMILIES]
    accepted = {row.module for row in others if row.verdict.kind in ("supported", "wrong")}
    groups += [("**these families**", own)]
    groups += [(module, [row for row in others if row.module == module]) for module in sorted(accepted)]
    groups += [(OTHERS, [row for row in others if row.module not in accepted])]
    found = [
        "## timm",
        "",
        f"Every model below {limit:g} million parameters. Of the modules whose models tokentm describes, at an image "
        "of a few patches where its size can be chosen. Models of all others show what they are when they run; they "
        "run at the size that they are made for, or at 64 x 96 pixels where any size will do.",
        "",
        *header("module", "models", "skipped by size", "right", "refused", "wrong", "right of those tried"),
    ]
    for module, group in groups:
        count = Counter(row.verdict.kind for row in group)
        tried = len(group) - count["skipped"]
        cells = (count["skipped"], count["supported"], count["refused"], count["wrong"])
        right = "" if module == OTHERS else share(count["supported"], tried)
        found.append(line(module, len(group), *cells, right))
    return found


def timm_lists(rows: Sequence[Row]) -> list[str]:
    """Model by model where a family is described or a model is accepted, else one line for each module."""
    listed = {row.module for row in rows if row.verdict.kind in ("supported", "wrong")} | set(FAMILIES)
    found = ["", "## timm, model by model", "", *header("model", "million parameters", "verdict", "")]
    found += [
        line(row.model, f"{row.millions:.1f}", row.verdict.kind, gist(row.verdict.detail))
        for row in rows
        if row.module in listed
    ]
    found += ["", "## timm, other modules", "", *header("module", "verdict", "models", "the first of them")]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.module not in listed:
            groups.setdefault((row.module, row.verdict.kind), []).append(row)
    found += [
        line(module, kind, len(group), f"{group[0].model}: {gist(group[0].verdict.detail)}")
        for (module, kind), group in sorted(groups.items())
    ]
    return found


Judged = Sequence[tuple[Specimen, Verdict]]


def zoo_tables(judged: Judged) -> list[str]:
    packages = list(dict.fromkeys(specimen.package for specimen, _ in judged))
    found = [
        "## A zoo of models that people bring",
        "",
        "Tiny, with random weights, each with what is known about it: whether it is a column of attention and FFN "
        "blocks over one token sequence (flat), how its tokens lie, and how it is called. Whatever is not flat must be "
        "refused. A model that takes more than images is wrapped in a module that gives the rest.",
        "",
        *header(
            *("package", "tried", "flat", "right", "refused although flat"),
            *("other architectures refused", "wrong", "right of the flat ones"),
        ),
    ]
    found += [_counts(package, [one for one in judged if one[0].package == package]) for package in packages]
    found += [_counts("**all**", judged), "", "### Refused although flat", "", *header("model", "refusal")]
    found += [line(specimen.name, gist(verdict.detail)) for specimen, verdict in judged if verdict.kind == "shortfall"]
    return found


def _counts(name: str, judged: Judged) -> str:
    tried = [(specimen, verdict) for specimen, verdict in judged if verdict.kind != "skipped"]
    flat = sum(specimen.flat for specimen, _ in tried)
    count = Counter(verdict.kind for _, verdict in tried)
    cells = (len(tried), flat, count["supported"], count["shortfall"], count["refused"], count["wrong"])
    return line(name, *cells, share(count["supported"], flat))


def zoo_list(judged: Judged) -> list[str]:
    found = ["", "## The zoo, model by model", "", *header("model", "verdict", "")]
    return found + [line(one.name, verdict.kind, _because(one, verdict)) for one, verdict in judged]


def _because(specimen: Specimen, verdict: Verdict) -> str:
    """Of another architecture what it is, and what the refusal says."""
    text = gist(verdict.detail)
    return f"{specimen.refused}: {text}" if verdict.kind == "refused" else text


def page(rows: Sequence[Row], judged: Judged, limit: float) -> str:
    """The whole result as Markdown."""
    title = [
        "# Coverage",
        "",
        f"timm {timm.__version__}, torch {torch.__version__}, {platform.machine()}. Made by "
        "`python benchmarks/coverage.py`.",
        "",
        CHECKS,
        "",
    ]
    parts = [*title]
    if judged:
        parts += [*zoo_tables(judged), ""]
    if rows:
        parts += timm_tables(rows, limit)
    if judged:
        parts += zoo_list(judged)
    if rows:
        parts += timm_lists(rows)
    return "\n".join(parts) + "\n"


def renewed(table: str, part: str) -> str:
    """A table with the sections that a part of it holds in place of its own."""
    sections = dict(section.split("\n", 1) for section in part.split("\n## ")[1:])
    head, *found = table.split("\n## ")
    titles = [section.split("\n", 1)[0] for section in found]
    kept = [
        f"{title}\n{sections[title]}" if title in sections else section
        for title, section in zip(titles, found, strict=True)
    ]
    return "\n## ".join((head, *kept)).rstrip() + "\n"


def names_of(match: str | None) -> list[tuple[str, str]]:
    """Modules and models of timm, those of the described families first."""
    by_module: dict[str, list[str]] = {module: [] for module in FAMILIES}
    for name in timm.list_models(match or "*"):
        by_module.setdefault(module_of(name), []).append(name)
    others = sorted(module for module in by_module if module not in FAMILIES)
    return [(module, name) for module in (*FAMILIES, *others) for name in by_module[module]]


def module_of(name: str) -> str:
    """The timm module that a model is defined in."""
    return timm.model_entrypoint(name).__module__.rsplit(".", 1)[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=100, help="largest model of timm, in millions of parameters")
    parser.add_argument("--match", help="only models of this pattern, printed and not written")
    parser.add_argument("--zoo", action="store_true", help="only the zoo; what the table says of timm stays")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    chosen = [one for one in ZOO if options.match is None or fnmatch.fnmatch(one.name, options.match)]
    judged = [(specimen, judge(specimen)) for specimen in tqdm(chosen, desc="zoo")]
    names = [] if options.zoo else names_of(options.match)
    rows = [judge_timm(module, name, options.limit) for module, name in tqdm(names, desc="timm")]
    text = page(rows, judged, options.limit)
    if options.match:
        print(text)
    elif options.zoo:
        TABLE.write_text(renewed(TABLE.read_text(encoding="utf-8"), text), encoding="utf-8")
        print("\n".join(zoo_tables(judged)))
    else:
        TABLE.write_text(text, encoding="utf-8")
        print(text.split("\n## The zoo, model by model")[0])


if __name__ == "__main__":
    main()

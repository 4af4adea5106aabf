"""A long evaluation that can be stopped at any moment and go on later, on one process or many.

A data set is cut into batches. Each batch becomes one small file, written at once or not at all; a run does the batches
that have no file yet and puts all files together in the order of the data. Batches never depend on how many processes
share the work, so neither do the numbers.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from tokentm.errors import InvalidOptionError, TokenTMError
from tokentm.evaluation.datasets import Dataset
from tokentm.evaluation.mosaics import Mosaics
from tokentm.evaluation.protocols import KEYS, PROTOCOLS, Row, Subject


class EvaluationStoppedError(TokenTMError, RuntimeError):
    """A run could not go on; what it had done is kept."""


@dataclass(frozen=True)
class Share:
    """Which of the processes this is: number ``rank`` of ``world``."""

    rank: int = 0
    world: int = 1


def evaluate(
    test: str,
    subject: Subject,
    dataset: Dataset | Mosaics,
    out: Path,
    *,
    limit: int | None = None,
    batch: int = 10,
    settings: dict[str, Any] | None = None,
    share: Share | None = None,
) -> None:
    """Do this process's share of the batches that ``out`` does not hold yet.

    Args:
        test: a name from ``PROTOCOLS``.
        dataset: mosaics for the test of that name, see :func:`tokentm.evaluation.mosaics.mosaics_of`; else samples.
        limit: how many samples, from the first; None takes all.
        batch: samples per batch. Part of the settings: rounding depends on it.
        settings: what else the numbers depend on. A folder with other settings is refused.

    Raises:
        InvalidOptionError: an unknown test, an empty data set, or a folder of another run.
        EvaluationStoppedError: a file cannot be written.
    """
    if test not in PROTOCOLS:
        raise InvalidOptionError(f"expected a test among {', '.join(PROTOCOLS)}; got {test!r}.")
    if (test == "mosaics") != isinstance(dataset, Mosaics):
        raise InvalidOptionError(
            f"expected mosaics, from tokentm.evaluation.mosaics_of, for the test of that name alone; got "
            f"{type(dataset).__name__} for {test}."
        )
    share = share or Share()
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count < 1 or batch < 1:
        raise InvalidOptionError(f"expected at least one sample and a batch of at least one; got {count} and {batch}.")
    parts = _parts(out)
    _claim(out, {**(settings or {}), "test": test, "samples": count, "batch": batch})
    firsts = list(range(0, count, batch))
    mine = [(number, first) for number, first in enumerate(firsts) if number % share.world == share.rank]
    missing = [(number, first) for number, first in mine if not (parts / _part_name(number)).exists()]
    total = sum(min(batch, count - first) for _, first in mine)
    done = total - sum(min(batch, count - first) for _, first in missing)
    with tqdm(total=total, initial=done, desc=test, unit="picture", disable=share.rank > 0) as bar:
        for number, first in missing:
            samples = [dataset[i] for i in range(first, min(first + batch, count))]
            rows = PROTOCOLS[test](subject, samples)
            write(parts / _part_name(number), _table(rows))
            bar.update(len(samples))


def collect(out: Path) -> list[Row]:
    """All rows of a finished run, in the order of the data; also written to ``results.csv``.

    Raises:
        EvaluationStoppedError: batches are missing.
    """
    settings = read_settings(out)
    expected = [_part_name(n) for n in range(-(-settings["samples"] // settings["batch"]))]
    missing = [name for name in expected if not (_parts(out) / name).exists()]
    if missing:
        raise EvaluationStoppedError(
            f"expected {len(expected)} finished batches in {out}; {len(missing)} are missing. Run the same command "
            "again."
        )
    rows = [row for name in expected for row in read_table(_parts(out) / name)]
    write(out / "results.csv", _table(rows))
    return rows


def read_settings(out: Path) -> dict[str, Any]:
    return json.loads((out / "settings.json").read_text(encoding="utf-8"))


def read_table(path: Path) -> list[Row]:
    """Rows of a CSV file, metric columns as numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {name: value if name in KEYS else float(value) for name, value in row.items() if name in KEYS or value}
            for row in csv.DictReader(file)
        ]


def _table(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys([*KEYS, *(name for row in rows for name in row)]))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    # 7 digits: what float32 holds
    writer.writerows({n: f"{v:.7g}" if isinstance(v, float) else v for n, v in row.items()} for row in rows)
    return text.getvalue()


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Write the settings, or find the same ones."""
    settings = json.loads(json.dumps(settings))
    path = out / "settings.json"
    if not path.exists():
        write(path, json.dumps(settings, indent=1))
        return
    found = read_settings(out)
    differing = [name for name in {**found, **settings} if found.get(name) != settings.get(name)]
    if differing:
        listed = "; ".join(f"{name}: {found.get(name)!r} there, {settings.get(name)!r} now" for name in differing)
        raise InvalidOptionError(
            f"expected {out} to be new or to hold an earlier part of the same run; {listed}. Choose another --out, or "
            "delete that folder."
        )


def _parts(out: Path) -> Path:
    return out / "parts"


def _part_name(number: int) -> str:
    return f"{number:06}.csv"


def write(path: Path, text: str) -> None:
    """The whole file or nothing: a name appears only when all of it is on the disk."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        first = "make room" if error.errno == errno.ENOSPC else "mend that"
        raise EvaluationStoppedError(
            f"expected to write {path}; {error.strerror or error}. What was finished before is kept: {first}, run the "
            "same command again, and it goes on where this stopped."
        ) from error

"""An evaluation from a data set to one table: batches of samples become batches of rows, see parts.py."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokentm.errors import InvalidOptionError
from tokentm.evaluation.datasets import Dataset
from tokentm.evaluation.mosaics import Mosaics
from tokentm.evaluation.parts import RunStoppedError, Share, finished, work, write
from tokentm.evaluation.protocols import KEYS, PROTOCOLS, Row, Subject

_SUFFIX = ".csv"

EvaluationStoppedError = RunStoppedError  # its name before other runs had it too


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
        RunStoppedError: a file cannot be written.
    """
    if test not in PROTOCOLS:
        raise InvalidOptionError(f"expected a test among {', '.join(PROTOCOLS)}; got {test!r}.")
    if (test == "mosaics") != isinstance(dataset, Mosaics):
        raise InvalidOptionError(
            f"expected mosaics, from tokentm.evaluation.mosaics_of, for the test of that name alone; got "
            f"{type(dataset).__name__} for {test}."
        )
    protocol = PROTOCOLS[test]
    count = len(dataset) if limit is None else min(limit, len(dataset))
    work(
        out,
        lambda first, end: _table(protocol(subject, [dataset[i] for i in range(first, end)])),
        dataset.identity,
        count=count,
        batch=batch,
        suffix=_SUFFIX,
        doing=test,
        settings={**(settings or {}), "test": test},
        share=share,
    )


def collect(out: Path) -> list[Row]:
    """All rows of a finished run, in the order of the data; also written to ``results.csv``.

    Raises:
        RunStoppedError: batches are missing.
        InvalidOptionError: settings or batches are damaged.
    """
    rows = [row for path in finished(out, _SUFFIX) for row in read_table(path)]
    write(out / "results.csv", _table([{n: harmless(v) for n, v in row.items()} for row in rows]))
    return rows


def read_table(path: Path) -> list[Row]:
    """Rows of a CSV file, metric columns as numbers.

    Raises:
        InvalidOptionError: it is damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames is None or not set(KEYS) <= set(reader.fieldnames):
                raise ValueError(f"columns {', '.join(reader.fieldnames or ['none'])}")
            return [
                {name: value if name in KEYS else float(value) for name, value in row.items() if name in KEYS or value}
                for row in reader
            ]
    except (ValueError, TypeError, csv.Error, OSError) as error:  # UnicodeDecodeError is a ValueError
        raise InvalidOptionError(
            f"expected a table with the columns {', '.join(KEYS)} in {path}; {error}. Delete that file and run the "
            "same command again: it is made again."
        ) from error


def harmless(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _table(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys([*KEYS, *(name for row in rows for name in row)]))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    # 7 digits: what float32 holds
    writer.writerows({n: f"{v:.7g}" if isinstance(v, float) else v for n, v in row.items()} for row in rows)
    return text.getvalue()

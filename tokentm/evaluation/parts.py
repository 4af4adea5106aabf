"""A long run over numbered samples that can be stopped at any moment and go on later, on one process or many.

Samples are cut into batches. What is made of a batch becomes one small file, written at once or not at all; a run does
the batches that have no file yet, and who puts the files together finds them in the order of the samples. Batches never
depend on how many processes share the work, so neither do the numbers.

    out/settings.json     what the numbers depend on
    out/parts/000000.*    one file a batch
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from tokentm.errors import InvalidOptionError, TokenTMError


class RunStoppedError(TokenTMError, RuntimeError):
    """A run could not go on; what it had done is kept."""


@dataclass(frozen=True)
class Share:
    """Which of the processes this is: number ``rank`` of ``world``."""

    rank: int = 0
    world: int = 1


def work(
    out: Path,
    make: Callable[[int, int], str | bytes],
    *,
    count: int,
    batch: int,
    suffix: str,
    doing: str,
    settings: dict[str, Any],
    share: Share | None = None,
) -> None:
    """Do this process's share of the batches that ``out`` does not hold yet.

    Args:
        make: from the numbers of the first sample of a batch and of the first one after it to what its file holds.
        count: how many samples.
        batch: samples per batch. Part of the settings: rounding depends on it.
        suffix: of the files, ".csv" for example.
        doing: what is said beside the progress bar.
        settings: what the numbers depend on. A folder with other settings is refused.

    Raises:
        InvalidOptionError: no sample, an empty batch, or a folder of another run.
        RunStoppedError: a file cannot be written.
    """
    share = share or Share()
    if count < 1 or batch < 1:
        raise InvalidOptionError(f"expected at least one sample and a batch of at least one; got {count} and {batch}.")
    _claim(out, {**settings, "samples": count, "batch": batch})
    firsts = list(range(0, count, batch))
    mine = [(_part(out, number, suffix), first) for number, first in enumerate(firsts)][share.rank :: share.world]
    missing = [(path, first) for path, first in mine if not path.exists()]
    total = sum(min(batch, count - first) for _, first in mine)
    done = total - sum(min(batch, count - first) for _, first in missing)
    with tqdm(total=total, initial=done, desc=doing, unit="picture", disable=share.rank > 0) as bar:
        for path, first in missing:
            end = min(first + batch, count)
            write(path, make(first, end))
            bar.update(end - first)


def finished(out: Path, suffix: str) -> list[Path]:
    """The files of all batches of a finished run, in the order of the samples.

    Raises:
        RunStoppedError: batches are missing.
    """
    settings = read_settings(out)
    expected = [_part(out, number, suffix) for number in range(-(-settings["samples"] // settings["batch"]))]
    missing = [path for path in expected if not path.exists()]
    if missing:
        raise RunStoppedError(
            f"expected {len(expected)} finished batches in {out}; {len(missing)} are missing. Run the same command "
            "again."
        )
    return expected


def read_settings(out: Path) -> dict[str, Any]:
    """What the numbers of a run depend on.

    Raises:
        InvalidOptionError: the file is damaged.
        FileNotFoundError: there is none.
    """
    path = out / "settings.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidOptionError(
            f"expected the settings of a run in {path}; the file is damaged ({error}). Choose another --out, or delete "
            "that folder."
        ) from error


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


def _part(out: Path, number: int, suffix: str) -> Path:
    return out / "parts" / f"{number:06}{suffix}"


def write(path: Path, content: str | bytes) -> None:
    """The whole file or nothing: a name appears only when all of it is on the disk."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        first = "make room" if error.errno == errno.ENOSPC else "mend that"
        raise RunStoppedError(
            f"expected to write {path}; {error.strerror or error}. What was finished before is kept: {first}, run the "
            "same command again, and it goes on where this stopped."
        ) from error

"""A long run over numbered samples that can be stopped at any moment and go on later, on one process or many.

Samples are cut into batches. What is made of a batch becomes one small file, written at once or not at all; a run does
the batches that have no file yet, and who puts the files together finds them in the order of the samples. Batches never
depend on how many processes share the work, so neither do the numbers.

    out/settings.json              what the numbers depend on
    out/parts/000000-1f0c29ab.*    one file a batch, named by its number and a digest of settings and samples
"""

from __future__ import annotations

import errno
import json
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
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
    identity: Callable[[int], str],
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
        identity: which sample has a number, see :class:`tokentm.evaluation.datasets.Identified`. Finished batches of
            samples that have changed since are refused.
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
    claimed = _claim(out, {**settings, "samples": count, "batch": batch})
    _tidy(out)
    names = [
        _name(number, claimed, [identity(i) for i in range(first, min(first + batch, count))]) + suffix
        for number, first in enumerate(range(0, count, batch))
    ]
    _refuse_others(out, names)
    mine = [(out / "parts" / name, number * batch) for number, name in enumerate(names)][share.rank :: share.world]
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
    count, batch = (settings.get(name) for name in ("samples", "batch"))
    if type(count) is not int or type(batch) is not int or batch < 1:
        raise _damaged(out / "settings.json", f"samples {count!r}, batch {batch!r}")
    found = [sorted((out / "parts").glob(f"{number:06}-*{suffix}")) for number in range(-(-count // batch))]
    missing = sum(not paths for paths in found)
    if missing:
        raise RunStoppedError(
            f"expected {len(found)} finished batches in {out}; {missing} are missing. Run the same command again."
        )
    return [paths[0] for paths in found]


def read_settings(out: Path) -> dict[str, Any]:
    """What the numbers of a run depend on.

    Raises:
        InvalidOptionError: no settings there, or damaged ones.
    """
    path = out / "settings.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(settings, dict):
        raise _damaged(path, f"{type(settings).__name__}")
    return settings


def _damaged(path: Path, found: str) -> InvalidOptionError:
    return InvalidOptionError(f"expected the settings of a run in {path}; found {found}. {_ELSE}")


def _claim(out: Path, settings: dict[str, Any]) -> str:
    """Write the settings, or find the same ones; their text."""
    settings = json.loads(json.dumps(settings))
    path = out / "settings.json"
    if path.exists():
        found = read_settings(out)
        differing = [name for name in {**found, **settings} if found.get(name) != settings.get(name)]
        if differing:
            listed = "; ".join(f"{name}: {found.get(name)!r} there, {settings.get(name)!r} now" for name in differing)
            raise InvalidOptionError(
                f"expected {out} to be new or to hold an earlier part of the same run; {listed}. {_ELSE}"
            )
    else:
        write(path, json.dumps(settings, indent=1))
    return json.dumps(settings, sort_keys=True)


_ELSE = "Choose another --out, or delete that folder."


def _name(number: int, settings: str, samples: list[str]) -> str:
    """The name of a batch's file, without its suffix."""
    text = "\0".join([settings, *samples])
    return f"{number:06}-{sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def _refuse_others(out: Path, names: list[str]) -> None:
    """Finished batches of the same numbers under other names are of other samples or of another run."""
    known = set(names)
    for path in sorted((out / "parts").glob("[0-9]*")):
        if path.name not in known:
            raise InvalidOptionError(
                f"expected {out} to be new or to hold an earlier part of the same run; {path.name} in its parts was "
                f"made of other samples, of files that have changed since, or of another run. {_ELSE}"
            )


def _tidy(out: Path) -> None:
    """Delete drafts that processes of this machine left when they were killed."""
    for draft in [*out.glob(".*.draft"), *out.glob("parts/.*.draft")]:
        told = draft.name.split(".")[-3:-1]  # host and process, as write names it
        if len(told) == 2 and told[0] == _host() and told[1].isdigit() and not _runs(int(told[1])):
            draft.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Whether a process of this machine runs; yes, where the system has no harmless way to ask."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _host() -> str:
    return "".join(c if c.isalnum() else "-" for c in platform.node()) or "here"


def write(path: Path, content: str | bytes) -> None:
    """The whole file or nothing: a name appears only when all of it is on the disk."""
    draft = path.with_name(f".{path.name}.{_host()}.{os.getpid()}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        with suppress(OSError):  # where the folder itself is none, there is no draft
            draft.unlink(missing_ok=True)
        first = "make room" if error.errno == errno.ENOSPC else "change that"
        raise RunStoppedError(
            f"expected to write {path}; {error.strerror or error}. What was finished before is kept: {first}, run the "
            "same command again, and it goes on where this stopped."
        ) from error

"""What ``_templates/landing.html`` says that can be read elsewhere: in the notebooks, the README and the demo model."""

from __future__ import annotations

import re
from typing import Any

from headers import NOTEBOOKS, Lesson, lessons

import tokentm
from tokentm.demo.model import WEIGHTS

NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
PARTS = (("See it", 2), ("Build it", 4), ("Doubt it, then use it", None))
"""The parts of the course, and how many notebooks each of them has."""
HERO = "widgets/scene_table.html"
"""The page of the scene table, which stands at the top."""


def parts(course: list[Lesson]) -> list[dict[str, Any]]:
    """The lessons by parts, with the time each part takes."""
    found, left = [], list(course)
    for title, count in PARTS:
        part, left = left[:count], left[count:] if count else []
        found.append({"title": title, "lessons": part, "time": time(sum(one.minutes for one in part))})
    return found


def time(minutes: int) -> str:
    """As "55 minutes" or "3 h 35"."""
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02}" if hours else f"{minutes} minutes"


def commands() -> list[tuple[str, str]]:
    """Those to start with, as the README has them, each with what it does."""
    readme = (NOTEBOOKS.parent / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^## Start\n.*?^```\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    if not block:
        raise ValueError("expected a block of commands under '## Start' in the README; found none.")
    return [tuple(re.split(r"\s+# ", line, maxsplit=1)) for line in block[1].splitlines()]


def context() -> dict[str, Any]:
    """Names for the template."""
    course, model = lessons(), tokentm.load_demo()
    record = tokentm.record(model.model, model.transform(model.scene(17).image)[None])
    size = WEIGHTS.stat().st_size
    return {
        "parts": parts(course),
        "count": NUMBERS[len(course)],
        "hours": NUMBERS[round(sum(one.minutes for one in course) / 60)],
        "commands": commands(),
        "hero": HERO,
        "layers": len(record.layers),
        "heads": record.layers[0].attention.shape[1],
        "patches": record.layout.rows * record.layout.columns,
        "classes": len(model.classes),
        "megabytes": f"{size / 2**20:.1f}",
    }

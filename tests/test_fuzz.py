"""A sample of the random calls of fuzz.py, and that their judge can find fault."""

from __future__ import annotations

import fuzz
import pytest

from tokentm import transformation


def test_random_calls_are_right_or_refused():
    complaints: list[str] = []
    counts = fuzz.run(400, seed=7, report=complaints.append)
    assert complaints == []
    assert set(counts) == set(fuzz.GOOD_OUTCOMES)
    assert min(counts.values()) > 100


def test_the_judge_notices_a_wrong_number(monkeypatch):
    necc = transformation.necc
    monkeypatch.setattr(transformation, "necc", lambda cosine, normaliser: necc(1.5 * cosine, normaliser))
    complaints: list[str] = []
    counts = fuzz.run(60, seed=7, report=complaints.append)
    assert counts["silently wrong"] > 5
    assert all("tokentm" in one for one in complaints)


@pytest.mark.parametrize("check", ["_check_gaps", "check_target"])
def test_the_judge_notices_a_check_that_is_missing(monkeypatch, check):
    monkeypatch.setattr(f"tokentm.run.{check}", lambda *given: (0.0,) * 9)
    complaints: list[str] = []
    fuzz.run(150, seed=7, report=complaints.append)
    assert any("explained, though wrong" in one for one in complaints)

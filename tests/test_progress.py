"""How far a widget has come is told, to a bar or to a function, and who hears of it can end it."""

from __future__ import annotations

import io
import signal

import pytest
import torch
from test_trace import assert_unchanged, everything_about
from tqdm import tqdm

import tokentm
from tokentm_widgets import LayerStepper, MethodComparison, PathExplorer, PerturbationPlayer, progress

WIDGETS = {
    "LayerStepper": LayerStepper,
    "MethodComparison": lambda trace, **options: MethodComparison(
        trace, ["rollout", "integrated_gradients"], **options
    ),
    "PerturbationPlayer": lambda trace, **options: PerturbationPlayer(trace, ["rollout", "random"], steps=4, **options),
    "PathExplorer": PathExplorer,
}


class CancelledError(Exception):
    """What a caller ends the work with."""


@pytest.fixture
def model(tiny):
    return tiny(img_size=(12, 20), patch_size=4, num_classes=3).eval()


@pytest.fixture
def trace(model):
    torch.manual_seed(1)
    return tokentm.record(model, torch.randn(1, 3, 12, 20).expand(2, -1, -1, -1), target=[1, 2])


@pytest.fixture(params=WIDGETS.values(), ids=WIDGETS.keys())
def widget(request):
    return request.param


def test_a_reporter_hears_shares_that_grow_from_nothing_to_all(trace, widget):
    heard = []
    widget(trace, progress=lambda share, doing: heard.append((share, doing)))
    shares = [share for share, _ in heard]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert len(set(shares)) >= 3  # also somewhere between
    assert all(doing for _, doing in heard)


def test_what_a_reporter_raises_ends_the_work_and_leaves_the_model_alone(model, trace, widget):
    before = everything_about(model)
    count = 0

    def counting(_share, _doing):
        nonlocal count
        count += 1

    def cancelling(_share, _doing):
        nonlocal left
        left -= 1
        if left < 0:
            raise CancelledError

    widget(trace, progress=counting)
    for after in range(count):
        left = after
        with pytest.raises(CancelledError):
            widget(trace, progress=cancelling)
        assert_unchanged(before, model)
    left = count
    assert widget(trace, progress=cancelling) is not None


def test_an_interrupt_ends_the_work_and_leaves_the_model_alone(model, trace, widget):
    before = everything_about(model)
    with pytest.raises(KeyboardInterrupt):
        widget(trace, progress=lambda share, _doing: signal.raise_signal(signal.SIGINT) if share > 0 else None)
    assert_unchanged(before, model)


def test_a_bar_appears_only_where_computing_takes_long(trace, widget, capsys, monkeypatch):
    widget(trace)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "DELAY", 0)
    widget(trace)
    assert "%" in capsys.readouterr().err
    widget(trace, progress=False)
    assert capsys.readouterr().err == ""


def test_a_bar_shows_what_is_done_and_goes_when_the_work_ends(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(progress, "DELAY", 0)
    monkeypatch.setattr(progress, "tqdm", lambda **options: tqdm(**{**options, "file": out, "mininterval": 0}))
    with progress.reporting(True, "computing") as report:
        report(0.5, "computing rollout")
        assert "computing rollout:  50%" in out.getvalue()
    assert out.getvalue().endswith("\r")


def test_parts_of_the_work_are_shares_of_the_whole():
    heard = []
    half = progress.reporter(lambda share, _doing: heard.append(share), (0.5, 1.0))
    for share in (0.0, 0.5, 1.0):
        half(share, "")
    progress.reporter(True, (0.5, 1.0))(1.0, "silent: the bar is its caller's")
    assert heard == [0.5, 0.75, 1.0]


def test_what_is_no_progress_is_refused(trace, widget):
    with pytest.raises(tokentm.InvalidOptionError, match=r"expected progress=True for a bar.* got 'yes'\."):
        widget(trace, progress="yes")


def test_a_bar_in_a_notebook_is_gone_when_the_work_is_done(monkeypatch):
    """What stays in the saved notebook is an empty output, no widget that cannot live again."""
    seen = []

    class Handle:
        def update(self, shown):
            seen.append(shown.data)

    def show(shown, display_id):
        assert display_id
        seen.append(shown.data)
        return Handle()

    monkeypatch.setattr(progress, "get_ipython", lambda: type("Shell", (), {"kernel": object()}))
    monkeypatch.setattr(progress, "display", show)
    clock = iter([0.0, 0.5, 2.0, 4.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.reporting(True, "computing") as report:
        report(0.1, "early")
        report(0.25, "computing rollout")
        report(0.5, "computing random")
    assert seen == [
        '<progress value="0.250"></progress> computing rollout: 25%, about 6 s left',
        '<progress value="0.500"></progress> computing random: 50%, about 4 s left',
        "",
    ]

"""Many threads on one model, bystanders, interrupts at random moments, nested calls: equal to serial, nothing left."""

from __future__ import annotations

import _thread
import gc
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
import torch
from conftest import make_images, make_vit
from test_trace import assert_unchanged, everything_about

import tokentm
from tokentm.isolation import Stopped, checkpoint, isolated
from tokentm.methods import METHODS

INTERRUPTS = int(os.environ.get("TOKENTM_INTERRUPTS", "60"))
"""How many calls the interrupt test makes; a long run sets more."""


def test_work_runs_with_default_modes_and_gives_back_what_it_returns_or_raises():
    def modes():
        return (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
        )

    for mode in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)):
        with mode:
            assert isolated(modes) == (True, False, False)
    error = KeyError("as it is")
    with pytest.raises(KeyError) as raised:
        isolated(lambda: (_ for _ in ()).throw(error))
    assert raised.value is error


def test_an_error_holds_nothing_in_circles():
    class Big:
        pass

    def fail():
        big = Big()
        held.append(threading.local)
        import weakref

        refs.append(weakref.ref(big))
        raise ValueError

    held, refs = [], []
    gc.collect()
    gc.disable()
    try:
        with suppress(ValueError):
            isolated(fail)
        assert refs[0]() is None
    finally:
        gc.enable()


def test_an_interrupt_waits_until_the_work_has_cleaned_up():
    seen = []

    def work():
        try:
            while True:
                checkpoint()
                time.sleep(0.001)
        except Stopped:
            time.sleep(0.05)
            seen.append("cleaned up")
            raise

    threading.Timer(0.05, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        isolated(work)
    assert seen == ["cleaned up"]


def test_an_interrupt_reaches_work_inside_work():
    seen = []

    def inner():
        try:
            while True:
                checkpoint()
                time.sleep(0.001)
        finally:
            seen.append("inner")

    def outer():
        try:
            isolated(inner)
        finally:
            seen.append("outer")

    threading.Timer(0.05, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        isolated(outer)
    assert seen == ["inner", "outer"]


def test_a_program_s_own_handler_of_interrupts_hears_of_them_and_the_work_goes_on():
    heard = []
    own = signal.signal(signal.SIGINT, lambda *_: heard.append(len(done)))
    done = []

    def work():
        _thread.interrupt_main()
        for _ in range(5):
            checkpoint()
            done.append(1)
        return "result"

    try:
        assert isolated(work) == "result"
    finally:
        signal.signal(signal.SIGINT, own)
    assert heard == [5]


def test_the_handler_of_interrupts_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    isolated(lambda: isolated(lambda: None))
    with pytest.raises(KeyError):
        isolated(lambda: {}[0])
    assert signal.getsignal(signal.SIGINT) is before


def test_work_runs_in_other_threads_too():
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda n: isolated(lambda: n + 1), range(4))) == [1, 2, 3, 4]


def test_eight_threads_explain_one_model_beside_a_bystander():
    """Equal to serial; the bystander, which only calls the model, and trains another, notices nothing."""
    model = make_vit(depth=3)
    for block in model.blocks:
        block.attn.fused_attn = False  # so that a switch is set while anybody records
    pixels = make_images(model, 20)
    names = ["tokentm", "rollout", "tokentm_no_gradient", "input_x_gradient"]
    jobs = [(i % 20, names[i % 4]) for i in range(160)]
    serial = [tokentm.explain(model, pixels[i : i + 1], 1, name).scores for i, name in jobs]
    plain = model(pixels[:2]).detach()
    before, stop, wrong = everything_about(model), threading.Event(), []

    def bystander():
        other, calls = make_vit(seed=3, train=True), 0
        step = torch.optim.SGD(other.parameters(), 1e-3)
        while not stop.is_set():
            made = model(pixels[:2])
            calls += 1
            if not torch.allclose(made, plain, atol=1e-5, rtol=1e-4) or not made.requires_grad:
                wrong.append(made)
            loss = other(pixels[:2]).square().sum()
            loss.backward()
            step.step()
        assert calls > 10
        assert not torch.overrides._get_current_function_mode_stack()

    with ThreadPoolExecutor(9) as pool:
        watching = pool.submit(bystander)
        found = list(pool.map(lambda job: tokentm.explain(model, pixels[job[0] : job[0] + 1], 1, job[1]).scores, jobs))
        stop.set()
        watching.result()
    assert sum(torch.equal(one, other) for one, other in zip(found, serial, strict=True)) == 160
    assert wrong == []
    assert_unchanged(before, model)


def test_a_hook_may_explain_the_model_while_it_is_explained():
    model = make_vit(depth=3)
    pixels = make_images(model, 1)
    expected = tokentm.explain(model, pixels, 1).scores
    inner, depth = [], []

    def explain(*_):
        if not depth:
            depth.append(1)
            inner.append(tokentm.explain(model, pixels, 1).scores)
            depth.pop()

    handle = model.blocks[1].register_forward_hook(explain)
    outer = tokentm.explain(model, pixels, 1).scores
    handle.remove()
    assert torch.equal(outer, expected)
    assert inner
    assert all(torch.equal(one, expected) for one in inner)


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode", "autocast"])
def test_surroundings_change_no_method(mode):
    model = make_vit(depth=3)
    pixels = make_images(model, 2)
    trace = tokentm.record(model, pixels, 1)
    expected = {name: method(trace).scores for name, method in METHODS.items()}
    with ExitStack() as stack:
        stack.enter_context(
            {
                "no_grad": torch.no_grad,
                "inference_mode": torch.inference_mode,
                "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
            }[mode]()
        )
        for name, method in METHODS.items():
            assert torch.equal(method(trace).scores, expected[name]), name
            assert torch.equal(tokentm.explain(model, pixels, 1, name).scores, expected[name]) or name == "tokentm"
        steps = [step.contribution for step in tokentm.TokenTM().steps(trace)]
    assert all(step.dtype == torch.float32 for step in steps)


def test_interrupts_at_random_moments_leave_nothing_behind():
    """Every method, interrupted at a random moment: the model as it was, and still explained right."""
    draw = random.Random(0)
    model = make_vit(depth=3).requires_grad_(True)
    model.blocks[1].attn.fused_attn = False
    pixels = make_images(model, 2)
    expected = tokentm.explain(model, pixels, 1).scores
    trace = tokentm.record(model, pixels, 1)
    before = everything_about(model)
    calls = [
        lambda name=name: tokentm.explain(model, pixels, 1, name) for name in METHODS if name != "integrated_gradients"
    ]
    calls += [lambda: tokentm.record(model, pixels, 1), lambda: METHODS["legrad"](trace)]
    interrupted = 0
    for number in range(INTERRUPTS):
        call = draw.choice(calls)
        started = time.perf_counter()
        call()
        usual = time.perf_counter() - started
        timer = threading.Timer(draw.uniform(0, usual), _thread.interrupt_main)
        try:
            try:
                timer.start()
                call()
            finally:
                timer.join()
                time.sleep(0)  # an interrupt that came late is raised here
        except KeyboardInterrupt:
            interrupted += 1
        if number % 20 == 0 or number == INTERRUPTS - 1:
            assert_unchanged(before, model)
            assert torch.equal(tokentm.explain(model, pixels, 1).scores, expected)
    assert interrupted > INTERRUPTS / 2
    assert not torch.overrides._get_current_function_mode_stack()
    assert torch.is_grad_enabled()

"""How long does an explanation take, and how much memory, beside the least that any gradient needs? Writes RESULTS.md.

    python benchmarks/latency.py                                # everything, some tens of minutes on two cores
    python benchmarks/latency.py --settings ViT-Ti --only tokentm,record --rounds 5   # some, printed only
    python benchmarks/latency.py --only "many classes"          # several classes of one image
    python benchmarks/latency.py --device cuda --dtype float32 --patience 1     # on a GPU, some minutes

The floor: one forward pass with fused attention, and the gradient of the score at what the heads of every layer put
out; nothing below the first of these, no gradient of a parameter. Every contender runs in a process of its own (some of
the rivals patch modules globally), in turn with the floor; the ratio is the median over rounds of time over the floor's
time in the same round, of which there are as many as fit into ``--patience`` seconds. Memory: the largest resident size
during one call in a fresh process, less that before it; on a GPU the largest allocation of a call, and there our own
contenders, which patch nothing, share a process. Random weights: they cost what trained ones cost.

Many classes: ``explain`` of one image expanded to K, with K classes, in turn with one forward pass without gradients.
What a further class costs is (time of K - time of 1) / (K - 1), in forward passes.

There is no contender under torch.compile, and none captured as a CUDA graph: a compiled model does not show its
attention and is refused, and the checks of a run read numbers, which no capture allows. In bfloat16 TokenTM's
identities do not hold to its tolerance, and it refuses, which its rows then say.

Rivals: pip install "tokentm[bench]".
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

import tokentm

PAGE = Path(__file__).with_name("RESULTS.md")
CLASSES = (1, 4, 16, 64)
"""Of one image."""
Call = Callable[[Tensor], Any]

# name -> timm model, its options, pixels, batches
SETTINGS: dict[str, tuple[str, dict[str, Any], int, tuple[int, ...]]] = {
    "demo": ("demo", {}, 112, (1,)),
    "ViT-Ti": ("vit_tiny_patch16_224", {}, 224, (1, 8)),
    "ViT-B": ("vit_base_patch16_224", {}, 224, (1, 8)),
    "DINOv2-S, 518 px": ("vit_small_patch14_dinov2", {"num_classes": 1000}, 518, (1,)),
}


def build(setting: str, device: str, dtype: torch.dtype) -> nn.Module:
    name, options, _, _ = SETTINGS[setting]
    if name == "demo":
        return tokentm.load_demo().model.to(device, dtype)
    torch.manual_seed(0)
    model = timm.create_model(name, **options)
    with torch.no_grad():  # a head of zeros would leave nothing to explain
        model.head.weight.normal_(std=0.02)
    return model.eval().to(device, dtype)


# ---- contenders: model -> call; each call explains class 7 of every image of a batch ----


class _Heads(TorchFunctionMode):
    """Collects what fused attention returns; the first begins the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **kwargs or {})
        if func is F.scaled_dot_product_attention:
            made = made if self.outputs else made.detach().requires_grad_()
            self.outputs.append(made)
        return made


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """While active, no parameter asks for a gradient."""
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad = True


def floor(model: nn.Module) -> Call:
    def call(images: Tensor) -> Any:
        with frozen(model), _Heads() as heads:
            score = model(images)[:, 7].sum()
            return torch.autograd.grad(score, heads.outputs)

    return call


def forward(model: nn.Module) -> Call:
    @torch.inference_mode()
    def call(images: Tensor) -> Any:
        return model(images)

    return call


def ours(method: str) -> Callable[[nn.Module], Call]:
    return lambda model: lambda images: tokentm.explain(model, images, 7, method)


def full_form(model: nn.Module) -> Call:
    return lambda images: tokentm.TokenTM()(tokentm.record(model, images, 7))


def record(model: nn.Module) -> Call:
    return lambda images: tokentm.record(model, images, 7)


def _grid(model: nn.Module) -> Callable[[Tensor], Tensor]:
    rows, columns = model.patch_embed.grid_size
    prefix = model.num_prefix_tokens
    return lambda tokens: tokens[:, prefix:].unflatten(1, (rows, columns)).permute(0, 3, 1, 2)


def torchcam(model: nn.Module) -> Call:
    from torchcam.methods import GradCAM

    def call(images: Tensor) -> Any:
        with GradCAM(model, "blocks.11.norm1", reshape_transform=_grid(model)) as cam:
            return cam(7, model(images))

    return call


def grad_cam(model: nn.Module) -> Call:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam = GradCAM(model, [model.blocks[-1].norm1], reshape_transform=_grid(model))
    return lambda images: cam(images, [ClassifierOutputTarget(7)] * len(images))


def daam(model: nn.Module) -> Call:
    from daam import DAAM

    def call(images: Tensor) -> Any:
        with DAAM(model) as explain:
            return explain(images, target=7)

    return call


def torchxai(model: nn.Module) -> Call:
    import torchxai

    device = next(model.parameters()).device

    # it takes one image at a time
    return lambda images: [
        torchxai.explain(model, image[None], method="transformer_attribution", target_class=7, device=device)
        for image in images
    ]


def captum(name: str) -> Callable[[nn.Module], Call]:
    def make(model: nn.Module) -> Call:
        from captum import attr

        explain = getattr(attr, name)(model)
        options = {"n_steps": 20, "internal_batch_size": 8} if name == "IntegratedGradients" else {}
        return lambda images: explain.attribute(images.clone().requires_grad_(), target=7, **options)

    return make


CONTENDERS: dict[str, Callable[[nn.Module], Call]] = {
    "forward": forward,
    "tokentm": ours("tokentm"),
    "tokentm, full form": full_form,
    "record alone": record,
    "attention rollout (ours)": ours("rollout"),
    "Transformer attribution (ours)": ours("transformer_attribution"),
    "generic attention (ours)": ours("generic_attention"),
    "torchcam Grad-CAM": torchcam,
    "grad-cam Grad-CAM": grad_cam,
    "daam-timm-vit": daam,
    "torchxai-explain": torchxai,
    "captum input x gradient": captum("InputXGradient"),
    "captum integrated gradients, 20 steps": captum("IntegratedGradients"),
}
PACKAGES = {
    "torchcam Grad-CAM": "torchcam",
    "grad-cam Grad-CAM": "pytorch_grad_cam",
    "daam-timm-vit": "daam",
    "torchxai-explain": "torchxai",
    "captum input x gradient": "captum",
    "captum integrated gradients, 20 steps": "captum",
}
"""What rivals import."""
MANY = "many classes"
ALL_LAYERS = ("daam-timm-vit", "torchxai-explain", "Transformer attribution (ours)")
"""Rivals that read every layer, as TokenTM does."""


# ---- measuring, each in a process of its own ----


def timed(call: Call, images: Tensor) -> float:
    if images.is_cuda:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call(images)
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1000
    begin_at = time.perf_counter()
    call(images)
    return time.perf_counter() - begin_at


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def extra_memory(call: Call, images: Tensor) -> int:
    """Bytes that one call needs beyond what is there before it."""
    if images.is_cuda:
        call(images)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call(images)
        return torch.cuda.max_memory_allocated() - before
    # start the math libraries with a batch too small to count, without making room for the real one
    with torch.inference_mode():
        torch.nn.functional.linear(torch.ones(64, 64), torch.ones(64, 64))
    before = resident()
    call(images)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def worker(setting: str, batch: int, contender: str, arguments: dict[str, Any], what: str) -> dict[str, Any]:
    device, dtype = arguments["device"], getattr(torch, arguments["dtype"])
    model = build(setting, device, dtype)
    pixels = SETTINGS[setting][2]
    images = torch.randn(batch, 3, pixels, pixels, generator=torch.Generator().manual_seed(1)).to(device, dtype)
    return measured(model, images, contender, arguments, what)


def measured(model: nn.Module, images: Tensor, contender: str, arguments: dict[str, Any], what: str) -> dict[str, Any]:
    if contender == MANY:
        return many_classes(model, images, arguments)
    call = {**CONTENDERS, "floor": floor}[contender](model)
    if what == "memory":
        return {"memory": extra_memory(call, images)}
    base = floor(model)
    for warm in (call, base):
        warm(images)
    fitting = rounds_in(arguments, timed(call, images) + timed(base, images))
    pairs = [(timed(call, images), timed(base, images)) for _ in range(fitting)]
    return {
        "rounds": fitting,
        "ratio": median(one / other for one, other in pairs),
        "seconds": median(one for one, _ in pairs),
        "floor": median(other for _, other in pairs),
    }


def rounds_in(arguments: dict[str, Any], once: float) -> int:
    """How many rounds fit into the patience that there is; one is always measured."""
    return max(1, min(arguments["rounds"], int(arguments["patience"] / once)))


def many_classes(model: nn.Module, images: Tensor, arguments: dict[str, Any]) -> dict[str, Any]:
    """What K classes of one image cost, and a further one, in forward passes."""
    known = model.get_classifier().out_features

    def explaining(count: int) -> Call:
        classes = [i % known for i in range(count)]
        return lambda one: tokentm.explain(model, one.expand(count, -1, -1, -1), classes)

    calls = [forward(model), *map(explaining, CLASSES)]
    for call in calls:
        call(images)
    fitting = rounds_in(arguments, sum(timed(call, images) for call in calls))
    rounds = [[timed(call, images) for call in calls] for _ in range(fitting)]
    found = {
        str(count): {
            "times": median(one[1 + i] / one[0] for one in rounds),
            "further": median((one[1 + i] - one[1]) / (count - 1) / one[0] for one in rounds) if i else None,
        }
        for i, count in enumerate(CLASSES)
    }
    return {"rounds": fitting, "forward": median(one[0] for one in rounds), "classes": found}


def together(setting: str, batch: int, names: list[str], arguments: dict[str, Any]) -> None:
    """On a GPU: one contender after the other in this process, one line each."""
    device, dtype = arguments["device"], getattr(torch, arguments["dtype"])
    model, pixels = build(setting, device, dtype), SETTINGS[setting][2]
    images = torch.randn(batch, 3, pixels, pixels, generator=torch.Generator().manual_seed(1)).to(device, dtype)
    for name in names:
        try:
            found = measured(model, images, name, arguments, "time")
            if name != MANY:
                found |= measured(model, images, name, arguments, "memory")
        except Exception as error:  # the others are measured all the same
            found = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps([name, found]), flush=True)


def measure(setting: str, batch: int, names: list[str], arguments: dict[str, Any]) -> dict[str, dict[str, Any]]:
    missing = {name: {"failed": "not installed"} for name in names if not installed(name)}
    own = [name for name in names if arguments["device"] == "cuda" and name not in PACKAGES]
    found = {}
    if own:
        lines, reason = in_process([setting, batch, own, arguments, "together"])
        found = {name: {"failed": reason} for name in own}
        found |= dict(json.loads(line) for line in lines if line.startswith("["))
    for name in names:
        if name not in own and name not in missing:
            found[name] = alone(setting, batch, name, arguments)
    return {name: {**missing, **found}[name] for name in names}


def installed(name: str) -> bool:
    return name not in PACKAGES or find_spec(PACKAGES[name]) is not None


def alone(setting: str, batch: int, contender: str, arguments: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for what in ("time",) if contender == MANY else ("time", "memory"):
        lines, reason = in_process([setting, batch, contender, arguments, what])
        if reason:
            return {"failed": reason}
        found |= json.loads(lines[-1])
    return found


def in_process(task: list[Any]) -> tuple[list[str], str]:
    """What a process of its own prints, and why it failed if it did."""
    done = subprocess.run(
        [sys.executable, __file__, "--worker", json.dumps(task)], capture_output=True, text=True, check=False
    )
    reason = (done.stderr.strip().splitlines() or ["no word"])[-1] if done.returncode else ""
    return done.stdout.splitlines(), reason


def table(setting: str, batch: int, rows: dict[str, dict[str, Any]]) -> str:
    many, rows = rows.get(MANY), {name: row for name, row in rows.items() if name != MANY}
    base = rows["floor"].get("memory", 0)
    lines = [
        f"### {setting}, batch {batch}",
        "",
        "| | time / floor | seconds | rounds | extra memory, MB | memory / floor |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        if "failed" in row:
            lines.append(f"| {name} | {row['failed'][:90]} | | | | |")
            continue
        memory = row["memory"]
        lines.append(
            f"| {name} | {row['ratio']:.2f} | {row['seconds']:.3f} | {row['rounds']} | {memory / 2**20:.0f} "
            f"| {memory / base:.2f} |"
        )
    mine = rows.get("tokentm", {}).get("ratio")
    beside = {name: rows[name]["ratio"] / mine for name in ALL_LAYERS if mine and "ratio" in rows.get(name, {})}
    if beside:
        lines += ["", "In TokenTM's times: " + ", ".join(f"{name} {times:.2f}" for name, times in beside.items()) + "."]
    if many is not None:
        lines += ["", *of_many_classes(many)]
    return "\n".join(lines) + "\n"


def of_many_classes(found: dict[str, Any]) -> list[str]:
    if "failed" in found:
        return [f"Many classes of one image: {found['failed'][:90]}"]
    lines = [
        "| classes of one image | time / forward pass | a further class, in forward passes |",
        "| --- | --- | --- |",
    ]
    for count, one in found["classes"].items():
        further = "" if one["further"] is None else f"{one['further']:.2f}"
        lines.append(f"| {count} | {one['times']:.2f} | {further} |")
    return [*lines, "", f"{found['rounds']} rounds; one forward pass {found['forward']:.4f} s."]


def importing() -> str:
    """Seconds that ``import tokentm`` costs after ``import torch, timm``, median of processes of its own."""
    code = "import time, torch, timm; a = time.perf_counter(); import tokentm; print(time.perf_counter() - a)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(5)]
    return f"`import tokentm` costs {median(map(float, runs)):.2f} s beyond `import torch, timm`."


def machine(arguments: argparse.Namespace) -> str:
    packages = []
    for name in ("torch", "timm", "torchcam", "grad-cam", "daam-timm-vit", "torchxai-explain", "captum"):
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    place = torch.cuda.get_device_name() if arguments.device == "cuda" else f"{os.cpu_count()} cores"
    today = datetime.datetime.now(tz=datetime.timezone.utc).date()
    return (
        f"{today}, {platform.machine()}, {place}, {torch.get_num_threads()} threads, {arguments.dtype}, "
        f"at most {arguments.rounds} rounds; Python {platform.python_version()}, {', '.join(packages)}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", default=";".join(SETTINGS), help="names, separated by ;")
    parser.add_argument("--only", help="contenders, separated by commas; the floor is always there")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--patience", type=float, default=20, help="seconds after which no further round begins")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        task = json.loads(arguments.worker)
        if task[-1] == "together":
            together(*task[:-1])
        else:
            print(json.dumps(worker(*task)))
        return
    only = None if arguments.only is None else arguments.only.split(",")
    chosen = [name for name in (*CONTENDERS, MANY) if only is None or name in only]
    given = {name: getattr(arguments, name) for name in ("rounds", "patience", "device", "dtype")}
    head, pages = [machine(arguments), ""], []
    if arguments.device == "cpu":
        head += [importing(), ""]
    for setting in arguments.settings.split(";"):
        for batch in SETTINGS[setting][3]:
            # integrated gradients of a batch take as many times longer, minutes a call
            left_out = [name for name in chosen if batch > 1 and (name == MANY or name.startswith("captum integrated"))]
            rows = measure(setting, batch, ["floor", *(name for name in chosen if name not in left_out)], given)
            print(setting, batch, rows, flush=True)
            pages.append(table(setting, batch, rows))
            if arguments.only is None:  # after every table, so that a run that is stopped leaves what it measured
                write(f"{arguments.device}, {arguments.dtype}", "\n".join([*head, *pages]))
    print("\n".join([*head, *pages]))


def write(name: str, text: str) -> None:
    """Put what was measured in its place on the page."""
    found = f"<!-- {name} -->\n\n{text.strip()}\n\n<!-- end -->"
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(
        re.sub(rf"<!-- {name} -->.*?<!-- end -->", lambda _: found, page, flags=re.DOTALL), encoding="utf-8"
    )


if __name__ == "__main__":
    main()

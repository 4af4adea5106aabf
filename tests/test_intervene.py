"""Parts taken away or exchanged in one batch are what hooks written by hand do, one image and one part at a time."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
import zoo_models
from conftest import VARIANTS, make_images, make_vit
from test_trace import assert_unchanged, everything_about
from torch import Tensor, nn
from zoo import ZOO, OwnViT

import tokentm
from tokentm import InvalidOptionError, ModelChangedError, NotFiniteError, UnsupportedModelError
from tokentm.evaluation import Removal
from tokentm.intervene import Activation, Attention, Edge, Ffn, Head, Patches, intervene

module = sys.modules["tokentm.intervene"]
pytestmark = pytest.mark.filterwarnings("ignore::tokentm.ModelFoundWarning")


class Named(NamedTuple):
    """Where the parts of layer {i} are in a model, known from reading its code.

    heads: is given what the heads put out, side by side. attention, ffn: put out what is added to the stream, but for a
    scale. block: is given the stream; with "=" before it, beside a residual connection, which reads the same tensor.
    """

    heads: str
    attention: str
    ffn: str
    block: str


TIMM = Named("blocks.{i}.attn.proj", "blocks.{i}.attn.proj", "blocks.{i}.mlp.fc2", "blocks.{i}")
OWN = TIMM._replace(ffn="blocks.{i}.mlp.3")
OUT = OWN._replace(heads="blocks.{i}.attn.out", attention="blocks.{i}.attn.out")
PACKED = OWN._replace(heads="blocks.{i}.attn.out_proj", attention="blocks.{i}.attn.out_proj")
ENCODER = "blocks.layers.{i}"
HF = "vit.layers.{i}"
DINO = "dinov2.encoder.layer.{i}"
CLIP = "transformer.resblocks.{i}"
SIGLIP = "vision_model.encoder.layers.{i}"
VIT_PYTORCH = "transformer.layers.{i}"


def in_block(block: str, out: str, ffn: str) -> Named:
    return Named(f"{block}.{out}", f"{block}.{out}", f"{block}.{ffn}", block)


OF_TIMM = {
    "class token": TIMM,
    "LayerScale": TIMM,
    "registers": TIMM,
    "distilled": TIMM,
    "narrow heads": TIMM,
    "norm after the heads": TIMM._replace(heads="blocks.{i}.attn.norm"),
    "norm after the heads, post-norm": Named(
        "blocks.{i}.attn.norm", "blocks.{i}.norm1", "blocks.{i}.norm2", "blocks.{i}"
    ),
    "attention and FFN in parallel": in_block("blocks.{i}", "attn_out_proj", "mlp_out_proj"),
    "attention pooling": TIMM,
}
OF_ZOO = {
    "Hugging Face ViTForImageClassification": in_block(HF, "attention.o_proj", "mlp.fc2"),
    "Hugging Face Dinov2ForImageClassification, other size": in_block(DINO, "attention.o_proj", "mlp.down_proj"),
    "Hugging Face BeitForImageClassification, relative positions, class token": in_block(
        "beit.layers.{i}", "attention.o_proj", "mlp.fc2"
    ),
    "Hugging Face SiglipForImageClassification": in_block(SIGLIP, "self_attn.out_proj", "mlp.fc2"),
    "torchvision ViT": in_block(
        "encoder.layers.encoder_layer_{i}", "self_attention.out_proj", "mlp.3"
    ),
    "open_clip visual tower": in_block(CLIP, "attn.out_proj", "mlp.c_proj"),
    "open_clip visual tower, LayerScale": in_block(CLIP, "attn.out_proj", "mlp.c_proj"),
    "vit-pytorch vit.ViT": in_block(VIT_PYTORCH, "0.to_out.0", "1.net.4")._replace(block="=" + VIT_PYTORCH + ".0"),
    "by hand: softmax and @": OWN,
    "by hand: einsum, tokens first": OUT,
    "by hand: bmm, heads in the batch": OUT,
    "by hand: values times transposed weights": OUT,
    "by hand: nn.MultiheadAttention": PACKED,
    "by hand: nn.TransformerEncoder": in_block(ENCODER, "self_attn.out_proj", "linear2"),
    "by hand: nn.TransformerEncoderLayer, sequence first": in_block("blocks.{i}", "self_attn.out_proj", "linear2"),
    "by hand: no module is a block": Named("attns.{i}.proj", "attns.{i}.proj", "mlps.{i}.3", "=norms1.{i}"),
    "by hand: updates in place": OWN,
    "by hand: attention and FFN side by side": OWN,
    "by hand: LayerScale without a module": OWN,
    "by hand: one learnt number before each update": OWN,
    "by hand: norms behind attention and FFN": OWN._replace(attention="blocks.{i}.norm1", ffn="blocks.{i}.norm2"),
    "by hand: blocks return a pair": OWN,
}  # fmt: skip
KNOWN = {**OF_TIMM, **OF_ZOO}


class Unpacked(nn.Module):
    """nn.MultiheadAttention written out, whose output projection is a module that is called."""

    def __init__(self, packed: nn.MultiheadAttention) -> None:
        super().__init__()
        self.packed, self.out_proj, self.num_heads = packed, packed.out_proj, packed.num_heads
        self.batch_first = self._qkv_same_embed_dim = packed.batch_first
        self.in_proj_weight, self.in_proj_bias = packed.in_proj_weight, packed.in_proj_bias

    def forward(self, x: Tensor, *_args: Any, **_options: Any) -> tuple[Tensor, None]:
        x = x if self.packed.batch_first else x.transpose(0, 1)
        weights, biases = self.packed.in_proj_weight.chunk(3), self.packed.in_proj_bias.chunk(3)
        q, k, v = (x @ w.T + b for w, b in zip(weights, biases, strict=True))
        heads = []
        for one in torch.arange(x.shape[-1]).chunk(self.num_heads):
            scores = q[..., one] @ k[..., one].transpose(1, 2) / len(one) ** 0.5
            heads.append(scores.softmax(-1) @ v[..., one])
        mixed = torch.cat(heads, -1)
        return self.out_proj(mixed if self.packed.batch_first else mixed.transpose(0, 1)), None


def unpacked(model: nn.Module) -> nn.Module:
    model = deepcopy(model)
    for path, one in list(model.named_modules()):
        if isinstance(one, nn.MultiheadAttention):
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, Unpacked(one))
    return model


def built(name: str) -> tuple[nn.Module, Tensor, Tensor, Callable[[nn.Module, Tensor], Tensor]]:
    """A model in float64, three pictures, two other ones, and how it is called."""
    if name in OF_TIMM:
        model = make_vit(**VARIANTS[name]).eval().double()
        return model, make_images(model, 3), make_images(model, 3, 7), lambda one, images: one(images)
    specimen = next(one for one in ZOO if one.name == name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = specimen.build().double()
    first, second = (specimen.images(3, seed).double() for seed in (1, 7))
    return model, first, second, lambda one, images: specimen.numbers(specimen.call(one, images))


@contextmanager
def acting(model: nn.Module, path: str, act: Callable[[Tensor], Tensor | None], before: bool) -> Iterator[None]:
    """What a module is given, or puts out, goes through ``act``; nothing else of it changes."""
    one = model.get_submodule(path)
    if before:
        hook = one.register_forward_pre_hook(
            lambda _m, args: None if (new := act(args[0])) is None else (new, *args[1:])
        )
    else:
        hook = one.register_forward_hook(lambda _m, _args, made: act(made))
    try:
        yield
    finally:
        hook.remove()


class ByHand:
    """The second implementation: one image, one part, one hook."""

    def __init__(self, name: str, model: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        self.named, self.model, self.call = KNOWN[name], unpacked(model), call
        self.sequence_first = "sequence first" in name

    def at(self, part: Any) -> tuple[str, bool]:
        kind = "heads" if isinstance(part, (Head, Edge)) else type(part).__name__.lower()
        path = {"activation": self.named.block}.get(kind) or getattr(self.named, kind)
        return path.format(i=part.layer), kind in ("heads", "activation")

    def seen(self, part: Any, image: Tensor) -> Tensor:
        """What passes where the part is, (N, .)."""
        path, before = self.at(part)
        found: list[Tensor] = []
        with acting(self.model, path.strip("="), lambda one: found.append(one.detach().clone()), before):
            self.answer(image)
        return found[0].squeeze(1 if self.sequence_first else 0)

    def answer(self, image: Tensor) -> Tensor:
        return self.call(self.model, image[None]).detach().reshape(1, -1)[0]

    def without(self, part: Any, image: Tensor, values: Callable[[Tensor], Tensor]) -> Tensor:
        """The answer where what passes there, (N, .), is ``values`` of it."""
        path, before = self.at(part)
        new = values(self.seen(part, image))
        done: list[bool] = []

        def put(given: Tensor) -> Tensor | None:
            if done and path.startswith("="):
                return None
            done.append(True)
            wanted = new.unsqueeze(1 if self.sequence_first else 0)
            if path.startswith("="):
                given.data.copy_(wanted)
                return None
            return wanted

        with acting(self.model, path.strip("="), put, before):
            return self.answer(image)


def new_value(part: Any, by: str, own: Any, heads: int, weights: Any) -> Callable[[Tensor], Tensor]:
    """From what passes at a part's place, (N, .), to what passes after it was replaced.

    Args:
        own: what passes there in other pictures, a list.
        weights: attention (N, N), values (N, d) of the head in this picture, and attention in the other ones.
    """

    def replaced(passing: Tensor) -> Tensor:
        made = passing.clone()
        width = passing.shape[1] // heads
        if isinstance(part, Edge):
            attention, values, others = weights
            if by == "zero":
                weight = torch.tensor(0.0)
            elif by == "mean":
                weight = sum(attention[i, part.key] for i in range(len(attention))) / len(attention)
            else:
                weight = sum(one[part.query, part.key] for one in others) / len(others)
            change = (weight - attention[part.query, part.key]) * values[part.key]
            made[part.query, part.head * width : (part.head + 1) * width] += change
            return made
        if by == "zero":
            new = torch.zeros_like(passing)
        elif by == "mean":
            new = (sum(passing) / len(passing)).repeat(len(passing), 1)
        else:
            new = sum(own) / len(own)
        if isinstance(part, Head):
            columns = slice(part.head * width, (part.head + 1) * width)
            made[:, columns] = new[:, columns]
        elif isinstance(part, Activation):
            made[part.token] = new[part.token]
        else:
            made = new
        return made

    return replaced


def parts_of(trace: tokentm.Trace) -> list[Any]:
    last, tokens = len(trace.layers) - 1, trace.layout.tokens
    heads = trace.layers[0].attention.shape[1]
    return [
        Head(0, heads - 1),
        Head(last, 0),
        Attention(1),
        Ffn(0),
        Ffn(last),
        Edge(0, heads - 1, tokens - 1, 0),
        Edge(1, 0, 0, 2),
        Activation(1, tokens - 1),
        Activation(0, 0),
    ]


def target(logits: Tensor) -> Tensor:
    return logits[:, 0] - 0.5 * logits[:, -1]


@pytest.mark.parametrize("name", KNOWN)
def test_parts_replaced_in_one_batch_are_what_hooks_do_one_at_a_time(name):
    model, images, others, call = built(name)
    trace, other = tokentm.record(model, images, target), tokentm.record(model, others, target)
    hand, parts, before = ByHand(name, model, call), parts_of(trace), everything_about(model)
    for by, given in (("zero", None), ("mean", None), ("other", other), ("mean", other)):
        found = intervene(trace, parts, by, given, progress=False)
        for k, part in enumerate(parts):
            b = k % len(images)  # one of the pictures, in turn
            which = range(len(others)) if by == "mean" else [b]
            how = "others" if given is not None else by
            layer = trace.layers[part.layer]
            weights = None
            if isinstance(part, Edge):
                theirs = [other.layers[part.layer].attention[j, part.head] for j in which]
                weights = layer.attention[b, part.head], layer.value[b, part.head], theirs
            own = [hand.seen(part, others[j]) for j in which] if given is not None else None
            change = new_value(part, how, own, layer.attention.shape[1], weights)
            expected = hand.without(part, images[b], change)
            torch.testing.assert_close(found.logits[b, k], expected, rtol=1e-7, atol=1e-8)
        assert (found.effects.abs() > 1e-6).float().mean() > 0.6  # something is changed at all
        torch.testing.assert_close(found.effects, target(trace.logits)[:, None] - target(found.logits.mT))
    assert_unchanged(before, model)


EDITED = ["Hugging Face ViTForImageClassification", "open_clip visual tower", "by hand: nn.TransformerEncoder"]


@pytest.mark.parametrize("name", [*EDITED, "class token", "LayerScale", "by hand: no module is a block"])
def test_zero_is_the_model_with_weights_of_the_part_set_to_zero(name):
    model, images, _, call = built(name)
    trace, named = tokentm.record(model, images, target), KNOWN[name]
    heads = trace.layers[0].attention.shape[1]
    parts = [Head(1, h) for h in range(heads)] + [Attention(1), Ffn(1)]
    found = intervene(trace, parts, progress=False)
    for k, part in enumerate(parts):
        edited = deepcopy(model)
        path = named.ffn if isinstance(part, Ffn) else named.attention
        linear = edited.get_submodule(path.format(i=1))
        with torch.no_grad():
            if isinstance(part, Head):
                columns = torch.arange(linear.in_features).chunk(heads)[part.head]
                linear.weight[:, columns] = 0  # the bias stays
            else:
                linear.weight.zero_()
                linear.bias.zero_()
            expected = call(edited, images)
        torch.testing.assert_close(found.logits[:, k], expected, rtol=1e-7, atol=1e-8)


@pytest.fixture(scope="module")
def recorded() -> tuple[nn.Module, tokentm.Trace]:
    model = make_vit().eval()
    return model, tokentm.record(model, make_images(model, 3), [4, 0, 2])


def everything(trace: tokentm.Trace) -> list[Any]:
    patches = trace.layout.rows * trace.layout.columns
    return [*parts_of(trace), *map(Patches, range(patches)), Patches((0, patches - 1))]


@pytest.mark.parametrize("by", ["zero", "mean", "other"])
def test_a_batch_gives_what_its_rows_give_one_at_a_time(recorded, by):
    model, trace = recorded
    other = tokentm.record(model, make_images(model, 3, 5)) if by == "other" else None
    parts = everything(trace)
    whole = intervene(trace, parts, by, other, progress=False)
    one_by_one = intervene(trace, parts, by, other, batch_size=1, progress=False)
    torch.testing.assert_close(whole.logits, one_by_one.logits, rtol=1e-4, atol=1e-5)
    for k in (0, len(parts) - 1):
        alone = intervene(trace, parts[k : k + 1], by, other, progress=False)
        torch.testing.assert_close(alone.logits[:, 0], whole.logits[:, k], rtol=1e-4, atol=1e-5)


def test_scores_are_those_of_the_explained_class_before_and_after(recorded):
    _, trace = recorded
    found = intervene(trace, [Head(0, 0), Patches(1)], progress=False)
    assert found.interventions == (Head(0, 0), Patches(1))
    assert torch.equal(found.baseline, trace.logits)
    assert torch.equal(found.baseline_scores, trace.scores)
    for b, explained in enumerate([4, 0, 2]):
        assert torch.equal(found.scores[b], found.logits[b, :, explained])
        assert torch.equal(found.effects[b], trace.logits[b, explained] - found.logits[b, :, explained])
    assert repr(found) == "Interventions(2, by='zero', images=3)"


@pytest.mark.parametrize("by", ["drop", "zero", "mean", "blur"])
def test_patches_go_as_in_the_evaluation(recorded, by):
    model, trace = recorded
    parts = [Patches(2), Patches((5, 0, 1)), Patches([3]), Patches(torch.tensor([4, 1]))]
    found = intervene(trace, parts, by, progress=False)
    for b in range(3):
        remove = Removal(tokentm.record(model, trace.images[b : b + 1]), by)  # each picture by itself
        for k, part in enumerate(parts):
            gone = torch.zeros(1, 6, dtype=torch.bool)
            for index in part.indices:
                gone[0, index] = True
            torch.testing.assert_close(found.logits[b, k], remove(gone)[0], rtol=1e-4, atol=1e-5)


def test_patches_of_other_pictures_are_their_pixels(recorded):
    model, trace = recorded
    other = tokentm.record(model, make_images(model, 4, 5))
    one = tokentm.record(model, other.images[:1])
    for by, given, pictures in (
        ("other", one, other.images[:1].expand(3, -1, -1, -1)),
        (
            "mean",
            other,
            ((other.images[0] + other.images[1] + other.images[2] + other.images[3]) / 4).expand(3, -1, -1, -1),
        ),
    ):
        pixels = trace.images.clone()
        pixels[:, :, 8:, 8:16] = pictures[:, :, 8:, 8:16]
        pixels[:, :, :8, 16:] = pictures[:, :, :8, 16:]
        found = intervene(trace, [Patches((2, 4))], by, given, progress=False)
        torch.testing.assert_close(found.logits[:, 0], model(pixels).detach(), rtol=1e-4, atol=1e-5)


def test_pictures_in_place_of_patches_have_the_shape_of_the_recorded_ones(recorded):
    _, trace = recorded
    with pytest.raises(
        InvalidOptionError, match=r"expected pictures torch\.float32 \(3, 3, 16, 24\).*; got .* \(1, 3,"
    ):
        Removal(trace, trace.images[:1])
    gone, whole = torch.eye(6)[[4]].bool(), Removal(trace, trace.images.flip(0))
    found = Removal(trace, trace.images.flip(0), index=2, count=2)(gone.expand(2, -1))
    torch.testing.assert_close(found, whole(gone.expand(3, -1))[[2, 2]], rtol=1e-4, atol=1e-5)


def test_all_of_a_picture_s_own_values_change_nothing(recorded):
    _, trace = recorded
    found = intervene(trace, everything(trace), "other", trace, progress=False)
    assert found.effects.abs().max() < 1e-5


def test_the_demo_loses_what_a_head_says(relative):
    demo = tokentm.load_demo()
    trace = tokentm.record(demo.model, demo.transform(demo.scene(3).image)[None])
    found = intervene(trace, [Head(7, 1), Ffn(2)], progress=False)
    edited = deepcopy(demo.model)
    with torch.no_grad():
        edited.blocks[7].attn.proj.weight[:, 32:64] = 0
        assert relative(found.logits[:, 0], edited(trace.images)) < 1e-4
    edited = deepcopy(demo.model)
    with torch.no_grad():
        edited.blocks[2].mlp.fc2.weight.zero_()
        edited.blocks[2].mlp.fc2.bias.zero_()
        assert relative(found.logits[:, 1], edited(trace.images)) < 1e-4


class StoppedError(Exception):
    """What a caller ends the work with."""


def test_progress_is_told_between_batches_and_can_end_the_work(recorded):
    model, trace = recorded
    heard: list[float] = []
    parts = everything(trace)
    intervene(trace, parts, batch_size=4, progress=heard.append)
    assert heard == sorted(heard)
    assert (heard[0], heard[-1]) == (0.0, 1.0)
    assert len(heard) == 1 + -(-3 * 9 // 4) + -(-3 * 7 // 4)
    before = everything_about(model)

    def stop(share: float) -> None:
        assert_unchanged(before, model)
        if share > 0.4:
            raise StoppedError

    with pytest.raises(StoppedError):
        intervene(trace, parts, batch_size=4, progress=stop)
    assert_unchanged(before, model)


def test_a_bar_appears_where_it_takes_long(recorded, capsys, monkeypatch):
    _, trace = recorded
    intervene(trace, [Head(0, 0)])
    assert "%" not in capsys.readouterr().err
    plain = module.tqdm
    monkeypatch.setattr(module, "tqdm", lambda **options: plain(**{**options, "delay": 0}))
    intervene(trace, [Head(0, 0)])
    assert "interventions: " in capsys.readouterr().err
    intervene(trace, [Head(0, 0)], progress=False)
    assert capsys.readouterr().err == ""


def interrupting(after: int) -> Callable[..., None]:
    left = [after]

    def act(*_given: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGINT)

    return act


@pytest.mark.parametrize("after", [2, 7])
def test_an_interrupt_ends_it_and_leaves_nothing_behind(after):
    model = make_vit().eval()
    act = [lambda *_given: None]
    model.blocks[1].mlp.register_forward_hook(lambda *given: act[0](*given))
    trace = tokentm.record(model, make_images(model, 2))
    before = everything_about(model)
    act[0] = interrupting(after)
    with pytest.raises(KeyboardInterrupt):
        intervene(trace, everything(trace), batch_size=2, progress=False)
    act[0] = lambda *_given: None
    assert_unchanged(before, model)
    intervene(trace, [Head(0, 0)], progress=False)


def test_whoever_calls_the_model_meanwhile_gets_its_own_numbers():
    model, others = make_vit().eval(), []
    act = [lambda *_given: None]
    model.blocks[1].mlp.register_forward_hook(lambda *given: act[0](*given))
    trace = tokentm.record(model, make_images(model, 2))
    expected = model(trace.images).detach()

    def call(*_given: Any) -> None:
        act[0] = lambda *_given: None
        thread = threading.Thread(target=lambda: others.append(model(trace.images).detach()))
        thread.start()
        thread.join()

    act[0] = call
    parts = [Head(0, 0), Activation(0, 1), Attention(1), Ffn(0)]
    inner = module._Inside(trace, trace.check_model(), "zero", None)
    act[0] = call
    found = inner.run([(0, part) for part in parts])
    assert torch.equal(others[-1], expected)
    assert len(others) == 1 + 1  # while calls are counted, and while the parts are exchanged
    assert (found - expected[0]).abs().amax(1).min() > 1e-3


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu")])
def test_modes_of_the_caller_change_nothing(recorded, mode):
    _, trace = recorded
    parts = everything(trace)
    plain = intervene(trace, parts, progress=False)
    with mode():
        found = intervene(trace, parts, progress=False)
    assert torch.equal(found.logits, plain.logits)
    assert torch.equal(found.scores, plain.scores)


@pytest.mark.parametrize("failing", range(1, 6))
def test_an_error_in_the_model_leaves_nothing_behind(failing):
    model, calls = make_vit().eval(), []

    def fail(*_given: Any) -> None:
        calls.append(None)
        if len(calls) == failing:
            raise StoppedError

    act = [lambda *_given: None]
    model.blocks[0].mlp.register_forward_hook(lambda *given: act[0](*given))
    trace = tokentm.record(model, make_images(model, 1))
    before = everything_about(model)
    act[0] = fail
    with pytest.raises(StoppedError):
        intervene(trace, everything(trace), batch_size=3, progress=False)
    act[0] = lambda *_given: None
    assert_unchanged(before, model)


class SaysTwice(zoo_models.Block):
    """What attention, or the FFN, adds is computed a second time where no hook sees it, and the second is used."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: Tensor) -> Any:
        added = self.attn(self.norm1(x))
        proj = self.attn.proj
        x = x + (nn.functional.linear(Remembering.given, proj.weight, proj.bias) if self.what == "attention" else added)
        made = self.mlp(self.norm2(x))
        again = self.norm2(x)
        for one in self.mlp:
            again = one(again)
        return x + (again if self.what == "ffn" else made)


class Remembering(nn.Linear):
    """A projection that keeps what it was given last."""

    given: Tensor

    def forward(self, x: Tensor) -> Tensor:
        Remembering.given = x
        return super().forward(x)


def twice(what: str) -> nn.Module:
    torch.manual_seed(0)
    model = OwnViT(block=lambda: SaysTwice(what))
    for block in model.blocks:
        old = block.attn.proj
        block.attn.proj = Remembering(old.in_features, old.out_features)
        block.attn.proj.load_state_dict(old.state_dict())
    return model.eval()


@pytest.mark.parametrize(("what", "part"), [("attention", Attention(1)), ("ffn", Ffn(1))])
def test_a_model_that_does_not_go_on_with_what_was_put_in_place_is_refused(what, part):
    model = twice(what)
    images = torch.randn(2, 3, *zoo_size(model), generator=torch.Generator().manual_seed(0))
    anatomy = tokentm.describe(twice(""), images)
    blocks = tuple(
        tokentm.Block(
            module=block, heads=anatomy.blocks[0].heads, normed=block.norm1, path=(block.attn.proj,),
            update=block.attn, mid=block.norm2, normed_mid=block.norm2, ffn_update=block.mlp,
        )
        for block in model.blocks
    )  # fmt: skip
    described = replace(
        anatomy, model=model, blocks=blocks, embedding=None, final=model.norm, head=model.head, told_by="hand"
    )
    trace = tokentm.record(model, images, anatomy=described)
    before = everything_about(model)
    with pytest.raises(UnsupportedModelError, match=r"expected block 1 to go on with what was put in place"):
        intervene(trace, [part], progress=False)
    assert_unchanged(before, model)


def zoo_size(_model: nn.Module) -> tuple[int, int]:
    return next(one.size for one in ZOO if one.name == "by hand: softmax and @")


@pytest.mark.parametrize(
    ("parts", "options", "words"),
    [
        ([], {}, "expected at least one intervention; got none"),
        ([Head(2, 0)], {}, r"expected a layer from 0 to 1 in Head\(layer=2, head=0\); got 2"),
        ([Head(0, 2)], {}, "expected a head from 0 to 1"),
        ([Head(0, -1)], {}, "expected a head from 0 to 1"),
        ([Head(0, True)], {}, "expected a head by number in Head; got True"),
        ([Head("0", 1)], {}, "expected a layer by number in Head; got '0'"),
        ([Edge(0, 0, 7, 0)], {}, "expected a query from 0 to 6"),
        ([Edge(0, 0, 0, 7)], {}, "expected a key from 0 to 6"),
        ([Activation(0, 7)], {}, "expected a token from 0 to 6"),
        ([Patches(6)], {}, "expected a patch from 0 to 5"),
        (["head 3"], {}, "expected interventions among Head, Attention, Ffn, Edge, Activation, Patches; got 'head 3'"),
        ([Head(0, 0)], {"by": "nothing"}, "expected by= among zero, mean, other, drop, blur; got 'nothing'"),
        ([Patches(0), Ffn(1)], {"by": "drop"}, r"expected by='zero', 'mean' or 'other' for Ffn\(layer=1\)"),
        ([Head(0, 0)], {"by": "other"}, r"expected other=tokentm.record\(model, pictures\)"),
        ([Head(0, 0)], {"batch_size": 0}, "expected a batch_size of at least 1, or None; got 0"),
        ([Head(0, 0)], {"progress": "yes"}, "expected progress=True for a bar, .* got 'yes'"),
    ],
)
def test_what_cannot_be_done_is_said(recorded, parts, options, words):
    _, trace = recorded
    with pytest.raises(InvalidOptionError, match=words):
        intervene(trace, parts, **options)


def test_patches_are_named_once():
    for given in ((), (1, 1)):
        with pytest.raises(InvalidOptionError, match="expected at least one patch, each of them once"):
            Patches(given)
    with pytest.raises(InvalidOptionError, match=r"expected a patch by number in Patches; got 0\.5"):
        Patches((0.5,))
    assert Patches(3) == Patches((3,)) == Patches(torch.tensor([3]))


def test_other_pictures_must_fit(recorded):
    model, trace = recorded
    two = tokentm.record(model, make_images(model, 2, 5))
    with pytest.raises(InvalidOptionError, match=r"one other picture, or one for each of the 3 image\(s\); got 2"):
        intervene(trace, [Head(0, 0)], "other", two)
    assert intervene(trace, [Head(0, 0)], "mean", two, progress=False).logits.shape == (3, 1, 5)
    with pytest.raises(InvalidOptionError, match="expected other= for by='mean' or 'other' alone"):
        intervene(trace, [Head(0, 0)], "zero", two)
    copied = make_vit().eval()
    with pytest.raises(InvalidOptionError, match="a record of the same model in the same state"):
        intervene(trace, [Head(0, 0)], "other", tokentm.record(copied, make_images(copied, 3)))
    sizes = make_vit(dynamic_img_size=True).eval()
    small, large = (tokentm.record(sizes, make_images(sizes, 1, size=size)) for size in ((16, 24), (16, 16)))
    with pytest.raises(InvalidOptionError, match=r"expected other= pictures of the same size, \(3, 16, 24\)"):
        intervene(small, [Head(0, 0)], "other", large)


def test_what_is_no_record_and_a_changed_model_are_refused(tmp_path):
    model = make_vit().eval()
    trace = tokentm.record(model, make_images(model))
    with pytest.raises(InvalidOptionError, match=r"expected a record from tokentm\.record"):
        intervene(model, [Head(0, 0)])
    trace.save(tmp_path / "trace")
    with pytest.raises(ModelChangedError, match="this one was read from a file"):
        intervene(tokentm.Trace.load(tmp_path / "trace"), [Head(0, 0)])
    with torch.no_grad():
        model.blocks[0].attn.proj.bias += 1
    with pytest.raises(ModelChangedError):
        intervene(trace, [Head(0, 0)])


def test_tokens_that_cannot_be_dropped_are_refused_by_name():
    name = "Hugging Face BeitForImageClassification, relative positions, class token"
    model, images, _, _ = built(name)
    trace = tokentm.record(model, images)
    with pytest.raises(InvalidOptionError, match="BeitForImageClassification: expected blocks without positions"):
        intervene(trace, [Patches(0)], "drop", progress=False)
    assert intervene(trace, [Patches(0)], "mean", progress=False).logits.shape == (3, 1, 5)


def test_numbers_that_overflow_are_told_with_the_part(recorded, monkeypatch):
    _, trace = recorded
    monkeypatch.setattr(Ffn, "put", lambda _part, _trace, _image, value: torch.full_like(value, torch.nan))
    monkeypatch.setattr(module, "_check_edited", lambda *_given: None)
    with pytest.raises(NotFiniteError, match=r"NaN or infinity for image 0 after Ffn\(layer=1\)"):
        intervene(trace, [Head(0, 0), Ffn(1)], progress=False)

"""Models that nobody described: found by running them once, or through a known model inside."""

from __future__ import annotations

import gc
import sys
import types
import warnings
import weakref
from dataclasses import replace
from functools import partial

import pytest
import torch
from conftest import make_images, make_vit
from test_attention_written import WRITTEN, Loop
from test_own_models import IMAGES, Attention, Layer, OwnViT, PackedAttention, described, own_vit
from torch import nn

import tokentm
from tokentm import ModelFoundWarning, TokenTM, UnsupportedModelError, describe, discovery

transformers = pytest.importorskip("transformers")


@pytest.fixture
def quiet(monkeypatch):
    told = []
    monkeypatch.setattr(discovery, "_tell", told.append)
    return told


def same_map(found, expected):
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-7)


class Head(nn.Module):
    """A backbone with a head of its own."""

    def __init__(self, backbone, width=24, classes=3):
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(width, classes)

    def forward(self, images):
        return self.head(self.backbone(images))


class Normalised(nn.Module):
    def forward(self, images):
        return (images - 0.2) / 0.7


def wrapped():
    lightning = pytest.importorskip("lightning")

    class Task(lightning.LightningModule):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, images):
            return self.model(images)

    inner = make_vit(num_classes=0)
    head = nn.Linear(24, 3)
    return {
        "normalised": (nn.Sequential(Normalised(), make_vit()), lambda m, x: (m[1], (x - 0.2) / 0.7, 1)),
        "own head": (Head(inner).eval(), lambda m, x: (m.backbone, x, lambda f: m.head(f)[:, 1])),
        "a head in a row": (nn.Sequential(inner, head).eval(), lambda m, x: (m[0], x, lambda f: m[1](f)[:, 1])),
        "lightning": (Task(make_vit()).eval(), lambda m, x: (m.model, x, 1)),
        "data parallel": (nn.DataParallel(make_vit()), lambda m, x: (m.module, x, 1)),
        "twice": (nn.Sequential(Task(make_vit())).eval(), lambda m, x: (m[0].model, x, 1)),
    }


@pytest.mark.parametrize("name", ["normalised", "own head", "a head in a row", "lightning", "data parallel", "twice"])
def test_a_wrapper_is_explained_as_what_it_holds(name, quiet):
    model, inside = wrapped()[name]
    images = make_images(make_vit())
    inner, seen, target = inside(model, images)
    expected = tokentm.explain(inner, seen, target)
    same_map(tokentm.explain(model, images, 1), expected)
    same_map(TokenTM()(tokentm.record(model, images, 1)), expected)
    assert describe(model).within
    assert "(through model." in quiet[0]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("layers", [["qkv"], ["proj"], "all-linear"], ids=str)
def test_adapters_on_any_layer_are_seen_through(layers, merged, quiet):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=layers, init_lora_weights=False)
    adapted = peft.get_peft_model(make_vit(), config).eval()
    plain = make_vit()
    images = make_images(plain)
    expected = tokentm.explain(peft.get_peft_model(make_vit(), config).eval(), images, 1)
    torch.manual_seed(0)
    model = adapted.merge_and_unload() if merged else adapted
    found = tokentm.explain(model, images, 1)
    torch.testing.assert_close(found.logits, model(images).detach(), rtol=1e-4, atol=1e-5)
    assert (found.logits - plain(images)).abs().max() > 0.01
    trace = tokentm.record(model, images, 1)
    same_map(found, TokenTM()(trace))
    assert max(layer.identity_error for layer in trace.layers) < 1e-5
    assert expected.scores.shape == found.scores.shape


def test_an_adapter_gives_the_map_of_the_merged_model(quiet):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    model = peft.get_peft_model(make_vit(), config).eval()
    images = make_images(make_vit())
    before = tokentm.explain(model, images, 1)
    same_map(tokentm.explain(model.merge_and_unload(), images, 1), before)


def test_a_wrapper_keeps_the_names_and_the_meaning_of_the_classifier_inside(quiet):
    peft = pytest.importorskip("peft")
    names = {0: "owl", 1: "eel", 2: "ant"}
    options = {"id2label": names, "label2id": {v: k for k, v in names.items()}}
    model = of_hugging_face("ViTForImageClassification", problem_type="multi_label_classification", **options)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    config = peft.LoraConfig(r=2, target_modules=["o_proj"], modules_to_save=["classifier"], init_lora_weights=False)
    adapted = peft.get_peft_model(model, config).eval()
    found = tokentm.explain(adapted, images)
    assert (found.class_names, found.outputs) == (("owl", "eel", "ant"), "sigmoid")
    torch.testing.assert_close(found.logits, adapted(images).logits.detach())
    other = tokentm.explain(OtherHead(model).eval(), images)
    assert (other.class_names, other.outputs) == (None, "softmax")


class OtherHead(nn.Module):
    """Reads the classifier's logits with a head of its own."""

    def __init__(self, model):
        super().__init__()
        self.model, self.head = model, nn.Linear(3, 3)

    def forward(self, images):
        return self.head(self.model(images).logits)


@pytest.mark.parametrize("attention", WRITTEN)
def test_what_a_student_writes_is_found_as_it_is_described(attention, quiet):
    model = own_vit(attention=attention)
    found = describe(model, IMAGES)
    assert (found.prefix, found.patch, len(found.blocks), found.blocks[0].heads) == (1, (8, 8), 3, 2)
    for mine, theirs in zip(found.blocks, described(model).blocks, strict=True):
        assert (mine.module, mine.normed, mine.mid) == (theirs.module, theirs.normed, theirs.mid)
    assert (found.final, found.head, found.embedding) == (model.norm, model.head, model.patch)
    same_map(tokentm.explain(model, IMAGES, 1), tokentm.explain(model, IMAGES, 1, anatomy=described(model)))


@pytest.mark.parametrize("norm", [True, False], ids=["last norm", "none reads the whole stream"])
def test_blocks_without_a_module_of_their_own_are_found(norm, quiet):
    model = Loop(ends_with_norm=norm)
    model.one = own_vit()
    model.column.layers = model.one.blocks
    model.eval()
    found = describe(model, IMAGES)
    assert all(block.module is None for block in found.blocks)
    assert (found.final is None) == (not norm)
    same_map(tokentm.explain(model, IMAGES, 1), tokentm.explain(model.one, IMAGES, 1))


class Encoder(nn.Module):
    """As in torch's tutorials."""

    def __init__(self, batch_first, norm_first=True):
        super().__init__()
        layer = nn.TransformerEncoderLayer(24, 2, 48, batch_first=batch_first, norm_first=norm_first, dropout=0.1)
        self.patch = nn.Conv2d(3, 24, 8, 8)
        self.positions = nn.Parameter(torch.randn(1, 6, 24))
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Linear(24, 5)
        self.batch_first = batch_first

    def forward(self, images):
        x = self.patch(images).flatten(2).transpose(1, 2) + self.positions
        x = self.encoder(x) if self.batch_first else self.encoder(x.transpose(0, 1)).transpose(0, 1)
        return self.head(x.mean(1))


def test_torch_encoders_are_found_in_either_order_of_axes(quiet):
    torch.manual_seed(0)
    first, second = Encoder(True).eval(), Encoder(False).eval()
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(first(IMAGES), second(IMAGES))
    assert [describe(one, IMAGES).sequence_first for one in (first, second)] == [False, True]
    traces = [tokentm.record(one, IMAGES, 1) for one in (first, second)]
    for name in tokentm.methods.METHODS:
        mine, theirs = (tokentm.methods.get(name)(trace) for trace in traces)
        torch.testing.assert_close(mine.scores, theirs.scores, rtol=1e-3, atol=1e-6, msg=name)
    same_map(tokentm.explain(second, IMAGES, 1), TokenTM()(traces[0]))
    with pytest.raises(UnsupportedModelError, match="post-norm"):
        tokentm.explain(Encoder(True, norm_first=False).eval(), IMAGES, 1)


def test_what_was_found_is_told_once_where_the_user_called():
    model = own_vit()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        tokentm.explain(model, IMAGES, 1)
        tokentm.explain(model, IMAGES, 0)
    assert [one.category for one in told] == [ModelFoundWarning]
    assert told[0].filename == __file__
    text = "OwnViT: 3 blocks of 2 heads, 1 token before the patches of 8 x 8 pixels. Found by running it once; look at"
    assert str(told[0].message).startswith(text)


def test_a_changed_model_is_looked_at_again(quiet):
    model = own_vit()
    tokentm.explain(model, IMAGES, 1)
    with torch.no_grad():
        model.head.weight.mul_(2)
    tokentm.explain(model, IMAGES, 1)
    assert len(quiet) == 1  # it is built as before
    model.blocks[1].mlp = nn.Sequential(nn.Linear(24, 24), nn.Tanh()).eval()
    tokentm.explain(model, IMAGES, 1)
    assert len(quiet) == 2


def test_what_was_found_does_not_keep_the_model_alive(quiet):
    model = nn.Sequential(Normalised(), own_vit()).eval()
    tokentm.explain(model, IMAGES, 1)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_what_was_found_can_be_corrected(quiet):
    model = own_vit()
    found = describe(model, IMAGES)
    named = replace(found, class_names=tuple("abcde"), name="mine")
    assert tokentm.explain(model, IMAGES, 1, anatomy=named).class_names == tuple("abcde")
    wrong = replace(found, prefix=0)
    with pytest.raises(UnsupportedModelError, match="expected 0 prefix tokens"):
        tokentm.explain(model, IMAGES, 1, anatomy=wrong)


def test_pictures_of_a_found_model_need_a_transform(quiet, tmp_path):
    from PIL import Image

    model = own_vit()
    picture = Image.new("RGB", (24, 16), "red")
    with pytest.raises(tokentm.InvalidOptionError, match="expected a transform: this OwnViT does not know"):
        tokentm.explain(model, picture, 1, anatomy=described(model))
    to_tensor = pytest.importorskip("torchvision.transforms").ToTensor()
    found = tokentm.explain(model, picture, 1, transform=to_tensor, anatomy=described(model))
    assert found.scores.shape == (1, 6)


def test_sizes_are_tried_where_nobody_tells_them(quiet):
    torch.manual_seed(0)
    model = nn.Sequential(own_vit())
    assert describe(make_vit().eval()).name == "VisionTransformer"
    with pytest.raises(UnsupportedModelError, match="found none that it takes"):
        describe(model)  # it takes 16 x 24 pixels alone
    assert describe(model, IMAGES).patch == (8, 8)


class NoForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (None, "expected a torch.nn.Module"),
        (nn.Linear(3, 3), "no attention while it ran"),
        (NoForward(), r"expected a model that answers images \(2, 3, 16, 24\); it raised NotImplementedError"),
        (nn.Flatten(), "found one without any parameter"),
        (nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Flatten(), nn.Linear(24, 5)), "A convolutional network or a mixer"),
        (torch.jit.trace(OwnViT().eval(), IMAGES, check_trace=False), "TorchScript does not show its attention"),
        (torch.compile(OwnViT().eval()), "Pass what torch.compile was given, model._orig_mod"),
    ],
    ids=["nothing", "a linear map", "no forward", "no parameters", "a convolutional network", "scripted", "compiled"],
)
def test_what_is_no_vision_transformer_is_refused_by_what_was_seen(model, text, quiet):
    images = torch.randn(2, 3, 16, 3) if isinstance(model, nn.Linear) else IMAGES
    with pytest.raises(UnsupportedModelError, match=text):
        tokentm.explain(model, images, 1)
    assert not quiet


def test_dropout_of_a_found_model_in_training_is_refused(quiet):
    model = own_vit()
    model.blocks[0].mlp.append(nn.Dropout(0.5))
    with pytest.raises(UnsupportedModelError, match=r"Call model\.eval\(\) first"):
        tokentm.explain(model.train(), IMAGES, 1)


def test_attention_by_xformers_is_seen_while_a_model_runs(quiet, monkeypatch):
    package, ops, own = (types.ModuleType(name) for name in ("xformers", "xformers.ops", "models_with_xformers"))

    def memory_efficient_attention(query, key, value, attn_bias=None, p=0.0, scale=None):
        calls.append(query.shape)
        query, key, value = (one.transpose(1, 2) for one in (query, key, value))
        logits = query @ key.mT * query.shape[-1] ** -0.5
        weights = logits.exp() / logits.exp().sum(-1, keepdim=True)
        return (weights @ value).transpose(1, 2)

    calls = []
    ops.memory_efficient_attention = own.memory_efficient_attention = memory_efficient_attention
    for name, module in {"xformers": package, "xformers.ops": ops, own.__name__: own}.items():
        monkeypatch.setitem(sys.modules, name, module)

    class ByName(Attention):
        def forward(self, x):
            query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
            return self.proj(own.memory_efficient_attention(query, key, value).flatten(2))

    ByName.__module__ = own.__name__
    model = own_vit(attention=ByName)
    expected = tokentm.explain(own_vit(), IMAGES, 1)
    calls.clear()
    found = tokentm.explain(model, IMAGES, 1)
    assert not calls
    same_map(found, expected)
    torch.testing.assert_close(found.logits, model(IMAGES).detach())
    assert len(calls) == 3
    assert own.memory_efficient_attention is ops.memory_efficient_attention is memory_efficient_attention


def of_hugging_face(kind, **options):
    sizes = {"image_size": 32, "patch_size": 8, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    name = kind.split("ForImage")[0].removesuffix("Model") + "Config"
    config = getattr(transformers, name)(**sizes, intermediate_size=48, **options)
    config._attn_implementation = "eager"
    model = getattr(transformers, kind)(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


EAGER = {
    "ViTForImageClassification": {},
    "DeiTForImageClassification": {},
    "Dinov2ForImageClassification": {},
    "Dinov2WithRegistersForImageClassification": {},
    "ViTMSNForImageClassification": {},
    "IJepaForImageClassification": {},
    "BeitForImageClassification": {},
    "CLIPVisionModel": {},
    "SiglipVisionModel": {},
}


@pytest.mark.parametrize("kind", EAGER)
def test_attention_and_gradient_are_those_that_hugging_face_shows(kind, quiet, relative):
    model = of_hugging_face(kind, **EAGER[kind])
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    output = model(images, output_attentions=True)
    logits = output.logits if hasattr(output, "logits") else output.pooler_output
    gradients = torch.autograd.grad(logits[:, 1].sum(), output.attentions)
    trace = tokentm.record(model, images, lambda outputs: outputs[:, 1])
    for layer, attention, gradient in zip(trace.layers, output.attentions, gradients, strict=True):
        assert relative(layer.attention, attention.detach()) < 1e-5
        assert relative(layer.gradient, gradient) < 1e-4
    assert model.config._attn_implementation == "eager"


class NormedThrice(OwnViT):
    """As in torch's documentation of attention, without a module for a block."""

    def __init__(self):
        super().__init__(attention=partial(nn.MultiheadAttention, batch_first=True))

    def forward(self, images):
        tokens = self.patch(images).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(len(images), -1, -1), tokens), 1) + self.positions
        for block in self.blocks:
            norm = block.norm1
            x = x + block.attn(norm(x), norm(x), norm(x))[0]
            x = x + block.mlp(block.norm2(x))
        return self.head(self.norm(x)[:, 0])


def test_a_norm_may_be_called_for_queries_keys_and_values(quiet):
    plain, model = own_vit(attention=PackedAttention), NormedThrice().eval()
    model.load_state_dict(plain.state_dict())
    same_map(tokentm.explain(model, IMAGES, 1), tokentm.explain(plain, IMAGES, 1))
    same_map(tokentm.explain(model, IMAGES, 1), TokenTM()(tokentm.record(model, IMAGES, 1)))


class Exits(OwnViT):
    """Leaves out the last block where the picture is dark."""

    def forward(self, images):
        tokens = self.patch(images).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(len(images), -1, -1), tokens), 1) + self.positions
        for block in self.blocks if images.mean() > -1 else self.blocks[:2]:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


@pytest.mark.parametrize("call", [tokentm.record, tokentm.explain], ids=["record", "explain"])
def test_a_block_that_is_left_out_is_named(call, quiet):
    model = Exits().eval()
    model.load_state_dict(own_vit().state_dict())
    call(model, IMAGES, 1)
    with pytest.raises(UnsupportedModelError, match="leaves out block 2"):
        call(model, IMAGES - 3, 1)


class Tries(Attention):
    """Another way first, which raises."""

    def __init__(self, width, heads):
        super().__init__(width, heads)
        self.fast = nn.Linear(7, 7)

    def forward(self, x):
        try:
            return self.fast(x)
        except RuntimeError:
            return super().forward(x)


def test_a_module_that_raised_does_not_count(quiet):
    model = own_vit(attention=Tries)
    plain = own_vit()
    plain.load_state_dict({name: one for name, one in model.state_dict().items() if "fast" not in name})
    same_map(tokentm.explain(model, IMAGES, 1), tokentm.explain(plain, IMAGES, 1))


def sharing(what):
    model = own_vit()
    first, second, *_ = model.blocks
    if what == "block":
        model.blocks[1] = first
    elif what == "norm in a block":
        first.norm2 = first.norm1
    else:
        setattr(second, what, getattr(first, what))
    return model


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("block", "its Layer runs in blocks 0 and 1"),
        ("norm1", "its LayerNorm runs in blocks 0 and 1"),
        ("attn", "its Attention runs in blocks 0 and 1"),
        ("norm in a block", "its LayerNorm runs twice in block 0"),
    ],
)
def test_modules_that_are_shared_are_named(what, text, quiet):
    with pytest.raises(UnsupportedModelError, match=text):
        tokentm.explain(sharing(what), IMAGES, 1)


class Scaled(Layer):
    def __init__(self):
        super().__init__(24, 2, Attention, False)
        self.scale1, self.scale2 = nn.Parameter(torch.full((24,), 0.1)), nn.Parameter(torch.full((24,), 0.1))

    def forward(self, x):
        x = x + self.scale1 * self.attn(self.norm1(x))
        return x + self.scale2 * self.mlp(self.norm2(x))


def test_scales_that_were_alike_when_a_model_was_new_are_told_apart_once_it_is_trained(quiet):
    model = own_vit()
    model.blocks = nn.ModuleList(Scaled() for _ in range(2)).eval()
    tokentm.explain(model, IMAGES, 1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    trace = tokentm.record(model, IMAGES, 1)
    assert max(layer.identity_error for layer in trace.layers) < 1e-5
    same_map(tokentm.explain(model, IMAGES, 1), TokenTM()(trace))
    assert len(quiet) == 1


class Tokens(Loop):
    """Blocks that are lines of the model's own forward, whose tokens it returns."""

    def forward(self, images):
        x = self.one.patch(images).flatten(2).transpose(1, 2)
        for layer in self.one.blocks:
            x = x + layer.attn(layer.norm1(x))
            x = x + layer.mlp(layer.norm2(x))
        return x


def test_a_model_that_puts_out_its_own_stream_is_found_and_freed(quiet):
    model = Tokens()
    model.one = own_vit()
    model.eval()
    for _ in range(2):
        assert describe(model, IMAGES).column is model
    tokentm.explain(model, IMAGES, lambda features: features[:, 0])
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


class NormedLater(Encoder):
    """Turns the axes back before the last norm."""

    def __init__(self):
        super().__init__(False)
        self.norm = nn.LayerNorm(24)

    def forward(self, images):
        x = self.patch(images).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.encoder(x.transpose(0, 1)).transpose(0, 1)).mean(1))


def test_as_many_images_as_tokens_do_not_confuse_the_axes(quiet):
    torch.manual_seed(0)
    model = NormedLater().eval()
    images = torch.randn(6, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    together = tokentm.explain(model, images, 1)
    same_map(tokentm.explain(model, images[:2], 1), replace(together, scores=together.scores[:2]))


class Without(OwnViT):
    """Its blocks run without gradients."""

    def forward(self, images):
        with torch.no_grad():
            x = self.patch(images).flatten(2).transpose(1, 2)
            for block in self.blocks:
                x = block(x)
        return self.head(self.norm(x).mean(1))


class Views(nn.Module):
    def __init__(self, at_once):
        super().__init__()
        self.one, self.at_once = own_vit(), at_once

    def forward(self, images):
        if self.at_once:
            return self.one(torch.cat((images, images.flip(3)))).unflatten(0, (2, -1)).mean(0)
        return self.one(images) + self.one(images.flip(3))


class FeaturesToo(OwnViT):
    def forward(self, images):
        made = super().forward(images)
        return made.repeat(1, 2), made


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (Without, r"3 attention\(s\), and no gradient that leads from any of them to the picture"),
        (lambda: Views(True), "several views of a picture"),
        (lambda: Views(False), "attends more than once"),
        (lambda: own_vit().bfloat16(), r"numbers in torch\.bfloat16, too coarse"),
        (FeaturesToo, "explain a module whose forward returns the logits alone"),
    ],
    ids=["no gradient", "views at once", "views in turn", "bfloat16", "features beside logits"],
)
def test_refusals_say_what_is_the_matter(build, text, quiet):
    model = build().eval()
    with pytest.raises(UnsupportedModelError, match=text):
        tokentm.explain(model, IMAGES.to(next(model.parameters())), 1)


class Pools(OwnViT):
    """Attention of some queries, of which the first, all or none is read."""

    def __init__(self, reads):
        super().__init__()
        self.reads, self.pool = reads, nn.MultiheadAttention(24, 2, batch_first=True)
        self.queries = nn.Parameter(torch.randn(3, 24))

    def forward(self, images):
        tokens = self.patch(images).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(len(images), -1, -1), tokens), 1) + self.positions
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        pooled = self.pool(self.queries.expand(len(x), -1, -1), x, x)[0]
        return self.head({"first": pooled[:, 0], "all": pooled.mean(1), "none": x.mean(1)}[self.reads])


@pytest.mark.parametrize("reads", ["first", "all", "none"])
def test_a_pooling_counts_as_it_is_read(reads, quiet):
    torch.manual_seed(0)
    model = Pools(reads).eval()
    model.load_state_dict(own_vit().state_dict(), strict=False)
    found = describe(model, IMAGES)
    assert (found.pool, found.pool_rows) == (
        None if reads == "none" else model.pool,
        "avg" if reads == "all" else "token",
    )
    trace = tokentm.record(model, IMAGES, 1)
    same_map(tokentm.explain(model, IMAGES, 1), TokenTM()(trace))
    if reads == "none":
        torch.testing.assert_close(trace.readout, torch.full((2, 7), 1 / 7))
        return
    seen = []
    model.norm.register_forward_hook(lambda _module, _args, output: seen.append(output))
    model(IMAGES)
    rows = model.pool(model.queries.expand(2, -1, -1), seen[0], seen[0])[1]
    torch.testing.assert_close(trace.readout, (rows[:, 0] if reads == "first" else rows.mean(1)).detach())


@pytest.mark.parametrize("size", [1.0, 1e-4, 1e-5])
def test_blocks_behind_a_fresh_layer_scale_are_found_one_after_the_other(size, quiet):
    model = make_vit(init_values=size)
    with torch.no_grad():
        for block in model.blocks:
            block.ls1.gamma.fill_(size)
            block.ls2.gamma.fill_(size)
    images = make_images(model)
    found = discovery._from_pass(model, None, images)
    for mine, theirs in zip(found.blocks, tokentm.vit.inspect(model).blocks, strict=True):
        assert (mine.mid, mine.normed, mine.parallel) == (theirs.mid, theirs.normed, False)
    assert tokentm.explain(model, images, 1, anatomy=found).scores.isfinite().all()

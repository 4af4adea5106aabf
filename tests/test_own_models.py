"""A model of somebody's own, described in a few lines: explained like any other, and no wrong description accepted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import make_vit
from torch import nn
from torch.nn import functional as F

import tokentm
from tokentm import Anatomy, Block, TokenTM, UnsupportedModelError, vit
from tokentm.methods import METHODS


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class PackedAttention(nn.MultiheadAttention):
    """torch's own, which returns its weights, too."""

    def __init__(self, width, heads):
        super().__init__(width, heads, batch_first=True)

    def forward(self, x):
        return super().forward(x, x, x)

    @property
    def proj(self):
        return self.out_proj


class Layer(nn.Module):
    def __init__(self, width, heads, attention, returns_tuple):
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(width), attention(width, heads), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.returns_tuple = returns_tuple

    def forward(self, x):
        mixed = self.attn(self.norm1(x))
        x = x + (mixed[0] if isinstance(mixed, tuple) else mixed)
        x = x + self.mlp(self.norm2(x))
        return (x, None) if self.returns_tuple else x


class OwnViT(nn.Module):
    """As a student writes it."""

    def __init__(self, width=24, depth=3, heads=2, classes=5, attention=Attention, returns_tuple=False):
        super().__init__()
        self.patch = nn.Conv2d(3, width, 8, 8)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 7, width))
        self.blocks = nn.ModuleList(Layer(width, heads, attention, returns_tuple) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, images):
        tokens = self.patch(images).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(len(images), -1, -1), tokens), 1) + self.positions
        for block in self.blocks:
            x = block(x)
            x = x[0] if isinstance(x, tuple) else x
        return self.head(self.norm(x)[:, 0])


def described(model) -> Anatomy:
    return Anatomy(
        model=model,
        blocks=tuple(
            Block(
                module=block, heads=2, normed=block.norm1, path=(block.attn.proj,), update=block.attn,
                mid=block.norm2, normed_mid=block.norm2, ffn_update=block.mlp,
            )
            for block in model.blocks
        ),
        prefix=1,
        embedding=model.patch,
        patch=(8, 8),
        final=model.norm,
        head=model.head,
    )  # fmt: skip


def own_vit(**options):
    model = OwnViT(**options).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            one = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + one)
    return model


def twin_of(model):
    """The same function as a timm model, which is known without a description."""
    twin = make_vit(depth=3, mlp_ratio=2)
    own = model.state_dict()
    names = {"patch.": "patch_embed.proj.", "cls": "cls_token", "positions": "pos_embed"}
    state = {}
    for name, tensor in own.items():
        for old, new in names.items():
            name = new + name[len(old) :] if name.startswith(old) else name
        state[name.replace("mlp.0.", "mlp.fc1.").replace("mlp.2.", "mlp.fc2.")] = tensor
    twin.load_state_dict(state)
    for norm in (m for m in twin.modules() if isinstance(m, nn.LayerNorm)):
        norm.eps = 1e-5
    return twin


IMAGES = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(1))


def test_a_described_model_is_explained_as_its_twin_that_is_known():
    model = own_vit()
    twin = twin_of(model)
    torch.testing.assert_close(model(IMAGES), twin(IMAGES))
    for name in METHODS:
        mine = tokentm.explain(model, IMAGES, 1, name, anatomy=described(model)).scores
        torch.testing.assert_close(mine, tokentm.explain(twin, IMAGES, 1, name).scores, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("options", [{"attention": PackedAttention}, {"returns_tuple": True}], ids=["packed", "tuple"])
def test_other_ways_to_write_it(options, relative):
    model = own_vit(**options).double()
    anatomy = described(model)
    trace = tokentm.record(model, IMAGES.double(), 1, anatomy=anatomy)
    assert max(layer.identity_error for layer in trace.layers) < 1e-6
    streamed = tokentm.explain(model, IMAGES.double(), 1, anatomy=anatomy).scores
    assert relative(streamed, TokenTM()(trace).scores) < 1e-9


def test_a_registered_class_is_known_everywhere(monkeypatch):
    monkeypatch.setattr(vit, "_OWN", {})
    model = own_vit()
    with pytest.raises(UnsupportedModelError, match=r"got test_own_models\.OwnViT\."):
        vit.inspect(model)
    tokentm.register(OwnViT, described, "my own ViT")
    expected = tokentm.explain(model, IMAGES, 1, anatomy=described(model)).scores
    assert torch.equal(tokentm.explain(model, IMAGES, 1).scores, expected)
    assert vit.inspect(model).name == "OwnViT"
    with pytest.raises(UnsupportedModelError, match=r"my own ViT; got .*Sequential\."):
        vit.inspect(nn.Sequential(nn.Identity(), model))
    with pytest.warns(tokentm.ModelFoundWarning, match=r"Sequential \(through model\.1\)"):
        assert torch.equal(tokentm.explain(nn.Sequential(nn.Identity(), model), IMAGES, 1).scores, expected)
    tokentm.register(OwnViT, lambda _model: None)
    with pytest.raises(UnsupportedModelError, match="expected an Anatomy from the description"):
        tokentm.explain(model, IMAGES, 1)
    for wrong in ((model, described), (OwnViT, None), (int, described)):
        with pytest.raises(tokentm.InvalidOptionError, match=r"expected a class of torch\.nn\.Module"):
            tokentm.register(*wrong)


def changed(**of_block):
    """Every block described otherwise."""
    return lambda a: replace(
        a,
        blocks=tuple(
            replace(block, **{name: value(block) if callable(value) and not isinstance(value, nn.Module) else value
                              for name, value in of_block.items()})
            for block in a.blocks
        ),
    )  # fmt: skip


WRONG = {
    "too many heads": changed(heads=4),
    "too few heads": changed(heads=1),
    "no first block": lambda a: replace(a, blocks=a.blocks[1:]),
    "no last block": lambda a: replace(a, blocks=a.blocks[:-1]),
    "no middle block": lambda a: replace(a, blocks=(a.blocks[0], a.blocks[2])),
    "blocks reversed": lambda a: replace(a, blocks=a.blocks[::-1]),
    "a block twice": lambda a: replace(a, blocks=(a.blocks[0], a.blocks[1], a.blocks[1])),
    "norms exchanged": changed(normed=lambda b: b.normed_mid, normed_mid=lambda b: b.normed),
    "the second norm first": changed(normed=lambda b: b.normed_mid),
    "the first norm second": changed(normed_mid=lambda b: b.normed),
    "the FFN's output for attention's": changed(update=lambda b: b.ffn_update),
    "attention's output for the FFN's": changed(ffn_update=lambda b: b.update),
    "the first norm between": changed(mid=lambda b: b.normed),
    "no first norm": changed(normed=None),
    "no second norm": changed(normed_mid=None),
    "no last norm": lambda a: replace(a, final=None),
    "another last norm": lambda a: replace(a, final=a.blocks[0].normed),
    "the inputs' projection": changed(path=lambda b: (b.update.qkv,)),
    "no projection": changed(path=()),
    "the projection twice": changed(path=lambda b: (b.update.proj, b.update.proj)),
    "a LayerScale too many": changed(path=lambda b: (b.update.proj, torch.full((24,), 2.0))),
    "a scale too many": changed(scale=torch.full((24,), 0.5)),
    "parallel": changed(parallel=True),
    "parallel, nothing between": changed(parallel=True, mid=None),
    "no prefix": lambda a: replace(a, prefix=0),
    "two before the patches": lambda a: replace(a, prefix=2),
    "another embedding": lambda a: replace(a, embedding=a.model.norm),
    "smaller patches": lambda a: replace(a, patch=(4, 4)),
    "taller patches": lambda a: replace(a, patch=(16, 8)),
    "a path through an activation": changed(path=lambda b: (b.update.proj, nn.GELU())),
    "no blocks": lambda a: replace(a, blocks=()),
    "blocks that are modules": lambda a: replace(a, blocks=tuple(a.model.blocks)),
    "another model": lambda a: replace(a, model=own_vit()),
    "no anatomy": lambda _: "OwnViT",
}


@pytest.mark.parametrize("call", [tokentm.record, tokentm.explain], ids=["record", "explain"])
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_description_is_refused(wrong, call):
    model = own_vit()
    with pytest.raises(tokentm.TokenTMError):
        call(model, IMAGES, 1, anatomy=wrong(described(model)))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_head_that_is_not_told_has_the_classes_that_its_outputs_show():
    model = own_vit()
    anatomy = replace(described(model), head=None)
    assert tokentm.explain(model, IMAGES, anatomy=anatomy).logits.shape == (2, 5)
    assert anatomy.classes is None

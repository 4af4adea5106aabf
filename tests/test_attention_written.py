"""Attention in other words, blocks without a module of their own, and other modules between heads and stream."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_own_models import IMAGES, WRONG, Attention, OwnViT, described, own_vit, twin_of
from torch import nn
from torch.nn import functional as F

import tokentm
from tokentm import TokenTM, UnsupportedModelError
from tokentm.methods import METHODS

IMAGES = IMAGES.double()


class Written(Attention):
    """Attention of heads (B, H, N, d), or of another layout, by hand."""

    def forward(self, x):
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(self.mix(query * query.shape[-1] ** -0.5, key, value))


class Operator(Written):
    def mix(self, query, key, value):
        return ((query @ key.transpose(-2, -1)).softmax(dim=-1) @ value).transpose(1, 2).flatten(2)


class Modules(Written):
    def __init__(self, width, heads):
        super().__init__(width, heads)
        self.softmax, self.drop = nn.Softmax(dim=-1), nn.Dropout(0.1)

    def mix(self, query, key, value):
        weights = self.drop(self.softmax(torch.matmul(query, key.mT)))
        return torch.matmul(weights, value).permute(0, 2, 1, 3).reshape(len(value), value.shape[2], -1)


class Folded(Written):
    """Heads folded into the batch."""

    def mix(self, query, key, value):
        query, key, value = (one.flatten(0, 1) for one in (query, key, value))
        weights = F.softmax(torch.bmm(query, key.mT), dim=-1)
        return torch.bmm(weights, value).unflatten(0, (-1, self.heads)).transpose(1, 2).flatten(2)


class FoldedLater(Written):
    """Softmax of four axes, product of three."""

    def mix(self, query, key, value):
        weights = F.softmax(query @ key.mT, dim=-1)
        mixed = torch.bmm(weights.view(-1, *weights.shape[2:]), value.flatten(0, 1))
        return mixed.unflatten(0, (-1, self.heads)).transpose(1, 2).flatten(2)


class Letters(Written):
    def mix(self, query, key, value):
        weights = torch.einsum("b h i d, b h j d -> b h i j", query, key).softmax(-1)
        return torch.einsum("b h i j, b h j d -> b i h d", weights, value).flatten(2)


class OtherLetters(Written):
    """Heads first, values first, and the summed letter elsewhere in the values."""

    def mix(self, query, key, value):
        weights = torch.softmax(torch.einsum("bhqc,bhkc->hbqk", query, key), -1)
        return torch.einsum("bkhc,hbqk->bqhc", value.transpose(1, 2), weights).flatten(2)


class Turned(Written):
    """Channels first, v^T A^T."""

    def mix(self, query, key, value):
        weights = (query @ key.mT).softmax(-1)
        return (value.mT @ weights.transpose(-2, -1)).flatten(1, 2).mT


class FusedOfThree(Written):
    def mix(self, query, key, value):
        query, key, value = (one.flatten(0, 1) for one in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return mixed.unflatten(0, (-1, self.heads)).transpose(1, 2).flatten(2)


WRITTEN = (Operator, Modules, Folded, FoldedLater, Letters, OtherLetters, Turned, FusedOfThree)


def double(attention=Attention, **options):
    return own_vit(attention=attention, **options).double()


@pytest.mark.parametrize("attention", WRITTEN)
def test_every_way_to_write_attention_gives_the_same_record_and_map(attention, relative):
    model, fused = double(attention), double()
    mine = tokentm.record(model, IMAGES, 1, anatomy=described(model))
    trace = tokentm.record(fused, IMAGES, 1, anatomy=described(fused))
    for layer, other in zip(mine.layers, trace.layers, strict=True):
        for name in ("attention", "gradient", "value", "attention_update", "stream_out_gradient"):
            assert relative(getattr(layer, name), getattr(other, name)) < 1e-9, name
    expected = TokenTM()(trace).scores
    streamed = tokentm.explain(model, IMAGES, 1, anatomy=described(model)).scores
    assert relative(streamed, expected) < 1e-9
    torch.testing.assert_close(mine.logits, model(IMAGES), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [*METHODS])
def test_every_method_explains_attention_that_is_written_by_hand(name):
    model, fused = double(Letters), double()
    mine = tokentm.explain(model, IMAGES, 1, name, anatomy=described(model)).scores
    expected = tokentm.explain(fused, IMAGES, 1, name, anatomy=described(fused)).scores
    torch.testing.assert_close(mine, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("gradient", [True, False])
def test_many_classes_of_one_image_stream_through_attention_written_by_hand(gradient, relative):
    model = double(Operator)
    image, method = IMAGES[:1].expand(4, -1, -1, -1), TokenTM(gradient=gradient)
    together = tokentm.explain(model, image, [0, 1, 2, 3], method, anatomy=described(model)).scores
    for i in range(4):
        alone = tokentm.explain(model, IMAGES[:1], i, method, anatomy=described(model)).scores
        assert relative(together[i : i + 1], alone) < 1e-9


class TwoProducts(Written):
    """A second mixing with the same weights."""

    def mix(self, query, key, value):
        weights = (query @ key.mT).softmax(-1)
        return (weights @ (weights @ value)).transpose(1, 2).flatten(2)


class WrongAxis(Written):
    def mix(self, query, key, value):
        return ((query @ key.mT).softmax(-2) @ value).transpose(1, 2).flatten(2)


class Changed(Written):
    """Weights that a token keeps for itself are left out after the softmax."""

    def mix(self, query, key, value):
        weights = (query @ key.mT).softmax(-1)
        weights = weights * (1 - torch.eye(weights.shape[-1]).to(weights))
        return (weights @ value).transpose(1, 2).flatten(2)


class ChangedInPlace(Changed):
    def mix(self, query, key, value):
        weights = (query @ key.mT).softmax(-1).detach()
        weights *= 0.5
        return (weights @ value).transpose(1, 2).flatten(2)


class TalkingHeads(Written):
    def mix(self, query, key, value):
        weights = (query @ key.mT).softmax(-1)
        weights = torch.einsum("bhij,hg->bgij", weights, torch.tensor([[0.5, 0.2], [0.3, 0.9]]).to(weights))
        return (weights @ value).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("call", [tokentm.record, tokentm.explain], ids=["record", "explain"])
@pytest.mark.parametrize("attention", [TwoProducts, WrongAxis, Changed, ChangedInPlace, TalkingHeads])
def test_what_is_no_plain_attention_is_refused(attention, call):
    model = double(attention)
    with pytest.raises(UnsupportedModelError):
        call(model, IMAGES, 1, anatomy=described(model))


class ClearedLater(Written):
    def mix(self, query, key, value):
        weights = (query @ key.mT).softmax(-1)
        mixed = weights @ value
        weights.zero_()
        return mixed.transpose(1, 2).flatten(2)


@pytest.mark.parametrize("call", [tokentm.record, tokentm.explain], ids=["record", "explain"])
@pytest.mark.parametrize("count", [1, 2])
def test_weights_that_are_changed_after_their_use_are_told(call, count):
    model = own_vit(attention=ClearedLater)
    with pytest.raises(UnsupportedModelError, match="changes it in place later on"):
        call(model, IMAGES[:count].float(), 1, anatomy=described(model))


class Loop(nn.Module):
    """Blocks that are lines of the forward pass."""

    def __init__(self, attention=Attention, in_place=False, ends_with_norm=True):
        super().__init__()
        self.one = OwnViT(attention=attention)
        self.column = Column(self.one, in_place)
        self.ends_with_norm = ends_with_norm

    def forward(self, images):
        tokens = self.one.patch(images).flatten(2).transpose(1, 2)
        x = torch.cat((self.one.cls.expand(len(images), -1, -1), tokens), 1) + self.one.positions
        x = self.column(x)
        return self.one.head(self.one.norm(x)[:, 0] if self.ends_with_norm else self.one.norm(x[:, 0]))


class Column(nn.Module):
    def __init__(self, vit, in_place):
        super().__init__()
        self.layers, self.in_place = vit.blocks, in_place

    def forward(self, x):
        for layer in self.layers:
            if self.in_place:
                x += layer.attn(layer.norm1(x))
            else:
                x = layer.attn(layer.norm1(x)) + x
            x = layer.mlp(layer.norm2(x)) + x
        return x


def looped(model, **changes):
    anatomy = described(model.one)
    blocks = tuple(replace(block, module=None) for block in anatomy.blocks)
    return replace(anatomy, model=model, name="Loop", blocks=blocks, **changes)


@pytest.mark.parametrize("attention", [Attention, Letters])
@pytest.mark.parametrize("end", ["last norm", "column"])
def test_blocks_without_a_module_of_their_own(attention, end, relative):
    model = Loop(attention, ends_with_norm=end == "last norm")
    model.one = own_vit(attention=attention)
    model.column.layers = model.one.blocks
    model = model.double().eval()
    anatomy = looped(model, **({} if end == "last norm" else {"final": None, "column": model.column}))
    torch.testing.assert_close(model(IMAGES), model.one(IMAGES))
    for name in METHODS:
        expected = tokentm.explain(model.one, IMAGES, 1, name, anatomy=described(model.one)).scores
        mine = tokentm.explain(model, IMAGES, 1, name, anatomy=anatomy).scores
        torch.testing.assert_close(mine, expected, rtol=1e-6, atol=1e-9, msg=name)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("call", [tokentm.record, tokentm.explain], ids=["record", "explain"])
@pytest.mark.parametrize("name", sorted(set(WRONG) - {"another embedding", "blocks that are modules"}))
def test_a_wrong_description_of_open_blocks_is_refused(name, call):
    model = Loop()
    model.one = own_vit()
    model.column.layers = model.one.blocks
    model.eval()
    with pytest.raises(tokentm.TokenTMError):
        call(model, IMAGES.float(), 1, anatomy=WRONG[name](looped(model)))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_stream_that_is_changed_in_place_by_open_blocks_is_refused():
    model = Loop(in_place=True).double().eval()
    for call in (tokentm.record, tokentm.explain):
        with pytest.raises(tokentm.TokenTMError, match="in place"):
            call(model, IMAGES, 1, anatomy=looped(model))


def test_open_blocks_must_tell_where_they_begin_and_end():
    model = Loop().double().eval()
    whole = looped(model)
    wrong = {
        "expected final= or column=": replace(whole, final=None),
        "expected normed=": replace(whole, blocks=tuple(replace(b, normed=None) for b in whole.blocks)),
        "for every block, or for none": replace(
            whole, blocks=(replace(whole.blocks[0], module=model.one.blocks[0]), *whole.blocks[1:])
        ),
    }
    for text, anatomy in wrong.items():
        with pytest.raises(tokentm.InvalidOptionError, match=text):
            tokentm.explain(model, IMAGES, 1, anatomy=anatomy)


class Adapted(nn.Module):
    """A linear map with a low-rank one beside it, as adapters write it."""

    def __init__(self, base):
        super().__init__()
        self.base = base
        self.down, self.up = nn.Linear(base.in_features, 2, False), nn.Linear(2, base.out_features, False)

    def forward(self, x):
        return self.base(x) + 0.5 * self.up(self.down(x))


def test_other_modules_between_heads_and_stream_are_measured(relative):
    model, merged = double(), double()
    generator = torch.Generator().manual_seed(3)
    for block, plain in zip(model.blocks, merged.blocks, strict=True):
        adapted = Adapted(block.attn.proj).double()
        for one in (adapted.down, adapted.up):
            one.weight.data = torch.randn(one.weight.shape, generator=generator).double() * 0.3
        block.attn.proj = nn.Sequential(adapted, nn.Dropout(0.1)).eval()
        plain.attn.proj.weight.data += 0.5 * adapted.up.weight @ adapted.down.weight
    torch.testing.assert_close(model(IMAGES), merged(IMAGES))
    mine = tokentm.explain(model, IMAGES, 1, anatomy=described(model)).scores
    assert relative(mine, tokentm.explain(merged, IMAGES, 1, anatomy=described(merged)).scores) < 1e-9
    model.blocks[1].attn.proj[1] = nn.GELU()
    with pytest.raises(UnsupportedModelError, match=r"block 1: .* found torch\.nn\.modules\.container\.Sequential"):
        tokentm.explain(model, IMAGES, 1, anatomy=described(model))


def test_the_twin_is_explained_the_same():
    model = own_vit(attention=Letters)
    mine = tokentm.explain(model, IMAGES.float(), 1, anatomy=described(model)).scores
    torch.testing.assert_close(
        mine, tokentm.explain(twin_of(own_vit()), IMAGES.float(), 1).scores, rtol=1e-3, atol=1e-7
    )


class Convolved(nn.Module):
    """An FFN or a norm with a convolution over the tokens beside it."""

    def __init__(self, inner, width=24):
        super().__init__()
        self.inner, self.mix = inner, nn.Conv1d(width, width, 3, padding=1, groups=width)

    def forward(self, x):
        made = self.inner(x)
        return made + self.mix(made[..., :24].transpose(1, 2)).transpose(1, 2)


class GatedByFirst(Convolved):
    def forward(self, x):
        return self.inner(x) * torch.sigmoid(self.inner(x)[:, :1])


class ValuesOfNeighbours(Attention):
    def forward(self, x):
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        value = value + value.roll(1, 2)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class TwoValuesExchanged(Attention):
    """The second patch under the key and the value of the first, and the other way round."""

    def forward(self, x):
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        order = [0, 1, 3, 2, 4, 5, 6]
        mixed = F.scaled_dot_product_attention(query, key[:, :, order], value[:, :, order])
        return self.proj(mixed.transpose(1, 2).flatten(2))


class GatedOutOfSight(Convolved):
    def forward(self, x):
        with torch.no_grad():
            gate = torch.sigmoid(torch.cat((self.inner(x), x), 1)[:, :1])
        return self.inner(x) * gate


class ValuesOfAll(Attention):
    def forward(self, x):
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        value = value + value.detach().mean(2, keepdim=True)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class ReadsTheFirstTokens(nn.Module):
    """An FFN that also reads the tokens that entered the first block."""

    def __init__(self, inner, kept):
        super().__init__()
        self.inner, self.kept = inner, kept

    def forward(self, x):
        return self.inner(x + self.kept[-1])


VALUES = {"values": ValuesOfNeighbours, "two values": TwoValuesExchanged, "values cut off": ValuesOfAll}


def mixing(kind):
    model, kept = own_vit(), []
    for block in model.blocks[1:]:
        if kind == "convolution":
            block.mlp = Convolved(block.mlp)
        elif kind == "gate":
            block.mlp = GatedByFirst(block.mlp)
        elif kind == "gate out of sight":
            block.mlp = GatedOutOfSight(block.mlp)
        elif kind in VALUES:
            block.attn = VALUES[kind](24, 2)
        else:
            block.mlp = ReadsTheFirstTokens(block.mlp, kept)
    if kind == "first tokens":
        norm = model.blocks[0].norm1
        model.blocks[0].norm1 = Keeps(norm, kept)
    return model.double().eval()


class Keeps(nn.Module):
    def __init__(self, norm, kept):
        super().__init__()
        self.norm, self.kept = norm, kept

    def forward(self, x):
        self.kept.append(x)
        return self.norm(x)


@pytest.mark.parametrize("call", [tokentm.record, tokentm.explain], ids=["record", "explain"])
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("convolution", "the FFN mixes tokens"),
        ("gate", "the FFN mixes tokens"),
        ("gate out of sight", "the FFN mixes tokens"),
        ("values", "the values mix tokens"),
        ("two values", "the values mix tokens"),
        ("values cut off", "the values mix tokens"),
        ("first tokens", "something else is read, too"),
    ],
)
def test_a_block_that_mixes_tokens_beside_its_attention_is_refused(kind, text, call):
    model = mixing(kind)
    with pytest.raises(UnsupportedModelError, match=text):
        call(model, IMAGES, 1, anatomy=described(model))


class Ensemble(nn.Module):
    """A second model, of whose path the gradient tells nothing."""

    def __init__(self):
        super().__init__()
        self.one, self.other = own_vit(), nn.Sequential(nn.Conv2d(3, 5, 8, 8), nn.Flatten(2))

    def forward(self, images):
        with torch.no_grad():
            other = self.other(images).mean(2)
        return self.one(images) + other


@pytest.mark.parametrize("call", [tokentm.record, tokentm.explain], ids=["record", "explain"])
def test_a_second_model_is_seen_through_no_grad(call):
    model = Ensemble().double().eval()
    anatomy = replace(described(model.one), model=model, name="Ensemble", head=None)
    with pytest.raises(UnsupportedModelError, match=r"beside them, too \(an ensemble"):
        call(model, IMAGES, 1, anatomy=anatomy)


class Remembers(nn.Module):
    """Keeps what it made, for a picture, and counts in a buffer."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.kept = inner, []
        self.register_buffer("moving", torch.zeros(24, dtype=torch.float64))

    def forward(self, x):
        self.kept.append(x.detach().numpy().mean())
        with torch.no_grad():
            self.moving.copy_(x.mean((0, 1)))
        return self.inner(x)


def test_what_a_model_keeps_for_itself_has_no_graph():
    model = double()
    expected = tokentm.explain(model, IMAGES, 1, anatomy=described(model)).scores
    model.blocks[1].mlp = Remembers(model.blocks[1].mlp)
    assert torch.equal(tokentm.explain(model, IMAGES, 1, anatomy=described(model)).scores, expected)
    assert not model.blocks[1].mlp.moving.requires_grad

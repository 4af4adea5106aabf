"""The lens and direct attribution against second implementations, written with loops from the modules of timm."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import reference
import torch
from conftest import make_images, make_vit
from judging import _BY_ITSELF, Called, target_of
from torch import nn
from zoo import ZOO

import tokentm
from tokentm import InvalidOptionError, InvalidTargetError, ModelChangedError, Trace, UnsupportedModelError, record
from tokentm import lens as module
from tokentm.lens import attribute, lens

pytestmark = pytest.mark.filterwarnings("ignore::tokentm.ModelFoundWarning")

NORMS, DENOMINATORS = "deviations of norms", "denominators"
POOLING, GATES, OTHER = "weights of a pooling", "gates of activations", "slopes of other functions"

# what is held of a model of each family and of each kind of head
ZOO_FAMILIES: dict[str, tuple[str, ...]] = {
    "timm ViT": (NORMS,),
    "timm ViT, average": (NORMS,),
    "timm ViT, attention pooling": (NORMS, POOLING, GATES),
    "timm ViT, registers, LayerScale": (NORMS,),
    "timm ViT, norms behind": (NORMS,),
    "timm ViT, parallel": (NORMS,),
    "timm DeiT, distilled": (NORMS,),
    "timm BEiT": (NORMS,),
    "timm PE core": (NORMS, POOLING, GATES),
    "timm EVA-02": (NORMS,),
    "timm relative positions": (NORMS,),
    "timm NaFlexViT": (NORMS,),
    "Hugging Face ViTForImageClassification": (NORMS,),
    "Hugging Face DeiTForImageClassificationWithTeacher": (NORMS,),
    "Hugging Face Dinov2ForImageClassification, other size": (NORMS,),
    "Hugging Face BeitForImageClassification": (NORMS,),
    "Hugging Face CLIPForImageClassification": (),
    "Hugging Face CLIPModel": (NORMS, DENOMINATORS),
    "Hugging Face ViTModel": (NORMS, GATES),
    "Hugging Face Aimv2VisionModel": (DENOMINATORS, POOLING),
    "torchvision ViT": (NORMS,),
    "open_clip visual tower, attention pooling": (NORMS, POOLING),
    "open_clip zero-shot classifier": (NORMS, DENOMINATORS),
    "DINOv2 of torch.hub, linear classifier": (NORMS,),
    "vit-pytorch vit.ViT": (NORMS,),
    "by hand: own norm": (DENOMINATORS,),
    "by hand: maximum over the tokens": (NORMS, OTHER),
    "by hand: learnt pooling": (NORMS, POOLING),
    "by hand: no final norm": (),
    "by hand: nn.TransformerEncoderLayer, sequence first": (NORMS,),
    "by hand: no module is a block": (NORMS,),
    "by hand: updates in place": (NORMS,),
}


def from_zoo(name):
    """A model of the zoo, and its record."""
    specimen = next(one for one in ZOO if one.name == name)
    try:
        model = specimen.build()
    except ImportError as error:
        pytest.skip(str(error))
    model = model if specimen.inputs in _BY_ITSELF else Called(model, specimen).eval()
    return model, record(model, specimen.images(), target_of(specimen))


@pytest.fixture(scope="module")
def demo():
    loaded = tokentm.load_demo()
    return loaded.model, record(loaded.model, loaded.transform(loaded.scene(3).image)[None])


# the lens


def streams_of(model, images):
    """What enters the first block, and what each block puts out, (N, D) each, of every image; seen by hooks."""
    found, hooks = [], [model.blocks[0].register_forward_pre_hook(lambda _module, args: found.append(args[0]))]
    hooks += [block.register_forward_hook(lambda _module, _args, made: found.append(made)) for block in model.blocks]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return [[stream[i] for stream in found] for i in range(len(images))]


def read_alone(model, token):
    """Logits of one token (D,) that stands in the place of whatever the head reads."""
    token = model.norm(token)
    if hasattr(model, "dist_token"):
        return (model.head(model.fc_norm(token)) + model.head_dist(model.fc_norm(token))) / 2
    if model.attn_pool is not None:  # whatever the weights are, they are those of one vector and sum to 1
        pool = model.attn_pool
        pooled = pool.proj(pool.kv(token)[pool.num_heads * pool.head_dim :])
        token = pooled + pool.mlp(pool.norm(pooled))
    return model.head(model.fc_norm(token))


def assert_reads(found, model, images):
    with torch.no_grad():
        for i, streams in enumerate(streams_of(model, images)):
            for k, layer in enumerate(found.layers):
                for m, token in enumerate(found.tokens):
                    expected = read_alone(model, streams[layer][token])
                    torch.testing.assert_close(found.logits[i, k, m], expected, rtol=1e-4, atol=1e-5)


def test_every_token_is_read_as_the_modules_read_it(variant):
    model = variant.eval()
    pictures = make_images(model)
    found = lens(record(model, pictures, 1))
    assert found.logits.shape == (2, 3, found.layout.tokens, 5)
    assert_reads(found, model, pictures)


def test_the_demo_is_read_as_its_modules_read_it(demo):
    model, trace = demo
    found = lens(trace, tokens=[0, 7, 196])
    assert found.layers == tuple(range(9))
    assert_reads(found, model, trace.images)
    torch.testing.assert_close(found.answers[:, -1], trace.logits)
    torch.testing.assert_close(found.logits[:, -1, 0], trace.logits)  # a class token is the readout


def test_answers_are_those_of_a_model_without_the_later_blocks(variant):
    model = variant.eval()
    pictures = make_images(model)
    found = lens(record(model, pictures, 1), tokens=[0])
    for layer in found.layers:
        shorter = deepcopy(model)
        shorter.blocks = shorter.blocks[:layer]
        with torch.no_grad():
            torch.testing.assert_close(found.answers[:, layer], shorter(pictures), rtol=1e-4, atol=1e-5)


def test_an_average_of_normed_tokens_is_the_average_of_what_they_say():
    model = make_vit(global_pool="avg", reg_tokens=1, pool_include_prefix=True, fc_norm=False).eval()
    trace = record(model, make_images(model), 1)
    torch.testing.assert_close(lens(trace).logits[:, -1].mean(1), trace.logits, rtol=1e-4, atol=1e-5)


def test_some_layers_and_tokens_are_those_of_all(tiny, images):
    model = tiny(depth=3)
    trace = record(model, images(model), 1)
    whole, some = lens(trace), lens(trace, layers=[3, 1], tokens=[6, 0, 2])
    assert (some.layers, some.tokens) == ((3, 1), (6, 0, 2))
    torch.testing.assert_close(some.logits, whole.logits[:, [3, 1]][:, :, [6, 0, 2]])
    torch.testing.assert_close(some.answers, whole.answers[:, [3, 1]])


def test_ranks_predictions_and_probabilities_by_counting(tiny, images):
    model = tiny()
    found = lens(record(model, images(model), 1))
    ranks = found.rank_of([4, 2])
    for i, c in enumerate((4, 2)):
        for k in range(3):
            for m in range(7):
                logits = found.logits[i, k, m].tolist()
                assert ranks[i, k, m] == 1 + sum(other > logits[c] for other in logits)
                assert logits[found.prediction[i, k, m]] == max(logits)
                exponentials = [torch.e**logit for logit in logits]
                shares = [one / sum(exponentials) for one in exponentials]
                assert found.probabilities[i, k, m].tolist() == pytest.approx(shares, rel=1e-4)
    assert torch.equal(found.rank_of(None), found.rank_of(found.answers[:, -1].argmax(1)))
    assert replace(found, outputs="none").probabilities is None


class Unusual(nn.Module):
    """A head that can be run in one way alone: with as many tokens, or as many images, as the model has."""

    def __init__(self, kind):
        super().__init__()
        self.vit, self.kind = make_vit(num_classes=0, global_pool=""), kind
        self.head = nn.Linear(7 * 24 if kind == "side by side" else 24, 5)

    def forward(self, images):
        tokens = self.vit(images)
        if self.kind == "number of images":
            return self.head(tokens.mean(1).reshape(len(images), 24))
        return self.head(tokens.sum(1) if self.kind == "sum" else tokens.flatten(1))


@pytest.mark.parametrize("kind", ["sum", "side by side", "number of images"])
def test_a_head_that_counts_tokens_or_images_is_given_as_many(kind, images):
    torch.manual_seed(0)
    model = Unusual(kind).eval()
    pictures = images(model.vit)
    found = lens(record(model, pictures, 1))
    with torch.no_grad():
        for i, streams in enumerate(streams_of(model.vit, pictures)):
            for layer, stream in enumerate(streams):
                for token in range(7):
                    normed = model.vit.norm(stream[token])
                    read = {"sum": 7 * normed, "side by side": normed.repeat(7)}.get(kind, normed)
                    torch.testing.assert_close(found.logits[i, layer, token], model.head(read), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.answers[:, -1], model(pictures).detach(), rtol=1e-4, atol=1e-5)


def test_the_head_is_run_in_chunks(tiny, images, monkeypatch):
    model = tiny()
    trace = record(model, images(model), 1)
    whole, sizes, classify = lens(trace), [], module.classify
    monkeypatch.setattr(module, "_AT_ONCE", 10 * 24)  # numbers: ten tokens, fewer than two streams

    def noted(anatomy, pictures, stream):
        sizes.append(stream.numel())
        return classify(anatomy, pictures, stream)

    monkeypatch.setattr(module, "classify", noted)
    torch.testing.assert_close(lens(trace).logits, whole.logits)
    assert max(sizes) == 10 * 24  # five streams of two tokens that are alike
    assert len(sizes) > 2 * 3 * 7 / 5


# direct attribution


def through_head(model, written, at):
    """What written vectors (N, D) add to the logits (C,), with all that is held as it is at the stream ``at``; zeros
    give the constant. In words of timm's modules; a part is what its vectors give beyond zeros.
    """
    prefix, tokens = reference_prefix(model), len(at)
    normed = [reference._through([model.norm], w, a) for w, a in zip(written, at, strict=True)]
    normed_at = list(model.norm(at))
    if hasattr(model, "dist_token"):
        both = [head(reference._through([model.fc_norm], normed[i], normed_at[i])) for i, head in
                enumerate((model.head, model.head_dist))]  # fmt: skip
        return sum(both) / 2
    first = 0 if model.pool_include_prefix else prefix
    if model.attn_pool is not None:
        pooled, pooled_at = through_pool(model.attn_pool, normed[first:], normed_at[first:])
    else:
        read = [0] if model.global_pool == "token" else range(first, tokens)
        pooled, pooled_at = (sum(one[i] for i in read) / len(read) for one in (normed, normed_at))
    return model.head(reference._through([model.fc_norm], pooled, pooled_at))


def through_pool(pool, tokens, at):
    """An attention pooling with its weights, its norm's deviation and its gates as they are at ``at``."""
    width, wide = pool.head_dim, pool.num_heads * pool.head_dim
    query, mixed, mixed_at = pool.q(pool.latent[0, 0]), [], []
    for h in range(pool.num_heads):
        q = query[h * width : (h + 1) * width]
        keys = [reference._part(pool.kv, token, h * width, width) for token in at]
        weights = torch.stack([q @ key / width**0.5 for key in keys]).softmax(0)
        for made, source in ((mixed, tokens), (mixed_at, at)):
            values = [reference._part(pool.kv, token, wide + h * width, width) for token in source]
            made.append(sum(weight * value for weight, value in zip(weights, values, strict=True)))
    pooled, pooled_at = pool.proj(torch.cat(mixed)), pool.proj(torch.cat(mixed_at))
    inner = pool.mlp.fc1(reference._through([pool.norm], pooled, pooled_at))
    inner_at = pool.mlp.fc1(pool.norm(pooled_at))
    gate = pool.mlp.act(inner_at) / inner_at
    return pooled + pool.mlp.fc2(gate * inner), pooled_at + pool.mlp.fc2(gate * inner_at)


def reference_prefix(model):
    return int(model.cls_token is not None) + int(hasattr(model, "dist_token")) + model.num_reg_tokens


@torch.no_grad()
def parts_by_loops(model, one, score):
    """Every part of one image's score, from what tests/reference.py recorded."""
    at, tokens = one.layers[-1].out, len(one.layers[0].x)
    zeros = torch.zeros_like(at)
    constant = score(through_head(model, zeros, at))

    def worth(written):
        return score(through_head(model, written, at)) - constant

    def alone(vector, i):
        written = zeros.clone()
        written[i] = vector
        return written

    heads, bias, ffn = [], [], []
    for layer in one.layers:
        heads.append(
            [
                [
                    worth(torch.stack([layer.attention[h][i, j] * layer.f[h][i][j] for i in range(tokens)]))
                    for j in range(tokens)
                ]
                for h in range(len(layer.attention))
            ]
        )
        bias.append(worth(torch.stack(layer.bias)))
        ffn.append([worth(alone(layer.g[i], i)) for i in range(tokens)])
    embedding = [worth(alone(one.layers[0].x[i], i)) for i in range(tokens)]
    return [torch.tensor(part, dtype=torch.float64) for part in (embedding, heads, bias, ffn, float(constant))]


def test_every_part_is_that_of_loops_over_layers_heads_and_tokens(variant):
    model = variant.double().eval()
    pictures = make_images(model)
    targets = (lambda z: 2 * z[..., 1] - z[..., 4], 3)
    for target in targets:
        found = attribute(record(model, pictures, 1), target)
        score = target if callable(target) else (lambda z: z[..., 3])
        passes = reference.run(model, pictures, [target] * 2)
        for i, one in enumerate(passes):
            expected = parts_by_loops(model, one, score)
            mine = (found.embedding, found.by_token, found.attention_bias, found.ffn_by_token, found.constant)
            for part, other in zip(mine, expected, strict=True):
                torch.testing.assert_close(part[i], other, rtol=1e-8, atol=1e-9)
            assert float(found.scores[i]) == pytest.approx(float(score(one.logits)))
    assert found.error < 1e-12
    torch.testing.assert_close(found.heads, found.by_token.sum(-1))
    assert torch.equal(found.by_patch, found.by_token[..., reference_prefix(model) :])


def test_the_demo_s_parts_are_those_of_its_modules(demo):
    """By hooks, at the class token: what each head's slice of the projection writes, split by the values it took."""
    model, trace = demo
    seen = {}
    hooks = [
        block.get_submodule(name).register_forward_hook(
            lambda _m, args, made, key=(i, name): seen.update({key: made[0]})
        )
        for i, block in enumerate(model.blocks)
        for name in ("attn.qkv", "mlp")
    ]
    with torch.no_grad():
        model(trace.images)
    for hook in hooks:
        hook.remove()
    (streams,), index = streams_of(model, trace.images), int(trace.target[0])
    last = streams[-1][0].double()
    deviation = float(((last - last.mean()).square().mean() + model.norm.eps).sqrt())
    weights = (model.head.weight[index] * model.norm.weight).detach().double()

    def worth(vector):
        vector = vector.detach().double()
        return float(weights @ (vector - vector.mean())) / deviation

    found = attribute(trace)
    assert found.held == (NORMS,)
    assert found.error < 1e-5
    assert float(found.embedding[0, 0]) == pytest.approx(worth(streams[0][0]), abs=1e-5)
    assert found.embedding[0, 1:].abs().max() == 0
    constant = float(model.head.weight[index].detach() @ model.norm.bias.detach() + model.head.bias[index].detach())
    assert float(found.constant[0]) == pytest.approx(constant, abs=1e-5)
    for i, block in enumerate(model.blocks):
        heads, width = block.attn.num_heads, block.attn.head_dim
        q, k, v = (part.unflatten(-1, (heads, width)) for part in seen[i, "attn.qkv"].split(heads * width, -1))
        scale = getattr(block.ls1, "gamma", torch.ones(heads * width))
        for h in range(heads):
            attention = (k[:, h] @ q[0, h] / width**0.5).softmax(0)
            columns = block.attn.proj.weight[:, h * width : (h + 1) * width]
            for j in (0, 1, 50, 196):
                written = scale * (columns @ (attention[j] * v[j, h]))
                assert float(found.by_token[0, i, h, j]) == pytest.approx(worth(written), abs=1e-6)
            whole = scale * (columns @ sum(a * one for a, one in zip(attention, v[:, h], strict=True)))
            assert float(found.heads[0, i, h]) == pytest.approx(worth(whole), abs=1e-5)
        assert float(found.attention_bias[0, i]) == pytest.approx(worth(scale * block.attn.proj.bias), abs=1e-6)
        scale = getattr(block.ls2, "gamma", torch.ones(heads * width))
        assert float(found.ffn[0, i]) == pytest.approx(worth(scale * seen[i, "mlp"][0]), abs=1e-5)
    torch.testing.assert_close(found.total, trace.logits[:, index], rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ZOO_FAMILIES)
def test_parts_add_up_in_every_family_and_the_last_answer_is_the_model_s(name, relative):
    _, trace = from_zoo(name)
    found = attribute(trace)
    assert found.error < 1e-5
    assert relative(found.total, trace.scores) < 1e-5
    assert found.held == ZOO_FAMILIES[name]
    read = lens(trace, layers=[0, len(trace.layers)], tokens=[0])
    assert relative(read.answers[:, -1], trace.logits) < 1e-5


def test_without_a_norm_a_head_taken_from_the_last_stream_takes_its_part_from_the_score():
    model, trace = from_zoo("by hand: no final norm")
    found, layer = attribute(trace), trace.layers[0]
    for h in range(layer.attention.shape[1]):
        written = layer.attention[:, h] @ layer.value[:, h] @ layer.head_projection[h].T
        hook = model.blocks[-1].register_forward_hook(lambda _module, _args, made, take=written: made - take)
        with torch.no_grad():
            without = model(trace.images)[:, 1]
        hook.remove()
        torch.testing.assert_close(trace.scores - without, found.heads[:, 0, h], rtol=1e-4, atol=1e-5)


def test_a_target_of_the_record_s_own_or_another(tiny, images):
    model = tiny().double()
    pictures = images(model)
    trace = record(model, pictures, tokentm.difference(1, 3))
    one, three, both = (attribute(trace, target) for target in ([1, 1], 3, None))
    torch.testing.assert_close(both.by_token, one.by_token - three.by_token)
    torch.testing.assert_close(both.scores, trace.scores)
    assert both.explained.first == (1, 1)
    shifted = attribute(trace, lambda logits: logits[:, 1] - 5)
    torch.testing.assert_close(shifted.constant, one.constant - 5)
    torch.testing.assert_close(attribute(record(model, pictures)).scores, trace.logits.amax(1))
    # of labels that are judged by themselves the log-odds are the logit
    labels = attribute(record(model, pictures, tokentm.log_odds(1), outputs="sigmoid"))
    torch.testing.assert_close(labels.heads, one.heads)


def test_a_comparison_does_not_see_that_logits_were_normalised(tiny, images):
    class Logs(nn.Module):
        def __init__(self):
            super().__init__()
            self.vit = tiny()

        def forward(self, pictures):
            return self.vit(pictures).log_softmax(-1)

    model = Logs().eval()
    trace, plain = record(model, images(model.vit), 1), record(model.vit, images(model.vit), 1)
    target = tokentm.difference(1, 3)
    found, expected = attribute(trace, target), attribute(plain, target)
    torch.testing.assert_close(found.heads, expected.heads, rtol=1e-4, atol=1e-5)

    def rounded(logits):  # weights that add up to zero up to rounding
        return 0.3 * logits[:, 1] + 0.6 * logits[:, 2] + 0.1 * logits[:, 4] - logits[:, 0]

    torch.testing.assert_close(attribute(trace, rounded).heads, attribute(plain, rounded).heads, rtol=1e-4, atol=1e-5)
    with pytest.raises(UnsupportedModelError, match="no linear map"):
        attribute(trace)


def test_a_head_that_multiplies_tokens_is_refused(tiny, images):
    class Squares(nn.Module):
        def __init__(self):
            super().__init__()
            self.vit = tiny(num_classes=0)
            self.head = nn.Linear(24, 5)

        def forward(self, pictures):
            features = self.vit(pictures)
            return self.head(features * features)

    model = Squares().eval()
    with pytest.raises(UnsupportedModelError, match="found one that is not"):
        attribute(record(model, images(model.vit), 1))


# what is refused


@pytest.fixture(scope="module")
def small():
    model = make_vit().eval()
    return record(model, make_images(model), 1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"layers": [3]}, r"layers as a list of numbers from 0 to 2, or None for all; got \[3\]"),
        ({"layers": [-1]}, r"from 0 to 2"),
        ({"layers": []}, "got \\[\\]"),
        ({"layers": 1}, "as a list of numbers .*; got 1"),
        ({"tokens": [0, 7]}, r"tokens as a list of numbers from 0 to 6, or None for all; got \[0, 7\]"),
        ({"tokens": [0.5]}, "got \\[0.5\\]"),
    ],
)
def test_layers_and_tokens_that_there_are_not(small, options, text):
    with pytest.raises(InvalidOptionError, match=text):
        lens(small, **options)


def test_classes_that_there_are_not(small):
    read = lens(small, layers=[2], tokens=[0])
    with pytest.raises(InvalidTargetError, match=r"from 0 to 4; got \[5"):
        read.rank_of(5)
    with pytest.raises(InvalidTargetError, match="expected a class index, or one for each image; got <function"):
        read.rank_of(lambda logits: logits[:, 0])
    with pytest.raises(InvalidTargetError, match=r"from 0 to 4; got \[9"):
        attribute(small, 9)


@pytest.mark.parametrize(
    "target",
    [
        tokentm.log_odds(1),
        tokentm.probability(2),
        lambda logits: logits[:, 0] * logits[:, 1],
        lambda logits: logits.logsumexp(1),
    ],
)
def test_targets_that_are_not_linear_in_the_logits(small, target):
    with pytest.raises(InvalidTargetError, match=r"linear in the logits, .* tokentm\.difference"):
        attribute(small, target)


def test_a_record_that_explains_log_odds_asks_for_a_target(small):
    trace = record(small.anatomy.model, small.images, tokentm.log_odds(1))
    with pytest.raises(InvalidTargetError, match="take its logit, target=index"):
        attribute(trace)
    assert attribute(trace, 1).error < 1e-5


def test_a_target_that_mixes_images_or_has_no_gradient(small):
    with pytest.raises(InvalidTargetError, match="that image alone"):
        attribute(small, lambda logits: logits[:, 0] - logits[:, 0].mean())
    with pytest.raises(InvalidTargetError, match="depends on the logits"):
        attribute(small, lambda logits: logits[:, 0].detach())


def test_probabilities_are_no_affine_map_and_can_be_looked_at_all_the_same():
    _, trace = from_zoo("by hand: two layers, tanh and softmax behind")
    with pytest.raises(UnsupportedModelError, match=r"MLPHead: .* returns logits\. tokentm\.lens\.lens reads any head"):
        attribute(trace)
    torch.testing.assert_close(lens(trace, tokens=[0]).logits[:, -1, 0], trace.logits)


def test_a_record_from_a_file_needs_its_model(small, tmp_path):
    small.save(tmp_path / "one.record")
    alone = Trace.load(tmp_path / "one.record")
    for call in (lens, attribute):
        with pytest.raises(ModelChangedError, match=r"Give the model, too: Trace\.load"):
            call(alone)
    again = Trace.load(tmp_path / "one.record", small.anatomy.model)
    torch.testing.assert_close(attribute(again).by_token, attribute(small).by_token)
    torch.testing.assert_close(lens(again).logits, lens(small).logits)


def test_a_model_that_has_changed_is_refused_and_one_that_is_read_stays_as_it_was(images):
    model = make_vit(seed=1).eval()
    trace = record(model, images(model), 1)
    before = deepcopy(model.state_dict())
    lens(trace), attribute(trace)
    assert all(torch.equal(before[name], one) for name, one in model.state_dict().items())
    assert not any(one.grad is not None for one in model.parameters())
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())
    with torch.no_grad():
        model.head.bias += 1
    for call in (lens, attribute):
        with pytest.raises(ModelChangedError, match="Record it again"):
            call(trace)

"""What the score reads, where tokens look, what outputs mean and which blocks there are: measured, never believed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import reference
import torch
from conftest import make_images, make_vit
from fuzz import BatchMean, ColumnOrder, Flipped, Skipping, Weighted, weighted_passes
from test_families import of_torchvision, of_transformers, pixels, spread
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.models.vision_transformer import ConvStemConfig
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionViT

import tokentm
from tokentm import InvalidTargetError, NotFiniteError, TokenTM, UnsupportedModelError, vit
from tokentm.methods import METHODS

CALLS = pytest.mark.parametrize("call", [tokentm.record, tokentm.explain], ids=["record", "explain"])


# ---- what the score reads ----


class Learnt(VisionTransformer):
    """Averages its patches with weights that it computes from them, one of which is close to 1."""

    def pool(self, x, pool_type=None):
        x = x[:, self.num_prefix_tokens :]
        return ((8 * x[..., :1]).softmax(1).detach() * x).sum(1)


class GeM(VisionTransformer):
    """Generalised mean of its patches."""

    def pool(self, x, pool_type=None):
        return x[:, self.num_prefix_tokens :].clamp(min=1e-6).pow(3).mean(1).pow(1 / 3)


AVERAGE = {"global_pool": "avg", "class_token": False, "fc_norm": False}


def test_weighted_pooling_is_read_with_its_weights(relative):
    model = make_vit(cls=Weighted, **AVERAGE).double()
    images = make_images(model)
    trace = tokentm.record(model, images, [3, 0])
    torch.testing.assert_close(trace.readout, (torch.arange(1, 7) / 21).double().expand(2, -1))
    expected = reference.tokentm(weighted_passes(model, images, [3, 0]))
    assert relative(TokenTM()(trace).layer_scores, expected) < 1e-12
    assert relative(tokentm.explain(model, images, [3, 0]).scores, expected[:, -1]) < 1e-12


def test_learnt_pooling_is_read_with_its_weights():
    model = make_vit(cls=Learnt, **AVERAGE)
    images = make_images(model)
    final = model.forward_features(images)
    torch.testing.assert_close(
        tokentm.record(model, images, 1).readout, (8 * final[..., :1]).softmax(1)[..., 0].detach(), rtol=1e-4, atol=1e-6
    )


def test_a_generalised_mean_is_read_as_its_gradient_says():
    model = make_vit(cls=GeM, **AVERAGE)
    images = make_images(model)
    final = model.forward_features(images).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.forward_head(final)[:, 1].sum(), final)
    expected = gradient.norm(dim=2) / gradient.norm(dim=2).sum(1, keepdim=True)
    torch.testing.assert_close(tokentm.record(model, images, 1).readout, expected)


@CALLS
def test_a_score_that_also_reads_an_earlier_block_is_refused(call):
    model = make_vit(cls=Skipping)
    with pytest.raises(UnsupportedModelError, match="also reads what block 0 puts out"):
        call(model, make_images(model), 1)


@CALLS
def test_a_score_that_reads_the_stream_beside_the_last_norm_is_refused(call):
    class Beside(VisionTransformer):
        def forward(self, x):
            kept = []
            handle = self.blocks[-1].register_forward_hook(lambda _module, _args, output: kept.append(output))
            last = self.forward_features(x)
            handle.remove()
            return self.head(last[:, 0] + kept[0][:, 1])

    model = make_vit(cls=Beside)
    with pytest.raises(UnsupportedModelError, match="also reads what block 1 puts out"):
        call(model, make_images(model), 1)


# ---- whether there are classes ----


class BesideItsPool(VisionTransformer):
    """Reads the class token, too."""

    def forward_head(self, x, pre_logits=False):
        return self.head(self.fc_norm(self.attn_pool(x) + x[:, 0]))


class Pooling(nn.Module):
    """Attention of three queries, of which one, or the average, is read later on."""

    def __init__(self, read):
        super().__init__()
        self.queries, self.kv = nn.Parameter(torch.randn(3, 24)), nn.Linear(24, 48)
        self.read = read

    def forward(self, x):
        (key, value), query = self.kv(x).chunk(2, -1), self.queries.expand(len(x), -1, -1)
        heads = (one.unflatten(-1, (2, 12)).transpose(1, 2) for one in (query, key, value))
        return nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)


class OfQueries(VisionTransformer):
    def forward_head(self, x, pre_logits=False):
        return self.head(self.queries.read(self.queries(x)))


@CALLS
def test_a_score_that_reads_tokens_beside_its_attention_pooling_is_refused(call):
    model = make_vit(cls=BesideItsPool, global_pool="map", class_token=True)
    with pytest.raises(UnsupportedModelError, match="through its attention pooling alone"):
        call(model, make_images(model), 1)


@CALLS
@pytest.mark.parametrize(
    ("rows", "read", "found"),
    [
        ("avg", lambda made: made.mean(1), None),
        ("avg", lambda made: made[:, 1], r"all queries .* reads \[1\] of 3"),
        ("token", lambda made: made[:, 0], None),
        ("token", lambda made: made.mean(1), r"the first query .* reads \[0, 1, 2\] of 3"),
    ],
    ids=["all of all", "one of all", "the first", "all for the first"],
)
def test_queries_of_a_pooling_that_count_are_those_that_are_read(call, rows, read, found):
    model = make_vit(cls=OfQueries)
    model.queries = Pooling(read)
    anatomy = replace(vit.inspect(model), pooling="attention pooling", pool=model.queries, pool_rows=rows)
    if found is None:
        assert call(model, make_images(model), 1, anatomy=anatomy)
        return
    with pytest.raises(UnsupportedModelError, match=found):
        call(model, make_images(model), 1, anatomy=anatomy)


def headless(build, attribute):
    model = spread(build())
    setattr(model, attribute, nn.Identity())
    return model


@pytest.mark.parametrize(
    ("build", "attribute"),
    [
        (lambda: make_vit(img_size=48, patch_size=16), "head"),
        (of_torchvision, "heads"),
        (lambda: of_transformers("ViTForImageClassification"), "classifier"),
        (lambda: of_transformers("Dinov2ForImageClassification"), "classifier"),
    ],
    ids=["timm", "torchvision", "ViT", "DINOv2"],
)
def test_a_model_without_a_head_has_features_whatever_its_attributes_say(build, attribute):
    model = headless(build, attribute)
    with pytest.raises(InvalidTargetError, match="returns features, not classes: it has no head"):
        tokentm.explain(model, pixels(1, (48, 48)))
    trace = tokentm.record(model, pixels(1, (48, 48)), lambda features: features[:, 0])
    assert trace.outputs == "none"
    assert trace.probabilities is None


def test_a_new_head_on_a_model_made_without_one_has_classes():
    model = make_vit(num_classes=0)
    model.head = nn.Linear(24, 7)
    trace = tokentm.record(model, make_images(model))
    assert trace.logits.shape == (2, 7)
    assert trace.outputs == "softmax"
    assert vit.inspect(model).classes == 7
    assert vit.inspect(make_vit(num_classes=0)).classes == 0


# ---- what the outputs mean ----


@pytest.mark.parametrize(
    ("build", "meaning"),
    [
        (make_vit, "softmax"),
        (lambda: make_vit(num_classes=1), "sigmoid"),
        (lambda: with_end(nn.Softmax(1)), "probabilities"),
        (lambda: with_end(nn.Sigmoid()), "probabilities"),
        (lambda: with_end(nn.LogSoftmax(1)), "softmax"),
        (lambda: labelled(num_labels=3), "softmax"),
        (lambda: labelled(num_labels=1), "none"),
        (lambda: labelled(num_labels=3, problem_type="multi_label_classification"), "sigmoid"),
        (lambda: labelled(num_labels=2, problem_type="regression"), "none"),
    ],
    ids=[
        "logits",
        "one logit",
        "softmax inside",
        "sigmoid inside",
        "log",
        "HF",
        "HF one",
        "HF labels",
        "HF regression",
    ],
)
def test_what_outputs_mean_is_found(build, meaning):
    model = build()
    images = make_images(model) if isinstance(model, VisionTransformer) else pixels(2, (48, 48))
    trace, explained = tokentm.record(model, images, 0), tokentm.explain(model, images, 0)
    assert trace.outputs == explained.outputs == METHODS["rollout"](trace).outputs == meaning
    if meaning == "probabilities":
        assert torch.equal(explained.probabilities, explained.logits)
    other = tokentm.explain(model, images, 0, outputs="sigmoid")
    torch.testing.assert_close(other.probabilities, other.logits.sigmoid())


def with_end(end):
    model = make_vit()
    model.head = nn.Sequential(model.head, end)
    return model


def labelled(**options):
    model = spread(of_transformers("ViTForImageClassification", **options))
    return model


def test_a_word_that_does_not_fit_is_refused():
    model = make_vit()
    with pytest.raises(tokentm.InvalidOptionError, match="expected outputs among softmax"):
        tokentm.explain(model, make_images(model), 0, outputs="logits")
    with pytest.raises(tokentm.InvalidOptionError, match="expected outputs from 0 to 1"):
        tokentm.explain(model, make_images(model), 0, outputs="probabilities")


def test_the_names_of_a_hugging_face_model_are_its_own():
    model = labelled(num_labels=3, id2label={0: "owl", 1: "cat", 2: "dog"}, label2id={"owl": 0, "cat": 1, "dog": 2})
    explained = tokentm.explain(model, pixels(2, (48, 48)), [2, 0])
    assert explained.class_names == ("owl", "cat", "dog")
    assert tokentm.plots.target_names(explained, None) == ["dog", "owl"]
    assert tokentm.explain(labelled(num_labels=3), pixels(1, (48, 48)), 0).class_names is None


# ---- where tokens look ----


@CALLS
@pytest.mark.parametrize("cls", [ColumnOrder, Flipped])
def test_another_order_of_patches_is_refused(call, cls):
    model = make_vit(cls=cls)
    with pytest.raises(UnsupportedModelError, match=r"row-major order.* looking around row"):
        call(model, make_images(model), 1)


def test_column_order_of_a_square_grid_is_refused():
    model = make_vit(cls=ColumnOrder, img_size=32)
    with pytest.raises(UnsupportedModelError, match="row-major order"):
        tokentm.explain(model, make_images(model), 1)


def test_a_hook_that_flips_the_embedding_is_seen_though_the_model_was_known():
    model = make_vit()
    images = make_images(model)
    tokentm.explain(model, images, 1)
    handle = model.patch_embed.register_forward_hook(lambda _module, _args, output: output.flip(1))
    with pytest.raises(UnsupportedModelError, match="row-major order"):
        tokentm.explain(model, images, 1)
    handle.remove()
    tokentm.explain(model, images, 1)


def test_tokens_that_do_not_depend_on_the_picture_are_refused():
    model = make_vit()
    model.patch_embed.register_forward_hook(lambda _module, _args, output: torch.ones_like(output))
    with pytest.raises(UnsupportedModelError, match="every patch token to change with the picture"):
        tokentm.explain(model, make_images(model), 1)


def conv_stem():
    stem = [ConvStemConfig(width, 3, 2) for width in (8, 12, 16)]
    torch.manual_seed(0)
    model = TorchvisionViT(64, 8, 2, 2, 24, 48, num_classes=5, conv_stem_configs=stem).eval()
    nn.init.normal_(model.heads.head.weight)
    return model


def test_a_stem_of_padded_convolutions_looks_half_a_patch_up_and_to_the_left():
    model = conv_stem()
    images = pixels(1, (64, 64))
    explained = tokentm.explain(model, images, 1)
    assert explained.offset == tokentm.record(model, images, 1).layout.offset == (-0.5, -0.5)
    # the value of a patch stands where its token looks: on the patch's upper left corner
    one = replace(explained, scores=torch.eye(64)[3 * 8 + 4][None])
    peak = one.heatmap()[0].argmax()
    assert (int(peak) // 64, int(peak) % 64) in {(y, x) for y in (23, 24) for x in (31, 32)}


def test_plain_models_are_measured_without_an_offset_once():
    model = make_vit(img_size=(40, 24))
    calls = []
    images = make_images(model, 1)
    handle = model.patch_embed.register_forward_hook(lambda _module, args, _output: calls.append(len(args[0])))
    assert tokentm.record(model, images).layout == vit.Layout(1, 5, 3)
    first = len(calls)
    tokentm.explain(model, images)
    tokentm.record(model, images)
    assert len(calls) == first + 2
    with torch.no_grad():
        model.patch_embed.proj.weight *= 2
    tokentm.explain(model, images)
    assert len(calls) > first + 3
    handle.remove()


# ---- the blocks ----


def described(model, **changes):
    """The model, described otherwise than it is."""

    def inspect(_model):
        return replace(own(model), **changes)

    own = vit.inspect
    return inspect


@CALLS
def test_a_block_left_out_of_the_description_is_refused(call, monkeypatch):
    model = make_vit(depth=3)
    for part in (slice(1, None), slice(None, -1)):
        monkeypatch.setattr("tokentm.run.vit.inspect", described(model, blocks=vit.inspect(model).blocks[part]))
        with pytest.raises(UnsupportedModelError, match=r"row-major order|attention call\(s\) outside"):
            call(model, make_images(model), 1)
        monkeypatch.undo()


@CALLS
def test_norms_that_are_exchanged_in_the_description_are_refused(call, monkeypatch):
    model = make_vit()
    blocks = tuple(replace(b, normed=b.normed_mid, normed_mid=b.normed) for b in vit.inspect(model).blocks)
    monkeypatch.setattr("tokentm.run.vit.inspect", described(model, blocks=blocks))
    with pytest.raises(UnsupportedModelError, match="norm before attention in block 0 to be given the stream"):
        call(model, make_images(model), 1)


@CALLS
def test_a_wrong_number_of_heads_is_refused(call, monkeypatch):
    model = make_vit()
    blocks = tuple(replace(block, heads=4) for block in vit.inspect(model).blocks)
    monkeypatch.setattr("tokentm.run.vit.inspect", described(model, blocks=blocks))
    with pytest.raises(UnsupportedModelError, match="expected 4 heads in block 0, as it is described, found 2"):
        call(model, make_images(model), 1)


@CALLS
def test_attention_in_the_head_is_counted(call):
    class Attending(VisionTransformer):
        def forward_head(self, x, pre_logits=False):
            return self.head(nn.functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0, 0])

    model = make_vit(cls=Attending)
    with pytest.raises(UnsupportedModelError, match=r"inside its 2 blocks, found 1 attention call\(s\) outside"):
        call(model, make_images(model), 1)


@CALLS
def test_attention_before_the_blocks_is_counted(call):
    class Attending(VisionTransformer):
        def _pos_embed(self, x):
            x = super()._pos_embed(x)
            return x + 1e-4 * nn.functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0]

    model = make_vit(cls=Attending)
    with pytest.raises(UnsupportedModelError, match=r"inside its 2 blocks, found 1 attention call\(s\) outside"):
        call(model, make_images(model), 1)


@CALLS
def test_attention_that_is_not_read_does_not_count(call):
    class Attending(VisionTransformer):
        def forward_head(self, x, pre_logits=False):
            self.unread = nn.functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])
            return super().forward_head(x, pre_logits)

    model, plain = make_vit(cls=Attending), make_vit()
    images = make_images(model)
    torch.testing.assert_close(call(model, images, 1).logits, plain(images).detach())


# ---- targets and batches ----


@pytest.mark.parametrize(
    "target",
    [
        lambda z: (z / z.norm())[:, 0],
        lambda z: torch.cosine_similarity(z, z.flip(0)),
        lambda z: z[:, 0] - z[:, 1].mean(),
        lambda z: (z - z.mean(0))[:, 2],
    ],
    ids=["norm of all", "compared with each other", "mean of all", "mean of the batch"],
)
@CALLS
def test_a_target_that_mixes_images_is_refused(call, target):
    model = make_vit()
    with pytest.raises(InvalidTargetError, match="score of an image depends on the logits of that image alone"):
        call(model, make_images(model, 3), target)
    if call is tokentm.explain:
        own = make_images(model, 3)
        other = model(own).flip(0).detach()
        call(model, own, lambda z: torch.cosine_similarity(z, other))


@CALLS
def test_a_target_may_work_in_place(call):
    model = make_vit()
    images = make_images(model)
    found = call(model, images, lambda z: z.mul_(2)[:, 0])
    torch.testing.assert_close(found.logits, model(images).detach())


@CALLS
def test_a_model_that_mixes_the_images_of_a_batch_is_refused(call):
    model = make_vit(cls=BatchMean)
    with pytest.raises(UnsupportedModelError, match="do not depend on the other images of its batch"):
        call(model, make_images(model, 3), 1)


# ---- numbers and methods ----


def test_weights_for_which_rounding_decides_are_refused_in_float32_and_explained_in_float64():
    model = make_vit(depth=12, seed=1)
    with torch.no_grad():
        for block in model.blocks:
            block.attn.qkv.weight.mul_(12)
    images = make_images(model, 1)
    for call in (tokentm.record, tokentm.explain):
        with pytest.raises(NotFiniteError, match=r"rounding in torch.float32 decides; run in float64: model\.double"):
            call(model, images, 1)
    model.double()
    full = TokenTM()(tokentm.record(model, images.double(), 1)).scores
    torch.testing.assert_close(tokentm.explain(model, images.double(), 1).scores, full, rtol=1e-6, atol=0)


class Negated(TokenTM):
    """A method of somebody's own."""

    def __call__(self, trace):
        made = super().__call__(trace)
        return replace(made, scores=-made.scores)


def test_a_subclass_is_honoured_and_named():
    model = make_vit()
    images = make_images(model)
    found, plain = (tokentm.explain(model, images, 1, method) for method in (Negated(), TokenTM()))
    torch.testing.assert_close(found.scores, -plain.scores)
    assert (found.method, plain.method) == ("Negated", "tokentm")
    assert Negated(ffn=False).name == "Negated_no_ffn"


def test_every_method_is_known_by_its_name_everywhere():
    model = make_vit(depth=3)
    trace = tokentm.record(model, make_images(model), 1)
    for name, method in (METHODS | tokentm.methods.ABLATIONS).items():
        assert method.name == name
        assert method(trace).method == name
        assert tokentm.explain(model, make_images(model), 1, name).method == name
        assert (method.stream is not None) <= (name.startswith("tokentm"))
        assert {type(flag) for flag in (method.class_specific, method.signed, method.reruns_model)} == {bool}


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.reruns_model])
@pytest.mark.parametrize("change", ["weights", "weights past the counter", "mode", "hook"])
def test_a_method_that_runs_the_model_again_refuses_a_changed_one(name, change):
    model = make_vit(depth=3, proj_drop_rate=0.3)
    trace = tokentm.record(model, make_images(model), 1)
    METHODS[name](trace)
    if change == "weights":
        with torch.no_grad():
            model.blocks[1].mlp.fc1.weight.mul_(1.5)
    elif change == "weights past the counter":
        model.head.bias.data[1] += 1
    elif change == "mode":
        model.train()
    else:
        model.blocks[1].mlp.register_forward_hook(lambda _module, _args, output: output * 1.5)
    with pytest.raises(tokentm.ModelChangedError, match="Record it again"):
        METHODS[name](trace)
    METHODS["rollout"](trace)  # which reads the record alone


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (TokenTM, "got the class TokenTM itself"),
        (["tokentm"], "expected a method among"),
        ({}, "expected a method among"),
        (lambda _trace: None, "returned NoneType"),
    ],
)
def test_what_is_no_method_is_refused(method, words):
    model = make_vit()
    with pytest.raises(tokentm.InvalidOptionError, match=words):
        tokentm.explain(model, make_images(model), 1, method)
    with pytest.raises(tokentm.InvalidOptionError, match="expected gradient True or False"):
        TokenTM(gradient="no")


def test_a_token_of_length_zero_is_a_typed_error_and_other_methods_go_on():
    model = make_vit()
    with torch.no_grad():
        model.cls_token.zero_()
        model.pos_embed[:, 0].zero_()
    images = make_images(model)
    for call in (lambda: tokentm.explain(model, images, 1), lambda: TokenTM()(tokentm.record(model, images, 1))):
        with pytest.raises(tokentm.ZeroTokenError, match="such as 'generic_attention'"):
            call()
    assert torch.isfinite(tokentm.explain(model, images, 1, "generic_attention").scores).all()


# ---- what a second look found ----


@CALLS
def test_a_stream_that_is_cut_from_its_gradient_is_refused(call):
    class Cut(VisionTransformer):
        def forward_features(self, x, **_):
            x = self._pos_embed(self.patch_embed(x))
            return self.norm(self.blocks[1](self.blocks[0](x).detach()))

    model = make_vit(cls=Cut)
    with pytest.raises(UnsupportedModelError, match="found that it is cut on the way"):
        call(model, make_images(model), 1)


@CALLS
@pytest.mark.parametrize("path", ["blocks.1", "norm"])
@pytest.mark.parametrize("in_place", [True, False])
def test_a_stream_that_changes_between_blocks_is_refused(call, path, in_place):
    def prompt(_module, args):
        return (args[0].add_(0.3),) if in_place else (args[0] + 0.3,)

    model = make_vit()
    model.get_submodule(path).register_forward_pre_hook(prompt)
    with pytest.raises(UnsupportedModelError, match="found that something changes the stream between them"):
        call(model, make_images(model), 1)


def test_a_copy_of_the_stream_between_blocks_is_read_as_it_is(relative):
    class Copying(VisionTransformer):
        def forward_features(self, x, **_):
            x = self._pos_embed(self.patch_embed(x))
            for block in self.blocks:
                x = block(x.clone())
            return self.norm(x.clone())

    model, plain = make_vit(cls=Copying).double(), make_vit().double()
    images = make_images(model)
    for call in (lambda m: tokentm.explain(m, images, 1), lambda m: TokenTM()(tokentm.record(m, images, 1))):
        assert relative(call(model).scores, call(plain).scores) < 1e-12


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("hook", [lambda o: o - o.mean(), lambda o: o.cumsum(0), lambda o: o + o.mean(0)])
def test_mixing_is_seen_whatever_came_before_and_in_every_dtype(hook, double):
    model = make_vit()
    model.head.register_forward_hook(lambda _module, _args, output: hook(output))
    model = model.double() if double else model
    images = make_images(model, 3)
    tokentm.explain(model, images[:1], 1)
    with pytest.raises(UnsupportedModelError, match="do not depend on the other images of its batch"):
        tokentm.explain(model, images, 1)


@CALLS
@pytest.mark.parametrize("double", [False, True])
def test_a_random_model_is_called_random(double, call):
    model = make_vit().double() if double else make_vit()
    model.blocks[0].mlp.register_forward_hook(lambda _module, _args, output: output + 0.1 * torch.randn_like(output))
    with pytest.raises(UnsupportedModelError, match="the same answer to the same picture"):
        call(model, make_images(model, 1), 1)


def test_a_hook_in_the_place_of_another_is_a_change():
    model = make_vit()
    images = make_images(model)
    handle = model.patch_embed.register_forward_hook(lambda _module, _args, output: output)
    tokentm.explain(model, images, 1)
    handle.remove()
    model.patch_embed.register_forward_hook(lambda _module, _args, output: output.flip(1))
    with pytest.raises(UnsupportedModelError, match="row-major order"):
        tokentm.explain(model, images, 1)


def test_a_change_past_the_counters_is_a_change():
    model = make_vit()
    tokentm.explain(model, make_images(model), 1)
    model.patch_embed.proj.weight.data.zero_()
    with pytest.raises(UnsupportedModelError, match="every patch token to change with the picture"):
        tokentm.explain(model, make_images(model), 1)


def test_a_backward_hook_is_a_change():
    model = make_vit(depth=3)
    trace = tokentm.record(model, make_images(model), 1)
    model.head.register_full_backward_hook(lambda _module, grad_input, _grad_output: (2 * grad_input[0],))
    with pytest.raises(tokentm.ModelChangedError):
        METHODS["input_x_gradient"](trace)


def test_a_black_picture_does_not_vouch_for_others():
    model = make_vit(depth=12, seed=1)
    with torch.no_grad():
        for block in model.blocks:
            block.attn.qkv.weight.mul_(12)
    images = make_images(model, 1)
    for picture in (images * 0, images):
        with pytest.raises(NotFiniteError, match="rounding in torch"):
            tokentm.explain(model, picture, 1)


def test_known_models_can_be_freed():
    import gc
    import types
    import weakref

    model = make_vit()
    model.forward = types.MethodType(VisionTransformer.forward, model)
    tokentm.explain(model, make_images(model), 1)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_a_copy_made_while_a_model_is_recorded_keeps_nothing_of_the_record():
    import copy
    import pickle

    model, copies = make_vit(), []
    model.blocks[0].register_forward_pre_hook(lambda *_: copies.append(copy.deepcopy(model.blocks[1])))
    images = make_images(model)
    tokentm.explain(model, images, 1)
    hooks = [hook for one in copies for module in one.modules() for hook in module._forward_hooks.values()]
    assert len(hooks) > 3
    pickle.dumps(hooks)
    own = {id(cell.cell_contents) for hook in hooks for cell in hook.act.__closure__ or ()}
    assert own == set()  # an idle hook refers to nothing


@pytest.mark.parametrize(
    ("end", "meaning"),
    [
        (lambda o: o.sigmoid().clamp(1e-6, 1 - 1e-6), "probabilities"),
        (lambda o: o.sigmoid().view(len(o), -1), "probabilities"),
        (lambda o: 2 * o.sigmoid(), "softmax"),
    ],
)
def test_probabilities_that_were_touched_afterwards_are_still_probabilities(end, meaning):
    model = make_vit()
    model.head.register_forward_hook(lambda _module, _args, output: end(output))
    assert tokentm.explain(model, make_images(model), 1).outputs == meaning


@CALLS
def test_blocks_that_are_shared_or_called_by_keyword_are_refused(call):
    class Shared(VisionTransformer):
        def __init__(self, **options):
            super().__init__(**options)
            self.blocks = nn.Sequential(self.blocks[0], self.blocks[0])

    class ByKeyword(VisionTransformer):
        def forward_features(self, x, **_):
            x = self._pos_embed(self.patch_embed(x))
            for block in self.blocks:
                x = block(x=x)
            return self.norm(x)

    for cls, words in ((Shared, "shared weights"), (ByKeyword, "first argument, by position|call its first block")):
        model = make_vit(cls=cls)
        with pytest.raises(UnsupportedModelError, match=words):
            call(model, make_images(model), 1)


def test_a_second_interrupt_is_raised_at_once():
    import _thread
    import threading
    import time

    model = make_vit()

    def hangs(logits):
        for _ in range(400):
            time.sleep(0.05)
        return logits[:, 0]

    for delay in (0.5, 0.9):
        threading.Timer(delay, _thread.interrupt_main).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        tokentm.explain(model, make_images(model), hangs)
    assert time.monotonic() - started < 8
    assert not any(module._forward_hooks for module in model.modules())


class InPlaceNormalised(VisionTransformer):
    """Normalises its images in place."""

    def forward(self, images):
        images -= 0.1
        return super().forward(images)


@CALLS
def test_a_model_that_changes_its_images_in_place_is_looked_at_too(call):
    plain, model = make_vit(), make_vit(cls=InPlaceNormalised)
    found = call(model, make_images(model), 1)
    torch.testing.assert_close(found.logits, plain(make_images(plain) - 0.1).detach())
    for block in model.blocks:
        block.mlp.act = Aside()
    with pytest.raises(UnsupportedModelError, match="the FFN mixes tokens"):
        call(model, make_images(model), 1)


class Aside(nn.Module):
    def forward(self, x):
        return x + 0.1 * x.roll(1, dims=1)


class NoGradients(VisionTransformer):
    def forward(self, images):
        if images.requires_grad:
            raise ValueError("pictures for training")
        return super().forward(images)


@CALLS
def test_a_model_that_cannot_be_looked_at_is_refused(call):
    model = make_vit(cls=NoGradients)
    with pytest.raises(UnsupportedModelError, match=r"an image that takes a gradient.* ValueError: pictures for"):
        call(model, make_images(model), 1)

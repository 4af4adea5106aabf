"""The engine that computes in pages says what the library says: numbers from Node.js against those from Python.

Python computes in double precision with the same weights, which half precision can hold, so what differs is the single
precision of the engine. Differences are shares of the largest number of an array: a map is read against its maximum,
and sums that cancel have no relative precision of their own.
"""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import PIL
import pytest
import timm
import torch
from engine import Engine, EngineError, found
from hypothesis import Phase, example, given, note, settings
from hypothesis import strategies as st
from PIL import Image
from planted_tokens import planted
from timm.layers import GluMlp, LayerNorm, Mlp, RmsNorm, SwiGLU, SwiGLUPacked
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import ParallelScalingBlock, ResPostBlock, VisionTransformer
from torch import nn
from torchvision import transforms as v1
from torchvision.transforms import InterpolationMode, v2

import tokentm
from tokentm import TokenTM, methods, tokens
from tokentm.errors import InvalidOptionError, TokenTMError
from tokentm.evaluation.perturbation import ranking
from tokentm.evaluation.removal import Removal
from tokentm.paths import STAYED, strongest
from tokentm_widgets import PerturbationPlayer, layer_panels, live_model, scores
from tokentm_widgets.live import METHODS
from tokentm_widgets.live_model import halved
from tokentm_widgets.live_pictures import pixels, preparing

RANDOM = 1e-4
"""Of models with random weights, whose gradients grow from layer to layer and so do roundings."""

TRAINED = 3e-5
"""Of the demo: about what single precision in Python has, too."""


@pytest.fixture(scope="session")
def engine():
    """One process for all tests; it stays as it is between them, as in a page."""
    if found() is None:
        reason = "no Node.js on this machine (Debian: apt install nodejs)"
        if os.environ.get("TOKENTM_REQUIRE_NODE"):
            pytest.fail(reason)
        pytest.skip(reason)
    started = Engine()
    yield started
    started.close()


@pytest.fixture(scope="module")
def demo():
    return tokentm.load_demo()


@pytest.fixture(scope="module")
def demo_model(demo):
    return halved(demo.model)


def recorded(model, image, targets):
    """A record in double precision of classes of one image."""
    exact = halved(model).double().eval()
    return tokentm.record(exact, image.double().expand(len(targets), -1, -1, -1), targets)


def assert_close(found, expected, tolerance, what, terms=None):
    """``terms()``: what the expected numbers add up to, by size, where sums may cancel."""
    found, expected = torch.as_tensor(found).double(), torch.as_tensor(expected).double()
    assert found.numel() == expected.numel(), what
    apart = (found.reshape(expected.shape) - expected).abs().max()
    largest = expected.abs().max()
    if apart > tolerance * largest and terms is not None:
        largest = terms().max()
    assert apart <= tolerance * largest, f"{what}: {apart:.2g} apart, the largest is {largest:.2g}"


def terms(name, trace, i):
    """Methods of signed sums, which may cancel, are as precise as what they add up, (P,); 0 for all others."""
    if name == "input_x_gradient":
        image = trace.images[i : i + 1].clone().requires_grad_()
        trace.anatomy.answer(image)[0, trace.target[i]].backward()
        grid = (trace.layout.rows, trace.layout.columns)
        patch = [side // count for side, count in zip(image.shape[2:], grid, strict=True)]
        sizes = (image.grad * image.detach()).abs().sum(1, keepdim=True)
        return nn.functional.avg_pool2d(sizes, patch, divisor_override=1).flatten()
    if name == "grad_cam":
        sizes = [
            (trace.readout[i] @ layer.attention[i])
            * (trace.readout[i] @ layer.gradient[i].abs()).mean(-1, keepdim=True)
            for layer in trace.layers
        ]
        return torch.stack(sizes).mean(1)[:, trace.layout.prefix :].amax(0)
    if name == "attcat":
        sums = 0
        for layer in trace.layers:
            sizes = (layer.stream_out * layer.stream_out_gradient)[i].abs().sum(-1)
            sums = sums + (trace.readout[i] @ layer.attention[i].mean(0) * sizes)[trace.layout.prefix :]
        return sums
    return torch.zeros(1)


def assert_same_explanations(engine, model, image, targets, names, tolerance):
    """Logits, readout, and every method that Python computes; those that it refuses are refused there, too."""
    trace = recorded(model, image, targets)
    for i, target in enumerate(targets):
        answer = engine.explain(image, target, [])
        assert_close(answer["logits"], trace.logits[i], tolerance, "logits")
        read = engine.ask("readout", image=image, target=target)["readout"]
        assert_close(read, trace.readout[i], tolerance, "readout")
    for name in names:
        try:
            explanation = methods.get(name)(trace)
        except TokenTMError as error:
            note(f"{name}: {error}")
            with pytest.raises(EngineError):
                engine.explain(image, targets[0], [name])
            continue
        for i, target in enumerate(targets):
            added = partial(terms, name, trace, i)
            if name == "attcat" and explanation.scores[i].abs().max() < 1e-4 * added().max():
                continue  # single precision may see nothing in what is left of them
            maps = engine.explain(image, target, [name])["maps"][name]
            assert_close(maps[-1], explanation.scores[i], tolerance, f"{name} of {target}", added)
            if explanation.layer_scores.shape[1]:
                assert_close(maps, explanation.layer_scores[i], tolerance, f"{name} of {target} by layer", added)


# ---- the demo ----


@pytest.mark.parametrize("scene", range(4))
def test_every_class_of_the_demo_is_explained_alike(engine, demo, demo_model, scene):
    assert engine.open(demo_model) == {"without": "", "methods": list(METHODS)}
    image = demo.transform(demo.scene(scene).image)
    names = [name for name in METHODS if name != "legrad" or scene == 0]  # which takes as long as all others in Python
    assert_same_explanations(engine, demo_model, image, list(range(scene, 16, 4)), names, TRAINED)


def test_the_demo_answers_many_scenes_alike(engine, demo, demo_model):
    engine.open(demo_model)
    images = torch.stack([demo.transform(demo.scene(seed).image) for seed in range(20, 28)])
    found = engine.ask("answers", images=list(images))["logits"]
    assert engine.shares == [i / 8 for i in range(8)]
    with torch.no_grad():
        assert_close(torch.stack(found), demo_model(images), TRAINED, "logits")


def test_without_webassembly_nothing_changes_but_the_time(engine, demo, demo_model):
    assert "WebAssembly" in engine.open(demo_model, wasm=False)["without"]
    image = demo.transform(demo.scene(5).image)
    assert_same_explanations(engine, demo_model, image, [2], ["tokentm", "legrad", "input_x_gradient"], TRAINED)


def test_the_predicted_class_is_explained_where_none_is_named(engine, demo, demo_model):
    engine.open(demo_model)
    image = demo.transform(demo.scene(7, ["dog"]).image)
    answer = engine.explain(image, None, ["tokentm"])
    assert answer["target"] == int(answer["logits"].argmax()) == demo.classes.index("dog")
    other = engine.explain(image, 3, ["tokentm"])["maps"]["tokentm"]
    assert torch.equal(
        engine.explain(image, answer["target"], ["tokentm"])["maps"]["tokentm"], answer["maps"]["tokentm"]
    )
    assert not torch.equal(other, answer["maps"]["tokentm"])


def test_a_picture_of_another_size_is_refused(engine, demo_model):
    engine.open(demo_model)
    with pytest.raises(EngineError, match="expected 3 x 112 x 112 numbers of a picture; got 3072"):
        engine.explain(torch.zeros(3, 32, 32), 0, [])


# ---- every option of timm's VisionTransformer ----

NORMS = {
    "layer": LayerNorm,
    "layer, eps": partial(LayerNorm, eps=1e-2),
    "layer, bare": partial(nn.LayerNorm, elementwise_affine=False, eps=1e-6),
    "rms": RmsNorm,
    "rms, eps": partial(nn.RMSNorm, eps=1e-2),
}
FFNS = {
    "plain": Mlp,
    "gate last": GluMlp,
    "gate first": partial(GluMlp, gate_last=False),
    "swiglu": SwiGLU,
    "swiglu packed": SwiGLUPacked,
}
ACTIVATIONS = {
    "gelu": nn.GELU,
    "timm's gelu": "gelu",
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "timm's gelu_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
}


@st.composite
def vits(draw):
    """Options of a tiny model: {"distilled": ..., options of timm}."""
    heads = draw(st.integers(1, 3))
    patch = draw(st.tuples(st.integers(2, 5), st.integers(2, 5)))
    grid = draw(st.tuples(st.integers(1, 4), st.integers(2, 4)))
    distilled = draw(st.booleans()) and draw(st.booleans())
    pooling = "token" if distilled else draw(st.sampled_from(("token", "avg", "all")))
    options = {
        "img_size": (patch[0] * grid[0], patch[1] * grid[1]),
        "patch_size": patch,
        "in_chans": draw(st.sampled_from((1, 3))),
        "num_classes": draw(st.integers(2, 6)),
        "embed_dim": heads * draw(st.sampled_from((4, 6, 8))),
        "depth": draw(st.integers(1, 4)),
        "num_heads": heads,
        "mlp_ratio": draw(st.sampled_from((1.0, 2.0, 4.0))),
        "qkv_bias": draw(st.booleans()),
        "proj_bias": draw(st.booleans()),
        "qk_norm": draw(st.booleans()),
        "init_values": draw(st.sampled_from((None, 0.5))),
        "pre_norm": draw(st.booleans()),
        "final_norm": draw(st.sampled_from((True, True, True, False))),
        "fc_norm": draw(st.sampled_from((None, True, False))),
        "norm_layer": draw(st.sampled_from(sorted(NORMS))),
        "mlp_layer": draw(st.sampled_from(sorted(FFNS))),
        "act_layer": draw(st.sampled_from(sorted(ACTIVATIONS))),
        "dynamic_img_size": draw(st.booleans()),
        "global_pool": "token" if pooling == "token" else "avg",
        "pool_include_prefix": pooling == "all",
    }
    if not distilled:
        options["class_token"] = pooling == "token" or draw(st.booleans())
        options["reg_tokens"] = draw(st.sampled_from((0, 0, 1, 3)))
        options["no_embed_class"] = draw(st.booleans())
        options["pos_embed"] = draw(st.sampled_from(("learn", "learn", "none")))
    return {"distilled": distilled, **options}


def made(options, seed):
    """The model with weights of noticeable size that half precision can hold, and a picture."""
    named = {"norm_layer": NORMS, "mlp_layer": FFNS, "act_layer": ACTIVATIONS}
    options = {key: named[key][value] if key in named else value for key, value in options.items()}
    model = (VisionTransformerDistilled if options.pop("distilled") else VisionTransformer)(**options).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scales = name.endswith("gamma") or ("norm" in name and name.endswith("weight"))
            spread = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(spread * (0.3 if parameter.ndim < 2 else 1.2 / parameter[0].numel() ** 0.5) + float(scales))
    image = torch.randn(model.in_chans, *model.patch_embed.img_size, generator=generator)
    return halved(model), image


@settings(max_examples=40, phases=[Phase.explicit, Phase.generate])
@given(vits(), st.integers(0, 99), st.booleans())
def test_every_option_of_timm_is_run_alike(engine, options, seed, wasm):
    model, image = made(options, seed)
    engine.open(model, wasm)
    assert_same_explanations(engine, model, image, [seed % model.num_classes], METHODS, RANDOM)


ODD = {
    "distilled, with a norm that it does not run": {"distilled": True, "fc_norm": True},
    "distilled, with registers that it does not run": {"distilled": True, "reg_tokens": 9},
    "average, a norm before the first block": {"global_pool": "avg", "class_token": False, "pre_norm": True},
    "narrow heads": {"head_width": 5, "qk_norm": False},
    "one patch": {"img_size": 8, "reg_tokens": 1},
}


@pytest.mark.parametrize("options", ODD.values(), ids=ODD.keys())
def test_what_chance_seldom_tries_is_run_alike(engine, tiny, images, options):
    model = halved(tiny(2, **options, depth=3)).eval()
    engine.open(model)
    assert_same_explanations(engine, model, images(model, 1)[0], [1], METHODS, RANDOM)


NOT_RUN = {
    "attention pooling": ({"global_pool": "map", "class_token": False}, "a class token, or an average"),
    "pooling by maximum": ({"global_pool": "max", "class_token": False}, "pooling 'max'"),
    "post-norm": ({"block_fn": ResPostBlock}, "plain Block with its Attention in block 0.*ResPostBlock"),
    "parallel": ({"block_fn": ParallelScalingBlock}, "plain Block.*ParallelScalingBlock"),
    "norm after the heads": ({"scale_attn_norm": True}, "nothing between heads and projection in block 0"),
    "norm in the FFN": ({"scale_mlp_norm": True}, "without a norm inside"),
    "no classifier": ({"num_classes": 0}, "a linear classifier.*Identity as its head"),
    "another activation": ({"act_layer": "mish"}, "GELU, QuickGELU, ReLU or SiLU in its FFN.*Mish"),
    "another gate": ({"mlp_layer": GluMlp, "act_layer": "sigmoid"}, "Sigmoid"),
    "another norm": ({"norm_layer": "simplenorm"}, "LayerNorm or RmsNorm.*SimpleNorm"),
    "a norm of patches": ({"embed_norm_layer": "layernorm"}, "embedded patches as they are.*LayerNorm of them"),
    "patch dropout": ({"patch_drop_rate": 0.5}, "all patches at work"),
    "half patches": ({"img_size": (16, 20)}, "pictures of whole patches.*16 x 20 pixels in patches of 8 x 8"),
    "padded patches": ({"img_size": (16, 20), "dynamic_img_pad": True}, "pictures of whole patches"),
}


@pytest.mark.parametrize(("options", "message"), NOT_RUN.values(), ids=NOT_RUN.keys())
def test_what_the_engine_does_not_run_is_refused_with_the_reason(options, message):
    tiny = {"img_size": 16, "patch_size": 8, "embed_dim": 8, "depth": 1, "num_heads": 2, "num_classes": 3}
    with pytest.raises(InvalidOptionError, match=rf"{message}.*Write the page without live=True"):
        live_model.live_model(VisionTransformer(**tiny | options))


@pytest.mark.parametrize("name", ["beit_base_patch16_224", "eva02_tiny_patch14_224", "deit3_small_patch16_224"])
def test_other_kinds_of_models_are_refused_and_too_large_ones(name):
    with torch.device("meta"):
        model = timm.create_model(name)
    expected = "at most 12 million parameters.*22.1 million" if "deit3" in name else "timm's VisionTransformer"
    with pytest.raises(InvalidOptionError, match=expected):
        live_model.live_model(model)


class Adapter(nn.Linear):
    """A linear map with something added to it, as those for fine-tuning are."""

    def forward(self, x):
        return super().forward(x) + 1


def test_what_was_changed_in_a_model_is_refused(tiny):
    def changed(change):
        model = tiny(init_values=0.5)
        change(model)
        with pytest.raises(InvalidOptionError) as refused:
            live_model.live_model(model)
        return str(refused.value)

    def hook(model):
        model.blocks[1].mlp.register_forward_hook(lambda module, args, output: output + 1)

    def function(model):
        model.norm.forward = lambda x: x

    def replaced(path, module):
        def change(model):
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, module)

        return change

    def weight(model):
        model.head.weight.data[0, 0] = 7e4

    assert "a model without hooks" in changed(hook)
    assert "found one at blocks.1.mlp" in changed(hook)
    assert "found one at norm" in changed(function)
    assert "weights that half precision can hold, below 65504" in changed(weight)
    assert "found larger ones in head.weight" in changed(weight)
    for path in ("blocks.0.attn.qkv", "blocks.0.attn.proj", "blocks.1.mlp.fc1", "blocks.1.mlp.fc2"):
        assert "plain linear maps in its blocks" in changed(replaced(path, Adapter(24, 24)))
    assert "a linear classifier" in changed(replaced("head", Adapter(24, 5)))
    assert "LayerScale or nothing in block 1" in changed(replaced("blocks.1.ls2", nn.Dropout()))
    assert "two norms in block 0" in changed(replaced("blocks.0.norm2", nn.Identity()))
    assert "patches embedded by one convolution" in changed(replaced("patch_embed.proj", nn.Identity()))


def test_the_weights_of_a_page_are_those_that_were_tested(demo, demo_model):
    made, halves = live_model.live_model(demo.model), live_model.live_model(demo_model)
    assert made.weights == halves.weights
    assert len(made.weights) == 2 * sum(one.numel() for one in demo.model.parameters())


# ---- panels, rows, methods, paths, removal ----

SHOWN = {
    "registers": {"reg_tokens": 2, "depth": 3},
    "average": {"global_pool": "avg", "class_token": False, "init_values": 0.5},
    "distilled": {"distilled": True, "qk_norm": True},
}


@pytest.fixture(scope="module", params=["demo", *SHOWN])
def shown(request, engine, demo, demo_model, tiny, images):
    """(record in double precision, image, class): what widgets show, and what a page asks the engine about."""
    if request.param == "demo":
        model, image, target = demo_model, demo.transform(demo.scene(11).image), 6
    else:
        model, target = halved(tiny(4, **SHOWN[request.param], img_size=(24, 32))).eval(), 3
        image = images(model, 1)[0]
    return model, recorded(model, image, [target]), image, target


def asking(engine, shown):
    """``ask(act, ...)`` about the picture and the class of a case, whose model is opened."""
    model, _, image, target = shown
    engine.open(model)
    return partial(engine.ask, image=image, target=target)


def test_panels_of_the_layer_stepper(engine, shown):
    ask, trace = asking(engine, shown), shown[1]
    walked = layer_panels.walk(trace, TokenTM())
    sent = walked.sent()
    assert sent.pop("imageOf") == [0]
    found = ask("layers")
    assert (found.pop("layers"), found.pop("heads")) == (walked.layers, walked.heads)
    assert found.keys() == sent.keys()
    for name, expected in sent.items():
        assert_close(found[name], expected, RANDOM, name)


def test_patches_of_outlier_tokens(engine, demo_model, tiny, images):
    models = [(demo_model, (20, 33, 34), 150.0), (tiny(img_size=(40, 24), reg_tokens=1, depth=3), (5, 12), 300.0)]
    for model, patches, length in [*models, (models[1][0], (0, 14), 300.0)]:
        image = images(model, 1)[0]
        trace = recorded(model, image, [0])
        engine.open(model)
        assert engine.ask("outliers", image=image)["patches"] == [*tokens.inspect(trace).outliers_of(0)]
        spoilt = halved(planted(model, tokentm.record(model, image[None]), patches, length))
        engine.open(spoilt)
        found = engine.ask("outliers", image=image)["patches"]
        assert tuple(found) == tokens.inspect(recorded(spoilt, image, [0])).outliers_of(0) == patches


def test_rows_of_a_patch_and_of_a_head(engine, shown):
    ask, walked = asking(engine, shown), layer_panels.walk(shown[1], TokenTM())
    heads, patches = range(walked.heads), range(walked.patches)
    for head, patch in [(None, 0), (None, walked.patches - 1), (walked.heads - 1, None), (1, 4)]:
        found = ask("rows", head=head, patch=patch)
        asked = ([*heads] if head is None else [head], [*patches] if patch is None else [patch])
        expected = walked.rows([0], *asked, contribution=patch is not None)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            if isinstance(values, list):
                assert found[name] == values
            else:
                assert_close(found[name], values, RANDOM, name)


def test_methods_compared(engine, shown):
    model, _, image, target = shown
    names = ["tokentm", "rollout", "attcat", "attention", "generic_attention"]
    found = asking(engine, shown)("methods", methods=names)
    expected, failures = scores.scores_of(tokentm.record(model, image[None], [target]), names)  # in single precision
    assert list(failures) == (["attcat"] if isinstance(model, VisionTransformerDistilled) else [])
    assert found["methods"] == list(expected)
    assert found["failures"].keys() == failures.keys()
    assert all("cancel to rounding" in reason for reason in found["failures"].values())
    maps = found["scores"].view(len(expected), 1, -1)
    for one, name in zip(maps, expected, strict=True):
        assert_close(one, expected[name], RANDOM, name)
    # what is made of the maps is compared with what Python makes of the very same ones
    assert_close(found["share"], scores.share(maps), 1e-6, "share")
    assert torch.equal(found["rank"], scores.rank(maps).flatten())
    assert_close(found["agreement"], scores.agreement(scores.rank(maps)), 1e-6, "agreement")


def test_a_map_that_ranks_nothing_has_no_agreement(engine, tiny, images):
    model = halved(tiny(1)).eval()
    with torch.no_grad():
        model.blocks[-1].attn.qkv.weight[:48] = 0
        model.blocks[-1].attn.qkv.bias[:48] = 0
    engine.open(model)
    found = engine.ask("methods", image=images(model, 1)[0], target=0, methods=["tokentm", "attention"])
    maps = found["scores"].view(2, 1, -1)
    assert torch.equal(found["rank"], scores.rank(maps).flatten())
    assert torch.equal(found["rank"].view(2, -1)[1], torch.full((6,), 0.5))
    assert found["agreement"].isnan().tolist() == [False, True, True, True]
    assert torch.equal(found["share"].view(2, -1)[1], torch.ones(6))


@pytest.mark.parametrize("count", [1, 5])
def test_strongest_paths(engine, shown, count):
    trace = shown[1]
    found = asking(engine, shown)("paths", count=count)
    assert engine.shares == [i / len(trace.layers) for i in range(len(trace.layers))]
    expected = strongest(trace, count=count + 1)
    patches, layers, heads = expected.through.shape
    assert (found["layers"], found["headCount"], found["count"]) == (layers, heads, count)
    values = expected.values[:, :count]
    assert_close(found["values"], values, RANDOM, "values")
    for name in ("total", "through", "stayed"):
        assert_close(found[name], getattr(expected, name), RANDOM, name)
    # which way a path goes is known where the next weaker and the next stronger one are not about as strong
    gaps = expected.values[:, :-1] - expected.values[:, 1:]
    clear = (gaps > 1e-3 * expected.values[:, :1]) & (values > 0)
    clear[:, 1:] &= clear[:, :-1].clone()
    assert clear.any(0)[: min(count, 2)].all()
    ways = {
        "tokens": found["tokens"].view(patches, count, layers + 1),
        "heads": found["heads"].view(patches, count, -1),
    }
    for name, way in ways.items():
        assert torch.equal(way[clear], getattr(expected, name)[:, :count][clear].to(way)), name
    assert set(ways["heads"].flatten().tolist()) <= {STAYED, *range(heads)}


def test_removal_as_the_perturbation_player_plays_it(engine, shown):
    trace = shown[1]
    names = ["tokentm", "attention", "random"]
    classes = list(range(4))
    player = PerturbationPlayer(trace, names, shown=classes, steps=6, progress=False)
    patches = trace.layout.rows * trace.layout.columns
    shuffle = torch.randperm(patches, generator=torch.Generator().manual_seed(0))
    of = {name: methods.get(name)(trace).scores for name in names}
    orders = {"shuffle": shuffle.tolist(), "random": ranking(of["random"])[0].tolist()}
    found = asking(engine, shown)("removal", methods=names, orders=orders, counts=player.counts)
    assert engine.shares == sorted(engine.shares)
    assert 0 == engine.shares[0] < engine.shares[-1] < 1
    for one, name in zip(found["rankings"], names, strict=True):
        assert sorted(one) == list(range(patches))
        along = of[name][0, one]
        assert (along.diff() <= 1e-5 * along.abs().max()).all(), name
    logits = torch.stack([torch.stack(of) for of in found["logits"]])  # (orders, steps, classes)
    everyone = [order for ranked in found["rankings"] for order in (ranked, ranked[::-1])]
    remove = Removal(trace, "drop", index=0, count=len(everyone))
    for step, count in enumerate(player.counts):
        gone = torch.zeros(len(everyone), patches, dtype=torch.bool)
        for i, order in enumerate(everyone):
            gone[i, order[:count]] = True
        assert_close(logits[:, step], remove(gone), RANDOM, f"logits without {count}")
    curves = logits.softmax(-1).unflatten(0, (-1, 2))[..., classes]
    same = [torch.tensor(one) for one in found["rankings"]]
    alike = [i for i, one in enumerate(same) if torch.equal(one, ranking(of[names[i]])[0])]
    assert len(alike) > 1
    assert_close(curves[alike], player.curves[alike], 1e-4, "curves")


def test_ties_are_broken_by_the_shuffle_alone(engine, tiny, images):
    model = halved(tiny(1)).eval()
    with torch.no_grad():
        model.blocks[-1].attn.qkv.weight[:48] = 0
        model.blocks[-1].attn.qkv.bias[:48] = 0
    engine.open(model)
    shuffle = [4, 0, 5, 2, 1, 3]
    orders = {"shuffle": shuffle, "random": list(range(6))}
    asked = {"methods": ["attention"], "orders": orders, "counts": [0]}
    found = engine.ask("removal", image=images(model, 1)[0], target=0, **asked)
    assert found["rankings"] == [shuffle]


def test_some_patches_alone(engine, shown):
    model, trace, image, _ = shown
    engine.open(model)
    patches = trace.layout.rows * trace.layout.columns
    kept = [[0], [patches - 1, 2], list(range(0, patches, 2)), list(range(patches)), [1, 3]]
    found = [engine.ask("explain", image=image, target=None, methods=[], kept=one)["logits"] for one in kept]
    remove = Removal(trace, "drop")
    for there, logits in zip(kept, found, strict=True):
        gone = torch.ones(1, patches, dtype=torch.bool)
        gone[0, there] = False
        assert_close(logits, remove(gone)[0], RANDOM, f"{there}")


def test_without_any_token_nothing_is_answered(engine, tiny, images):
    model = halved(tiny(**SHOWN["average"])).eval()
    engine.open(model)
    with pytest.raises(EngineError, match="no token is left"):
        engine.ask("explain", image=images(model, 1)[0], target=None, methods=[], kept=[])


# ---- pictures ----

FILTERS = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


def noise(width, height, seed):
    """The hardest of pictures: every pixel by chance, most of them black or white."""
    values = np.random.default_rng(seed).integers(-100, 356, (height, width, 3)).clip(0, 255)
    return Image.fromarray(values.astype(np.uint8))


def assert_same_pixels(found, expected):
    apart = np.abs(found.numpy().astype(int) - np.frombuffer(pixels(expected), np.uint8))
    # older versions of Pillow begin with the rows whatever the sizes, so some pixels are rounded otherwise
    assert apart.max() <= (0 if int(PIL.__version__.split(".")[0]) >= 13 else 2)


def given_picture(picture):
    return {"data": np.frombuffer(pixels(picture), np.uint8), "width": picture.width, "height": picture.height}


@settings(max_examples=60)
@given(st.tuples(*[st.integers(1, 90)] * 4), st.sampled_from(sorted(FILTERS)), st.integers(0, 99))
@example((40, 90, 30, 70), "bilinear", 0)  # as many rows lost as twice the columns: rows first
@example((40, 90, 30, 69), "bilinear", 0)  # one more: columns first
@example((40, 40, 60, 45), "bicubic", 0)
def test_pictures_are_resized_bit_by_bit_as_pillow_does(engine, sizes, name, seed):
    width, height, *to = sizes
    picture = noise(width, height, seed)
    found = engine.ask("resized", **given_picture(picture), to=to, filter=name)["data"]
    expected = picture.resize(to, getattr(Image.Resampling, name.upper()))
    assert_same_pixels(found, expected)


@st.composite
def preparations(draw):
    """A transform of torchvision and the size that it ends in."""
    crop = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    v, both = draw(st.sampled_from((v1, v2))), draw(st.booleans())
    size = [side + draw(st.integers(0, 15)) for side in crop] if both else max(crop) + draw(st.integers(0, 15))
    mean, std = draw(st.tuples(*[st.tuples(*[st.floats(0.1, 0.9)] * 3)] * 2))
    end = [v1.ToTensor()] if v is v1 else [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
    resize = v.Resize(size, interpolation=FILTERS[draw(st.sampled_from(sorted(FILTERS)))])
    return v.Compose([resize, v.CenterCrop(crop), *end, v.Normalize(mean, std)]), crop


@settings(max_examples=60)
@given(preparations(), st.integers(1, 120), st.integers(1, 120), st.integers(0, 99))
def test_pictures_are_prepared_as_torchvision_does(engine, prepared, width, height, seed):
    transform, crop = prepared
    picture = noise(width, height, seed)
    how = preparing(nn.Identity(), transform, crop)
    found = engine.ask("prepared", **given_picture(picture), how=how)
    seen = transform.transforms[1](transform.transforms[0](picture))
    assert found["size"] == [seen.width, seen.height] == [*reversed(crop)]
    assert_same_pixels(found["seen"], seen)
    assert_close(found["image"], transform(picture), 3e-7, "normalised")


@pytest.mark.parametrize("size", [(300, 200), (90, 260), (112, 112), (640, 480)])
@pytest.mark.parametrize("of", ["deit_tiny_patch16_224", "vit_tiny_patch16_224.augreg_in21k_ft_in1k"])
def test_pictures_are_prepared_as_timm_does(engine, of, size):
    config = timm.data.resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(of).to_dict())
    transform = timm.data.create_transform(**config)
    how = preparing(nn.Identity(), transform, config["input_size"][1:])
    picture = noise(*size, 3)
    found = engine.ask("prepared", **given_picture(picture), how=how)
    assert_close(found["image"], transform(picture), 3e-7, of)


def test_pictures_of_the_demo_differ_by_one_level_at_most(engine, demo):
    """Its transform resizes tensors, in which torch rounds otherwise than Pillow."""
    how = preparing(demo.model, None, (112, 112))
    for size in ((300, 200), (90, 260), (112, 112), (50, 40)):
        picture = noise(*size, 4)
        found = engine.ask("prepared", **given_picture(picture), how=how)
        apart = (found["image"].view(3, 112, 112) - demo.transform(picture)).abs()
        assert (apart * torch.tensor(how["std"])[:, None, None] * 255).max() < 1.001


def test_pictures_too_small_for_a_crop_are_refused(engine):
    how = {"size": None, "filter": "bilinear", "crop": [8, 8], "mean": [0, 0, 0], "std": [1, 1, 1]}
    with pytest.raises(EngineError, match="expected at least 8 x 8 pixels after resizing; got 9 x 7"):
        engine.ask("prepared", **given_picture(noise(9, 7, 0)), how=how)


# ---- a model of usual size ----


def test_a_tiny_deit_is_explained_alike_within_seconds(engine, capsys):
    model = timm.create_model("deit_tiny_patch16_224").eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scales = "norm" in name and name.endswith("weight")
            spread = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(spread * (0.1 if parameter.ndim < 2 else 0.8 / parameter[0].numel() ** 0.5) + float(scales))
    model, image = halved(model), torch.randn(3, 224, 224, generator=generator)
    engine.open(model)
    assert_same_explanations(engine, model, image, [207], ["tokentm", "generic_attention", "grad_cam"], RANDOM)
    runs = [engine.ask("timed", image=image, target=207, method="tokentm")["ms"] for _ in range(2)]
    times = [min(of) for of in zip(*runs, strict=True)]
    with capsys.disabled():
        print("\nDeiT-Ti in Node.js: forward {:.0f} ms, backward {:.0f} ms, TokenTM {:.0f} ms".format(*times))
    assert sum(times) < 10_000

"""Maps of tokens inside the model: the loop-written method says the same, together as alone; and what segments say."""

from __future__ import annotations

from copy import deepcopy
from itertools import permutations

import numpy as np
import pytest
import reference
import timm
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from test_attention_written import Letters, double
from test_many_classes import Looking
from test_trace import assert_unchanged, everything_about
from torch.nn import functional as F
from zoo import ZOO

import tokentm
from tokentm import InvalidOptionError, UnsupportedModelError, ZeroTokenError
from tokentm.evaluation import matched_miou, with_background
from tokentm.hooks import recording
from tokentm.isolation import isolated
from tokentm.latent import CUT, LatentMaps, latent, segment
from tokentm.linkage import average_linkage, cosine_distances
from tokentm.vit import Layout

pytestmark = pytest.mark.filterwarnings("ignore::tokentm.ModelFoundWarning")

SWITCHED_OFF = dict.fromkeys(("length", "direction", "ffn", "initialise"), False)


def looped(model, images, layer, tokens, method, score):
    """(B, T, P): one backward pass for each token, whole matrices for each layer, entry by entry."""
    model = deepcopy(model).double().eval().requires_grad_()
    images_done = []
    for image in images.double():
        x = model.norm_pre(model._pos_embed(model.patch_embed(image[None])))[0]
        layers = []
        for block in list(model.blocks)[:layer]:
            layers.append(reference._run_block(block, x))
            x = layers[-1].out
        prefix = len(x) - model.patch_embed.num_patches
        rows = []
        for token in tokens:
            length = torch.sqrt((x[token] ** 2).sum())
            s = (x[token] / length.detach()).sum() if score == "sum" else length
            gradients = iter(torch.autograd.grad(s, [a for one in layers for a in one.attention], retain_graph=True))
            for one in layers:
                one.gradient = [next(gradients) for _ in one.attention]
            readout = [1.0 if i == token else 0.0 for i in range(len(x))]
            switches = SWITCHED_OFF if method == "ultra" else {}
            rows.append(reference.tokentm([reference.Pass(layers, x, readout, prefix)], **switches)[0, -1])
        images_done.append(torch.stack(rows))
    return torch.stack(images_done)


@pytest.mark.parametrize("score", ["sum", "norm"])
@pytest.mark.parametrize("method", ["ultra", "tokentm"])
def test_the_loop_written_method_says_the_same_of_every_kind(variant, images, relative, method, score):
    model = variant.double()
    pixels = images(model, 2)
    for layer in (1, 2):
        found = latent(model, pixels, layer, method=method, score=score)
        expected = looped(model, pixels, layer, found.tokens, method, score)
        assert relative(found.maps, expected) < 1e-9
    assert found.tokens == tuple(range(found.layout.prefix, found.layout.tokens))


@pytest.mark.parametrize("layer", [1, 2, 3, 4])
def test_any_token_at_any_layer(tiny, images, relative, layer):
    model = tiny(depth=4, reg_tokens=2).double()
    pixels, tokens = images(model, 1), [8, 0, 2, 8]
    for method in ("ultra", "tokentm"):
        found = latent(model, pixels, layer, tokens, method)
        assert (found.tokens, found.layer, found.method, found.score) == (tuple(tokens), layer, method, "sum")
        assert relative(found.maps, looped(model, pixels, layer, tokens, method, "sum")) < 1e-9


SEVERAL = [
    "timm ViT, average without class token",
    "timm ViT, registers, LayerScale",
    "timm ViT, features",
    "timm ViT, unfused attention",
    "timm ViT, attention pooling",
    "timm EVA-02",
    "Hugging Face ViTForImageClassification",
    "Hugging Face ViTForImageClassification, eager",
    "Hugging Face Dinov2WithRegistersForImageClassification",
    "Hugging Face ViTModel",
    "torchvision ViT",
    "DINOv2 of torch.hub",
]


@pytest.mark.parametrize("name", SEVERAL)
def test_several_families_by_autograd_one_token_at_a_time(name, relative):
    (specimen,) = [one for one in ZOO if one.name == name]
    try:
        model = specimen.build()
    except ImportError as error:
        pytest.skip(str(error))
    pixels = specimen.images(1)
    anatomy = tokentm.describe(model, pixels)
    layer = len(anatomy.blocks)
    found = latent(model, pixels, layer)
    assert found.grid().shape == (1, len(found.tokens), *specimen.grid)
    assert found.tokens[0] == specimen.prefix

    def one_by_one():
        with recording(tokentm.vit.ready(anatomy)) as passes:
            anatomy.answer(pixels)
        nodes = [seen.attention[0] for seen in passes.blocks]
        stream, rows = passes.blocks[-1].stream_out, []
        for token in found.tokens:
            s = stream[0, token].sum() / stream[0, token].detach().norm()
            product = torch.eye(stream.shape[1])
            for a, g in zip(nodes, torch.autograd.grad(s, nodes, retain_graph=True), strict=True):
                product = product + (a * g).relu().mean(1)[0] @ product
            rows.append(product[token, specimen.prefix :].detach())
        return torch.stack(rows)[None]

    assert relative(found.maps, isolated(one_by_one)) < 1e-5


@pytest.mark.parametrize("method", ["ultra", "tokentm"])
def test_together_and_alone_are_the_same_in_single_precision(tiny, images, relative, method):
    model = tiny(depth=3)
    pixels = images(model, 2)
    together = latent(model, pixels, 3, method=method)
    for i, one in enumerate(pixels):
        alone = [latent(model, one[None], 3, [token], method).maps for token in together.tokens]
        assert relative(together.maps[i : i + 1], torch.cat(alone, 1)) < 1e-6


def test_as_many_go_down_together_as_fit(tiny, images, relative, monkeypatch):
    model = tiny(depth=3).double()
    pixels = images(model, 1)
    expected = latent(model, pixels, 3).maps
    gone = []
    tokens = tokentm.descent.Descent.tokens

    def counted(self, layer, start, reads):
        gone.append(len(reads))
        return tokens(self, layer, start, reads)

    monkeypatch.setattr(tokentm.descent.Descent, "tokens", counted)
    for budget, sizes in ((1, [1] * 6), (4 * 8 * 7 * 24 * 8, [4, 2]), (2**30, [6])):
        gone.clear()
        monkeypatch.setattr("tokentm.latent.BUDGET", budget)
        assert relative(latent(model, pixels, 3).maps, expected) < 1e-12
        assert gone == sizes


def test_all_tokens_share_one_forward_pass(tiny, images):
    model = tiny(depth=3)
    pixels = images(model, 2)
    passed = []
    model.register_forward_pre_hook(lambda _module, args: passed.append(len(args[0])))
    latent(model, pixels, 2)  # the model is looked at once
    passed.clear()
    latent(model, pixels, 2)
    assert passed == [1, 1]


def test_an_operation_that_cannot_take_several_gradients_takes_one_after_the_other(tiny, images, relative):
    model = tiny(depth=3).double()
    pixels = images(model, 1)
    expected = latent(model, pixels, 3).maps
    model.blocks[1].mlp.act = Looking()
    assert relative(latent(model, pixels, 3).maps, expected) < 1e-12


def test_attention_written_by_hand(relative):
    model = double(Letters)
    pixels = torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(1)).double()
    together = latent(model, pixels, 2, method="tokentm")
    alone = torch.cat([latent(model, pixels, 2, [token], "tokentm").maps for token in together.tokens], 1)
    assert relative(together.maps, alone) < 1e-12


@pytest.mark.parametrize("method", ["ultra", "tokentm"])
def test_a_model_that_returns_its_class_token_is_explained_alike(tiny, images, relative, method):
    model = tiny(depth=3, num_classes=0, final_norm=False).double()
    pixels = images(model, 2)
    lengths = model(pixels).detach().norm(dim=1)
    reading = tokentm.TokenTM(**(SWITCHED_OFF if method == "ultra" else {}))
    expected = tokentm.explain(model, pixels, lambda features: features.sum(1) / lengths, reading).scores
    assert relative(latent(model, pixels, 3, [0], method).maps[:, 0], expected) < 1e-12


def test_pictures_and_the_demo(relative):
    demo = tokentm.load_demo()
    scene = demo.scene(3)
    found = latent(demo.model, scene.image, 2, [0, 105])
    assert found.grid().shape == (1, 2, 14, 14)
    assert found.image_size == (112, 112)
    assert repr(found) == "LatentMaps(ultra, images=1, tokens=2 after 2 blocks, grid=(14, 14))"
    again = latent(demo.model, demo.transform(scene.image)[None], 2, [0, 105])
    assert relative(found.maps, again.maps) < 1e-4


def test_nothing_stays_on_the_model_however_it_ends(tiny, images):
    model = tiny(depth=3)
    pixels = images(model, 2)
    latent(model, pixels, 3)
    before, heard = everything_about(model), []
    latent(model, pixels, 3, report=heard.append)
    assert_unchanged(before, model)
    assert heard == sorted(heard)
    assert heard[-1] == 1
    assert len(heard) == 2  # one for each image, all of whose tokens fit

    def ends(share):
        raise ValueError(share)

    with pytest.raises(ValueError, match=r"^0\.5$"):
        latent(model, pixels, 3, report=ends)
    assert_unchanged(before, model)


def test_what_does_not_exist_is_refused_by_name(tiny, images):
    model = tiny(depth=3)
    pixels = images(model, 1)
    for layer in (0, 4, -1, True, 1.0, "1", None):
        with pytest.raises(InvalidOptionError, match=r"expected a layer from 1 to 3, .*; got") as error:
            latent(model, pixels, layer)
        assert repr(layer) in str(error.value)
    for tokens, said in (
        ([7], "got 7"),
        ([0, -1, 99], "got -1, 99"),
        ([], "got none"),
        ([True, 1.5], "got True, 1.5"),
        (3, "got 3"),
        ("2", "got '2'"),
    ):
        with pytest.raises(
            InvalidOptionError, match="expected a list of tokens from 0 to 6, 1 before the patches; " + said
        ):
            latent(model, pixels, 1, tokens)
    with pytest.raises(InvalidOptionError, match="expected method 'ultra' or 'tokentm'; got 'rollout'"):
        latent(model, pixels, 1, method="rollout")
    with pytest.raises(InvalidOptionError, match="expected score 'sum' or 'norm'; got 'mean'"):
        latent(model, pixels, 1, score="mean")


def test_models_without_such_a_token_or_gradient_are_refused(tiny, images):
    with pytest.raises(UnsupportedModelError):
        latent(timm.create_model("test_resnet").eval(), torch.randn(1, 3, 64, 64), 1)
    model = tiny(depth=3)
    pixels = images(model, 1)
    hook = model.blocks[0].attn.register_forward_hook(lambda _module, _args, output: output.detach())
    with pytest.raises(UnsupportedModelError, match="reach the attention of the first block"):
        latent(model, pixels, 2)
    hook.remove()
    with torch.no_grad():
        model.cls_token.zero_()
        model.pos_embed.zero_()
        for part in (model.blocks[0].attn.proj, model.blocks[0].mlp.fc2):
            part.weight.zero_()
            part.bias.zero_()
    with pytest.raises(ZeroTokenError, match=r"number\(s\) \[1\] of those asked for"):
        latent(model, pixels, 1, [2, 0])


# segments


def merged_by_hand(distances, groups=1, cut=np.inf):
    """Members of every group; each average distance is taken anew from all pairs of members."""
    found = [[i] for i in range(len(distances))]
    while len(found) > groups:
        pairs = [(a, b) for a in range(len(found)) for b in range(a + 1, len(found))]
        far = [np.mean([distances[i, j] for i in found[a] for j in found[b]]) for a, b in pairs]
        a, b = pairs[int(np.argmin(far))]
        if min(far) > cut:
            break
        found[a] += found.pop(b)
    return {frozenset(group) for group in found}


def groups_of(labels):
    return {frozenset((labels == k).nonzero().flatten().tolist()) for k in labels.unique()}


@pytest.mark.parametrize("seed", range(3))
def test_average_linkage_is_that_of_loops_and_of_scipy(seed):
    vectors = torch.rand(17, 6, generator=torch.Generator().manual_seed(seed))
    distances = cosine_distances(vectors)
    expected = torch.tensor(
        [[1 - float(a @ b) / float(a.norm() * b.norm()) for b in vectors.double()] for a in vectors.double()]
    )
    torch.testing.assert_close(distances, expected.double(), rtol=1e-5, atol=1e-6)
    tree = linkage(squareform(distances.numpy(), checks=False), "average")
    for groups in (1, 2, 5, 17):
        labels = average_linkage(distances, groups)
        assert groups_of(labels) == merged_by_hand(distances.numpy(), groups)
        firsts = [int((labels == k).nonzero()[0]) for k in range(groups)]
        assert firsts == sorted(firsts)
    for cut in (0.0, 0.05, 0.1, 0.3, 2.0):
        found = groups_of(average_linkage(distances, cut=cut))
        assert found == merged_by_hand(distances.numpy(), cut=cut)
        assert found == groups_of(torch.tensor(fcluster(tree, cut, "distance")))


def test_of_equally_close_pairs_the_first_is_merged():
    square = torch.tensor([[0.0, 1.0, 2.0, 1.0], [1.0, 0.0, 1.0, 2.0], [2.0, 1.0, 0.0, 1.0], [1.0, 2.0, 1.0, 0.0]])
    assert average_linkage(square, 3).tolist() == [0, 0, 1, 2]
    assert average_linkage(square, 2).tolist() == [0, 0, 1, 1]
    assert average_linkage(square, cut=1.0).tolist() == [0, 0, 1, 1]  # what lies just at the cut is merged, too
    assert torch.equal(square.diagonal(), torch.zeros(4))  # what was given is left as it was


def test_a_map_without_direction_is_as_far_as_a_right_angle():
    found = cosine_distances(torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]))
    assert found.tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]


def synthetic(truth, noise=0.1, prefix=1, seed=0):
    """Maps of patches that see the patches of their own region, their own patch most of all."""
    rows, columns = truth.shape
    flat = truth.flatten()
    maps = (flat[:, None] == flat).float()
    maps = (
        maps + noise * torch.rand(maps.shape, generator=torch.Generator().manual_seed(seed)) + 50 * torch.eye(len(flat))
    )
    tokens = tuple(range(prefix, prefix + len(flat)))
    return LatentMaps(maps[None], tokens, 1, "ultra", "sum", Layout(prefix, rows, columns), (8 * rows, 8 * columns))


def test_a_known_partition_is_found_again():
    truth = torch.zeros(6, 7, dtype=torch.long)
    truth[1:4, 2:5], truth[5] = 1, 2
    maps = synthetic(truth)
    assert torch.equal(segment(maps, 3), truth[None])
    assert torch.equal(segment(maps), truth[None])  # maps of a region differ by less than the cut, regions by more
    one = segment(maps, 1)
    assert torch.equal(one, torch.zeros_like(one))


def test_segments_are_those_of_loops():
    generator = torch.Generator().manual_seed(4)
    rows, columns, prefix = 3, 4, 2
    values = torch.rand(2, 12, 12, generator=generator) + torch.eye(12)
    tokens = (*range(prefix + 1, prefix + 12), 0)  # all patches but the first, and a prefix token
    maps = LatentMaps(values, tokens, 1, "ultra", "sum", Layout(prefix, rows, columns), (24, 32))
    for clusters in (None, 1, 4, 12):
        expected = []
        for one in values.double():
            filled = one.clone()
            for t, token in enumerate(tokens):
                if token >= prefix:
                    others = [filled[t, p] for p in range(12) if p != token - prefix]
                    filled[t, token - prefix] = max(others)
            distances = cosine_distances(filled).numpy()
            cut = CUT if clusters is None else np.inf
            groups = sorted(map(sorted, merged_by_hand(distances, clusters or 1, cut)))
            sums = [sum(filled[t] for t in group) for group in groups]
            scaled = [(total - total.min()) / (total.max() - total.min()) for total in sums]
            best = [max(range(len(groups)), key=lambda k, p=p: float(scaled[k][p])) for p in range(12)]
            expected.append(torch.tensor(best).view(rows, columns))
        assert torch.equal(segment(maps, clusters), torch.stack(expected))
    assert torch.equal(maps.maps, values)


def test_segments_of_what_is_no_map_or_no_number_are_refused():
    maps = synthetic(torch.zeros(2, 2, dtype=torch.long))
    for wrong in (0, 5, True, 2.0):
        with pytest.raises(InvalidOptionError, match="expected a number of clusters from 1 to 4"):
            segment(maps, wrong)
    with pytest.raises(InvalidOptionError, match=r"expected LatentMaps, from tokentm\.latent\(\.\.\.\); got Tensor"):
        segment(maps.maps)


def best_by_hand(labels, regions):
    """Every way to give clusters to regions is tried, pixel by pixel."""
    (rows, columns), (height, width) = labels.shape, regions.shape[1:]
    pixels = [(y, x) for y in range(height) for x in range(width)]
    of = {(y, x): int(labels[y * rows // height, x * columns // width]) for y, x in pixels}
    names = [*sorted(set(of.values())), *([None] * len(regions))]
    best = 0.0
    for chosen in set(permutations(names, len(regions))):
        shares = []
        for name, region in zip(chosen, regions, strict=True):
            both = sum(1 for y, x in pixels if of[y, x] == name and region[y, x])
            either = sum(1 for y, x in pixels if of[y, x] == name or region[y, x])
            shares.append(both / either)
        best = max(best, sum(shares) / len(regions))
    return best


@pytest.mark.parametrize("clusters", [1, 2, 3, 5])
def test_the_best_match_is_that_of_all_matches(clusters):
    generator = torch.Generator().manual_seed(clusters)
    truth = torch.randint(0, 3, (6, 9), generator=generator)
    regions = torch.stack([truth == k for k in range(3)])
    labels = torch.randint(0, clusters, (2, 3), generator=generator) * 7 + 3
    assert matched_miou(labels, regions) == pytest.approx(best_by_hand(labels, regions), abs=1e-12)


def test_names_of_clusters_do_not_count_and_the_truth_is_best():
    truth = torch.tensor([[0, 0, 1], [2, 2, 1]])
    regions = F.one_hot(truth.repeat_interleave(4, 0).repeat_interleave(4, 1)).permute(2, 0, 1).bool()
    assert matched_miou(truth, regions) == 1
    assert matched_miou(5 - truth, regions) == 1
    assert matched_miou(torch.zeros_like(truth), regions) == pytest.approx(1 / 9)


def test_background_is_what_no_object_covers():
    masks = torch.tensor([[[True, False, False]], [[False, True, False]]])
    assert with_background(masks).tolist() == [*masks.tolist(), [[False, False, True]]]


def test_regions_that_do_not_fit_are_refused():
    labels, region = torch.zeros(1, 2, dtype=torch.long), torch.ones(1, 1, 2, dtype=torch.bool)
    with pytest.raises(InvalidOptionError, match=r"region\(s\) \[1\] without a pixel"):
        matched_miou(labels, with_background(region))
    with pytest.raises(InvalidOptionError, match="belong to several"):
        matched_miou(labels, torch.cat((region, region)))
    for wrong, regions in ((labels[0], region), (labels.float(), region), (labels, region.int()), (labels, region[0])):
        with pytest.raises(InvalidOptionError, match=r"expected whole numbers \(rows, columns\) and boolean regions"):
            matched_miou(wrong, regions)

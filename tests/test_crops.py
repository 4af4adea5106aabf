"""Where in the original picture the model looked, measured and known beforehand."""

from __future__ import annotations

import math
import random
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

import tokentm
from tokentm import InvalidOptionError, Prepared, prepare
from tokentm.explanation import Explanation
from tokentm.pictures import Crop

SIZES = [(640, 480), (480, 640), (333, 500), (1200, 310), (90, 60), (2048, 1536)]


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    shape = (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def resized_and_cut(size: tuple[int, int], shorter: int, cut: int) -> list[float]:
    """Where a centre crop of the resized picture lies, as torchvision computes it."""
    width, height = size
    wide = (int(shorter * width / height), shorter) if width >= height else (shorter, int(shorter * height / width))
    starts = [round((side - cut) / 2) for side in wide]
    ends = [start + cut for start in starts]
    return [v * original / side for v, original, side in zip(starts + ends, size * 2, wide * 2, strict=True)]


def corners(crop: Crop | None) -> list[float]:
    assert crop is not None
    return [crop.left, crop.top, crop.right, crop.bottom]


def squeezed_towards_one_side(picture: Image.Image) -> Image.Image:
    """Columns stay columns, but not evenly spaced."""
    width = picture.width
    return Image.fromarray(np.asarray(picture)[:, (np.linspace(0, 1, width) ** 1.3 * (width - 1)).round().astype(int)])


def cut_by_the_dice_of_python(picture: Image.Image) -> Image.Image:
    left = random.randrange(20)
    return picture.crop((left, 0, left + 64, 64))


def cut_by_the_dice_of_numpy(picture: Image.Image) -> Image.Image:
    left = int(np.random.randint(20))
    return picture.crop((left, 0, left + 64, 64))


def tail(*first: object) -> v2.Compose:
    normalise = v2.Normalize([0.4, 0.5, 0.6], [0.2, 0.3, 0.4])
    return v2.Compose([*first, v2.ToImage(), v2.ToDtype(torch.float32, scale=True), normalise])


@pytest.fixture(scope="module")
def model():
    return timm.create_model("test_vit", num_classes=5, img_size=64).eval()


@pytest.fixture(scope="module")
def grey_model():
    return timm.create_model("test_vit", num_classes=5, img_size=64, in_chans=1).eval()


def test_timm_s_transform(model):
    prepared = prepare(model, [noise(size) for size in SIZES])
    for size, crop in zip(SIZES, prepared.crops, strict=True):
        assert corners(crop) == pytest.approx(resized_and_cut(size, math.floor(64 / 0.95), 64), abs=1)


def test_a_model_of_one_channel(grey_model):
    prepared = prepare(grey_model, [noise(size) for size in SIZES])
    for size, crop in zip(SIZES, prepared.crops, strict=True):
        assert corners(crop) == pytest.approx(resized_and_cut(size, math.floor(64 / 0.95), 64), abs=1)


def test_torchvision_s_preset(model):
    transform = torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1.transforms(crop_size=64, resize_size=80)
    prepared = prepare(model, [noise(size) for size in SIZES], transform)
    for size, crop in zip(SIZES, prepared.crops, strict=True):
        assert corners(crop) == pytest.approx(resized_and_cut(size, 80, 64), abs=1)


def test_a_hugging_face_processor_squeezes_all_of_it(model):
    transformers = pytest.importorskip("transformers")
    processor = transformers.ViTImageProcessor(size={"height": 64, "width": 64})
    prepared = prepare(model, [noise(size) for size in SIZES], processor)
    for size, crop in zip(SIZES, prepared.crops, strict=True):
        assert corners(crop) == pytest.approx([0, 0, *size], abs=1)


@pytest.mark.parametrize("fill", [0, 255, 128])
def test_a_crop_reaches_beyond_the_picture_where_the_transform_pads(model, fill):
    prepared = prepare(model, noise((320, 240)), tail(v2.Pad((0, 40), fill=fill), v2.Resize((64, 64))))
    assert corners(prepared.crops[0]) == pytest.approx([0, -40, 320, 280], abs=1)


@pytest.mark.parametrize(
    "part",
    [
        v2.RandomRotation((5, 5)),
        v2.RandomRotation((90, 90)),
        v2.RandomHorizontalFlip(1.0),
        v2.RandomPerspective(0.5, 1.0),
        v2.Lambda(squeezed_towards_one_side),
        v2.Grayscale(3),
        v2.Lambda(lambda picture: v2.functional.adjust_brightness(picture, 1.1)),
    ],
    ids=lambda part: type(part).__name__,
)
def test_what_is_no_upright_rectangle_is_not_known(model, part):
    torch.manual_seed(0)
    assert prepare(model, noise((320, 240)), tail(v2.Resize((64, 64)), part)).crops == [None]


@pytest.mark.parametrize(
    "part",
    [
        v2.RandomCrop(64),
        v2.RandomResizedCrop(64),
        v2.Compose([v2.Resize((64, 64)), v2.RandomHorizontalFlip()]),
        v2.Lambda(cut_by_the_dice_of_python),
        v2.Lambda(cut_by_the_dice_of_numpy),
    ],
)
def test_a_random_part_is_not_known_and_no_generator_is_moved(model, part):
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    prepared = prepare(model, noise((100, 80)), tail(part))
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()
    assert prepared.crops == [None]
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    np.testing.assert_equal(np.random.get_state(), before[2])


def test_pictures_of_a_few_pixels_are_too_small_to_tell(model):
    assert prepare(model, noise((3, 2))).crops == [None]


def test_without_mean_or_originals_nothing_is_known(model):
    plain = v2.Compose([v2.PILToTensor(), v2.Resize((64, 64)), v2.ToDtype(torch.float32, scale=True)])
    assert prepare(model, noise((90, 60)), plain).crops == [None]
    prepared = Prepared(torch.zeros(2, 3, 64, 64), (0.5,) * 3, (0.5,) * 3)
    assert prepared.crops == [None, None]
    with pytest.raises(FrozenInstanceError):
        prepared.mean = None


def test_crops_are_measured_once_for_a_size_and_only_when_asked(model):
    calls = []
    inner = tail(v2.Resize((64, 64)))

    def transform(picture: Image.Image) -> torch.Tensor:
        calls.append(picture.size)
        return inner(picture)

    transform.mean, transform.std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    prepared = prepare(model, [noise((90, 60)), noise((60, 90)), noise((90, 60), 1)], transform)
    assert len(calls) == 3
    first = prepared.crops
    assert sorted(set(calls[3:])) == [(60, 90), (90, 60)]
    count = len(calls)
    assert prepared.crops == first
    assert len(calls) == count
    assert first[0] == first[2]


def explained(prepared: Prepared, scores: torch.Tensor, grid: tuple[int, int], **more: object) -> Explanation:
    size = tuple(prepared.images.shape[2:])
    logits = torch.zeros(len(scores), 5)
    return Explanation(
        "test", scores, scores.new_zeros(len(scores), 0, scores.shape[1]), grid, logits, None, size, **more
    )


def test_maps_on_originals_lie_where_the_model_looked(model):
    # a linear map stays one, whatever its size: x of the original can be read off
    prepared = prepare(model, noise((640, 480)), tail(v2.Resize(64), v2.CenterCrop(64)))
    crop = prepared.crops[0]
    columns = torch.arange(8.0).repeat(8)[None]
    heat = prepared.on_originals(explained(prepared, columns, (8, 8)))[0]
    assert heat.shape == (480, 640)
    x = torch.arange(640) + 0.5
    inside = (x >= crop.left) & (x < crop.right)
    assert torch.equal(~heat.isnan(), inside.expand(480, 640))
    expected = ((x - crop.left) / (crop.right - crop.left) * 8 - 0.5).clamp(0, 7)
    torch.testing.assert_close(heat[200, inside], expected[inside], atol=1e-4, rtol=0)


def test_a_map_on_the_original_is_the_heat_map_where_nothing_was_changed(model):
    transform = tail()
    prepared = prepare(model, [noise((64, 64)), noise((64, 64), 1)], transform)
    explanation = explained(prepared, torch.rand(2, 16, generator=torch.Generator().manual_seed(0)), (4, 4))
    for found, expected in zip(prepared.on_originals(explanation), explanation.heatmap(), strict=True):
        both = ~found.isnan()
        assert both[1:-1, 1:-1].all()
        torch.testing.assert_close(found[both], expected[both], atol=0.01, rtol=0)


def test_two_classes_of_one_picture_lie_on_the_same_original(model):
    prepared = prepare(model, noise((90, 60)))
    first, second = prepared.on_originals(tokentm.explain(model, prepared.images.expand(2, -1, -1, -1), [0, 1]))
    assert first.shape == second.shape == (60, 90)
    assert torch.equal(first.isnan(), second.isnan())


def test_what_fits_no_original_is_refused(model):
    prepared = prepare(model, [noise((90, 60))] * 2)
    scores = torch.zeros(2, 16)
    with pytest.raises(InvalidOptionError, match=r"these 2 images of \(64, 64\) .* got one of 3 images"):
        prepared.on_originals(explained(prepared, torch.zeros(3, 16), (4, 4)))
    with pytest.raises(InvalidOptionError, match=r"got one of 2 images of \(32, 64\)\. Explain prepared\.images"):
        prepared.on_originals(replace(explained(prepared, scores, (4, 4)), image_size=(32, 64)))
    bare = Prepared(prepared.images, prepared.mean, prepared.std)
    with pytest.raises(InvalidOptionError, match=r"picture\(s\) \[0, 1\] .*made without originals.*plot\(images="):
        bare.on_originals(explained(prepared, scores, (4, 4)))
    turned = prepare(model, [noise((90, 60))] * 2, tail(v2.Resize((64, 64)), v2.RandomHorizontalFlip(1.0)))
    with pytest.raises(InvalidOptionError, match=r"an upright rectangle .*picture\(s\) \[0, 1\] .*mirrored"):
        turned.on_originals(explained(prepared, scores, (4, 4)))


def test_a_shifted_token_s_value_stands_where_it_looks():
    grid, size = (3, 4), (24, 64)  # patches of 8 x 16 pixels
    scores = torch.rand(2, 12, generator=torch.Generator().manual_seed(0))
    base = Explanation("test", scores, scores[:, None][:, :0], grid, torch.zeros(2, 5), None, size)
    shifted = replace(base, offset=(0.25, -0.125))  # 2 pixels down, 2 to the left
    y, x = torch.tensor([6.0, 14.0, 22.0]), torch.tensor([6.0, 22.0, 38.0, 54.0])
    torch.testing.assert_close(shifted.values_at(1, y, x), scores[1].unflatten(0, grid), atol=1e-6, rtol=0)
    old, new = base.heatmap(), shifted.heatmap()
    torch.testing.assert_close(new[:, 2:, :-2], old[:, :-2, 2:], atol=1e-6, rtol=0)
    torch.testing.assert_close(new[:, 0], new[:, 2], atol=1e-6, rtol=0)  # beyond the outermost centres they go on
    double = shifted.heatmap((48, 128))
    torch.testing.assert_close(double[:, ::2, ::2].mean(), double.mean(), atol=0.02, rtol=0)
    torch.testing.assert_close(
        (double[:, ::2] + double[:, 1::2]).unflatten(2, (64, 2)).mean(3) / 2, new, atol=0.02, rtol=0
    )


def test_without_a_shift_the_heat_map_is_bit_equal_to_interpolation():
    scores = torch.rand(2, 12, generator=torch.Generator().manual_seed(0))
    base = Explanation("test", scores, scores[:, None][:, :0], (3, 4), torch.zeros(2, 5), None, (24, 64))
    expected = torch.nn.functional.interpolate(scores.view(2, 1, 3, 4), (24, 64), mode="bilinear")[:, 0]
    assert torch.equal(base.heatmap(), expected)
    y, x = torch.arange(24) + 0.5, torch.arange(64) + 0.5
    torch.testing.assert_close(base.values_at(0, y, x), expected[0], atol=1e-6, rtol=0)

"""Pictures through each library's own preprocessing, and back to what the model saw."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionTransformer
from torchvision.transforms import v2

import tokentm
from tokentm import InvalidImagesError, InvalidOptionError, prepare

transformers = pytest.importorskip("transformers")


def picture(width: int = 90, height: int = 60) -> Image.Image:
    """Smooth, so that resizing keeps its colours; every corner of another colour."""
    y, x = np.mgrid[0 : height - 1 : height * 1j, 0 : width - 1 : width * 1j]
    return Image.fromarray(np.stack([255 * x / width, 255 * y / height, 128 + 0 * x], -1).astype(np.uint8))


@pytest.fixture(scope="module")
def timm_model():
    return timm.create_model("test_vit", num_classes=5, img_size=64).eval()


@pytest.fixture(scope="module")
def huggingface():
    sizes = {"image_size": 48, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.ViTConfig(**sizes, intermediate_size=48)
    return transformers.ViTForImageClassification(config).eval()


def test_timm_s_own_configuration_is_used_at_the_model_s_size(timm_model):
    prepared = prepare(timm_model, picture())
    config = timm.data.resolve_model_data_config(timm_model) | {"input_size": (3, 64, 64)}
    expected = timm.data.create_transform(**config)(picture())
    assert torch.equal(prepared.images, expected[None])
    assert (prepared.mean, prepared.std) == (config["mean"], config["std"])


def test_the_model_s_own_configuration_counts_and_not_a_common_one():
    overlay = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "crop_pct": 1.0}
    model = timm.create_model("test_vit", img_size=64, pretrained_cfg_overlay=overlay).eval()
    grey = Image.new("RGB", (64, 64), (51, 102, 153))
    found = prepare(model, grey).images[0, :, 0, 0]
    torch.testing.assert_close(found, torch.tensor([(0.2 - 0.1) / 0.4, (0.4 - 0.2) / 0.5, (0.6 - 0.3) / 0.6]))


def test_the_demo_s_transform_is_its_model_s_configuration():
    demo = tokentm.load_demo()
    image = demo.scene(4).image
    torch.testing.assert_close(prepare(demo.model, image).images[0], demo.transform(image))


def test_what_the_model_saw_lies_where_the_picture_was_cropped(timm_model):
    wide = picture(128, 64)
    prepared = prepare(timm_model, [wide, wide.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
    assert prepared.images.shape == (2, 3, 64, 64)
    first, second = (np.asarray(one).astype(int) for one in prepared.seen)
    assert first.shape == (64, 64, 3)
    # the middle half is left of a picture twice as wide as high: red runs from a quarter to three quarters or inside
    assert 255 / 4 - 2 <= first[32, 0, 0] < 128 < first[32, -1, 0] <= 255 * 3 / 4 + 2
    assert abs(first[:, ::-1] - second).max() <= 3


def test_pictures_and_paths_are_explained_like_their_tensors(timm_model, tmp_path):
    path = tmp_path / "picture.png"
    picture().save(path)
    prepared = prepare(timm_model, path)
    expected = tokentm.explain(timm_model, prepared.images, 2)
    for given in (path, str(path), picture(), [picture()]):
        assert torch.equal(tokentm.explain(timm_model, given, 2).scores, expected.scores)
    expected.plot(images=prepared.seen)


def test_a_photograph_taken_sideways_is_turned(timm_model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    path = tmp_path / "photo.png"
    picture().save(path, exif=exif)
    upright = picture().transpose(Image.Transpose.ROTATE_270)
    assert torch.equal(prepare(timm_model, path).images, prepare(timm_model, upright).images)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_other_colour_modes_become_rgb(timm_model, mode):
    image = picture().convert(mode)
    assert torch.equal(prepare(timm_model, image).images, prepare(timm_model, image.convert("RGB")).images)


def test_images_have_the_dtype_of_the_model(timm_model):
    assert prepare(timm.create_model("test_vit", img_size=64).double().eval(), picture()).images.dtype == torch.float64


def test_a_hugging_face_processor_prepares_and_tells_its_statistics(huggingface):
    size = {"height": 48, "width": 48}
    processor = transformers.ViTImageProcessor(size=size, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4])
    prepared = prepare(huggingface, picture(), processor)
    torch.testing.assert_close(prepared.images, processor(images=picture(), return_tensors="pt")["pixel_values"])
    assert prepared.mean == (0.4, 0.5, 0.6)
    plain = prepare(huggingface, picture(), transformers.ViTImageProcessor(size=size, do_normalize=False))
    assert abs(np.asarray(plain.seen[0]).astype(int) - np.asarray(prepared.seen[0])).max() <= 1


def test_a_hugging_face_model_uses_the_processor_saved_beside_it(huggingface, tmp_path):
    huggingface.save_pretrained(tmp_path)
    size = {"height": 48, "width": 48}
    processor = transformers.ViTImageProcessor(size=size, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4])
    processor.save_pretrained(tmp_path)
    loaded = transformers.ViTForImageClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(prepare(loaded, picture()).images, prepare(huggingface, picture(), processor).images)


def test_a_hugging_face_model_without_a_processor_says_so(huggingface, tmp_path):
    huggingface.save_pretrained(tmp_path)
    loaded = transformers.ViTForImageClassification.from_pretrained(tmp_path).eval()
    with pytest.raises(InvalidOptionError, match="expected an image processor beside the model"):
        prepare(loaded, picture())
    with pytest.raises(InvalidOptionError, match="does not know how its pictures are to be prepared"):
        prepare(huggingface, picture())


def test_torchvision_s_weights_transform_prepares():
    sizes = {"image_size": 224, "patch_size": 32, "num_layers": 1, "num_heads": 2, "hidden_dim": 24, "mlp_dim": 48}
    model = TorchvisionTransformer(**sizes).eval()
    with pytest.raises(InvalidOptionError, match=r"weights\.transforms\(\)"):
        prepare(model, picture())
    transform = torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1.transforms()
    prepared = prepare(model, picture(), transform)
    assert torch.equal(prepared.images[0], transform(picture()))
    assert prepared.seen[0].size == (224, 224)


def test_a_transform_that_does_not_tell_gives_no_seen_picture(timm_model):
    plain = v2.Compose([v2.PILToTensor(), v2.Resize((64, 64)), v2.ToDtype(torch.float32, scale=True)])
    prepared = prepare(timm_model, picture(), plain)
    with pytest.raises(InvalidOptionError, match=r"tells how it normalises .*tokentm\.seen\(images, mean, std\)"):
        _ = prepared.seen
    assert tokentm.seen(prepared.images, (0, 0, 0), (1, 1, 1))[0].size == (64, 64)


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        (lambda picture: picture, "got Image"),
        (v2.PILToTensor(), r"got torch\.uint8 \(3, 60, 90\)"),
        (lambda picture: torch.zeros(1, 3, 64, 64), r"got torch\.float32 \(1, 3, 64, 64\)"),
    ],
)
def test_a_transform_that_makes_no_image_is_refused(timm_model, transform, words):
    with pytest.raises(InvalidOptionError, match=rf"float tensor \(3, H, W\); {words}"):
        prepare(timm_model, picture(), transform)


def test_pictures_of_different_sizes_need_a_transform_that_evens_them(timm_model):
    with pytest.raises(InvalidOptionError, match=r"the same size; got \(3, 60, 90\), \(3, 64, 90\)"):
        prepare(timm_model, [picture(), picture(90, 64)], v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32)]))


def test_what_is_no_picture_is_refused(timm_model, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InvalidImagesError, match=r"text\.png; PIL can read none from it\. Convert it"):
        prepare(timm_model, tmp_path / "text.png")
    with pytest.raises(FileNotFoundError):
        prepare(timm_model, tmp_path / "missing.png")
    with pytest.raises(InvalidImagesError, match="got int"):
        prepare(timm_model, [3])

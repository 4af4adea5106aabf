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


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV", "RGBX"])
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
    (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "NoSuchProcessor"}')
    with pytest.raises(InvalidOptionError, match=r"expected an image processor beside the model .* Pass transform="):
        prepare(loaded.from_pretrained(tmp_path).eval(), picture())


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
        (
            lambda picture: torch.zeros(1, 64, 64),
            r"got torch\.float32 \(1, 64, 64\)\. It gets a PIL picture of mode RGB",
        ),
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
    with pytest.raises(InvalidImagesError, match="got none"):
        prepare(timm_model, [])
    with pytest.raises(InvalidImagesError, match=r"got ndarray\. An array becomes a picture"):
        prepare(timm_model, np.asarray(picture()))
    with pytest.raises(InvalidImagesError, match=r"got Prepared, .* Pass prepared\.images"):
        tokentm.explain(timm_model, prepare(timm_model, picture()))


def test_a_picture_handed_over_sideways_is_turned(timm_model):
    sideways = picture()
    sideways.getexif()[0x0112] = 6
    upright = picture().transpose(Image.Transpose.ROTATE_270)
    assert torch.equal(prepare(timm_model, sideways).images, prepare(timm_model, upright).images)


def test_a_model_of_one_channel_gets_grey_pictures(timm_model):
    overlay = {"mean": (0.1, 0.2, 0.6), "std": (0.4, 0.5, 0.6)}
    model = timm.create_model("test_vit", num_classes=5, img_size=64, in_chans=1, pretrained_cfg_overlay=overlay).eval()
    prepared = prepare(model, picture())
    assert prepared.images.shape == (1, 1, 64, 64)
    assert prepared.mean == pytest.approx((0.3,))
    assert prepared.std == pytest.approx((0.5,))
    (seen,) = prepared.seen
    assert seen.mode == "L"
    expected = prepare(timm_model, picture().convert("L")).seen[0]
    assert abs(np.asarray(seen).astype(int) - np.asarray(expected)[..., 0]).max() <= 1
    explanation = tokentm.explain(model, picture(), 2)
    assert torch.equal(explanation.scores, tokentm.explain(model, prepared.images, 2).scores)
    figure = explanation.plot(images=prepared)
    assert figure.axes[0].images[0].get_array().shape == (64, 64, 3)


def test_a_model_of_one_channel_with_one_of_its_own_transforms(timm_model):
    model = timm.create_model("test_vit", num_classes=5, img_size=64, in_chans=1).eval()
    own = v2.Compose(
        [
            v2.Grayscale(),
            v2.Resize((64, 64)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5], [0.5]),
        ]
    )
    assert prepare(model, picture(), own).seen[0].mode == "L"
    size = {"height": 64, "width": 64}
    one = transformers.ViTImageProcessor(size=size, image_mean=[0.5], image_std=[0.5])
    assert prepare(model, picture(), one).seen[0].mode == "L"
    three = transformers.ViTImageProcessor(size=size)
    with pytest.raises(
        InvalidOptionError, match=r"to a float tensor \(1, H, W\); .*one mean and one standard deviation"
    ):
        prepare(model, picture(), three)


def test_a_model_of_many_channels_takes_tensors_only(timm_model):
    model = timm.create_model("test_vit", num_classes=5, img_size=64, in_chans=13).eval()
    for call in (prepare, tokentm.explain):
        with pytest.raises(
            InvalidImagesError, match=r"float tensor \(batch, 13, height, width\) for a model of 13 chan"
        ):
            call(model, picture())
    assert tokentm.explain(model, torch.zeros(1, 13, 64, 64), 0).grid == (4, 4)


def test_a_processor_with_one_mean_for_all_channels(huggingface):
    size = {"height": 48, "width": 48}
    processor = transformers.ViTImageProcessor(size=size, image_mean=0.5, image_std=0.25)
    prepared = prepare(huggingface, picture(), processor)
    assert (prepared.mean, prepared.std) == ((0.5,) * 3, (0.25,) * 3)
    plain = prepare(huggingface, picture(), transformers.ViTImageProcessor(size=size, do_normalize=False))
    assert abs(np.asarray(plain.seen[0]).astype(int) - np.asarray(prepared.seen[0])).max() <= 1


@pytest.mark.parametrize("options", [{"do_rescale": False}, {"rescale_factor": 1 / 127.5}])
def test_a_processor_with_another_scale_shows_the_same_picture(huggingface, options):
    size = {"height": 48, "width": 48}
    other = transformers.ViTImageProcessor(size=size, image_mean=0.5, image_std=0.5, **options)
    found = prepare(huggingface, picture(), other).seen[0]
    expected = prepare(huggingface, picture(), transformers.ViTImageProcessor(size=size)).seen[0]
    assert abs(np.asarray(found).astype(int) - np.asarray(expected)).max() <= 1


def test_one_number_for_all_channels_in_normalize(timm_model):
    own = v2.Compose(
        [v2.Resize((64, 64)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.5])]
    )
    prepared = prepare(timm_model, picture(), own)
    assert prepared.mean == (0.5,) * 3
    assert prepared.seen[0].mode == "RGB"


def named_arrays(**arrays):
    """Called with something else than named arrays, it raises a TypeError, as albumentations' do a KeyError."""


def missing_key(picture):
    raise KeyError("You have to pass data to augmentations as named arguments")


@pytest.mark.parametrize(
    ("transform", "words", "cause"),
    [
        ("google/vit", r"got 'google/vit'\. Load it first: .*from_pretrained\('google/vit'\)", None),
        (
            torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1.transforms,
            r"weights\.transforms\(\), with parentheses",
            None,
        ),
        (
            torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1,
            r"Call what the weights hold: weights\.transforms\(\)",
            None,
        ),
        (torchvision.transforms._presets.ImageClassification, r"with parentheses", None),
        ({"mean": (0.5,)}, r"got dict\. .*create_transform\(\*\*config\)", None),
        (3, r"got int\. Pass weights\.transforms\(\)", None),
        (named_arrays, r"function raised TypeError: .*\(albumentations\) must be wrapped: lambda picture", TypeError),
        (missing_key, r"\(here RGB, 90 x 60\).* raised KeyError: .*\(albumentations\) must be wrapped", KeyError),
        (lambda picture: {"image": picture}, r"got dict\. .*must be wrapped", None),
    ],
)
def test_a_transform_that_cannot_be_used_says_what_to_do(timm_model, transform, words, cause):
    with pytest.raises(InvalidOptionError, match=words) as raised:
        prepare(timm_model, picture(), transform)
    assert type(raised.value.__cause__) is (cause or type(None))


def test_the_advice_for_transforms_of_named_arrays_works(timm_model):
    def transform(*, image):
        return {"image": torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255}

    prepared = prepare(timm_model, picture(64, 64), lambda picture: transform(image=np.asarray(picture))["image"])
    assert tokentm.explain(timm_model, prepared.images).grid == (4, 4)


def test_the_old_keyword_still_works_with_a_warning(timm_model):
    with pytest.warns(DeprecationWarning, match=r"pictures= is called images= now"):
        found = prepare(timm_model, pictures=picture())
    assert torch.equal(found.images, prepare(timm_model, images=picture()).images)


def test_seen_makes_grey_pictures_of_one_channel():
    images = torch.arange(12.0).reshape(1, 1, 3, 4) / 255
    (found,) = tokentm.seen(images, (0,), (1,))
    assert found.mode == "L"
    assert np.asarray(found).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_seen_refuses_channels_that_pictures_do_not_have(channels):
    with pytest.raises(InvalidOptionError, match=rf"1 or 3 channels, .*; got {channels}\. Choose three"):
        tokentm.seen(torch.zeros(1, channels, 4, 4), [0.5] * channels, [0.5] * channels)


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        ((0.5,), (0.5,) * 3, r"3 means, one for each channel of the images; got \(0\.5,\)"),
        ((0.5,) * 3, (0.5,) * 4, "3 standard deviations"),
        (0.5, (0.5,) * 3, r"3 means, .* got 0\.5\. Take those"),
        (None, None, "3 standard deviations, .* got None"),
    ],
)
def test_seen_needs_one_number_a_channel(mean, std, words):
    with pytest.raises(InvalidOptionError, match=words):
        tokentm.seen(torch.zeros(1, 3, 4, 4), mean, std)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(3, 4, 4), r"got torch\.float32, 3 dimensions"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), r"got torch\.uint8"),
        (torch.zeros(1, 3, 4, 4).to_sparse(), r"torch\.sparse_coo\. Pass what the model was given"),
        (np.zeros((1, 3, 4, 4)), "got ndarray"),
    ],
)
def test_seen_takes_dense_float_batches_only(images, words):
    with pytest.raises(InvalidImagesError, match=words):
        tokentm.seen(images, (0.5,) * 3, (0.5,) * 3)


def test_three_arguments_still_make_prepared_pictures():
    prepared = tokentm.Prepared(torch.zeros(1, 3, 4, 4), (0.5,) * 3, (0.5,) * 3)
    assert np.asarray(prepared.seen[0])[0, 0].tolist() == [128] * 3
    assert prepared.crops == [None]

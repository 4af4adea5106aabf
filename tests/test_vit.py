"""Which images a model takes, where its tokens come from, and which of them it reads."""

from __future__ import annotations

import pytest
import torch

import tokentm
from tokentm import InvalidImagesError, vit


@pytest.fixture
def model(tiny):
    return tiny()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda x: x[0],
            r"expected 4 dimensions .*got shape \(3, 16, 24\)\. Add the batch dimension: images\[None\]\.",
        ),
        (lambda x: x[None], r"expected 4 dimensions .*got shape \(1, 2, 3, 16, 24\)\.$"),
        (lambda x: x[:0], r"expected at least one image; got shape \(0, 3, 16, 24\)\."),
        (lambda x: x[:, :1], r"expected 3 channels; got 1 in shape \(2, 1, 16, 24\)\. .*\.convert\('RGB'\)"),
        (
            lambda x: x.to_sparse(),
            r"dense floating-point tensor .*; got a torch\.sparse_coo one\. Use images\.to_dense",
        ),
        (lambda x: torch.nested.nested_tensor(list(x)), r"got a nested one\. .*torch\.stack\(images\.unbind\(\)\)"),
        (lambda x: x.permute(0, 2, 3, 1), r"expected 3 channels; got 16 .*order is \(batch, channels, height, width\)"),
        (lambda x: x.mT, r"expected images of \(16, 24\) pixels \(height, width\); got \(24, 16\)\. .*set_input_size"),
        (lambda x: x.double(), r"expected images of torch\.float32 on cpu, .* got torch\.float64 .*torch\.float32\)"),
        (lambda x: (x * 50).byte(), r"got torch\.uint8 on cpu\. Use images\.to\('cpu', torch\.float32\)"),
        (lambda x: x.to("meta"), r"expected images of torch\.float32 on cpu, .* got torch\.float32 on meta"),
        (lambda x: x.numpy(), r"expected PIL pictures, paths or a normalised float tensor .*got ndarray\."),
        (lambda x: list(x), r"got Tensor\. An array becomes a picture"),
        (lambda x: [], r"\(batch, channels, height, width\); got none"),
        (
            lambda x: x.index_fill(0, torch.tensor(1), torch.nan),
            r"NaN or infinity in image\(s\) \[1\] of the batch\. Look",
        ),
        (lambda x: x / 0, r"NaN or infinity in image\(s\) \[0, 1\]"),
    ],
)
def test_images_that_the_model_does_not_take_are_refused(model, images, spoil, words):
    with pytest.raises(InvalidImagesError, match=words):
        tokentm.record(model, spoil(images(model)))


@pytest.mark.parametrize(
    ("takes", "got", "ending"),
    [
        (3, 1, r"height, width\); convert pictures with \.convert\('RGB'\) first\.$"),
        (1, 3, r"height, width\); convert pictures with \.convert\('L'\) first\.$"),
        (13, 3, r"\(batch, channels, height, width\)\.$"),
    ],
)
def test_the_advice_on_channels_is_true_for_the_model(tiny, takes, got, ending):
    with pytest.raises(InvalidImagesError, match=rf"expected {takes} channels; got {got} .*{ending}"):
        tokentm.record(tiny(in_chans=takes), torch.zeros(1, got, 16, 24))


def test_a_dynamic_size_must_still_be_whole_patches(tiny, images):
    model = tiny(dynamic_img_size=True)
    with pytest.raises(
        InvalidImagesError, match=r"divisible by the patch size \(8, 8\); got \(16, 25\)\. Resize or crop"
    ):
        tokentm.record(model, images(model, size=(16, 25)))
    tokentm.record(model, images(model, size=(24, 8)))


@pytest.mark.parametrize(
    ("options", "size"),
    [({"img_size": (18, 24)}, (18, 24)), ({"dynamic_img_size": True, "dynamic_img_pad": True}, (16, 17))],
    ids=str,
)
def test_patches_must_tile_the_picture(tiny, images, options, size):
    """Cut off or padded pixels would shift the map against the picture."""
    model = tiny(**options)
    with pytest.raises(InvalidImagesError, match=r"divisible by the patch size \(8, 8\); got \(1[68], (24|17)\)"):
        tokentm.record(model, images(model, size=size))


def test_other_channel_counts_and_dtypes_are_taken_where_the_model_has_them(tiny, images):
    model = tiny(in_chans=5).double()
    assert tokentm.record(model, images(model)).logits.dtype == torch.float64


def test_tokens_count_prefix_and_patches():
    assert vit.Layout(prefix=2, rows=3, columns=5).tokens == 17


@pytest.mark.parametrize(
    ("options", "prefix", "share"),
    [
        ({}, 1, [1, 0, 0, 0, 0, 0, 0]),
        ({"reg_tokens": 2}, 3, [1, 0, 0, 0, 0, 0, 0, 0, 0]),
        ({"global_pool": "avg", "class_token": False}, 0, [1 / 6] * 6),
        ({"global_pool": "avg", "reg_tokens": 1}, 2, [0, 0, *[1 / 6] * 6]),
        ({"global_pool": "avg", "reg_tokens": 1, "pool_include_prefix": True}, 2, [1 / 8] * 8),
    ],
    ids=str,
)
def test_layout_and_readout_follow_the_model(tiny, images, options, prefix, share):
    model = tiny(**options)
    trace = tokentm.record(model, images(model))
    assert trace.layout == vit.Layout(prefix, 2, 3)
    torch.testing.assert_close(trace.readout, torch.tensor([share, share], dtype=torch.float32))


def test_the_layout_is_that_of_the_images(tiny, images):
    model = tiny(dynamic_img_size=True)
    assert tokentm.record(model, images(model, size=(40, 8))).layout == vit.Layout(1, 5, 1)

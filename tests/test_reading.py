"""Pictures of every depth and mode: the same values in 8 bits, or a refusal that says what to do."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tokentm import InvalidImagesError
from tokentm.errors import MissingFileError, TokenTMError
from tokentm.evaluation.datasets import DataError, open_dataset
from tokentm.pictures import Prepared, listed, read

GREY = np.random.default_rng(0).integers(0, 256, (7, 9), dtype=np.uint8)
GREY[0, :2] = 0, 255
WIDE = GREY.astype(np.uint16) * 257


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture)


def tiff(values: np.ndarray, bits: int, white_is_zero: bool = False) -> bytes:
    """A little-endian TIFF of one strip; 12 bits are packed, two values in three bytes, the first one high."""
    height, width = values.shape
    if bits == 12:
        pairs = values.reshape(height, -1, 2).astype(int)
        first, second = pairs[..., 0], pairs[..., 1]
        strip = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8).tobytes()
    else:
        strip = values.astype(f"<u{bits // 8}").tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: int(not white_is_zero), 273: 8, 277: 1, 278: height}
    tags[279] = len(strip)
    strip += b"\0" * (len(strip) % 2)
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + struct.pack("<H", len(tags)) + entries + b"\0" * 4


def png(values: np.ndarray, colour: int) -> bytes:
    """A PNG of 16 bits; colour 0 is grey, 2 RGB, 4 grey and alpha, 6 RGB and alpha."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "grey.jp2", "grey.pgm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_give_the_pixels_of_eight(tmp_path, name, channels):
    Image.fromarray(WIDE).save(tmp_path / name)
    Image.fromarray(GREY).save(tmp_path / "grey8.png")
    found, expected = read(tmp_path / name, channels), read(tmp_path / "grey8.png", channels)
    assert found.mode == expected.mode == {1: "L", 3: "RGB"}[channels]
    np.testing.assert_array_equal(pixels(found), pixels(expected))


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I;16N"])
def test_every_sixteen_bit_mode_of_pil(mode):
    order = ">" if mode == "I;16B" else "<"
    picture = Image.frombytes(mode, (9, 7), WIDE.astype(f"{order}u2").tobytes(), "raw", mode)
    np.testing.assert_array_equal(pixels(read(picture, 1)), GREY)
    np.testing.assert_array_equal(pixels(read(Image.fromarray(WIDE), 1)), GREY)


def test_sixteen_bits_are_rounded_to_the_nearest_value():
    values = np.array([[0, 128, 129, 385, 386, 65278, 65407, 65535]], np.uint16)
    assert pixels(read(Image.fromarray(values), 1)).tolist() == [[0, 0, 1, 1, 2, 254, 255, 255]]


def test_older_pillow_calls_a_sixteen_bit_png_a_32_bit_picture():
    picture = Image.fromarray(WIDE.astype(np.int32))
    assert picture.mode == "I"
    picture.format = "PNG"
    np.testing.assert_array_equal(pixels(read(picture, 1)), GREY)


def test_a_sixteen_bit_photograph_taken_sideways_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(WIDE).save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_array_equal(pixels(read(tmp_path / "photo.png", 1)), np.rot90(GREY, -1))


def test_twelve_bits_that_a_tiff_declares_are_scaled(tmp_path):
    values = np.array([[0, 4095, 2048, 16], [4094, 8, 9, 1000]])
    (tmp_path / "x.tif").write_bytes(tiff(values, 12))
    found = pixels(read(tmp_path / "x.tif", 1))
    np.testing.assert_array_equal(found, np.rint(values * 255 / 4095))


@pytest.mark.parametrize("bits", [8, 16])
def test_where_white_is_zero_black_stays_black(tmp_path, bits):
    values = GREY if bits == 8 else WIDE
    (tmp_path / "x.tif").write_bytes(tiff(values, bits, white_is_zero=True))
    np.testing.assert_array_equal(pixels(read(tmp_path / "x.tif", 1)), 255 - GREY)


@pytest.mark.parametrize("brightest", [1, 255, 256, 4095])
def test_twelve_bits_in_a_sixteen_bit_file_are_refused(brightest):
    values = np.array([[0, brightest]], np.uint16)
    with pytest.raises(InvalidImagesError, match=rf"brightest is {brightest}, .*window it to 8 bits.*high = 4095"):
        read(Image.fromarray(values))


def test_black_is_black_in_sixteen_bits_and_4096_is_no_twelve_bits():
    assert pixels(read(Image.fromarray(np.zeros((2, 2), np.uint16)), 1)).max() == 0
    assert pixels(read(Image.fromarray(np.full((2, 2), 4096, np.uint16)), 1)).max() == 16


@pytest.mark.parametrize("mode", ["I", "F"])
def test_wide_modes_are_refused_by_name_and_the_advice_works(mode):
    picture = Image.fromarray(np.array([[0, 100], [200, 400]], np.int32 if mode == "I" else np.float32))
    with pytest.raises(InvalidImagesError, match=rf"got mode '{mode}', .*window it to 8 bits") as raised:
        read(picture)
    pixels_line, make_line = str(raised.value).split("first: ")[1].split("; ")
    names = {"numpy": np, "PIL": __import__("PIL.Image"), "picture": picture, "low": 0, "high": 400}
    exec(pixels_line, names)
    assert pixels(read(eval(make_line, names), 1)).tolist() == [[0, 64], [128, 255]]


def test_signed_sixteen_bits_are_refused(tmp_path):
    data = bytearray(tiff(WIDE, 16))
    entries = int.from_bytes(data[4:8], "little")
    data[entries] += 1  # one more tag: signed integers
    data[-4:-4] = struct.pack("<HHIHH", 339, 3, 1, 2, 0)
    (tmp_path / "x.tif").write_bytes(data)
    with pytest.raises(InvalidImagesError, match="mode 'I', 32-bit or signed"):
        read(tmp_path / "x.tif")


def test_colours_of_sixteen_bits_keep_their_values(tmp_path):
    colours = np.stack([GREY, GREY[::-1], 255 - GREY], -1)
    (tmp_path / "rgb.png").write_bytes(png(colours.astype(np.uint16) * 257, 2))
    np.testing.assert_array_equal(pixels(read(tmp_path / "rgb.png")), colours)


def test_transparent_parts_are_white_in_sixteen_bits(tmp_path):
    alpha = np.where(GREY > 100, 65535, 0).astype(np.uint16)
    (tmp_path / "la.png").write_bytes(png(np.stack([WIDE, alpha], -1), 4))
    np.testing.assert_array_equal(pixels(read(tmp_path / "la.png", 1)), np.where(GREY > 100, GREY, 255))
    Image.fromarray(WIDE).save(tmp_path / "key.png", transparency=int(WIDE[3, 3]))
    found, expected = pixels(read(tmp_path / "key.png", 1)), np.where(GREY[3, 3] == GREY, 255, GREY)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "La", "RGBa"])
def test_what_is_hidden_under_transparency_is_not_seen(mode):
    picture = Image.new("RGBA", (3, 1), (200, 0, 100, 255))
    picture.putpixel((1, 0), (255, 0, 255, 0))
    picture.putpixel((2, 0), (0, 0, 0, 128))
    opaque = [200, 0, 100]
    if mode == "PA":
        converted = picture.convert("RGB").quantize(4).convert("PA")
        converted.putalpha(picture.getchannel("A"))
    elif mode == "La":
        converted = picture.convert("LA").convert("La")
    else:
        converted = picture.convert(mode)
    found = pixels(read(converted))[0].tolist()
    if mode in ("LA", "La"):
        opaque = [pixels(picture.convert("L"))[0, 0]] * 3
    assert found[:2] == [opaque, [255, 255, 255]]
    assert found[2] == pytest.approx([127] * 3, abs=1)


@pytest.mark.parametrize(
    ("mode", "key", "seen"),
    [("L", 7, [255] * 3), ("RGB", (7, 8, 9), [255] * 3), ("P", 0, [255] * 3), ("1", 0, [255] * 3)],
)
def test_a_transparent_colour_is_white(tmp_path, mode, key, seen):
    picture = Image.new(mode, (2, 2), key)
    if mode == "P":
        picture.putpalette([10, 20, 30, 200, 100, 0])
    picture.putpixel((0, 0), {"L": 50, "RGB": (50, 60, 70), "P": 1, "1": 1}[mode])
    picture.save(tmp_path / "x.png", transparency=key)
    found = pixels(read(tmp_path / "x.png"))
    assert found[1, 1].tolist() == seen
    assert found[0, 0].tolist() == {"L": [50] * 3, "RGB": [50, 60, 70], "P": [200, 100, 0], "1": [255] * 3}[mode]


@pytest.mark.parametrize("channels", [0, 2, 4, 13])
def test_pictures_have_one_or_three_channels(channels):
    with pytest.raises(InvalidImagesError, match=rf"float tensor \(batch, {channels}, height, width\) .* have 1 or 3"):
        read(Image.new("RGB", (2, 2)), channels)


def damaged(folder: Path, kind: str) -> object:
    path = folder / "x.png"
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    picture.save(path)
    if kind == "folder":
        return folder
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:3000])
    if kind == "NUL":
        return "a\0b.png"
    if kind == "closed":
        opened = Image.open(path)
        opened.close()
        return opened
    if kind == "empty":
        return Image.new("RGB", (0, 5))
    if kind == "long":
        return "x" * 5000
    return path


@pytest.mark.parametrize(
    ("kind", "words", "cause"),
    [
        ("folder", "that is a folder. Pass the paths", IsADirectoryError),
        ("truncated", r"x\.png; it cannot be read \(OSError: .*\)\. Save or download it again", OSError),
        ("bomb", r"x\.png of a size that PIL opens; .*MAX_IMAGE_PIXELS", Image.DecompressionBombError),
        ("NUL", r"'a\\x00b\.png'; it cannot be read \(ValueError", ValueError),
        ("closed", "Open the file again, or convert", (ValueError, AttributeError)),
        ("empty", "at least one pixel; got 0 x 5", None),
        ("long", r"x\.\.\.; it cannot be read \(OSError", OSError),
    ],
)
def test_whatever_cannot_be_read_is_a_typed_error(tmp_path, monkeypatch, kind, words, cause):
    given = damaged(tmp_path, kind)
    if kind == "bomb":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InvalidImagesError, match=words) as raised:
        read(given)
    assert raised.value.__cause__ is None if cause is None else isinstance(raised.value.__cause__, cause)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_bytes_never_raise_anything_else(tmp_path):
    path = tmp_path / "x"
    generator = np.random.default_rng(0)
    for name in ("PNG", "TIFF", "GIF", "JPEG", "BMP", "WEBP"):
        Image.fromarray(GREY).convert("RGB").save(buffer := BytesIO(), name)
        for _ in range(60):
            data = bytearray(buffer.getvalue())
            for place in generator.integers(0, len(data), 3):
                data[place] = generator.integers(0, 256)
            path.write_bytes(data)
            with suppress(TokenTMError):
                assert read(path).mode == "RGB"


@pytest.mark.parametrize("address", ["https://example.org/cat.jpg", Path("http://example.org/cat.jpg"), "s3://a/b.png"])
def test_an_address_is_to_be_downloaded_first(address):
    with pytest.raises(MissingFileError, match=r"is an address\. Download it first"):
        read(address)


def test_a_missing_file_is_both_kinds_of_error(tmp_path):
    for kind in (FileNotFoundError, InvalidImagesError):
        with pytest.raises(kind, match=r"missing\.png; there is no such file\. Paths are relative to"):
            read(tmp_path / "missing.png")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (GREY, r"got ndarray\. .*PIL\.Image\.fromarray"),
        (BytesIO(b""), r"got BytesIO\. .*PIL\.Image\.open\(file\)"),
        (b"data", r"got bytes\. .*PIL\.Image\.open\(io\.BytesIO\(data\)\)"),
        (torch.zeros(1, 3, 4, 4), r"got Tensor\. .*tokentm\.seen"),
        (Prepared(torch.zeros(1, 3, 4, 4), None, None), r"got Prepared, .* Pass prepared\.images"),
        (3, r"got int\."),
    ],
)
def test_what_is_no_picture_says_how_to_make_one(given, words):
    with pytest.raises(InvalidImagesError, match=words):
        listed(given)
    if not isinstance(given, Prepared):
        with pytest.raises(InvalidImagesError, match=words):
            read(given)


def test_what_pil_cannot_convert_is_refused(monkeypatch):
    def convert(picture, mode):
        raise ValueError("conversion not supported")

    picture = Image.new("LAB", (2, 2))
    monkeypatch.setattr(Image.Image, "convert", convert)
    with pytest.raises(
        InvalidImagesError, match=r"ValueError: conversion not supported\. .*convert the picture to RGB"
    ):
        read(picture)


def test_data_sets_read_pictures_the_same_way(tmp_path):
    Image.fromarray(WIDE).save(tmp_path / "a.png")
    Image.fromarray(WIDE // 257).save(tmp_path / "b.png")
    data = open_dataset(f"pictures:{tmp_path}", 5)
    np.testing.assert_array_equal(pixels(data[0].image)[..., 0], GREY)
    with pytest.raises(DataError, match=r"can be read at .*b\.png; .*window it to 8 bits") as raised:
        _ = data[1]
    assert isinstance(raised.value.__cause__, InvalidImagesError)

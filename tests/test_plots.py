"""Static figures: how many panels, what they are called, what they show, and what cannot be drawn."""

from __future__ import annotations

import base64
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

import tokentm
from tokentm import InvalidImagesError, InvalidOptionError, TokenTM, plots

NAMES = ["cat", "dog", "bird", "fish", "car"]
RED, BLUE = Image.new("RGB", (24, 16), "red"), Image.new("RGB", (24, 16), "blue")


@pytest.fixture(scope="module")
def trace(tiny, images):
    model = tiny(depth=3, reg_tokens=1)
    return tokentm.record(model, images(model), [4, 2])


@pytest.fixture(scope="module")
def explanation(trace):
    return TokenTM()(trace)


def titles(figure):
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def first_pixels(figure):
    return [axis.images[0].get_array()[0, 0].tolist() for axis in figure.axes if axis.get_title() == "image"]


def test_one_row_an_image_with_a_colour_bar_each(explanation):
    figure = plots.heatmaps(explanation)
    assert len(figure.axes) == 2 + 2
    assert titles(figure) == ["tokentm: class 4", "tokentm: class 2"]
    assert titles(plots.heatmaps(explanation, classes=NAMES)) == ["tokentm: car", "tokentm: bird"]
    assert figure.alt == "Heat map of tokentm for class 4, class 2"


def test_pictures_stand_beside_the_maps(explanation):
    figure = plots.heatmaps(explanation, [RED, BLUE], NAMES)
    assert len(figure.axes) == 4 + 2
    assert titles(figure) == ["image", "tokentm: car", "image", "tokentm: bird"]
    assert first_pixels(figure) == [[255, 0, 0], [0, 0, 255]]
    assert figure.alt.endswith("for car, bird, beside the picture")


def test_one_picture_serves_all_rows_also_as_a_path(explanation, tmp_path):
    RED.save(tmp_path / "red.png")
    for picture in (RED, [RED], tmp_path / "red.png", str(tmp_path / "red.png"), RED.convert("RGBA")):
        assert first_pixels(plots.heatmaps(explanation, picture)) == [[255, 0, 0], [255, 0, 0]]


def test_the_maps_are_the_heat_maps(explanation):
    figure = plots.heatmaps(explanation)
    drawn = [axis.images[0].get_array() for axis in figure.axes if axis.get_title()]
    for found, expected in zip(drawn, explanation.heatmap(), strict=True):
        np.testing.assert_array_equal(found, expected.numpy())


@pytest.mark.parametrize("count", [0, 3])
def test_a_wrong_number_of_pictures_is_refused(explanation, count):
    text = f"expected 1 picture or one for each of the 2 explained images; got {count}."
    with pytest.raises(InvalidOptionError) as raised:
        plots.heatmaps(explanation, [RED] * count)
    assert str(raised.value) == text


@pytest.mark.parametrize(
    "pictures", [torch.zeros(2, 3, 16, 24), np.zeros((2, 16, 24, 3), np.uint8)], ids=["torch", "numpy"]
)
def test_tensors_are_not_taken_for_pictures(explanation, pictures):
    with pytest.raises(
        InvalidImagesError, match=r"expected PIL pictures, paths .*; got (Tensor|ndarray)\. .*tokentm\.seen"
    ):
        plots.heatmaps(explanation, pictures)


def test_a_class_without_a_name_is_refused(explanation):
    text = "expected a name for each of the 5 classes; got 4 names."
    for draw in (lambda: plots.heatmaps(explanation, classes=NAMES[:4]), lambda: explanation.plot(classes=NAMES[:4])):
        with pytest.raises(InvalidOptionError) as raised:
            draw()
        assert str(raised.value) == text


def test_target_names(explanation):
    assert plots.target_names(explanation, NAMES) == ["car", "bird"]
    assert plots.target_names(explanation, None) == ["class 4", "class 2"]
    assert plots.target_names(replace(explanation, target=None), NAMES) == ["chosen score", "chosen score"]


def test_outputs_have_names_in_every_form(explanation):
    reverse = {index: NAMES[index] for index in reversed(range(5))}
    for classes in (reverse, np.array(NAMES), tuple(NAMES), (name for name in NAMES)):
        assert plots.target_names(explanation, classes) == ["car", "bird"]
    assert titles(plots.heatmaps(explanation, classes=reverse))[:1] == ["tokentm: car"]
    own = replace(explanation, class_names=tuple("abcde"))
    assert plots.target_names(own, None) == ["e", "c"]
    assert plots.target_names(own, NAMES) == ["car", "bird"]
    assert plots.target_names(replace(explanation, outputs="none"), None) == ["output 4", "output 2"]
    for wrong in ("abcde", set(NAMES), {name: i for i, name in enumerate(NAMES)}):
        with pytest.raises(InvalidOptionError, match=r"expected .*class names"):
            plots.heatmaps(explanation, classes=wrong)


def test_another_reading_has_its_own_name(trace):
    assert plots.layer_steps(trace, method=TokenTM(ffn=False)).get_suptitle() == "tokentm_no_ffn, class 4"
    other = TokenTM(ffn=False, length=False)
    assert plots.layer_steps(trace, method=other).get_suptitle() == "TokenTM, another reading, class 4"


def test_maps_lie_where_tokens_look():
    maps, grid = {"a": torch.arange(6.0)}, (2, 3)
    picture, drawn = plots.patch_maps(maps, grid, "", RED, marked=1, offset=(0.5, 0.25)).axes
    assert drawn.images[0].get_extent() == [-0.25, 2.75, 2.0, 0.0]
    assert picture.images[0].get_extent() == [-0.5, 2.5, 1.5, -0.5]
    for axis in (picture, drawn):
        assert (axis.get_xlim(), axis.get_ylim()) == ((-0.5, 2.5), (1.5, -0.5))  # what leaves the picture is cut off
        assert [mark.get_xy() for mark in axis.patches] == [(0.75, 0.0)] * 2


def test_without_an_offset_maps_are_where_they_were():
    figure = plots.patch_maps({"a": torch.arange(6.0)}, (2, 3), "", RED)
    assert [axis.images[0].get_extent() for axis in figure.axes] == [[-0.5, 2.5, 1.5, -0.5]] * 2


def test_a_picture_the_model_did_not_see_is_refused(explanation):
    with pytest.raises(InvalidOptionError, match=r"24 x 16 pixels \(width x height\); got 16 x 24\. .*tokentm\.seen"):
        plots.heatmaps(explanation, RED.transpose(Image.Transpose.ROTATE_90))


def test_seen_turns_the_input_back_into_pictures():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)
    mean, std = (0.2, 0.5, 0.7), (0.1, 0.3, 2.0)
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(
        std
    )[:, None, None]
    for found, expected in zip(tokentm.seen(images, mean, std), pixels, strict=True):
        np.testing.assert_array_equal(np.asarray(found), expected)


def test_layer_steps_show_three_rows_and_a_column_a_layer(trace):
    figure = plots.layer_steps(trace, classes=NAMES)
    assert len(figure.axes) == 3 * 3
    assert titles(figure) == ["layer 1", "layer 2", "layer 3"]
    assert [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()] == [
        "attention",
        "transformation\nweight",
        "contribution\nso far",
    ]
    assert figure.get_suptitle() == "TokenTM, car"
    assert plots.layer_steps(trace, 1).get_suptitle() == "TokenTM, class 2"
    assert figure.alt.endswith("in each of 3 layers, for car")


def test_layer_steps_show_the_numbers_of_the_method(trace):
    method = TokenTM(normaliser="mean", gradient=False)
    panels = [axis.images[0].get_array() for axis in plots.layer_steps(trace, 1, method).axes]
    explanation = method(trace)
    for column, (layer, step) in enumerate(zip(trace.layers, method.steps(trace), strict=True)):
        attention = layer.attention[1, :, 0, 2:].mean(0).reshape(2, 3)
        weight = step.weight[1, :, 2:].mean(0).reshape(2, 3)
        contribution = explanation.layer_scores[1, column].reshape(2, 3)
        for row, expected in enumerate((attention, weight, contribution)):
            np.testing.assert_allclose(panels[row * 3 + column], expected.numpy(), rtol=1e-6)


def test_a_photograph_is_the_picture_alone():
    figure = plots.photograph(BLUE, "a blue picture")
    assert len(figure.axes) == 1
    assert figure.axes[0].images[0].get_array()[3, 5].tolist() == [0, 0, 255]
    assert figure.alt == "a blue picture"


def test_a_notebook_gets_a_png_with_an_alternative_text(explanation):
    figure = plots.heatmaps(explanation)
    figure.alt = 'a "<b>"'
    data = figure._repr_mimebundle_()
    picture = Image.open(BytesIO(base64.b64decode(data["image/png"])))
    assert picture.format == "PNG"
    assert picture.size == (272, 480)
    assert data["text/plain"] == figure.alt
    assert data["text/html"] == (f'<img alt="a &quot;&lt;b&gt;&quot;" src="data:image/png;base64,{data["image/png"]}">')


@pytest.fixture(scope="module")
def prepared(trace):
    """Two grey pictures of 60 x 40 pixels, of which the model sees the middle 48 x 32, and made-up scores for them."""
    originals = tuple(Image.new("RGB", (60, 40), (grey,) * 3) for grey in (100, 200))

    def transform(picture):
        pixels = torch.from_numpy(np.array(picture.crop((6, 4, 54, 36)).resize((24, 16), Image.Resampling.BOX)))
        return (pixels.permute(2, 0, 1) / 255 - 0.5) / 0.5

    images = torch.stack([transform(original) for original in originals])
    return tokentm.Prepared(images, (0.5,) * 3, (0.5,) * 3, originals, transform)


def drawn_pixels(figure, axis):
    """The pixels of an axis as they come out on paper."""
    figure.set_layout_engine("none")
    picture = Image.open(BytesIO(base64.b64decode(figure.bundle()["image/png"]))).convert("RGB")
    box = axis.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    left, bottom, right, top = (value * 80 for value in box.extents)
    return np.asarray(
        picture.crop((round(left), round(picture.height - top), round(right), round(picture.height - bottom)))
    )


def test_prepared_pictures_stand_beside_the_maps_as_seen(explanation, prepared):
    for figure in (plots.heatmaps(explanation, prepared), explanation.plot(images=prepared)):
        assert first_pixels(figure) == [[100] * 3, [200] * 3]
    assert [picture.size for picture in plots.pictures(prepared, explanation)] == [(24, 16)] * 2
    one = replace(prepared, images=prepared.images[:1])
    assert first_pixels(plots.heatmaps(explanation, one)) == [[100] * 3] * 2


def test_originals_bear_a_map_where_the_model_looked_and_nowhere_else(explanation, prepared):
    figure = plots.originals(explanation, prepared, NAMES)
    assert titles(figure) == ["original", "tokentm: car", "original", "tokentm: bird"]
    assert figure.alt == "Heat map of tokentm for car, bird, over the part of the original picture that the model saw"
    for grey, axis, heat in zip((100, 200), figure.axes[1:4:2], explanation.heatmap(), strict=True):
        left, right, bottom, top = axis.images[-1].get_extent()
        assert (left, top, right, bottom) == pytest.approx((6, 4, 54, 36), abs=0.3)
        np.testing.assert_array_equal(axis.images[-1].get_array(), heat.numpy())
        assert (axis.get_xlim(), axis.get_ylim()) == ((0, 60), (40, 0))
        pixels = drawn_pixels(figure, axis).astype(int)
        height, width = pixels.shape[:2]
        coloured = np.ptp(pixels, axis=-1) > 8
        rows, columns = (np.nonzero(coloured.any(side))[0] for side in (1, 0))
        assert (rows[0] / height, (rows[-1] + 1) / height) == pytest.approx((0.1, 0.9), abs=0.02)
        assert (columns[0] / width, (columns[-1] + 1) / width) == pytest.approx((0.1, 0.9), abs=0.02)
        assert pixels[height // 20, width // 2] == pytest.approx([grey * 0.35] * 3, abs=2)  # dimmed


def test_a_map_never_leaves_the_original_where_the_transform_padded(explanation, prepared):
    def transform(picture):
        padded = Image.new("RGB", (60, 48))
        padded.paste(picture, (0, 4))
        return torch.from_numpy(np.array(padded.resize((24, 16)))).permute(2, 0, 1) / 255

    images = torch.stack([transform(original) for original in prepared.originals])
    padded = tokentm.Prepared(images, (0.0,) * 3, (1.0,) * 3, prepared.originals, transform)
    axis = plots.originals(explanation, padded).axes[1]
    left, right, bottom, top = axis.images[-1].get_extent()
    assert (left, top, right, bottom) == pytest.approx((0, -4, 60, 44), abs=0.5)
    assert (axis.get_xlim(), axis.get_ylim()) == ((0, 60), (40, 0))


def test_two_classes_of_one_original_make_two_rows(explanation, prepared):
    one = replace(prepared, images=prepared.images[:1], originals=prepared.originals[:1])
    assert titles(plots.originals(explanation, one)) == ["original", "tokentm: class 4", "original", "tokentm: class 2"]


def test_originals_that_are_not_known_are_refused(explanation, prepared):
    with pytest.raises(InvalidOptionError, match="made without originals"):
        plots.originals(explanation, tokentm.Prepared(prepared.images, prepared.mean, prepared.std))


def test_patch_maps_take_the_picture_in_every_form_and_under_its_old_name(prepared):
    maps, one = {"map": torch.arange(6.0)}, replace(prepared, images=prepared.images[:1])
    for given in (RED, [RED], one):
        assert titles(plots.patch_maps(maps, (2, 3), "one map", images=given)) == ["image", "map"]
    with pytest.warns(DeprecationWarning, match=r"image= is called images= now"):
        assert titles(plots.patch_maps(maps, (2, 3), "one map", image=RED)) == ["image", "map"]
    for given, count in (([RED, BLUE], 2), (prepared, 2), ([], 0)):
        with pytest.raises(InvalidOptionError, match=f"expected 1 picture beside the maps; got {count}"):
            plots.patch_maps(maps, (2, 3), "one map", given)


@pytest.mark.parametrize("count", [1, 4, 5, 6, 9])
def test_patch_maps_have_one_panel_each_and_the_picture_first(count):
    maps = {f"map {i}": torch.rand(6, generator=torch.Generator().manual_seed(i)) for i in range(count)}
    for image in (None, RED):
        figure = plots.patch_maps(maps, (2, 3), "some maps", image)
        assert titles(figure) == ["image"] * (image is not None) + list(maps)
        shown = [axis for axis in figure.axes if axis.axison][image is not None :]  # the others fill up the last row
        for axis, (title, values) in zip(shown, maps.items(), strict=True):
            np.testing.assert_array_equal(axis.images[0].get_array(), values.reshape(2, 3))
            assert axis.get_title() == title
            assert axis.get_xlabel() == f"dark {values.min():.2g}, bright {values.max():.2g}"
        assert figure.alt == "some maps"


def test_marked_patches_are_outlined_where_they_lie_in_picture_and_maps():
    figure = plots.patch_maps({"map": torch.arange(6.0)}, (2, 3), "one map", RED, [1, 5])
    for axis in figure.axes:
        assert [outline.get_xy() for outline in axis.patches[::2]] == [(0.5, -0.5), (1.5, 0.5)]
        assert axis.images[0].get_extent() == [-0.5, 2.5, 1.5, -0.5]
    alone = plots.patch_maps({"map": torch.arange(6.0)}, (2, 3), "one map", marked=0)
    assert alone.axes[0].patches[0].get_xy() == (-0.5, -0.5)
    assert not plots.patch_maps({"map": torch.arange(6.0)}, (2, 3), "one map").axes[0].patches


def test_maps_are_laid_over_the_grey_picture_by_their_value_and_factors_at_one_opacity():
    maps = {"map": torch.tensor([0.0, 1.0, 2.0, 4.0, 3.0, 2.0]), "factor": torch.arange(6.0)}
    figure = plots.patch_maps(maps, (2, 3), "two maps", RED, opacity=0.5, factors=["factor"])
    picture, first, second = figure.axes
    np.testing.assert_array_equal(picture.images[0].get_array()[0, 0], [255, 0, 0])
    for axis in (first, second):
        below, above = axis.images
        np.testing.assert_array_equal(below.get_array(), np.asarray(RED.convert("L")))
        assert below.get_extent() == above.get_extent() == [-0.5, 2.5, 1.5, -0.5]
    share = np.array([[0, 1, 2], [4, 3, 2]]) / 4
    np.testing.assert_allclose(first.images[1].get_alpha(), 0.5 * np.sqrt(share))
    assert second.images[1].get_alpha() == 0.5
    assert [axis.get_xlabel().split()[0] for axis in (first, second)] == ["faint", "dark"]


@pytest.mark.parametrize("grid", [(14, 14), (8, 20), (20, 8)])
@pytest.mark.parametrize("title", ["", "a title"])
def test_no_words_of_a_figure_touch_each_other(grid, title):
    maps = {f"map {i}": torch.rand(grid[0] * grid[1]) for i in range(8)}
    figure = plots.patch_maps(maps, grid, "many maps")
    figure.suptitle(title)
    figure.draw_without_rendering()
    words = [text for axis in figure.axes for text in (axis.title, axis.xaxis.label)]
    words += [figure._suptitle] if title else []
    boxes = [text.get_window_extent() for text in words]
    panels = [axis.get_window_extent() for axis in figure.axes]
    for i, box in enumerate(boxes):
        assert figure.bbox.padded(1).contains(*box.min)
        assert figure.bbox.padded(1).contains(*box.max)
        assert not any(box.overlaps(other) for other in boxes[i + 1 :] + panels)


def test_few_colours_keep_the_rare_ones():
    """A bright cell among many other pixels is what a map is drawn for."""
    pixels = np.random.default_rng(0).integers(60, 160, (200, 200, 1), dtype=np.uint8).repeat(3, 2)
    pixels[50:54, 70:74] = (253, 231, 37)
    reduced = np.asarray(plots.few_colours(Image.fromarray(pixels)).convert("RGB")).astype(int)
    assert np.abs(reduced - pixels).max() <= 25

"""The path explorer: the numbers it shows are the library's paths, and every patch can be asked."""

from __future__ import annotations

import pytest
import torch
import traitlets
from browser import accessible, show, watch

import tokentm
from tokentm.paths import strongest
from tokentm_widgets import PathExplorer

COLUMNS, PATCHES = 5, 15
MEAN = tokentm.TokenTM(normaliser="mean")  # paths of several moves count here
NAMES = ["<b>cat</b>", "dog", "bird"]


@pytest.fixture(scope="module")
def trace(tiny):
    model = tiny(img_size=(12, 20), patch_size=4, num_classes=3, depth=3, num_heads=3, reg_tokens=2)
    torch.manual_seed(1)
    return tokentm.record(model, torch.randn(1, 3, 12, 20).expand(2, -1, -1, -1), target=[0, 1])


@pytest.fixture
def page(chromium_page, trace):
    wrong = watch(chromium_page)
    show(chromium_page, PathExplorer(trace, classes=NAMES, method=MEAN, count=4))
    yield chromium_page
    assert wrong == []


def painted(page, index, patch):
    page.wait_for_selector(f".tokentm[data-painted='{index} {'' if patch is None else patch} false']", timeout=5000)


def assert_shows(page, trace, index, patch):
    paths = strongest(trace, MEAN, index, 4)
    shares = (paths.values[patch] / paths.total[patch]).tolist()
    lines = page.locator("#first ol li").all_inner_texts()
    assert [float(line.split(" %")[0]) for line in lines] == pytest.approx([100 * s for s in shares], abs=0.051)
    for line, heads, tokens in zip(lines, paths.heads[patch].tolist(), paths.tokens[patch].tolist(), strict=True):
        moves = [f"layer {i + 1}, head {head + 1} → {name(tokens[i + 1])}" for i, head in enumerate(heads) if head >= 0]
        assert line.split(": ", 1)[1] == ", ".join([name(tokens[0]), *moves])
    for layer in range(3):
        cells = [page.inner_text(f"#first td[data-cell='{layer} {h}']") for h in range(3)]
        cells.append(page.inner_text(f"#first td[data-stays='{layer}']"))
        wanted = [*paths.through[patch, layer].tolist(), paths.stayed[patch, layer].item()]
        found = [float(cell) for cell in cells]
        assert found == pytest.approx([100 * w / paths.total[patch].item() for w in wanted], abs=0.051)
        assert sum(found) == pytest.approx(100, abs=0.3)
    assert page.locator("#first g[data-path]").count() == 4


def name(token):
    known = ["class token", "prefix token 2", "prefix token 3"]
    return known[token] if token < 3 else f"row {(token - 3) // COLUMNS + 1}, column {(token - 3) % COLUMNS + 1}"


def test_state_that_does_not_exist_is_refused(trace):
    explorer = PathExplorer(trace)
    with pytest.raises(traitlets.TraitError, match="expected index from 0 to 1; got 2"):
        explorer.index = 2
    with pytest.raises(traitlets.TraitError, match="expected patch from 0 to 14 or None; got 15"):
        explorer.patch = 15
    with pytest.raises(tokentm.InvalidOptionError, match="at least 1 path"):
        PathExplorer(trace, count=0)


def test_repr_and_figure(trace):
    explorer = PathExplorer(trace, classes=["cat", "dog", "bird"], patch=7)
    assert repr(explorer) == "PathExplorer(cat, dog; 5 paths through 3 layers)"
    assert "patch at row 2, column 3 to cat" in explorer.figure().alt
    drawn = {axis.get_title(): axis for axis in explorer.figure().axes}
    paths = explorer.paths[0]
    shares = torch.tensor(drawn["share that moves through each head"].images[0].get_array())
    torch.testing.assert_close(shares, (paths.through[7] / paths.total[7]).T)
    totals = torch.tensor(drawn["contribution"].images[-1].get_array()).flatten()
    torch.testing.assert_close(totals, paths.total)
    assert len(drawn["contribution"].patches) == 2  # the patch is outlined, in black and white


@pytest.mark.browser
def test_the_largest_patch_is_shown_first(page, trace):
    painted(page, 0, None)
    assert_shows(page, trace, 0, int(strongest(trace, MEAN).total.argmax()))


@pytest.mark.browser
def test_a_patch_is_chosen_by_key_and_click_and_let_go(page, trace):
    page.focus("#first [data-map=image]")
    page.keyboard.press("ArrowRight")
    painted(page, 0, 7)
    assert_shows(page, trace, 0, 7)
    page.click("#first canvas[data-panel=contribution]", position={"x": 3, "y": 3})
    painted(page, 0, 0)
    assert_shows(page, trace, 0, 0)
    page.click("#first button[name=reset]")
    painted(page, 0, None)


@pytest.mark.browser
def test_another_class_has_other_paths(page, trace):
    page.select_option("#first select[name=index]", "1")
    page.evaluate("model.set('patch', 3)")
    painted(page, 1, 3)
    assert_shows(page, trace, 1, 3)
    assert page.locator("#first b").count() == 0


@pytest.mark.browser
def test_a_path_pointed_at_stands_out(page):
    page.hover("#first ol li >> nth=1")
    page.wait_for_function("document.querySelector('#first g[data-path=\"0\"]').getAttribute('opacity') === '0.15'")
    assert page.get_attribute("#first g[data-path='1']", "opacity") == "0.9"
    page.mouse.move(1, 790)
    page.wait_for_function("document.querySelector('#first g[data-path=\"0\"]').getAttribute('opacity') === '0.9'")


@pytest.mark.browser
def test_axe_finds_nothing(page):
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert accessible(page) == []
    page.emulate_media(color_scheme="light")

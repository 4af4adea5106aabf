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
        cells = [f"#first td[data-cell='{layer} {h}']" for h in range(3)] + [f"#first td[data-stays='{layer}']"]
        wanted = [*paths.through[patch, layer].tolist(), paths.stayed[patch, layer].item()]
        found = [float(page.get_attribute(cell, "data-value")) for cell in cells]
        assert found == pytest.approx([w / paths.total[patch].item() for w in wanted], rel=1e-4, abs=1e-6)
        assert sum(found) == pytest.approx(1, abs=1e-4)
        shown = [page.inner_text(cell) for cell in cells]
        assert shown == ["" if value < 0.005 else str(int(100 * value + 0.5)) for value in found]
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
def test_the_strongest_patch_is_shown_first(page, trace):
    painted(page, 0, None)
    assert_shows(page, trace, 0, int(strongest(trace, MEAN).total.argmax()))


@pytest.mark.browser
def test_a_patch_is_chosen_by_key_and_click_and_cleared(page, trace):
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
    page.click("#first button[name=index][data-value='1']")
    page.evaluate("model.set('patch', 3)")
    painted(page, 1, 3)
    assert_shows(page, trace, 1, 3)
    assert page.locator("#first b").count() == 0


def opacity(page, k):
    return page.get_attribute(f"#first g[data-path='{k}']", "opacity")


def stands_out(page, k):
    """The path k, or None for all alike."""
    faint = [str(other) for other in range(4) if k is not None and other != k]
    page.wait_for_function(
        """(faint) => [...document.querySelectorAll("#first g[data-path]")]
             .every((path) => (path.getAttribute("opacity") === "0.15") === faint.includes(path.dataset.path))""",
        arg=faint,
        timeout=3000,
    )
    return True


def pressed(page):
    every = page.locator("#first button[name=path]")
    return [k for k in range(every.count()) if every.nth(k).get_attribute("aria-pressed") == "true"]


@pytest.mark.browser
def test_a_path_pointed_at_stands_out(page):
    page.hover("#first ol li button >> nth=1")
    assert stands_out(page, 1)
    assert pressed(page) == []
    page.mouse.move(1, 790)
    assert stands_out(page, None)


@pytest.mark.browser
def test_a_path_is_kept_by_a_click_until_it_is_clicked_again(page):
    page.click("#first ol li button >> nth=2")
    page.mouse.move(1, 1)
    assert stands_out(page, 2)
    assert pressed(page) == [2]
    page.click("#first ol li button >> nth=2")
    page.mouse.move(1, 1)
    assert stands_out(page, None)
    assert pressed(page) == []


@pytest.mark.browser
def test_a_path_is_kept_by_keys_and_its_cells_are_marked(page):
    page.focus("#first ol li button >> nth=0")
    page.keyboard.press("Enter")
    assert stands_out(page, 0)
    words = page.inner_text("#first ol li >> nth=0")
    moves = [words_of.split(" →")[0].split(", head ") for words_of in words.split("layer ")[1:]]
    wanted = {f"{int(layer) - 1} {int(head) - 1}" for layer, head in moves}
    marked = page.locator("#first td.on").evaluate_all("(cells) => cells.map((cell) => cell.dataset.cell)")
    assert set(marked) == wanted
    page.keyboard.press("Escape")
    assert stands_out(page, None)
    page.keyboard.press("Enter")
    page.click("#first button[name=clear]")
    page.mouse.move(1, 1)
    assert stands_out(page, None)
    assert page.evaluate("document.activeElement.name") == "path"


@pytest.mark.browser
def test_a_drawn_path_is_pointed_at_and_clicked(page):
    """Where the strongest one begins, which lies on top."""
    reach = page.locator("#first g[data-path='0'] path.reach")
    x, y = reach.evaluate(
        """(path) => {
             const middle = path.getPointAtLength(path.getTotalLength() / 2).matrixTransform(path.getScreenCTM());
             return [middle.x, middle.y];
           }"""
    )
    page.mouse.move(x, y)
    page.mouse.click(x, y)
    page.mouse.move(1, 1)
    assert stands_out(page, 0)
    assert pressed(page) == [0]


@pytest.mark.browser
def test_a_cell_is_read_by_pointing_and_by_arrow_keys(page):
    page.hover("#first td[data-cell='1 0']")
    value = float(page.get_attribute("#first td[data-cell='1 0']", "data-value"))
    assert page.inner_text("#first .reading") == (
        f"Layer 2, head 1: {100 * value:.1f} % of its contribution moves here."
    )
    page.mouse.move(1, 1)  # a pointer that rests on a cell would be asked when the page moves under it
    page.focus("#first td[data-cell='0 0']")
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    value = float(page.get_attribute("#first td[data-stays='1']", "data-value"))
    said = f"Layer 2: {100 * value:.1f} % of its contribution stays."
    page.wait_for_function("(said) => document.querySelector('#first .reading').textContent === said", arg=said)
    assert page.locator("#first td[tabindex='0']").count() == 1


@pytest.mark.browser
def test_another_patch_has_no_path_chosen(page):
    page.click("#first ol li button >> nth=1")
    page.evaluate("model.set('patch', 4)")
    painted(page, 0, 4)
    page.mouse.move(1, 1)
    assert pressed(page) == []
    assert stands_out(page, None)


@pytest.fixture(scope="module")
def large(tiny):
    """24 layers of 16 heads."""
    torch.manual_seed(0)
    return tokentm.record(tiny(depth=24, num_heads=16, embed_dim=64), torch.randn(1, 3, 16, 24), target=1)


@pytest.mark.browser
@pytest.mark.parametrize("width", [420, 590, 1440])
def test_many_layers_are_readable(chromium_page, large, width):
    """Text keeps its size, cells that are too small have no digits, and what is too wide scrolls and says so."""
    chromium_page.set_viewport_size({"width": width, "height": 900})
    show(chromium_page, PathExplorer(large))
    page = chromium_page
    paths = strongest(large)
    moving = set(paths.heads[paths.total.argmax()].ge(0).nonzero()[:, 1].tolist())
    labels = page.locator("#first svg[data-panel=diagram] text.quiet").all_text_contents()
    single = {int(text.removeprefix("layer ")) - 1 for text in labels if text.startswith("layer ")}
    assert moving <= single
    assert len(labels) < 24
    assert any(text.startswith("layers ") for text in labels)
    assert labels.count("stays") == sum(text != "stays" for text in labels) - len(moving)
    text = page.locator("#first svg[data-panel=diagram] text >> nth=0")
    scale = text.evaluate("(text) => text.getScreenCTM().a * parseFloat(getComputedStyle(text).fontSize)")
    assert scale == pytest.approx(12, abs=0.01)
    cell = page.locator("#first td[data-cell='0 0']").bounding_box()
    assert cell["width"] >= 24
    narrow = page.locator("#first table.narrow").count() == 1
    assert narrow == (cell["width"] < 28)
    box = "#first .through .scrolls"
    wide = page.evaluate(
        f"document.querySelector('{box}').scrollWidth > document.querySelector('{box}').clientWidth + 1"
    )
    assert page.is_visible("#first .through .hint") == wide == (width < 800)
    assert (page.get_attribute(box, "tabindex") == "0") == wide
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.browser
def test_axe_finds_nothing(page):
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert accessible(page) == []
    page.emulate_media(color_scheme="light")

"""The token playground: what it shows is what tokentm.transformation says, wherever the arrows are dragged."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import torch
import traitlets
from browser import accessible, show, watch

import tokentm
from tokentm import transformation
from tokentm_widgets import TokenPlayground, base, export_html, token_playground

E = [[2.0, 0.5], [-0.5, 1.5], [-1.0, -1.0]]
T = [[1.0, 1.0], [-1.0, 0.5], [1.0, -0.5]]
COLUMNS = ["from", "to", "ratio", "cosine", "necc", "weight"]
DIGITS = dict(zip(COLUMNS, (2, 2, 2, 2, 3, 3), strict=True))


@pytest.fixture
def page(chromium_page):
    wrong = watch(chromium_page)
    show(chromium_page, TokenPlayground(E, T))
    yield chromium_page
    assert wrong == []


def state(page):
    """What the model holds, once it has been drawn."""
    held = (
        "JSON.stringify([model.get('tokens'), model.get('transformed'), model.get('chosen'), model.get('normaliser')])"
    )
    page.wait_for_function(f"document.querySelector('#first .tokentm').dataset.painted === {held}", timeout=5000)
    return json.loads(page.evaluate(held))


def put(page, tokens=None, transformed=None, **others):
    for name, value in {"tokens": tokens, "transformed": transformed, **others}.items():
        if value is not None:
            page.evaluate("([name, value]) => model.set(name, value)", [name, value])
    return state(page)


def expected(tokens, transformed, normaliser="sum"):
    """The table's columns from the library alone, in double precision."""
    tokens, transformed = (torch.tensor(points, dtype=torch.float64) for points in (tokens, transformed))
    ratio, cosine = transformation.compare(tokens, transformed)
    values = (
        torch.linalg.vector_norm(tokens, dim=-1),
        torch.linalg.vector_norm(transformed, dim=-1),
        ratio,
        cosine,
        transformation.necc(cosine, normaliser),
        transformation.weight(ratio, cosine, normaliser=normaliser),
    )
    return dict(zip(COLUMNS, (value.tolist() for value in values), strict=True))


def table(page, root="#first"):
    """The table's columns to full precision, and as they are read."""
    cells = page.locator(f"{root} tbody data").evaluate_all("(all) => all.map((one) => [one.value, one.textContent])")
    rows = np.array(cells, dtype=object).reshape(-1, len(COLUMNS), 2)
    exact = {name: [float(value) for value in rows[:, c, 0]] for c, name in enumerate(COLUMNS)}
    return exact, {name: list(rows[:, c, 1]) for c, name in enumerate(COLUMNS)}


def assert_shows_the_library(page, root="#first"):
    """Table, bars, shares and formula of the state that the page is in."""
    tokens, transformed, chosen, normaliser = state(page)
    wanted = expected(tokens, transformed, normaliser)
    exact, read = table(page, root)
    for name, values in wanted.items():
        assert exact[name] == pytest.approx(values, rel=1e-12, abs=1e-14), name
        shown = [float(text.replace("−", "-")) for text in read[name]]
        assert shown == pytest.approx(values, abs=0.51 * 10 ** -DIGITS[name]), name
    top = float(page.inner_text(f"{root} thead th:last-child span >> nth=1"))
    assert top >= max(wanted["weight"])
    widths = page.locator(f"{root} td.bar i").evaluate_all("(bars) => bars.map((bar) => parseFloat(bar.style.width))")
    assert widths == pytest.approx([100 * w / top for w in wanted["weight"]], abs=1e-3)
    grown = page.locator(f"{root} .strip span").evaluate_all(
        "(all) => all.map((one) => parseFloat(one.style.flexGrow))"
    )
    assert grown == pytest.approx(wanted["necc"], rel=1e-4)
    ratio, necc, weight = (wanted[name][chosen] for name in ("ratio", "necc", "weight"))
    spoken = page.get_attribute(f"{root} .formula", "aria-label")
    assert spoken.endswith(f" = {ratio:.2f} × {necc:.3f} = {weight:.3f}")
    assert spoken.startswith(f"W{chosen + 1} = L(T{chosen + 1})/L(E{chosen + 1}) × exp(cos{chosen + 1})/")
    assert "NaN" not in page.inner_text(root)
    assert "Infinity" not in page.inner_text(root)
    return wanted


def pixel_of(page, point, root="#first"):
    """Where a point of the plane lies on the screen: 66 of 440 units of the view box are a unit of length."""
    box = page.locator(f"{root} svg[data-panel=plane]").bounding_box()
    x, y = point
    return box["x"] + (220 + 66 * x) / 440 * box["width"], box["y"] + (220 - 66 * y) / 440 * box["height"]


def drag(page, start, end, root="#first", drop=True):
    page.mouse.move(*pixel_of(page, start, root))
    page.mouse.down()
    page.mouse.move(*pixel_of(page, [(a + b) / 2 for a, b in zip(start, end, strict=True)], root))
    page.mouse.move(*pixel_of(page, end, root))
    if drop:
        page.mouse.up()


# ---- in Python ----


@pytest.mark.parametrize("normaliser", ["sum", "mean"])
def test_properties_are_the_librarys(normaliser):
    playground = TokenPlayground(E, T, normaliser)
    wanted = expected(E, T, normaliser)
    for name, found in (("ratio", "length_ratio"), ("cosine", "cosine"), ("necc", "necc"), ("weight", "weight")):
        value = getattr(playground, found)
        assert value.dtype == torch.float64
        assert value.tolist() == wanted[name]
    playground.transformed = E
    torch.testing.assert_close(playground.length_ratio, torch.ones(3, dtype=torch.float64))
    assert playground.necc.sum() == pytest.approx(1 if normaliser == "sum" else 3)


@pytest.mark.parametrize("make", [torch.tensor, np.array, lambda points: tuple(map(tuple, points))])
def test_whatever_has_the_shape_is_taken(make):
    playground = TokenPlayground(make(E), make(T))
    assert (playground.tokens, playground.transformed) == (E, T)
    playground.tokens = make(T)
    assert playground.tokens == T


@pytest.mark.parametrize(
    ("tokens", "transformed", "message"),
    [
        (E, None, "expected tokens and transformed together, as many of one as of the other; got only tokens"),
        (None, T, "got only transformed"),
        (E, T[:2], "expected 1 to 6 tokens and as many transformed tokens; got 3 and 2"),
        ([[1, 0]] * 7, [[1, 0]] * 7, "expected 1 to 6 tokens and as many transformed tokens; got 7 and 7"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "got 0 and 0"),
        ([1.0, 2.0], T, "expected tokens as a list of [x, y], shape (N, 2); got shape (2,)"),
        (E, [[1, 2, 3]] * 3, "expected transformed as a list of [x, y], shape (N, 2); got shape (3, 3)"),
        ("abc", T, "expected tokens as a list of [x, y], shape (N, 2); got 'abc'"),
        ([[1, 2], [3]], T, "got [[1, 2], [3]]"),
        ([[0, 0]], [[1, 0]], "expected tokens from 0.1 to 3 long (L(T) is divided by L(E), and the plane ends at 3)"),
        ([[0.05, 0]], [[1, 0]], "got [0.05, 0.0] at 0, length 0.05"),
        ([[1, 0], [1, math.nan]], T[:2], "got [1.0, nan] at 1, length nan"),
        (E[:1], [[0, math.inf]], "expected transformed from 0 to 3 long (the plane ends at 3); got [0.0, inf] at 0"),
        (E[:1], [[3, 0.1]], "length 3.00167"),
    ],
)
def test_arrows_that_do_not_exist_are_refused(tokens, transformed, message):
    with pytest.raises(tokentm.InvalidOptionError, match=re.escape(message)):
        TokenPlayground(tokens, transformed)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tokens", [[0, 0], *E[1:]], "expected tokens from 0.1 to 3 long"),
        ("tokens", E[:2], "expected 3 tokens, one for each pair; got 2. For another number of pairs make another"),
        ("transformed", None, "expected transformed as a list of [x, y], shape (N, 2); got None"),
        ("transformed", [*T[:2], [4, 0]], "got [4.0, 0.0] at 2, length 4"),
        ("chosen", 3, "expected chosen from 0 to 2; got 3"),
        ("normaliser", "median", "sum"),
    ],
)
def test_state_that_does_not_exist_is_refused(name, value, message):
    playground = TokenPlayground(E, T)
    before = playground.get_state()
    with pytest.raises(traitlets.TraitError, match=re.escape(message)):
        setattr(playground, name, value)
    assert playground.get_state() == before


def test_an_arrow_on_the_edge_may_be_turned_there():
    angles = torch.linspace(0, 7, 6, dtype=torch.float64)
    edge = 3 * torch.stack((angles.cos(), angles.sin()), -1)
    shortest = 0.1 * torch.stack((angles.cos(), angles.sin()), -1)
    TokenPlayground(edge, edge)
    TokenPlayground(shortest, edge)


def test_what_the_browser_sends_is_taken():
    playground = TokenPlayground(E, T)
    playground.set_state({"tokens": [[1, 0], *E[1:]], "transformed": [[2, 0], *T[1:]]})
    assert playground.length_ratio[0] == 2
    assert isinstance(playground.tokens[0][0], float)


def test_repr_and_hues():
    assert repr(TokenPlayground()) == "TokenPlayground(3 pairs; sum)"
    assert repr(TokenPlayground([[1, 0]], [[1, 0]], "mean")) == "TokenPlayground(1 pair; mean)"
    for k, hue in enumerate(token_playground.HUES):
        assert f"--hue-{k}: {hue};" in base.styles("token_playground")
    assert len(token_playground.HUES) == token_playground.MOST


def test_figure_shows_the_arrows_and_the_weights():
    playground = TokenPlayground(E, [T[0], [0, 0], T[2]], chosen=2)
    figure = playground.figure()
    plane, bars = figure.axes
    arrows = [text for text in plane.texts if hasattr(text, "arrow_patch")]
    tips = [list(point) for pair in zip(playground.tokens, playground.transformed, strict=True) for point in pair]
    assert [list(arrow.xy) for arrow in arrows] == tips
    wide = [arrow.arrow_patch.get_linewidth() for arrow in arrows]
    assert min(wide[4:]) > max(wide[:4])
    assert len({str(arrow.arrow_patch.get_linestyle()) for arrow in arrows}) == 2
    assert [bar.get_width() for bar in bars.patches] == playground.weight.tolist()
    w = expected(E, playground.transformed)["weight"]
    assert figure.alt.endswith(f"pair 1 has weight {w[0]:.3f}, pair 2 has weight 0.000, pair 3 has weight {w[2]:.3f}")


def test_every_default_can_be_doubled():
    playground = TokenPlayground()
    once = playground.weight
    playground.transformed = 2 * torch.tensor(playground.transformed)
    torch.testing.assert_close(playground.weight, 2 * once, rtol=1e-6, atol=0)


# ---- in the browser ----


@pytest.mark.browser
def test_the_browser_computes_what_the_library_does(page):
    generator = np.random.default_rng(0)
    for k in range(12):
        turn, length = generator.uniform(0, 2 * np.pi, (2, 3)), generator.uniform(0.1, 3, (2, 3))
        points = np.stack((length * np.cos(turn), length * np.sin(turn)), -1).tolist()
        put(page, *points, chosen=k % 3, normaliser=["sum", "mean"][k % 2])
        assert_shows_the_library(page)


@pytest.mark.browser
@pytest.mark.parametrize("count", [1, 2, 4, 6])
@pytest.mark.parametrize("normaliser", ["sum", "mean"])
def test_necc_has_the_bounds_that_are_shown(chromium_page, count, normaliser):
    turn = torch.arange(count, dtype=torch.float64)
    tokens = torch.stack((turn.cos(), turn.sin()), -1)
    show(chromium_page, TokenPlayground(tokens, tokens, normaliser))
    scale = 1 if normaliser == "sum" else count
    low, high = (scale * math.exp(c) / (math.exp(c) + (count - 1) * math.exp(-c)) for c in (-1, 1))
    shown = chromium_page.inner_text("#first figcaption .quiet")
    assert shown == f"each between {low:.3f} and {high:.3f}"
    for own, bound in ((-1, low), (1, high)):
        signs = torch.full((count, 1), -own, dtype=torch.float64)
        signs[0] = own
        put(chromium_page, transformed=(signs * tokens).tolist())
        wanted = assert_shows_the_library(chromium_page)
        assert wanted["necc"][0] == pytest.approx(bound)
    assert chromium_page.locator("#first tbody tr").count() == count


@pytest.mark.browser
def test_a_lone_token_weighs_its_length_ratio(chromium_page):
    show(chromium_page, TokenPlayground([[1, 0]], [[0, 1.5]]))
    assert "alone has NECC 1, whatever the direction" in chromium_page.inner_text("#first .status")
    assert assert_shows_the_library(chromium_page)["weight"] == [1.5]


@pytest.mark.browser
def test_tips_are_dragged(page):
    drag(page, T[1], (0.5, 2.0))
    assert state(page)[:3] == [E, [T[0], [0.5, 2.0], T[2]], 1]
    assert_shows_the_library(page)
    drag(page, E[2], (-2.0, -0.25))
    assert state(page)[:3] == [[*E[:2], [-2.0, -0.25]], [T[0], [0.5, 2.0], T[2]], 2]
    assert_shows_the_library(page)
    # the hand lets go: what moves now moves nothing
    page.mouse.move(*pixel_of(page, (1, 1)))
    assert state(page)[0][2] == [-2.0, -0.25]


@pytest.mark.browser
def test_a_cosine_is_never_rounded_beyond_one(page):
    for k in range(1, 40):
        x, y = 0.05 * k, 1.7 - 0.04 * k
        put(page, tokens=[[x, y]] * 3, transformed=[[x, y], [-x, -y], [1, 0]], chosen=k % 2)
        assert_shows_the_library(page)


@pytest.mark.browser
def test_a_tip_grabbed_beside_itself_does_not_jump(page):
    start = [T[0][0] + 0.12, T[0][1] - 0.1]
    drag(page, start, [start[0] + 0.5, start[1] + 0.25])
    assert state(page)[1][0] == pytest.approx([1.5, 1.25])


@pytest.mark.browser
def test_what_is_not_a_tip_is_not_dragged(page):
    drag(page, (0.5, 2.5), (1.0, 2.5))
    assert state(page)[:2] == [E, T]
    page.mouse.move(*pixel_of(page, T[0]))
    page.mouse.down(button="right")
    page.mouse.move(*pixel_of(page, (2, 2)))
    page.mouse.up(button="right")
    assert state(page)[:2] == [E, T]


@pytest.mark.browser
def test_tips_stop_at_the_edge_and_short_of_nothing(page):
    drag(page, T[0], (3.2, 3.2))
    assert state(page)[1][0] == pytest.approx([4.5**0.5] * 2)
    assert_shows_the_library(page)
    TokenPlayground(*state(page)[:2])
    drag(page, E[0], (0.0, 0.0))
    x, y = state(page)[0][0]
    assert math.hypot(x, y) == pytest.approx(0.1)
    assert y / x == pytest.approx(E[0][1] / E[0][0], rel=0.3)  # seen from where it came, the near side
    assert_shows_the_library(page)
    TokenPlayground(*state(page)[:2])


@pytest.mark.browser
def test_a_transformed_token_of_length_zero_weighs_nothing(page):
    drag(page, T[1], (0.01, -0.01))
    assert state(page)[1][1] == [0, 0]
    wanted = assert_shows_the_library(page)
    assert (wanted["cosine"][1], wanted["weight"][1]) == (0, 0)
    assert "its cosine counts as 0, and W is 0" in page.inner_text("#first .status")
    for name in ("reverse", "double", "halve", "turn"):
        assert page.get_attribute(f"#first button[name={name}]", "aria-disabled") == "true"
        assert page.get_attribute(f"#first button[name={name}]", "title") == "T has no length"
        page.click(f"#first button[name={name}]", force=True)
        assert state(page)[1][1] == [0, 0]
    drag(page, (0, 0), (1, 0))  # and can be drawn out again
    assert state(page)[1][1] == [1, 0]


@pytest.mark.browser
def test_of_tips_that_lie_on_one_another_both_can_be_grabbed(page):
    put(page, tokens=[[1, 0], [0, 1], [1, 0]], transformed=[[1, 0], [0, 2], [-1, 0]], chosen=0)
    drag(page, (1, 0), (2, 0))
    assert state(page)[:2] == [[[1, 0], [0, 1], [1, 0]], [[2, 0], [0, 2], [-1, 0]]]  # T by its head
    drag(page, (2, 0), (1, 0))
    assert state(page)[1][0] == [1, 0]  # exactly back
    page.click("#first button[name=pair2]")
    state(page)
    drag(page, (0.85, 0), (0.85, -1))
    assert state(page)[0] == [[1, 0], [0, 1], [1, -1]]  # E of the chosen pair by what shows around T
    drag(page, (0.85, 0), (0.85, 1))
    assert state(page)[:2] == [[[1, 1], [0, 1], [1, -1]], [[1, 0], [0, 2], [-1, 0]]]


@pytest.mark.browser
def test_tips_are_moved_by_keys(page):
    page.focus("#first select[name=normaliser]")
    page.keyboard.press("Tab")  # to the reset button
    for tip in ("E 0", "T 0", "E 1", "T 1"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.dataset.handle") == tip
    assert state(page)[2] == 1  # reaching a tip chooses its pair
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert state(page)[1][1] == pytest.approx([-0.9, 0.6])
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Shift+ArrowLeft")
    assert state(page)[1][1] == pytest.approx([-1.4, 0.1])
    said = page.get_attribute("#first [data-handle='T 1']", "aria-valuetext")
    assert said == "x −1.40, y 0.10, length 1.40"
    assert page.get_attribute("#first [data-handle='T 1']", "aria-valuenow") == "-1.40"
    for _ in range(8):
        page.keyboard.press("Shift+ArrowLeft")
    x, y = state(page)[1][1]
    assert math.hypot(x, y) == pytest.approx(3)
    assert_shows_the_library(page)
    page.keyboard.press("Shift+Tab")
    for _ in range(50):
        page.keyboard.press("ArrowDown")
    assert math.hypot(*state(page)[0][1]) == pytest.approx(3)  # beside the origin there is a way past it
    assert_shows_the_library(page)


@pytest.mark.browser
def test_a_key_does_not_shrink_a_token_to_nothing(page):
    put(page, tokens=[[0.2, 0], *E[1:]])
    page.focus("#first [data-handle='E 0']")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert state(page)[0][0] == pytest.approx([0.1, 0])


@pytest.mark.browser
def test_buttons_show_what_the_weight_depends_on(page):
    put(page, chosen=2)

    def press(name):
        page.evaluate("model.saved.length = 0")
        page.click(f"#first button[name={name}]")
        now = state(page)
        page.wait_for_timeout(100)
        assert page.evaluate("model.saved.length") == 1  # E and T at once
        assert now[0][:2] == E[:2]
        assert now[1][:2] == T[:2]
        return {column: values[2] for column, values in assert_shows_the_library(page).items()}

    wanted = expected(E, T)
    opposite = press("reverse")
    assert opposite["ratio"] == pytest.approx(wanted["ratio"][2])
    assert opposite["cosine"] == pytest.approx(-wanted["cosine"][2])
    before = press("same")
    assert (before["ratio"], before["cosine"]) == (pytest.approx(1), pytest.approx(1))
    doubled = press("double")
    assert doubled["weight"] == pytest.approx(2 * before["weight"])
    assert doubled["necc"] == pytest.approx(before["necc"])
    assert press("halve")["weight"] == pytest.approx(before["weight"])
    turned = press("turn")
    assert turned["ratio"] == pytest.approx(1)
    assert turned["cosine"] == pytest.approx(math.cos(math.pi / 12))
    for _ in range(5):
        assert press("both") == pytest.approx(turned)
    along = press("same")
    reverse = press("reverse")
    assert reverse["cosine"] == pytest.approx(-1)
    assert reverse["ratio"] == pytest.approx(1)
    least = page.inner_text("#first .status").split("moves W between ")[1].split(" (against E)")[0]
    assert float(least) == pytest.approx(reverse["weight"], abs=5.1e-4)
    assert reverse["weight"] < turned["weight"] < along["weight"]
    assert press("reset")["weight"] == pytest.approx(wanted["weight"][2])
    assert state(page) == [E, T, 2, "sum"]


@pytest.mark.browser
def test_what_would_leave_the_plane_is_not_done_and_says_so(page):
    put(page, transformed=[[1.5, 0], [1.6, 0], [0.15, 0]])
    double, halve = (page.locator(f"#first button[name={name}]") for name in ("double", "halve"))
    double.click()
    assert state(page)[1][0] == [3, 0]  # up to the edge
    assert double.get_attribute("aria-disabled") == "true"
    assert double.get_attribute("title") == "T would leave the plane"
    double.click(force=True)
    assert state(page)[1][0] == [3, 0]
    put(page, chosen=2)
    assert halve.get_attribute("title") == "T is short already"
    halve.click(force=True)
    assert state(page)[1][2] == [0.15, 0]
    assert double.get_attribute("aria-disabled") == "false"


@pytest.mark.browser
def test_the_sentence_says_how_far_turning_can_move_the_weight(page):
    for chosen, normaliser in ((0, "sum"), (2, "mean")):
        put(page, chosen=chosen, normaliser=normaliser)
        text = page.inner_text("#first .status")
        ends = [
            float(end) for end in re.search(r"between ([\d.]+) \(against E\) and ([\d.]+) \(along E\)", text).groups()
        ]
        for sign, end in zip((-1, 1), ends, strict=True):
            length = math.hypot(*T[chosen]) / math.hypot(*E[chosen])
            laid = [[sign * length * v for v in E[chosen]] if n == chosen else T[n] for n in range(3)]
            assert end == pytest.approx(expected(E, laid, normaliser)["weight"][chosen], abs=5.1e-4)
        found = expected(E, T)
        degrees = math.degrees(math.acos(found["cosine"][chosen]))
        assert f"{found['ratio'][chosen]:.2f} times as long as E and {degrees:.0f}° away" in text


@pytest.mark.browser
def test_the_formula_follows_choice_and_normaliser(page):
    page.click("#first button[name=pair1]")
    page.select_option("#first select[name=normaliser]", "mean")
    assert state(page)[2:] == [1, "mean"]
    assert_shows_the_library(page)
    found = expected(E, T, "mean")
    mean = sum(map(math.exp, found["cosine"])) / 3
    raised = math.exp(found["cosine"][1])
    spoken = page.get_attribute("#first .formula", "aria-label")
    assert "exp(cos2)/mean exp(cos)" in spoken
    assert f"{found['to'][1]:.2f}/{found['from'][1]:.2f} × {raised:.2f}/{mean:.2f} = " in spoken
    assert page.inner_text("#first .actions b") == "Pair 2:"
    pressed = page.locator("#first tbody button").evaluate_all("(all) => all.map((one) => one.ariaPressed)")
    assert pressed == ["false", "true", "false"]


@pytest.mark.browser
def test_e_and_t_differ_by_more_than_their_place(page):
    for n in range(3):
        lines = page.locator(f"#first g[data-pair='{n}'] line")
        dashes = lines.evaluate_all("(lines) => lines.map((line) => line.getAttribute('stroke-dasharray'))")
        assert dashes == [None, None, "7 5"]  # E, the ground under T, T
        labels = page.locator(f"#first g[data-pair='{n}'] text").all_text_contents()
        assert labels == [f"E{n + 1}", f"T{n + 1}"]
    assert page.locator("#first g[data-pair]").last.get_attribute("data-pair") == "0"  # the chosen one on top


@pytest.mark.browser
def test_values_are_spoken_when_the_hand_has_come_to_rest(page):
    spoken = page.locator("#first .spoken")
    assert spoken.get_attribute("aria-live") == "polite"
    before = spoken.text_content()
    drag(page, T[0], (2.0, 2.0), drop=False)
    state(page)
    assert spoken.text_content() == before
    page.mouse.up()
    w = expected(E, [[2.0, 2.0], *T[1:]])
    page.wait_for_function(f"document.querySelector('#first .spoken').textContent !== {json.dumps(before)}")
    ratio, cosine, necc, weight = (w[name][0] for name in COLUMNS[2:])
    wanted = f"Pair 1: ratio {ratio:.2f}, cosine {cosine:.2f}, NECC {necc:.3f}, W {weight:.3f}."
    assert spoken.text_content() == wanted
    assert page.locator("#first .status[aria-live], #first .main [aria-live]").count() == 0


@pytest.mark.browser
def test_two_views_of_one_widget_stay_in_step(page):
    page.evaluate("void window.show('second')")
    page.wait_for_selector("#second .tokentm[data-painted]")
    page.locator("#second").scroll_into_view_if_needed()
    drag(page, T[2], (0.5, -2.0), root="#second")
    held = state(page)
    assert held[1][2] == [0.5, -2.0]
    page.wait_for_function(
        "document.querySelector('#second .tokentm').dataset.painted === "
        "document.querySelector('#first .tokentm').dataset.painted"
    )
    for root in ("#first", "#second"):
        assert_shows_the_library(page, root)


@pytest.mark.browser
def test_a_closed_view_leaves_no_listener(page):
    page.evaluate("close_first()")
    assert page.evaluate("Object.values(listeners).flat().length") == 0


@pytest.mark.browser
def test_keys_stay_inside_the_widget(page):
    page.evaluate("window.seen = []; document.body.addEventListener('keydown', (e) => window.seen.push(e.key))")
    page.focus("#first [data-handle='E 0']")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("window.seen") == []


@pytest.mark.browser
def test_a_finger_drags_a_tip_and_does_not_scroll_the_page(chromium):
    context = chromium.new_context(viewport={"width": 600, "height": 900}, has_touch=True, bypass_csp=True)
    page = context.new_page()
    show(page, TokenPlayground(E, T))
    touch = context.new_cdp_session(page)
    for kind, point in (("touchStart", T[0]), ("touchMove", (1.5, 1.5)), ("touchMove", (2.0, 2.0)), ("touchEnd", None)):
        x, y = pixel_of(page, point or (0, 0))
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}] if point else []})
    assert state(page)[1][0] == [2.0, 2.0]
    assert page.evaluate("scrollY") == 0
    context.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 600, 900, 1200])
def test_it_fits_a_narrow_page(chromium_page, width):
    chromium_page.set_viewport_size({"width": width, "height": 800})
    show(chromium_page, TokenPlayground(np.tile(E, (2, 1)), np.tile(T, (2, 1)), "mean"))
    assert chromium_page.evaluate("document.documentElement.scrollWidth") <= width
    wide = "(box) => box.scrollWidth - box.clientWidth"
    assert chromium_page.locator("#first .shares").evaluate(wide) == 0


@pytest.mark.browser
def test_axe_finds_nothing(page):
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert accessible(page) == []
        page.evaluate("model.set('transformed', [[0, 0], [1, 0], [2, 0]])")
        state(page)
        assert accessible(page) == []
    page.emulate_media(color_scheme="light")


@pytest.mark.browser
def test_an_exported_page_opens_from_its_file(chromium_page, tmp_path):
    wrong = watch(chromium_page)
    path = export_html(TokenPlayground(E, T, "mean", chosen=1), tmp_path / "playground.html")
    chromium_page.goto(path.as_uri())
    chromium_page.wait_for_selector(".tokentm[data-painted]")
    assert chromium_page.title() == "How a token gets its weight"
    exact, _ = table(chromium_page, "main")
    assert exact["weight"] == pytest.approx(expected(E, T, "mean")["weight"], rel=1e-12)
    assert wrong == []

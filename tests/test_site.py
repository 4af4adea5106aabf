"""The course as a static site: all of it, built as ``make site`` does, from the runs that the notebooks' tests kept."""

from __future__ import annotations

import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from urllib.parse import unquote

import build
import headers
import kept_runs
import landing
import nbformat
import pytest
from browser import accessible, watch
from lessons import NOTEBOOKS, read

ROOT = Path(__file__).parents[1]
COURSE = [path.stem for path in NOTEBOOKS]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Quick after ``test_notebooks.py``; alone it runs the notebooks that have changed since."""
    out = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, build.__file__, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == str(out / "index.html")
    assert "WARNING" not in done.stderr
    return out


def text_of(site, page):
    return (site / f"{page}.html").read_text(encoding="utf-8")


# ---- the pages ----


def test_every_notebook_is_a_page_that_needs_no_kernel(site):
    for page in COURSE:
        text = text_of(site, page)
        assert "application/vnd.jupyter" not in text
        assert "Predict." in text
        assert "$$" not in text
    assert "<math" in text_of(site, "03_length_and_direction")
    assert [path.name for path in site.parent.iterdir()] == ["site"]  # nothing is left beside it


def test_every_widget_of_a_notebook_stands_in_its_page_alive(site):
    for page in COURSE:
        frames = re.findall(r'<iframe [^>]*src="(widgets/[^"]+)"', text_of(site, page))
        shown = [
            output
            for cell in kept_runs.code(read(ROOT / "notebooks" / f"{page}.ipynb"))
            for output in cell.outputs
            if kept_runs.VIEW in output.get("data", {}) and "interactive" not in output.data["text/plain"]
        ]
        assert len(frames) == len(shown), page
        for frame, output in zip(frames, shown, strict=True):
            text = (site / frame).read_text(encoding="utf-8")
            assert '<script type="module">' in text
            computes = "wasm-unsafe-eval" in text  # as only pages may that run the model
            assert computes == output.data["text/plain"].startswith("Explorer"), frame
    assert '<script type="module">' in (site / landing.HERO).read_text(encoding="utf-8")


def test_every_link_leads_somewhere(site):
    """Also into the middle of a page; only links to other sites are left alone."""
    pages = {path.name: path.read_text(encoding="utf-8") for path in site.glob("*.html")}
    for name, text in pages.items():
        for link in re.findall(r'(?:href|src)="([^"]+)"', text):
            if re.match(r"(https?|data|mailto):", link):
                continue
            file, _, place = unquote(link).partition("#")
            file = file.partition("?")[0] or name
            assert (site / file).exists(), (name, link)
            if place and file in pages:
                assert f'id="{place}"' in pages[file], (name, link)


def test_nothing_is_asked_from_the_network(site):
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        for tag in ("<script", "<link", "<img", "<iframe"):
            for part in text.split(tag)[1:]:
                source = part.split(">", 1)[0]
                assert "http://" not in source, source
                assert "https://" not in source or 'rel="canonical"' in source, source


def test_the_landing_page_says_of_every_notebook_what_its_header_says(site):
    text = text_of(site, "index")
    found = re.findall(r'<li><a href="(\w+)\.html">\n.*\n<strong>(.*)</strong>\n.*>(\d+) min<', text)
    assert [page for page, _, _ in found] == COURSE
    for page, title, minutes in found:
        header = read(ROOT / "notebooks" / f"{page}.ipynb").cells[0].source
        assert header.startswith(f"# {title}\n")
        assert f"**After these {minutes} minutes" in header
    for command, does in landing.commands():
        assert f"<code>{command}</code>" in text
        assert does in text
    assert ("make lab", "installs everything into .venv, then opens JupyterLab on the quickstart notebook") in (
        landing.commands()
    )


def test_a_header_is_read_and_a_broken_one_is_refused():
    notebook = deepcopy(read(NOTEBOOKS[0]))
    first = notebook.cells[0]
    first.source = "# A title\n\n**After these 20 minutes you can**\n\n1. do *this*,\n   and that;\n2. do more.\n"
    made = headers.lesson("00_quickstart", notebook)
    assert made == headers.Lesson("00_quickstart", "A title", 20, ("Do <em>this</em>, and that.", "Do more."))
    first.source = "# A title"
    with pytest.raises(ValueError, match="expected a title, minutes and objectives"):
        headers.lesson("00_quickstart", notebook)


def test_times_are_written_as_one_says_them():
    assert [landing.time(minutes) for minutes in (55, 60, 215)] == ["55 minutes", "1 h 00", "3 h 35"]


def test_a_folder_that_is_no_site_is_not_replaced(tmp_path, monkeypatch, capsys):
    (tmp_path / "thesis.txt").write_text("precious")
    monkeypatch.setattr(sys, "argv", ["build.py", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        build.main()
    assert "or a site to replace" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "precious"


# ---- runs that are kept ----


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A notebook of two cells, whose runs are kept elsewhere; the second cell counts how often it is run."""
    monkeypatch.setattr(kept_runs, "RUNS", tmp_path / "runs")
    count = tmp_path / "count"
    cells = [
        nbformat.v4.new_code_cell("from tokentm_widgets import TokenPlayground\nTokenPlayground()"),
        nbformat.v4.new_markdown_cell("Between."),
        nbformat.v4.new_code_cell(f"with open({str(count)!r}, 'a') as file:\n    file.write('x')"),
    ]
    path = tmp_path / "small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path, count


@pytest.mark.notebook
def test_a_notebook_is_run_once_until_it_changes(small):
    path, count = small
    told = []
    for _ in range(2):
        kept_runs.ensure(path, lambda: told.append(1))
    assert (len(told), count.read_text()) == (4, "x")
    run = nbformat.read(kept_runs.RUNS / "small" / "small.ipynb", as_version=4)
    assert [cell.source for cell in run.cells] == [cell.source for cell in nbformat.read(path, 4).cells]
    assert [cell.execution_count for cell in kept_runs.code(run)] == [1, 2]
    assert 'src="widgets/small-1.html"' in run.cells[0].outputs[0].data["text/html"]
    assert (kept_runs.RUNS / "small" / "widgets" / "small-1.html").exists()

    changed = nbformat.read(path, as_version=4)
    changed.cells[1].source = "More between."
    nbformat.write(changed, path)
    assert not kept_runs.is_kept(path)


def test_a_run_does_not_outlive_what_it_depends_on(small, monkeypatch):
    path, _ = small
    before = kept_runs.key(path)
    monkeypatch.setattr(kept_runs, "packages", lambda: b"another")
    assert kept_runs.key(path) != before
    named = {file.name for file in kept_runs.sources()}
    assert {"embed.py", "explorer.py", "page.js", "model.safetensors"} <= named


# ---- in a browser ----

WIDTHS = (390, 768, 1280)
FITS = """frame => new Promise((done, fail) => {
  const until = Date.now() + 10000;
  const look = () => {
    const root = frame.contentDocument?.documentElement;
    if (root && Math.abs(root.getBoundingClientRect().height - frame.clientHeight) <= 1) done(frame.clientHeight);
    else if (Date.now() > until) fail(`${root?.getBoundingClientRect().height} high in ${frame.clientHeight}`);
    else setTimeout(look, 50);
  };
  look();
})"""


@pytest.fixture
def page(site, chromium):
    """A browser's page in which the site is served, so that the test may look into frames."""
    opened = chromium.new_page(viewport={"width": 1280, "height": 900}, bypass_csp=True)

    def serve(route):
        file = site / unquote(route.request.url.removeprefix("http://widget.test/").partition("?")[0])
        route.fulfill(path=file) if file.is_file() else route.fulfill(status=404)

    opened.route("http://widget.test/**", serve)
    yield opened
    opened.close()


def opened_widget(page, name):
    page.goto(f"http://widget.test/{name}.html")
    frame = page.locator("iframe.widget").first
    frame.scroll_into_view_if_needed()
    inner = page.frame_locator("iframe.widget").first
    inner.locator(".tokentm[data-painted]").first.wait_for(timeout=20_000)
    return frame, inner


@pytest.mark.browser
def test_the_widget_lives_in_the_page_opened_as_a_file(site, chromium_page):
    wrong = watch(chromium_page)
    chromium_page.goto((site / "03_length_and_direction.html").as_uri())
    frame = chromium_page.frame_locator("iframe.widget").first
    chromium_page.locator("iframe.widget").first.scroll_into_view_if_needed()
    frame.locator(".tokentm[data-painted]").wait_for(timeout=20_000)
    assert frame.locator("svg").count() > 0
    chromium_page.wait_for_function("document.querySelector('iframe.widget').style.height !== ''")
    assert wrong == []


@pytest.mark.browser
def test_a_frame_grows_and_shrinks_with_its_content(page):
    wrong = watch(page)
    frame, inner = opened_widget(page, "04_aggregation")
    before = frame.evaluate(FITS)
    assert inner.locator("html").evaluate("root => getComputedStyle(root).overflowY") == "hidden"
    fold = inner.locator("details > summary").first
    fold.click()
    page.wait_for_function(f"document.querySelector('iframe.widget').clientHeight > {before}")
    assert frame.evaluate(FITS) > before
    fold.click()
    page.wait_for_function(f"document.querySelector('iframe.widget').clientHeight === {before}")
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_function(f"document.querySelector('iframe.widget').clientHeight !== {before}")
    frame.evaluate(FITS)
    assert wrong == []


@pytest.mark.browser
@pytest.mark.parametrize(("name", "button"), [("index", "button.theme"), ("03_length_and_direction", ".theme-toggle")])
def test_a_frame_is_as_light_or_dark_as_its_page(page, name, button):
    page.emulate_media(color_scheme="light")
    _, inner = opened_widget(page, name)

    def dark():
        red, green, blue = (
            int(one) for one in re.findall(r"\d+", inner.locator("body").evaluate("e => getComputedStyle(e).color"))[:3]
        )
        return red + green + blue > 3 * 128

    inner.locator("html[theme=light]").wait_for()
    assert not dark()
    for _ in range(3):  # the course's button also has "as the machine"
        if inner.locator("html").get_attribute("theme") == "light":
            page.locator(f"{button}:visible").first.click()
            page.wait_for_timeout(200)
    inner.locator("html[theme=dark]").wait_for()
    assert dark()
    page.goto("http://widget.test/04_aggregation.html")
    assert page.locator("body").get_attribute("data-theme") == "dark"


@pytest.mark.browser
def test_a_page_in_a_frame_that_does_not_answer_is_as_it_is_alone(site, page):
    hero = landing.HERO
    page.route(
        "http://widget.test/foreign",
        lambda route: route.fulfill(
            content_type="text/html", body=f'<iframe class="widget" src="{hero}" width="800" height="400"></iframe>'
        ),
    )
    page.goto("http://widget.test/foreign")
    inner = page.frame_locator("iframe")
    inner.locator(".tokentm[data-painted]").first.wait_for(timeout=20_000)
    assert page.locator("iframe").evaluate("frame => frame.clientHeight") == 400
    assert inner.locator("html").evaluate("root => [getComputedStyle(root).overflowY, root.hasAttribute('theme')]") == [
        "visible",
        False,
    ]


@pytest.mark.browser
@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_is_wider_than_the_screen(page, site, width):
    page.set_viewport_size({"width": width, "height": 800})
    for name in (
        "index",
        "course",
        "faithfulness",
        "real_model",
        "own_model",
        "how_it_works",
        "reference",
        "api_tokentm",
        "api_explain",
        *COURSE,
    ):
        page.goto(f"http://widget.test/{name}.html")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_landing_page_is_accessible_and_its_links_work(page, theme):
    wrong = watch(page)
    page.emulate_media(color_scheme=theme)
    page.goto("http://widget.test/index.html")
    assert accessible(page, "body") == []
    page.locator(".parts a").nth(3).click()
    assert page.locator("h1").first.inner_text().startswith("Length and direction")
    assert wrong == []

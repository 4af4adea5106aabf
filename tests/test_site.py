"""The course as a static site: one notebook becomes a page whose widget lives, and nothing asks the network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from browser import watch

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site") / "site"
    build = ROOT / "notebooks" / "site" / "build.py"
    done = subprocess.run(
        [sys.executable, str(build), "--out", str(out), "--notebooks", "03"],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == str(out / "index.html")
    return out


def test_a_page_holds_the_notebook(site):
    page = (site / "03_length_and_direction.html").read_text(encoding="utf-8")
    assert "<math" in page
    assert "$$" not in page
    assert 'class="widget"' in page
    assert "application/vnd.jupyter" not in page
    assert "Predict." in page
    assert not list(site.parent.glob("site-source"))


def test_nothing_is_asked_from_the_network(site):
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        for tag in ("<script", "<link", "<img", "<iframe"):
            for part in text.split(tag)[1:]:
                source = part.split(">", 1)[0]
                assert "http://" not in source, source
                assert "https://" not in source or 'rel="canonical"' in source, source


@pytest.mark.browser
def test_the_widget_lives_in_the_page(site, chromium_page):
    wrong = watch(chromium_page)
    chromium_page.goto((site / "03_length_and_direction.html").as_uri())
    frame = chromium_page.frame_locator("iframe.widget").first
    chromium_page.locator("iframe.widget").first.scroll_into_view_if_needed()
    frame.locator(".tokentm[data-painted]").wait_for(timeout=20_000)
    assert frame.locator("svg").count() > 0
    assert wrong == []

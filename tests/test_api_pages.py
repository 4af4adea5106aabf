"""The API reference has a place for every public name, once."""

from __future__ import annotations

import inspect

import api_pages

import tokentm
import tokentm_widgets
from tokentm import evaluation, methods


def listed():
    return [
        (module, name) for page in api_pages.PAGES for told in page.modules for module, name in api_pages.public(told)
    ]


def test_every_public_function_and_class_is_in_the_reference():
    shown = [getattr(__import__(module, fromlist=["_"]), name) for module, name in listed()]
    for package in (tokentm, tokentm_widgets, methods, evaluation):
        for name in package.__all__:
            one = getattr(package, name)
            if (inspect.isfunction(one) or inspect.isclass(one)) and one.__module__.startswith("tokentm"):
                assert any(one is other for other in shown), f"{package.__name__}.{name}"


def test_nothing_is_listed_twice_on_a_page():
    for page in api_pages.PAGES:
        names = [one for told in page.modules for one in api_pages.public(told)]
        assert names
        assert len(names) == len(set(names))


def test_pages_are_files_of_their_own(tmp_path):
    api_pages.write(tmp_path)
    assert len(list(tmp_path.glob("api_*.md"))) == len(api_pages.PAGES)
    assert "autofunction:: tokentm.record" in (tmp_path / "api_explain.md").read_text()
    assert all(f"\n{path.stem}\n" in (tmp_path / "reference.md").read_text() for path in tmp_path.glob("api_*.md"))

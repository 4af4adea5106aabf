"""Old keywords: taken with a warning, refused beside the new one."""

from __future__ import annotations

import warnings

import pytest

from tokentm.renamed import renamed


@renamed(picture="image", colours="classes")
def show(image, size=3, *, classes=None):
    """Its words."""
    return image, size, classes


def test_an_old_keyword_becomes_the_new_one_and_names_it_where_it_was_called():
    with pytest.warns(DeprecationWarning, match=r"picture= is called image= now\.") as caught:
        assert show(picture=1, size=2) == (1, 2, None)
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(DeprecationWarning, match="classes="):
        assert show(1, colours=5) == (1, 3, 5)


def test_the_new_keyword_warns_nobody():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert show(image=1, classes=2) == show(1, classes=2) == (1, 3, 2)


@pytest.mark.parametrize("call", [lambda: show(1, picture=2), lambda: show(image=1, picture=2)])
def test_both_names_at_once_are_refused(call):
    with pytest.raises(TypeError, match=r"expected image= or picture=, its old name; got both"):
        call()


def test_the_function_keeps_its_name_and_words():
    assert (show.__name__, show.__doc__) == ("show", "Its words.")

"""If-None-Match, as RFC 9110, 13.1.2 and 8.8.3 have it."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from imagegen.http import etags


@pytest.mark.parametrize(
    ("given", "known"),
    [
        (['"a"'], True),
        (['W/"a"'], True),
        (["*"], True),
        (['"b", W/"a"'], True),
        (['"b"', '"a"'], True),
        (['"x,y","a"'], True),
        ([], False),
        ([""], False),
        (["a"], False),
        (['"b"'], False),
        (['"a,b"'], False),
        (['"x"a"y"'], False),
        (['w/"b"'], False),
    ],
)
def test_a_tag_is_compared_weakly(given: list[str], known: bool) -> None:
    headers = [(b"if-none-match", one.encode()) for one in given]
    assert etags.is_known(Request({"type": "http", "headers": headers}), '"a"') is known

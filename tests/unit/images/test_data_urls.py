"""Pictures as data URLs: their bytes, or a refusal before they are decoded."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegen.images import references
from imagegen.images.references import parse_data_url
from imagegen.schemas import Refused


@given(st.binary(max_size=300), st.sampled_from(["png", "jpeg", "webp", "PNG", "svg+xml", "png;name=a.png"]))
def test_a_data_url_gives_its_bytes(data, subtype):
    assert parse_data_url(f"data:image/{subtype};base64,{base64.b64encode(data).decode()}", 300) == data


@pytest.mark.parametrize(
    "text",
    [
        "",
        "data:",
        "data:image/png;base64",
        "data:image/png,AAAA",
        "data:text/plain;base64,AAAA",
        "data:application/png;base64,AAAA",
        "https://example.com/cat.png",
        "image/png;base64,AAAA",
        "data:image/png;base64,AAA",
        "data:image/png;base64,AAAA=",
        "data:image/png;base64,AAAA==",
        "data:image/png;base64,AAAA====",
        "data:image/png;base64,====",
        "data:image/png;base64,AA=A",
        "data:image/png;base64,=AAA",
        "data:image/png;base64,AA AA",
        "data:image/png;base64,AAAA\n",
        "data:image/png;base64, AAAA",
        "data:image/png;base64,AA-_",
        "data:image/png;base64,AAAA-_-_",
        "data:image/png;base64,AAAA    ",
        "data:image/png;base64,AA%2B",
        "data:image/png;base64,ÄÄÄÄ",
        "data:image/png;base64,AAAA\0",
        "data:image/png;base64,\ud800AAA",
        "data:image/" + "x" * 300 + ";base64,AAAA",
    ],
)
def test_a_data_url_that_is_not_one_is_refused(text):
    with pytest.raises(Refused) as caught:
        parse_data_url(text, 1000)
    assert (caught.value.status, caught.value.code) == (422, "bad_image")


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 6, 7])
def test_a_data_url_is_held_to_its_size_to_the_byte(size):
    text = "data:image/png;base64," + base64.b64encode(bytes(size)).decode()
    assert parse_data_url(text, size) == bytes(size)
    if size:
        with pytest.raises(Refused, match=f"{size - 1} bytes"):
            parse_data_url(text, size - 1)


def test_a_data_url_that_is_too_long_is_not_even_decoded(monkeypatch):
    monkeypatch.delattr(references.binascii, "a2b_base64")
    with pytest.raises(Refused, match="larger than the 1000 bytes"):
        parse_data_url("data:image/png;base64," + "A" * 2000, 1000)

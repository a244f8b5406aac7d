"""AUTOMATIC1111's notation of LoRAs in a prompt."""

from __future__ import annotations

import pytest

from imagegen.http.sdapi.loras import taken_out
from imagegen.schemas import Refused


@pytest.mark.parametrize(
    ("prompt", "left", "loras"),
    [
        ("a cat", "a cat", {}),
        ("a cat <lora:soft:0.8>", "a cat", {"soft": 0.8}),
        ("<lora:soft:0.8> a cat", "a cat", {"soft": 0.8}),
        ("a <lora:soft> cat", "a cat", {"soft": 1.0}),
        ("a <lora:Water Colour v1.5:-1>, <lora:b:1e-1>cat", "a , cat", {"Water Colour v1.5": -1.0, "b": 0.1}),
        ("<lora:soft:0.5><lora:soft:0.25>", "", {"soft": 0.75}),
        ("a cat <lora:soft:0.8:0.8>", "a cat", {"soft": 0.8}),
        ("a <hypernet:x:1> <lyco:y:1> < lora:z:1> (cat:1.2)", "a <hypernet:x:1> <lyco:y:1> < lora:z:1> (cat:1.2)", {}),
        ("a <lora:x:1", "a <lora:x:1", {}),
        ("a <lora:../../etc/passwd:1>", "a", {"../../etc/passwd": 1.0}),
    ],
)
def test_the_notation_becomes_loras_and_the_rest_stays(prompt: str, left: str, loras: dict[str, float]) -> None:
    text, found = taken_out(prompt)
    assert (text, {one.name: one.strength for one in found}) == (left, loras)


@pytest.mark.parametrize("tag", ["<lora:soft:>", "<lora:soft:much>", "<lora:soft:nan>", "<lora:soft:inf>"])
def test_a_strength_that_is_no_number_is_refused(tag: str) -> None:
    with pytest.raises(Refused, match="needs one number as its strength"):
        taken_out(f"a cat {tag}")


def test_two_strengths_for_text_and_picture_are_refused() -> None:
    with pytest.raises(Refused) as refused:
        taken_out("a cat <lora:soft:0.8:0.5>")
    assert (refused.value.code, refused.value.extra) == ("invalid_request", {"param": "prompt"})

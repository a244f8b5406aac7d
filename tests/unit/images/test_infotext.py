"""A picture's settings as AUTOMATIC1111's web UI writes them, written and read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis.strategies import text

from imagegen.images import infotext
from imagegen.images.infotext import Infotext
from imagegen.models.entry_tables import ADAPTER_SAMPLERS

FIELDS = {"Steps": 20, "Sampler": "Euler a", "CFG scale": "7", "Size": "64x64"}
LINE = "Steps: 20, Sampler: Euler a, CFG scale: 7, Size: 64x64"
READ = {label: str(value) for label, value in FIELDS.items()}


@pytest.mark.parametrize(
    ("prompt", "negative", "written"),
    [
        ("a red circle", "", f"a red circle\n{LINE}"),
        ("a red circle", "hats", f"a red circle\nNegative prompt: hats\n{LINE}"),
        ("two\nlines", "hats,\ncoats", f"two\nlines\nNegative prompt: hats,\ncoats\n{LINE}"),
        ("", "", LINE),
        ("", "hats", f"Negative prompt: hats\n{LINE}"),
    ],
)
def test_written_and_read(prompt: str, negative: str, written: str) -> None:
    assert infotext.write(prompt, negative, FIELDS) == written
    assert infotext.read(written) == Infotext(prompt, negative, READ)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("", Infotext()),
        ("only a prompt", Infotext("only a prompt")),
        ("a prompt: with a colon", Infotext("a prompt: with a colon")),
        (
            'cat\nSteps: 9, Lora hashes: "a: 1, b: 2", Model: x, Note: ""',
            Infotext("cat", "", {"Steps": "9", "Lora hashes": "a: 1, b: 2", "Model": "x", "Note": ""}),
        ),
    ],
)
def test_read_of_other_programs(given: str, read: Infotext) -> None:
    assert infotext.read(given) == read


@given(text())
def test_any_value_comes_back(value: str) -> None:
    fields = FIELDS | {"Version": value}
    line = infotext.write("", "", fields)
    if "\n" not in line:
        assert infotext.read(line).fields["Version"].strip() == value.strip()


@given(text())
def test_any_text_is_read_without_an_error(value: str) -> None:
    infotext.read(value)


def test_every_sampler_has_a_label() -> None:
    known = {name for names in ADAPTER_SAMPLERS.values() for name in names}
    assert infotext.SAMPLER_LABELS.keys() == known
    assert len(set(infotext.SAMPLER_LABELS.values())) == len(known)


def test_loras_follow_the_prompt_in_automatic1111s_notation() -> None:
    loras = [infotext.Lora(name="soft light", strength=0.8), infotext.Lora(name="b")]
    assert infotext.with_loras("a cat", loras) == "a cat <lora:soft light:0.8> <lora:b:1>"
    assert infotext.with_loras("", loras[1:]) == "<lora:b:1>"
    assert infotext.with_loras("a cat", []) == "a cat"

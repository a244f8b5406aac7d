"""Model aliases: what IMAGEGEN_MODEL_ALIASES says, and what of it is refused at the start."""

from __future__ import annotations

from typing import get_args

import pytest
from openai.types import ImageModel

from imagegen.models.aliases import Aliases
from imagegen.models.entry_files import CatalogError
from imagegen.settings import Settings

MODELS = ("tiny", "sketch")


@pytest.mark.parametrize(
    ("text", "name", "model"),
    [
        ("dall-e-3, gpt-image-1", "dall-e-3", "tiny"),
        ("dall-e-3,gpt-image-1 = sketch", "gpt-image-1", "sketch"),
        ("dall-e-3", "dall-e-4", "dall-e-4"),
        ("sketch=tiny", "sketch", "sketch"),
        ("", "dall-e-3", "dall-e-3"),
        (" , ", "tiny", "tiny"),
    ],
)
def test_what_a_name_means(text: str, name: str, model: str) -> None:
    assert Aliases(text, MODELS, "tiny").model(name) == model


def test_a_model_hides_an_alias_of_its_name() -> None:
    assert Aliases("sketch=tiny,a=sketch,b", MODELS, "tiny").meant == {"a": "sketch", "b": "tiny"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a=", "'a=' is not an alias"),
        ("=tiny", "'=tiny' is not an alias"),
        ("two words", "'two words' is not an alias"),
        ("a,a=tiny", "names a twice"),
        ("a=b", "a=b names no model that is offered. There are: sketch, tiny."),
    ],
)
def test_a_wrong_alias_stops_the_start(text: str, told: str) -> None:
    with pytest.raises(CatalogError) as wrong:
        Aliases(text, MODELS, "tiny")
    assert str(wrong.value).startswith("IMAGEGEN_MODEL_ALIASES")
    assert told in str(wrong.value)


def test_every_image_model_of_openai_is_an_alias() -> None:
    meant = Aliases(Settings().model_aliases, MODELS, "tiny").meant
    assert set(get_args(ImageModel)) <= meant.keys()
    assert set(meant.values()) == {"tiny"}

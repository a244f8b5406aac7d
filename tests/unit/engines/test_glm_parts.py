"""What a GLM-Image repository lacks is found before anything is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagegen.engines.glm.server import components


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Every part with a file, the transformer's weights in two."""
    index = {part: ["diffusers", "AClass"] for part in ("scheduler", "tokenizer", *components.WEIGHTED)}
    (tmp_path / components.INDEX).write_text(
        json.dumps(index | {"_class_name": "GlmImagePipeline", "image_encoder": [None, None]})
    )
    for part in index:
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text("{}")
    for part in components.WEIGHTED:
        names = [f"model-{n}-of-2.safetensors" for n in (1, 2)] if part == "transformer" else ["model.safetensors"]
        for name in names:
            (tmp_path / part / name).touch()
    weight_map = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    (tmp_path / "transformer" / "model.safetensors.index.json").write_text(json.dumps(weight_map))
    return tmp_path


@pytest.mark.parametrize(
    ("gone", "called"),
    [
        (components.INDEX, [components.INDEX]),
        ("scheduler/config.json", ["scheduler"]),
        ("vae/model.safetensors", ["weights of vae"]),
        ("transformer/model-2-of-2.safetensors", ["transformer/model-2-of-2.safetensors"]),
    ],
)
def test_what_is_gone_is_named(repository: Path, gone: str, called: list[str]) -> None:
    assert components.missing(repository) == []
    (repository / gone).unlink()
    assert components.missing(repository) == called


@pytest.mark.parametrize("text", ["[]", "{", '{"vae": []}'])
def test_an_index_that_is_none_is_named(repository: Path, text: str) -> None:
    (repository / components.INDEX).write_text(text)
    assert components.missing(repository) == [f"readable {components.INDEX}"]

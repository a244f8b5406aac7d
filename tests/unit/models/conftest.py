"""A hub on the loopback with one model, the settings of an empty state folder, and the model's entry in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import LoopbackHub
from made_up_model import ENTRY, WEIGHTS

from imagegen.settings import Settings


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    hub = LoopbackHub()
    hub.files["owner/model"] = {"model.gguf": WEIGHTS, "README.md": b"A card."}
    yield hub
    hub.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "models").mkdir()
    return Settings(home=tmp_path)


@pytest.fixture
def made_up(settings: Settings) -> None:
    """The entry of the hub's model."""
    (settings.models_dir / "made-up.toml").write_text(ENTRY)

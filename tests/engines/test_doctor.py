"""The doctor, with real faults: each is planted in a scratch state folder, and was not found before."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from held_engine import without_channel
from loras import pair, safetensors
from served import Service, gone, until
from sqlalchemy import create_engine

from imagegen import doctor
from imagegen.doctor import Finding, Level, machine, state
from imagegen.doctor import model as drawing
from imagegen.engine_build.cards import Card, Cards
from imagegen.hardware.gpu import Gpu, Holder
from imagegen.models import packages
from imagegen.models.catalog import Catalog
from imagegen.models.entry_tables import Memory
from imagegen.security import tls
from imagegen.security.tokens import new as new_token
from imagegen.settings import Settings
from imagegen.storage.tables import metadata

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scratch(home: Path, sd_server: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scratch]:
    """A healthy state folder with a database, a picture and the tiny model."""
    settings = {"HOME": home, "SD_SERVER": sd_server, "MODEL": "tiny", "PORT": _free_port()}
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


class Scratch:
    """A state folder to plant faults in."""

    def __init__(self, home: Path, environment: pytest.MonkeyPatch) -> None:
        self.home, self.environment = home, environment
        self.started: list[int] = []
        self.held: list[socket.socket] = []

    def set(self, name: str, value: object) -> None:
        self.environment.setenv(f"IMAGEGEN_{name}", str(value))

    def sql(self, statement: str) -> None:
        with sqlite3.connect(self.home / "jobs.sqlite3") as connection:
            connection.execute(statement)
        connection.close()

    def own_model(self, text: str) -> None:
        (self.home / "models" / "mine.toml").write_text('name = "mine"\ntitle = "Mine"\nbase = "tiny"\n' + text)
        self.set("MODEL", "mine")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def unknown_setting(s: Scratch) -> None:
    s.set("MAX_DIMENSIONS", 512)


def wrong_setting(s: Scratch) -> None:
    s.set("MAX_STEPS", "many")


def engine_gone(s: Scratch) -> None:
    s.set("SD_SERVER", s.home / "no-engine-here")


def engine_broken(s: Scratch) -> None:
    broken = s.home / "sd-server"
    broken.write_text("#!/bin/sh\necho 'error while loading shared libraries: libcublas.so.13'; exit 127\n")
    broken.chmod(0o755)
    s.set("SD_SERVER", broken)


def engine_without_channel(s: Scratch) -> None:
    s.set("SD_SERVER", without_channel(s.home, Path(os.environ["IMAGEGEN_SD_SERVER"])))


def flag_missing(s: Scratch) -> None:
    s.own_model('[[flags]]\nflag = "--no-such-flag"\n')


def model_file_gone(s: Scratch) -> None:
    s.own_model('[[files]]\nrole = "llm"\nflag = "--llm"\nfile = "not-here.gguf"\n')


def model_file_is_a_web_page(s: Scratch) -> None:
    _own_file(s, b"<!doctype html><title>403 Forbidden</title>")


def model_file_has_another_hash(s: Scratch) -> None:
    _own_file(s, b"GGUF" + bytes(100), f'sha256 = "{"0" * 64}"\n')


def model_file_is_not_what_was_fetched(s: Scratch) -> None:
    _own_file(s, b"GGUF" + bytes(100))
    noted = {"own.gguf": {"size_bytes": 104, "sha256": "1" * 64}}
    (s.home / "models" / "mine" / "fetched.json").write_text(json.dumps(noted))


def model_file_is_cut_off(s: Scratch) -> None:
    _own_file(s, b"GGUF" + bytes(100), "size_bytes = 105\n")


VISION = '[[files]]\nrole = "llm_vision"\nfile = "mmproj.gguf"\nrepo = "owner/vision"\noptional = true\n'


def vision_tower_lost(s: Scratch) -> None:
    s.set("AUTO_FETCH", "off")
    s.own_model(VISION)


def nothing_fetched_offline(s: Scratch) -> None:
    s.set("AUTO_FETCH", "on")
    s.environment.setenv("HF_HUB_OFFLINE", "1")
    files = [("diffusion_model", "--diffusion-model"), ("llm", "--llm"), ("tae", "--tae")]
    tables = [f'[[files]]\nrole = "{r}"\nflag = "{f}"\nfile = "to-come.gguf"\nrepo = "o/far"\n' for r, f in files]
    s.own_model("".join(tables))


def lora_is_cut_off(s: Scratch) -> None:
    (s.home / "models" / "mine").mkdir()
    (s.home / "models" / "mine" / "some.safetensors").write_bytes(safetensors(pair())[:-1])
    s.own_model('[[files]]\nrole = "lora"\nfile = "some.safetensors"\n')


def _own_file(s: Scratch, content: bytes, more: str = "") -> None:
    (s.home / "models" / "mine").mkdir()
    (s.home / "models" / "mine" / "own.gguf").write_bytes(content)
    s.own_model('[[files]]\nrole = "llm"\nflag = "--llm"\nfile = "own.gguf"\n' + more)


def memory_too_small(s: Scratch) -> None:
    s.own_model("[memory]\nram_bytes = 1_000_000_000_000_000\nvram_bytes = 1_000_000_000_000_000\n")


def disk_too_small(s: Scratch) -> None:
    s.own_model(
        'download_bytes = 1_000_000_000_000_000\n[[files]]\nrole = "llm"\nflag = "--llm"\nfile = "to-come.gguf"\n'
    )


def port_taken(s: Scratch) -> None:
    taken = socket.socket()
    s.held.append(taken)
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    s.set("PORT", taken.getsockname()[1])


def clock_put_back(s: Scratch) -> None:
    s.sql(
        "INSERT INTO jobs (id, revision, kind, status, model, prompt, params, refs, warnings, policy, attempts, "
        f"created_at) VALUES ('{'a' * 32}', 1, 'generate', 'queued', 'tiny', '', '{{}}', '[]', '[]', '{{}}', 0, "
        f"{time.time() + 86400})"
    )


def certificate_ended(s: Scratch) -> None:
    _certificate(s, -0.01)  # it begins an hour before it is made


def certificate_ends_soon(s: Scratch) -> None:
    _certificate(s, 5)


def _certificate(s: Scratch, days: float) -> None:
    files = tls.Files(s.home / "cert.pem", s.home / "key.pem")
    files.key.write_bytes(tls.new_key())
    tls.renew(files, ["localhost"], days=days)
    s.set("TLS", f"{files.certificate},{files.key}")


def certificate_of_another_key(s: Scratch) -> None:
    _certificate(s, 90)
    (s.home / "key.pem").write_bytes(tls.new_key())


def state_open_to_others(s: Scratch) -> None:
    (s.home / "jobs.sqlite3").chmod(0o644)
    s.home.chmod(0o755)


def half_a_picture_left(s: Scratch) -> None:
    (s.home / "images" / f".{'a' * 32}.{'b' * 8}.tmp").write_bytes(b"\x89PNG")


def picture_without_row(s: Scratch) -> None:
    (s.home / "images" / f"{'a' * 32}.png").write_bytes(b"\x89PNG")


def row_without_picture(s: Scratch) -> None:
    s.sql(
        "INSERT INTO images (id, idx, width, height, bytes, sha256, format, created_at) "
        f"VALUES ('{'c' * 32}', 0, 64, 64, 1, '', 'png', 1)"
    )


def engine_left_running(s: Scratch) -> None:
    (s.home / "engine").mkdir()
    orphan = (
        "import os; os.fork() and os._exit(0); print(os.getpid(), flush=True); os.execvp('sleep', ['sleep', '600'])"
    )
    with subprocess.Popen([sys.executable, "-c", orphan], cwd=s.home / "engine", stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        s.started.append(int(parent.stdout.readline()))


def service_hangs(s: Scratch) -> None:
    """Another process holds the folder's lock and does not listen."""
    holder = (
        "import fcntl, sys, time; lock = open(sys.argv[1], 'a'); fcntl.flock(lock, fcntl.LOCK_EX); "
        "print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", holder, str(s.home / "lock")]
    held = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    s.started.append(held.pid)
    assert held.stdout is not None
    assert held.stdout.readline() == b"held\n"


def database_damaged(s: Scratch) -> None:
    path = s.home / "jobs.sqlite3"
    path.write_bytes(path.read_bytes()[:4096] + os.urandom(8192))


def database_is_no_database(s: Scratch) -> None:
    (s.home / "jobs.sqlite3").write_bytes(b"hello" * 1000)


def database_of_a_newer_version(s: Scratch) -> None:
    s.sql("PRAGMA user_version = 99")


def policy_broken(s: Scratch) -> None:
    (s.home / "policy.toml").write_text('baseline = "clowns"\n')
    s.set("POLICY_FILE", s.home / "policy.toml")


def template_broken(s: Scratch) -> None:
    (s.home / "templates").mkdir()
    (s.home / "templates" / "mine.toml").write_text('title = "Mine"\n')


def catalog_broken(s: Scratch) -> None:
    s.own_model("stepps = 20\n")


def alias_of_no_model(s: Scratch) -> None:
    s.set("MODEL_ALIASES", "dall-e-3=nothing")


def open_to_everybody(s: Scratch) -> None:
    s.set("HOST", "0.0.0.0")


def tokens_readable_by_others(s: Scratch) -> None:
    new_token("kim", s.home / "tokens")
    (s.home / "tokens").chmod(0o644)


FAULTS: list[tuple[Callable[[Scratch], None], str, Level, str]] = [
    (unknown_setting, "settings", Level.FAIL, "IMAGEGEN_MAX_DIMENSIONS is not a setting"),
    (wrong_setting, "settings", Level.FAIL, "IMAGEGEN_MAX_STEPS='many'"),
    (engine_gone, "engine", Level.FAIL, "no-engine-here does not exist"),
    (engine_broken, "engine", Level.FAIL, "libcublas.so.13"),
    (engine_without_channel, "channel", Level.WARN, "listens on a port of 127.0.0.1"),
    (flag_missing, "flags", Level.WARN, "--no-such-flag"),
    (model_file_gone, "model files", Level.FAIL, "not-here.gguf"),
    (model_file_is_a_web_page, "model files", Level.FAIL, "is not a GGUF file"),
    (model_file_has_another_hash, "model files", Level.FAIL, "instead of 000000000000"),
    (model_file_is_not_what_was_fetched, "model files", Level.FAIL, "instead of 111111111111"),
    (vision_tower_lost, "model files", Level.WARN, "mine works without mmproj.gguf, which is not here"),
    (nothing_fetched_offline, "model files", Level.FAIL, "Unset HF_HUB_OFFLINE"),
    (lora_is_cut_off, "model files", Level.FAIL, "some.safetensors is cut off"),
    (model_file_is_cut_off, "model files", Level.FAIL, "has 104 bytes instead of 105"),
    (memory_too_small, "memory", Level.WARN, "needs 1000000.0 GB"),
    (disk_too_small, "disk", Level.FAIL, "still needs"),
    (port_taken, "port", Level.FAIL, f"process {os.getpid()}"),
    (clock_put_back, "clock", Level.FAIL, "the newest job was made at"),
    (certificate_ended, "certificate", Level.FAIL, "ended on"),
    (certificate_ends_soon, "certificate", Level.WARN, "ends in 4 days"),
    (certificate_of_another_key, "certificate", Level.FAIL, "is not the key of"),
    (state_open_to_others, "state folder", Level.WARN, "other users of this machine"),
    (half_a_picture_left, "leftovers", Level.WARN, "1 files"),
    (picture_without_row, "leftovers", Level.WARN, "1 files"),
    (row_without_picture, "pictures", Level.WARN, "c" * 32),
    (service_hangs, "state folder", Level.FAIL, "listens on no port"),
    (engine_left_running, "engines", Level.FAIL, "no service owns"),
    (database_damaged, "database", Level.FAIL, "is damaged"),
    (database_is_no_database, "database", Level.FAIL, "file is not a database"),
    (database_of_a_newer_version, "database", Level.FAIL, "schema 99"),
    (policy_broken, "policy", Level.FAIL, "baseline is not a key"),
    (template_broken, "templates", Level.WARN, "mine.toml"),
    (catalog_broken, "catalog", Level.FAIL, "stepps: is not a field"),
    (alias_of_no_model, "catalog", Level.FAIL, "dall-e-3=nothing names no model"),
    (open_to_everybody, "tokens", Level.FAIL, "IMAGEGEN_HOST=0.0.0.0"),
    (tokens_readable_by_others, "tokens", Level.WARN, "can be read by other users"),
]


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
    report = json.loads(ailing.stdout)
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
    assert said[0].startswith(f"The service answers at {service.url}: engine ready, 0 running, 0 waiting.")
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
        (Cards(), None, None, True, Level.OK, "no NVIDIA GPU"),
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


def test_a_card_that_other_programs_fill_is_found(home: Path) -> None:
    settings = Settings(home=home, model="tiny")
    entry = Catalog.load(settings).get("tiny").model_copy(update={"memory": Memory(vram_bytes=10**10, source="test")})
    full = Gpu("NVIDIA Test", 24 * 10**9, 10**9, None, (Holder(7, "trainer", 22 * 10**9, None),))
    (found,) = machine.memory(entry, settings, frozenset(), full)
    assert (found.level, "trainer" in found.what) == (Level.WARN, True)
    (found,) = machine.memory(entry, settings, frozenset(), USED)
    assert found.level is Level.OK
    (found,) = machine.memory(entry, settings, frozenset(), Gpu("NVIDIA Test", 8 * 10**9, 8 * 10**9, None))
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

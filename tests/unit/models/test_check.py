"""`imagegen models check`: files against their checksums, with an exit code for scripts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest
from click.testing import CliRunner, Result
from hub import LoopbackHub
from made_up_model import ENTRY, VISION, WEIGHTS, folder

from imagegen.cli.models import models as command
from imagegen.models.catalog import Catalog
from imagegen.models.download.fetch import fetch
from imagegen.models.download.hub import Hub
from imagegen.settings import Settings

pytestmark = pytest.mark.usefixtures("made_up")

SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
GGUF = b"GGUF" + WEIGHTS


def run(settings: Settings, *arguments: str, name: str = "made-up") -> Result:
    return CliRunner(env={"IMAGEGEN_HOME": str(settings.home)}).invoke(command, ["check", name, *arguments])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[200_000] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit": (_flip, "is not the file that was meant ("),
    "cut off": (lambda path: path.write_bytes(GGUF[:1000]), "has 1,000 bytes instead of 300,004"),
    "gone": (Path.unlink, "is missing"),
    "a page": (lambda path: path.write_bytes(b"<htm" + WEIGHTS), "is not a GGUF file"),
}


@pytest.mark.parametrize("small", [False, True], ids=["sha256", "git's sha1"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_found_and_named(hub: LoopbackHub, settings: Settings, damage: str, small: bool) -> None:
    hub.files["owner/model"]["model.gguf"] = GGUF
    hub.small = {"model.gguf"} if small else set()
    fetch(Catalog.load(settings).get("made-up"), settings, Hub(hub.url), lambda _now: None, Event())
    right = run(settings)
    assert (right.exit_code, right.stdout) == (0, f"{folder(settings) / 'model.gguf'} is right.\n")
    do, said = DAMAGES[damage]
    do(folder(settings) / "model.gguf")
    found = run(settings)
    assert found.exit_code == 1 and f"model.gguf {said}" in found.stdout
    assert "imagegen models fetch made-up" in found.stderr
    assert json.loads(run(settings, "--json").stdout)["ok"] is False


def test_the_checksum_of_the_catalog_counts_without_a_record(settings: Settings) -> None:
    folder(settings).mkdir()
    (folder(settings) / "model.gguf").write_bytes(GGUF)
    (settings.models_dir / "made-up.toml").write_text(f'{ENTRY}sha256 = "{SHA256}"\n')
    assert run(settings).exit_code == 1


def test_an_unknown_checksum_is_said_and_is_no_failure(settings: Settings) -> None:
    folder(settings).mkdir()
    (folder(settings) / "model.gguf").write_bytes(GGUF)
    (settings.models_dir / "made-up.toml").write_text(ENTRY + VISION)
    found = run(settings)
    assert found.exit_code == 0 and "has no known checksum" in found.stdout
    assert "vision" not in found.stdout, "an optional file may be missing"


def test_an_unknown_checksum_is_recorded_when_the_file_is_fetched(
    hub: LoopbackHub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.small = {"model.gguf"}
    hub.files["owner/model"]["model.gguf"] = GGUF
    monkeypatch.setattr("hub._git_sha1", lambda _data: None)  # a hub that states none
    fetch(Catalog.load(settings).get("made-up"), settings, Hub(hub.url), lambda _now: None, Event())
    assert run(settings).exit_code == 0
    _flip(folder(settings) / "model.gguf")
    assert run(settings).exit_code == 1


def test_a_packed_model_is_compared_with_its_package(settings: Settings) -> None:
    assert CliRunner(env={"IMAGEGEN_HOME": str(settings.home)}).invoke(command, ["make", "sketch"]).exit_code == 0
    assert run(settings, name="sketch").exit_code == 0
    _flip(settings.models_dir / "sketch" / "dit.gguf")
    found = run(settings, name="sketch")
    assert found.exit_code == 1 and "Make it again: imagegen models make sketch" in found.stderr

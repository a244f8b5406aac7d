"""Removing a model's files: what goes, what stays, and what the command says and asks."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from made_up_model import ENTRY, WEIGHTS, folder, part

from imagegen.cli.models import models as command
from imagegen.models import removal
from imagegen.models.catalog import Catalog
from imagegen.models.download.fetch import LOCK
from imagegen.schemas import Refused
from imagegen.settings import Settings
from imagegen.storage.database import lock_state_folder

pytestmark = pytest.mark.usefixtures("made_up")

OTHER = f'base = "made-up"\ntitle = "Other"\n{ENTRY[ENTRY.index("[[files]]") :]}shared = "made-up"\n'


def fill(settings: Settings) -> None:
    """The model as a fetch leaves it, and a part of another version."""
    folder(settings).mkdir()
    (folder(settings) / "model.gguf").write_bytes(WEIGHTS)
    (folder(settings) / "fetched.json").write_text('{"model.gguf": {"repo": "owner/model"}}')
    part(settings).write_bytes(b"a part")


def run(settings: Settings, *arguments: str) -> Result:
    return CliRunner(env={"IMAGEGEN_HOME": str(settings.home)}).invoke(command, ["remove", "made-up", *arguments])


def planned(settings: Settings) -> removal.Removal:
    catalog = Catalog.load(settings)
    return removal.plan(catalog.get("made-up"), catalog.entries(), settings)


def test_all_files_go_and_the_freed_bytes_are_said(settings: Settings) -> None:
    fill(settings)
    done = run(settings, "--yes")
    assert done.exit_code == 0, done.output
    assert f"{folder(settings) / 'model.gguf'}: 0.3 MB" in done.stderr
    assert "Removing frees 0.3 MB." in done.stderr
    assert done.stdout.startswith("made-up: 0.3 MB freed. Its entry stays: ")
    assert not folder(settings).exists()
    assert run(settings, "--yes").stdout == "made-up: there is nothing to remove.\n"


def test_without_a_terminal_nothing_goes_before_yes(settings: Settings) -> None:
    fill(settings)
    asked = run(settings)
    assert asked.exit_code == 1 and "imagegen models remove made-up --yes" in asked.stderr
    assert (folder(settings) / "model.gguf").read_bytes() == WEIGHTS


def test_a_file_that_another_installed_model_uses_stays(settings: Settings) -> None:
    fill(settings)
    (settings.models_dir / "other.toml").write_text(OTHER)
    done = run(settings, "--yes")
    assert "model.gguf stays: it is used by other." in done.stderr
    assert (folder(settings) / "model.gguf").is_file() and not part(settings).exists()
    assert json.loads((folder(settings) / "fetched.json").read_text())["model.gguf"], "its record stays too"


def test_a_file_outside_the_models_folder_stays(settings: Settings, tmp_path: Path) -> None:
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    (elsewhere / "model.gguf").write_bytes(WEIGHTS)
    folder(settings).symlink_to(elsewhere, target_is_directory=True)
    assert [held.kept for held in planned(settings).files] == ["lies outside the models folder"]
    assert run(settings, "--yes").stdout == "made-up: there is nothing to remove.\n"
    assert (elsewhere / "model.gguf").is_file()


def test_the_users_own_entry_goes_when_that_is_asked_for(settings: Settings) -> None:
    fill(settings)
    (settings.models_dir / "child.toml").write_text('base = "made-up"\ntitle = "Child"\n')
    refused = run(settings, "--yes", "--entry")
    assert refused.exit_code == 1 and "is the base of child" in refused.stderr
    assert (folder(settings) / "model.gguf").is_file()
    (settings.models_dir / "child.toml").unlink()
    assert "The entry made-up.toml was removed" in run(settings, "--yes", "--entry").stdout
    assert "made-up" not in Catalog.load(settings).names()


def test_an_entry_of_the_package_is_not_removed(settings: Settings) -> None:
    asked = CliRunner(env={"IMAGEGEN_HOME": str(settings.home)}).invoke(command, ["remove", "tiny", "--entry", "--yes"])
    assert asked.exit_code == 1 and "tiny is an entry of the package" in asked.stderr


def test_nothing_goes_while_a_download_runs(settings: Settings) -> None:
    fill(settings)
    with (settings.models_dir / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Refused, match="A model is being downloaded"):
            removal.remove(planned(settings), settings)
    assert (folder(settings) / "model.gguf").is_file()


def test_where_a_service_runs_it_alone_removes(settings: Settings) -> None:
    fill(settings)
    with lock_state_folder(settings.home):
        asked = run(settings, "--yes")
    assert asked.exit_code == 1 and "no service answers at" in str(asked.exception)
    assert (folder(settings) / "model.gguf").is_file()

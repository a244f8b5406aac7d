"""`imagegen deploy` as it is typed, on a stand-in for the container runtime: what it remembers, checks and refuses."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import container_stand_in
import pytest
from click.testing import CliRunner, Result

from imagegen.cli import deployed
from imagegen.deploy.image import Recipe
from imagegen.engine_build.cards import Card, Cards

module = importlib.import_module("imagegen.cli.deploy")  # of its package, this is the name of the command
H200 = Cards((Card("NVIDIA H200", (9, 0)),), driver_cuda=(13, 0), driver="580.65")
OLD_DRIVER = Cards(H200.found, driver_cuda=(12, 8), driver="570.1")


class Shell:
    """Somebody's shell on a machine with a runtime; `recipes`: what was built (the build itself is left out)."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.config, self.patch = folder / "runtime", folder / "settings", patch
        self.folder.mkdir()
        self.recipes: list[Recipe] = []
        self.bin = folder / "bin"
        self.bin.mkdir()
        patch.setenv("PATH", f"{self.bin}:/usr/bin:/bin")
        patch.setenv("STAND_IN", str(self.folder))
        patch.setenv("XDG_CONFIG_HOME", str(self.config))
        patch.delenv("IMAGEGEN_TOKEN", raising=False)
        patch.setattr(deployed, "pinned", lambda *_: True)  # nothing listens there
        patch.setattr(module, "build", self._build)
        self.install("podman")
        self.see(Cards())

    def _build(self, _containers: object, recipe: Recipe, _tell: object) -> str:
        self.recipes.append(recipe)
        return recipe.image

    def install(self, runtime: str) -> None:
        container_stand_in.install(self.bin / runtime)

    def see(self, cards: Cards) -> None:
        self.patch.setattr(module, "find_cards", lambda: cards)

    def type(self, *arguments: str) -> Result:
        return CliRunner().invoke(module.deploy, arguments)

    def deploy(self, *arguments: str) -> str:
        """What a deploy that succeeds says."""
        done = self.type("--no-picture", *arguments)
        assert done.exit_code == 0, done.output
        return done.output

    def refused(self, *arguments: str, exit_code: int = 1) -> str:
        """A deploy that is refused leaves everything as it is; its sentence."""
        before = self.containers
        done = self.type("--no-picture", *arguments)
        assert done.exit_code == exit_code, done.output
        assert self.containers == before
        assert "stop" not in {call.split()[0] for call in self.calls}
        return done.output

    @property
    def containers(self) -> dict[str, Any]:
        file = self.folder / "containers.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def started(self, name: str = "imagegen") -> str:
        """What the container was started with."""
        return " ".join(self.containers[name]["options"])


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, monkeypatch)


# ---- what the next deploy remembers -----------------------------------------------------------


def test_the_next_deploy_needs_no_options(shell: Shell) -> None:
    shell.deploy("--volume", "pictures", "--port", "9000", "--runtime", "podman")
    shell.install("docker")  # and is not taken for that
    said = shell.deploy()
    assert "container    imagegen (podman)" in said and "volume pictures" in said
    assert "--publish 127.0.0.1:9000:8765 --volume pictures:/data" in shell.started()
    assert "volume pictures" in shell.type("down").output


def test_each_name_has_its_own_settings_and_token(shell: Shell) -> None:
    shell.deploy()
    shell.deploy("--name", "studio", "--port", "9000")
    assert set(shell.containers) == {"imagegen", "studio"}
    here, there = shell.config / "imagegen", shell.config / "imagegen/deployments/studio"
    assert (here / "token").read_text() != (there / "token").read_text()
    assert f"--env-file {there / 'imagegen.env'}" in shell.started("studio")
    assert "--publish 127.0.0.1:8765:" in shell.started()
    assert "belongs to the container imagegen" in shell.refused("--config", str(here), "--name", "studio")


def test_a_folder_that_is_named_remembers_the_name(shell: Shell, tmp_path: Path) -> None:
    shell.deploy("--config", str(tmp_path / "mine"), "--name", "studio")
    assert "container    studio" in shell.deploy("--config", str(tmp_path / "mine"))


def test_a_volume_that_does_not_know_the_token_gets_one(shell: Shell) -> None:
    token = shell.config / "imagegen/token"
    shell.deploy()
    first = token.read_text()
    shell.deploy()
    assert token.read_text() == first
    assert "the volume other does not know the token" in shell.deploy("--volume", "other")
    assert token.read_text() != first


def test_a_runtime_that_is_gone_is_not_replaced_in_silence(shell: Shell) -> None:
    shell.deploy()
    (shell.bin / "podman").unlink()
    shell.install("docker")
    shell.patch.setenv("PATH", str(shell.bin))
    told = shell.type()
    assert told.exit_code == 1
    assert "The last deploy was made with podman: --runtime names another." in told.output


# ---- HTTPS ------------------------------------------------------------------------------------


def test_opening_it_later_gives_https_too(shell: Shell) -> None:
    assert "plain HTTP" in shell.deploy()
    said = shell.deploy("--host", "0.0.0.0")
    assert "service      https://127.0.0.1:8765" in said and "certificate  sha256 abab" in said
    assert "--env IMAGEGEN_TLS=auto" in shell.started()
    assert "plain HTTP" in shell.deploy("--host", "127.0.0.1")


def test_plain_http_for_others_is_refused_before_the_drain(shell: Shell) -> None:
    shell.deploy()
    (shell.config / "imagegen/imagegen.env").write_text("IMAGEGEN_TLS=off\n")
    assert "Remove that line for HTTPS" in shell.refused("--host", "0.0.0.0")
    assert "plain HTTP" in shell.deploy()


# ---- the card ---------------------------------------------------------------------------------


def test_a_card_that_came_later_is_used(shell: Shell) -> None:
    shell.deploy()
    shell.see(H200)
    shell.deploy()
    assert [recipe.backend for recipe in shell.recipes] == ["cpu", "cuda"]
    assert "gpu=all" in shell.started()


def test_a_backend_that_was_named_is_kept_until_auto_is(shell: Shell) -> None:
    shell.see(H200)
    shell.deploy("--backend", "cpu")
    assert "backend cpu, as named before" in shell.deploy()
    shell.deploy("--backend", "auto")
    shell.deploy()
    assert [recipe.backend for recipe in shell.recipes] == ["cpu", "cpu", "cuda", "cuda"]


@pytest.mark.parametrize("named", [[], ["--backend", "cuda"]])
def test_every_deploy_looks_at_the_driver(shell: Shell, named: list[str]) -> None:
    shell.see(H200)
    shell.deploy(*named)
    shell.see(OLD_DRIVER)
    assert "driver 580 or newer, and the driver here is 570.1" in shell.refused()


def test_what_is_built_is_for_this_machines_cards(shell: Shell) -> None:
    shell.see(H200)
    shell.deploy()
    shell.deploy("--arch", "75,86")
    for arguments in (["build"], ["build", "--arch", "80"]):
        assert shell.type(*arguments).exit_code == 0
    assert [recipe.archs for recipe in shell.recipes] == ["90", "75,86", "all", "80"]


# ---- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["--host", "gpu.example"], "'gpu.example' is not an address"),
        (["--arch", "ninety"], "'ninety' is not a CUDA architecture"),
        (["--arch", "90", "--backend", "cpu"], "this is an image for the CPU: leave it out"),
        (["--arch", "90", "--backend", "cuda", "--no-build"], "--arch has no effect here: --no-build takes the image"),
        (["--jobs", "2", "--no-build"], "--jobs has no effect here: --no-build takes the image"),
        (["--name", "../up"], "a container's name is letters"),
    ],
)
def test_what_means_nothing_is_refused(shell: Shell, typed: list[str], sentence: str) -> None:
    assert sentence in " ".join(shell.refused(*typed, exit_code=2).split())
    assert not shell.calls or set(shell.calls) == {"version"}


def test_an_option_of_the_deploy_before_another_command_is_refused() -> None:
    told = CliRunner().invoke(module.deploy, ["--backend", "cuda", "build"])
    assert told.exit_code == 2
    assert "--backend has no effect here: `imagegen deploy build --help`" in told.output


def test_an_image_that_is_not_there_is_told_before_the_drain(shell: Shell) -> None:
    shell.deploy()
    (shell.folder / "fails").write_text("image inspect\tError: no such image\n")
    assert "There is no image localhost/imagegen:cpu" in shell.refused("--no-build")


@pytest.mark.parametrize("command", ["build", "status", "logs", "down"])
def test_help_needs_no_runtime(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    told = CliRunner().invoke(module.deploy, [command, "--help"])
    assert told.exit_code == 0
    assert "Usage:" in told.output


def test_a_deploy_that_was_cut_off_is_told(shell: Shell) -> None:
    shell.deploy()
    kept = shell.containers
    kept["imagegen-before"] = kept.pop("imagegen") | {"status": "exited"}
    (shell.folder / "containers.json").write_text(json.dumps(kept))
    told = shell.type("status")
    assert told.exit_code == 1
    assert "a deploy was cut off half-way: `imagegen deploy` goes on from there" in told.output

"""The command `imagegen engine`: what it prints and refuses, and the page about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_command import imagegen_engine
from fake_cuda import NO_CARDS
from finished_build import See, finished

from imagegen.cli.engine import engine as command
from imagegen.engine_build import Options, builder, compilation, cuda_packages, plan
from imagegen.settings import Settings


def test_path_prints_the_binary_or_the_sentence(settings: Settings, see: See) -> None:
    see(NO_CARDS)
    missing = imagegen_engine(settings.cache, "path")
    assert missing.exit_code == 1
    assert missing.stdout == ""
    assert missing.stderr.startswith("Error: The engine, sd-server, is not built")
    binary = finished(settings, Options())
    assert imagegen_engine(settings.cache, "path").stdout == f"{binary}\n"


def test_build_reuses_and_prints_only_the_path_on_stdout(settings: Settings, see: See) -> None:
    see(NO_CARDS)
    binary = finished(settings, Options())
    for arguments in (["build"], ["build", "--backend", "cpu"]):
        result = imagegen_engine(settings.cache, *arguments)
        assert result.exit_code == 0, result.output
        assert result.stdout == f"{binary}\n"
        assert result.stderr == f"Already built: {binary}\n"


def test_build_notes_that_the_setting_wins(settings: Settings) -> None:
    finished(settings, Options())
    result = imagegen_engine(settings.cache, "build", "--backend", "cpu", IMAGEGEN_SD_SERVER="/bin/sh")
    assert result.exit_code == 0
    assert "the service will use IMAGEGEN_SD_SERVER=/bin/sh instead" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["build", "--backend", "cpu", "--arch", "90"], "means nothing for a CPU build"),
        (["build", "--backend", "vulkan", "--arch", "90"], "means nothing for a Vulkan build"),
        (["build", "--arch", "hopper"], "not a CUDA architecture"),
        (["build", "--backend", "rocm"], "'rocm' is not one of"),
    ],
)
def test_build_refuses_what_it_cannot_do(tmp_path: Path, arguments: list[str], why: str) -> None:
    result = imagegen_engine(tmp_path / "cache", *arguments)
    assert result.exit_code != 0
    assert why in result.stderr
    assert not (tmp_path / "cache").exists()


def test_a_wrong_setting_is_a_sentence(tmp_path: Path) -> None:
    result = imagegen_engine(tmp_path, "path", IMAGEGEN_PORT="many")
    assert result.exit_code == 1
    assert "IMAGEGEN_PORT" in result.stderr


def test_the_page_about_it_has_the_same_numbers_and_options() -> None:
    page = (Path(__file__).parents[3] / "docs" / "engine.md").read_text()
    for backend in ("cpu", "cuda", "vulkan"):
        assert f"{builder.DISK_BYTES[backend] / 1e9:.1g} GB" in page
    assert f"{compilation.LARGEST_COMPILE_BYTES['cpu'] / 1e9:.1f} GB of memory" in page
    assert f"`{plan.PINNED.project}` {plan.PINNED.version}" in page
    for option in command.commands["build"].params:
        assert f"`{max(option.opts, key=len)}" in page
    assert f"{sum(cuda_packages.DOWNLOAD_BYTES.values()) / 1e6:.0f} MB in all" in page

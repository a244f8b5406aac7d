"""A built engine goes to another machine in one file: the small engine, really built, packed and installed."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from command_line import document_of
from tiny_source import SERVER_C, Progress, make, make_sdist, scratch_folders

from imagegen.cli.engine import engine as command
from imagegen.engine_build import EngineBuildError, Options, Stage, builder, plan, transfer
from imagegen.engine_build.cards import Cards
from imagegen.engine_build.plan import Sdist

USAGE_C = SERVER_C.replace('puts("  --listen-port', 'puts("Usage: sd-server\\n  --listen-port')
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sdist, Path]:
    """The small engine's source, and the folder of its build."""
    cache = tmp_path_factory.mktemp("cache") / "engine"
    sdist = make_sdist(cache / "sdist", main_c=USAGE_C)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(builder.DISK_BYTES, "cpu", 10_000_000)
        return sdist, make(cache, sdist)[0].binary.parent


@pytest.fixture
def package(tmp_path: Path, built: tuple[Sdist, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package of a release of this project whose engine is the small one."""
    monkeypatch.setattr(transfer, "PINNED", built[0])
    monkeypatch.setattr(transfer, "find_cards", Cards)
    target = tmp_path / "engine.tar.gz"
    transfer.export(built[1], target, Progress())
    return target


def rewritten(package: Path, tmp_path: Path, change: Change, **files: bytes | None) -> Path:
    """The package with its description and its manifest changed alike, and files replaced, added or (None) left out."""
    target = tmp_path / "changed.tar.gz"
    with tarfile.open(package) as old, tarfile.open(target, "w:gz") as new:
        contents = {member.name: old.extractfile(member).read() for member in old}  # type: ignore[union-attr]
        about = json.loads(contents[transfer.PACKAGE])
        change(about)
        manifest = json.dumps(about["manifest"]).encode()
        contents[plan.MANIFEST] = manifest
        about["files"][plan.MANIFEST] = {"sha256": hashlib.sha256(manifest).hexdigest(), "bytes": len(manifest)}
        contents |= {transfer.PACKAGE: json.dumps(about).encode()}
        contents |= {name.replace("__", "/"): data for name, data in files.items() if data is not None}
        for name, data in contents.items():
            if files.get(name, b"") is None:
                continue
            path = tmp_path / "member"
            path.write_bytes(data)
            new.add(path, name)
    return target


def test_an_engine_moves_to_another_cache(tmp_path: Path, package: Path, built: tuple[Sdist, Path]) -> None:
    other = tmp_path / "other"
    progress = Progress()
    installed = transfer.install(package, other, progress)
    megabytes = [done for stage, done, _, _ in progress if stage is Stage.PACKING]
    assert megabytes and megabytes == sorted(set(megabytes))
    folder = installed.binary.parent
    assert (installed.fresh, folder.name) == (True, built[1].name)
    ran = subprocess.run([installed.binary, "--help"], capture_output=True, check=True)
    assert b"--listen-port" in ran.stdout
    needed = subprocess.run(["ldd", installed.binary], capture_output=True, text=True, check=True).stdout
    assert f"libstdc++.so.6 => {folder}/lib/libstdc++.so.6" in needed
    assert not [path for path in (folder / "lib").iterdir() if transfer.OF_THE_SYSTEM.match(path.name)]
    assert not transfer.install(package, other, Progress()).fresh
    assert not scratch_folders(other)


def nothing(_about: dict[str, Any]) -> None:
    pass


def of_other_machine(about: dict[str, Any]) -> None:
    about["machine"] = "riscv64"


def of_newer_system(about: dict[str, Any]) -> None:
    about["glibc"] = [99, 1]


def of_other_release(about: dict[str, Any]) -> None:
    about["name"] = "0.4.6-cpu-native-12345678"


def of_later_format(about: dict[str, Any]) -> None:
    about["format"] = 2


def of_other_processor(about: dict[str, Any]) -> None:
    features = (*about["manifest"]["cpu_features"], "avx1024")
    about["manifest"]["cpu_features"] = features
    about["name"] = plan.name_of(transfer.PINNED, Options(), frozenset(features))


def of_other_channel(about: dict[str, Any]) -> None:
    about["manifest"]["channel"] = 99


def without_binary(about: dict[str, Any]) -> None:
    del about["files"]["sd-server"]


def escaping(about: dict[str, Any]) -> None:
    about["files"]["lib/../../x"] = {"sha256": "0" * 64, "bytes": 1}


def too_large(about: dict[str, Any]) -> None:
    about["files"]["lib/x"] = {"sha256": "0" * 64, "bytes": 1 << 50}


@pytest.mark.parametrize(
    ("change", "files", "says"),
    [
        (of_other_machine, {}, f"built for riscv64, and this machine is {platform.machine()}"),
        (of_newer_system, {}, r"needs the C library glibc 99\.1 or newer, and this machine has 2\."),
        (of_other_release, {}, r"another release of imagegen \(0\.4\.6-cpu-native-12345678\)"),
        (of_later_format, {}, "written by another release of imagegen"),
        (of_other_processor, {}, "compiled for a CPU with instructions that this one lacks"),
        (of_other_channel, {}, "does not speak the channel"),
        (nothing, {"sd-server": b"#!/bin/sh\n"}, "a file that it does not announce"),
        (nothing, {"lib__extra.so": b"x"}, "a file that it does not announce"),
        (escaping, {"lib__..__..__x": b"x"}, "a file that it does not announce"),
        (nothing, {"engine.json": None}, r"lacks engine\.json"),
        (without_binary, {"sd-server": None}, "describes another engine"),
        (too_large, {}, "larger than any engine"),
    ],
)
def test_what_cannot_run_here_is_refused(
    tmp_path: Path, package: Path, change: Change, files: dict[str, bytes | None], says: str
) -> None:
    other = tmp_path / "other"
    with pytest.raises(EngineBuildError, match=says):
        transfer.install(rewritten(package, tmp_path, change, **files), other, Progress())
    assert [path.name for path in other.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("kept", [0, 20, 400, -100])
def test_a_file_that_is_no_whole_package_is_refused(tmp_path: Path, package: Path, kept: int) -> None:
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(package.read_bytes()[:kept])
    with pytest.raises(EngineBuildError, match=r"no whole engine package|is no engine that"):
        transfer.install(cut, tmp_path / "other", Progress())


def test_a_damaged_file_is_named(tmp_path: Path, package: Path) -> None:
    with tarfile.open(package) as tar:
        binary = tar.extractfile(plan.BINARY)
        assert binary is not None
        data = bytearray(binary.read())
    data[-1] ^= 1
    with pytest.raises(EngineBuildError, match="sd-server of the package is damaged"):
        transfer.install(
            rewritten(package, tmp_path, nothing, **{"sd-server": bytes(data)}), tmp_path / "other", Progress()
        )


def test_the_command_exports_and_imports(tmp_path: Path, built: tuple[Sdist, Path], package: Path) -> None:
    name = f"{plan.PINNED.version}-{built[1].name.split('-', 1)[1]}"
    shutil.copytree(built[1], tmp_path / "here/engine" / name)
    env = {name: None for name in os.environ if name.startswith("IMAGEGEN_")}
    target, runner = tmp_path / "mine.tar.gz", CliRunner()
    here = env | {"IMAGEGEN_CACHE": str(tmp_path / "here")}
    ran = runner.invoke(command, ["export", str(target), "--json"], env=here)
    assert (ran.exit_code, document_of("engine export", ran.stdout)) == (0, {"path": str(target)})
    third = env | {"IMAGEGEN_CACHE": str(tmp_path / "third")}
    imported = document_of(
        "engine import", runner.invoke(command, ["import", str(package), "--json"], env=third).stdout
    )
    assert Path(imported["path"]).is_relative_to(tmp_path / "third")
    again = runner.invoke(command, ["export", str(target)], env=here)
    assert (again.exit_code, "exists already" in again.output) == (1, True)
    other = runner.invoke(command, ["import", str(target)], env=env | {"IMAGEGEN_CACHE": str(tmp_path / "there")})
    assert (other.exit_code, f"another release of imagegen ({name})" in other.output) == (1, True)
    own = runner.invoke(command, ["export"], env=env | {"IMAGEGEN_SD_SERVER": str(target)})
    assert (own.exit_code, "copy it yourself" in own.output) == (1, True)

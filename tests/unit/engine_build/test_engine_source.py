"""An engine from a source archive of the user: checked before it is unpacked, unpacked safely, built and probed."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from engine_command import imagegen_engine
from newer_engine import link, repacked, write
from tiny_source import ENGINE_CPP, ENGINE_H, SERVER_C, make_sdist

from imagegen.engine_build import Archive, EngineBuildError, Options, archive, build, probe
from imagegen.engine_build.plan import PINNED
from imagegen.settings import Settings

USAGE_C = SERVER_C.replace('puts("', 'puts("Usage: sd-server\\n')
LISTS = b"cmake_minimum_required(VERSION 3.12)\n"
SOURCE = {"sd/CMakeLists.txt": LISTS, "sd/include/stable-diffusion.h": b""}


def tiny(folder: Path, **changed: str) -> Archive:
    """The small source as an archive of the user."""
    sdist = make_sdist(folder, **({"main_c": USAGE_C} | changed))
    return Archive(folder / sdist.filename, sdist.sha256)


def refusal(given: Archive, folder: Path) -> str:
    with pytest.raises(EngineBuildError) as caught:
        archive.unpack(given, folder)
    return str(caught.value)


# Unpacking


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_is_unpacked_whatever_its_compression(tmp_path: Path, mode: str) -> None:
    given = write(tmp_path / "a.tar", SOURCE, mode)
    tree, version = archive.unpack(given, tmp_path / "out")
    assert (tree, version) == (tmp_path / "out" / "sd", "unknown")


def test_nothing_is_written_outside_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    given = write(
        tmp_path / "a.tar",
        {
            "../outside/up": b"x",
            "sd/../../outside/up": b"x",
            f"{outside}/absolute": b"x",
            "way": link("way", str(outside)),
            "way/through": b"x",
            "sd/out": link("sd/out", "/etc/passwd"),
            **SOURCE,
        },
    )
    archive.unpack(given, tmp_path / "out")
    assert list(outside.iterdir()) == []
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))
    assert (tmp_path / "out" / "way" / "through").is_file()  # a real folder took the link's place


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"readme": b"x"}, "holds no source of stable-diffusion.cpp"),
        ({"sd/CMakeLists.txt": LISTS}, "holds no source of stable-diffusion.cpp"),
        ({**SOURCE, "sd/CMakeLists.txt": b"add_subdirectory(ggml)"}, "lacks ggml, a submodule"),
    ],
)
def test_an_archive_of_something_else_is_refused(tmp_path: Path, members: dict[str, bytes], why: str) -> None:
    assert why in refusal(write(tmp_path / "a.tar", members), tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04zip", b"\x1f\x8b\x08\x00half a gzip"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.tar.gz"
    file.write_bytes(content)
    assert "cannot be unpacked" in refusal(Archive(file, "0" * 64), tmp_path / "out")


@pytest.mark.parametrize(("limit", "most"), [("MAX_FILES", 1), ("MAX_BYTES", 40)])
def test_an_archive_without_end_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(archive, limit, most)
    huge = tarfile.TarInfo("sd/huge")
    huge.size = 10**15  # declared, not there
    given = write(tmp_path / "a.tar", {**SOURCE, "sd/huge": huge}, "w")
    assert "it was not unpacked" in refusal(given, tmp_path / "out")
    assert not (tmp_path / "out" / "sd" / "huge").exists()


@pytest.mark.parametrize(
    ("top", "file", "version"),
    [
        ("stable-diffusion.cpp-master-612-ab12cd3", "x.tar", "master-612-ab12cd3"),
        ("sd", "stable-diffusion.cpp-v1.2.tar.gz", "1.2"),
        ("sd", "master.tar.gz", "unknown"),
    ],
)
def test_the_release_is_what_the_archive_names(tmp_path: Path, top: str, file: str, version: str) -> None:
    members = {name.replace("sd/", f"{top}/"): content for name, content in SOURCE.items()}
    assert archive.unpack(write(tmp_path / file, members), tmp_path / "out")[1] == version


def test_the_pinned_source_repacked_is_another_release(tmp_path: Path, require: Callable[[str, bool], None]) -> None:
    kept = Settings().engine_dir / "sdist" / PINNED.filename
    require(f"the engine's source in {kept.parent} (imagegen engine build)", kept.is_file())
    parts = ("CMakeLists.txt", "include/stable-diffusion.h", "ggml/CMakeLists.txt")
    given = repacked(kept, tmp_path / "newer.tar", version="9.9.1", only=lambda name: name in parts)
    tree, version = archive.unpack(given, tmp_path / "out")
    assert (tree.name, version) == ("stable-diffusion.cpp", "9.9.1")
    without = repacked(kept, tmp_path / "bare.tar", version="9.9.1", only=lambda name: name in parts[:2])
    assert "lacks ggml, a submodule" in refusal(without, tmp_path / "bare")


# Building


def test_an_engine_is_built_from_an_archive_and_found_again(cache: Path, tmp_path: Path) -> None:
    given = tiny(tmp_path)
    built = build(cache, Options(), lambda *_: None, jobs=1, sdist=given)
    assert built.fresh and built.binary.parent.name.startswith(f"source-{given.sha256[:8]}-cpu-native-")
    assert (built.manifest.version, built.manifest.channel) == ("1.0", 1)
    assert probe.release_of(built.binary) == "1.0"
    again = build(cache, Options(), lambda *_: None, jobs=1, sdist=given)
    assert (again.fresh, again.binary) == (False, built.binary)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (
            {"engine_cpp": ENGINE_CPP.replace("void pretty_bytes_progress(int, int, uint64_t, float) {}", "")},
            r"it lacks pretty_bytes_progress\(int, int, ",
        ),
        (
            {"stable-diffusion_h": ENGINE_H.replace("int sample_steps", "int steps")},
            "channel.cpp: .*has no member named .sample_steps.",
        ),
        (
            {"engine_cpp": ENGINE_CPP.replace("int get_upscale_factor(upscaler_ctx_t*) { return 4; }", "")},
            "it lacks get_upscale_factor",
        ),
        (
            {"stable-diffusion_h": ENGINE_H.replace("uint32_t);\nint get", "int, int);\nint get")},
            "upscale.cpp: ",
        ),
    ],
    ids=["a symbol is missing", "a field is renamed", "a symbol for upscaling", "an argument for upscaling"],
)
def test_a_source_that_the_channel_does_not_fit(cache: Path, tmp_path: Path, changed: dict[str, str], why: str) -> None:
    given = tiny(tmp_path, **changed)
    with pytest.raises(EngineBuildError, match=f"channel does not fit this source .*{why}.*--without-channel"):
        build(cache, Options(), lambda *_: None, jobs=1, sdist=given)
    assert not list(cache.glob("source-*"))
    bare = build(cache, replace(Options(), channel=False), lambda *_: None, jobs=1, sdist=given)
    assert bare.manifest.channel is None
    assert probe.channel_version(bare.binary) is None


def test_a_wrong_checksum_is_reported_before_anything_is_unpacked(cache: Path, tmp_path: Path) -> None:
    given = replace(tiny(tmp_path), sha256="0" * 64)
    with pytest.raises(EngineBuildError, match=r"has the SHA-256 .*, and --sha256 says 0+: it was not unpacked"):
        build(cache, Options(), lambda *_: None, sdist=given)
    assert not cache.exists() or not list(cache.iterdir())


# The command


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--sha256", "0" * 64], "belong to --source"),
        (["--without-channel"], "belong to --source"),
        (["--source", "FILE"], "--source needs --sha256"),
        (["--source", "FILE", "--sha256", "abc"], "is not a SHA-256"),
        (["--source", "/nowhere.tar", "--sha256", "0" * 64], "does not exist"),
        (["--source", "FILE", "--sha256", "0" * 64, "--backend", "cpu"], "has the SHA-256"),
    ],
)
def test_options_that_cannot_be_meant_touch_nothing(tmp_path: Path, arguments: list[str], why: str) -> None:
    file = tmp_path / "a.tar"
    file.write_bytes(b"x")
    words = [str(file) if word == "FILE" else word for word in arguments]
    result = imagegen_engine(tmp_path / "cache", "build", *words)
    assert result.exit_code != 0 and why in result.stderr
    assert not (tmp_path / "cache").exists()


def test_the_command_builds_it_and_says_how_to_use_it(cache: Path, tmp_path: Path) -> None:
    given = tiny(tmp_path)
    arguments = ["build", "--backend", "cpu", "--source", str(given.path), "--sha256", given.sha256.upper()]
    result = imagegen_engine(cache.parent, *arguments)
    assert result.exit_code == 0, result.output
    assert Path(result.stdout.strip()).is_file()
    assert "Built from release 1.0. To use it, set IMAGEGEN_SD_SERVER" in result.stderr
    assert "does not know what qwen-image" in result.stderr, "its usage text lists no flag of that model"
    assert "IMAGEGEN_SD_SERVER" not in imagegen_engine(cache.parent, "path").stdout

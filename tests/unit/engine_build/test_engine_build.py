"""The engine's build, on a source of one small C file: real pip, CMake, Ninja and compiler, in seconds."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_source import CMAKE, SERVER_C, make, make_sdist, refusal, scratch_folders

from imagegen.engine_build import Options, Stage, command, compilation
from imagegen.engine_build.plan import Sdist

# The whole way


def test_fetches_builds_and_reuses(cache: Path, index: Path) -> None:
    sdist = make_sdist(index)
    built, progress = make(cache, sdist)
    assert built.fresh
    assert b"--listen-port" in subprocess.run([built.binary, "--help"], capture_output=True, check=True).stdout
    assert progress.stages == [
        Stage.FETCHING,
        Stage.UNPACKING,
        Stage.CONFIGURING,
        Stage.COMPILING,
        Stage.CHECKING,
        Stage.READY,
    ]
    steps = [(done, total) for stage, done, total, _ in progress if stage is Stage.COMPILING and total]
    assert steps[-1][0] == steps[-1][1] == 7  # the gate, five objects, the link
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)

    manifest = json.loads((built.binary.parent / "engine.json").read_text())
    assert manifest["sha256"] == hashlib.sha256(built.binary.read_bytes()).hexdigest()
    assert manifest["flags"] == list(Options().flags)
    assert manifest["channel"] == 1
    assert not scratch_folders(cache)

    again, progress = make(cache, sdist)
    assert not again.fresh
    assert again.binary == built.binary
    assert progress.stages == [Stage.READY]


def test_the_source_in_the_cache_needs_no_network(cache: Path, tiny: Sdist) -> None:
    built, progress = make(cache, tiny)
    assert built.fresh
    assert Stage.FETCHING not in progress.stages


def test_a_damaged_source_in_the_cache_is_fetched_again(cache: Path, index: Path) -> None:
    sdist = make_sdist(index)
    kept = cache / "sdist" / sdist.filename
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"half an arch")
    built, progress = make(cache, sdist)
    assert built.fresh
    assert "damaged" in next(message for stage, _, _, message in progress if stage is Stage.FETCHING)
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == sdist.sha256


def test_a_damaged_binary_is_built_again(cache: Path, tiny: Sdist) -> None:
    built, _ = make(cache, tiny)
    whole = built.binary.read_bytes()
    built.binary.write_bytes(b"\0" * len(whole))
    again, _ = make(cache, tiny)
    assert again.fresh
    assert again.binary.stat().st_size == len(whole)
    assert again.binary.read_bytes() != b"\0" * len(whole)


# What goes wrong, in sentences


def test_wrong_hash_is_refused_and_the_next_run_is_clean(cache: Path, index: Path) -> None:
    altered = make_sdist(index, main_c=SERVER_C + "/* altered */")
    wanted = make_sdist(cache.parent / "elsewhere")
    sentence = refusal(cache, wanted)
    assert "wrong SHA-256" in sentence
    assert altered.sha256 in sentence
    assert wanted.sha256 in sentence
    assert not (cache / "sdist").exists()
    assert not scratch_folders(cache)
    make_sdist(index)
    assert make(cache, wanted)[0].fresh


def test_an_index_without_it_is_quoted(cache: Path, index: Path) -> None:
    sentence = refusal(cache, make_sdist(cache.parent / "elsewhere"))
    assert "No matching distribution found for tiny-engine==1.0" in sentence
    assert str(cache / "sdist") in sentence


def test_no_network_is_named_as_such(cache: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")  # nobody listens on port 1
    monkeypatch.setenv("PIP_RETRIES", "1")
    assert "Connection refused" in refusal(cache, make_sdist(cache.parent / "elsewhere"))


def test_no_compiler_is_said_before_anything_is_fetched(
    cache: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdist = make_sdist(index)
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(index))
    assert "No C compiler was found (looked for cc, gcc, clang)" in refusal(cache, sdist)
    (index / "cc").symlink_to(sys.executable)
    assert "No C++ compiler was found (looked for c++, g++, clang++)" in refusal(cache, sdist)
    monkeypatch.setenv("CXX", "/nowhere/c++ -O1")
    assert "CXX=/nowhere/c++ is not a program" in refusal(cache, sdist)
    assert not cache.exists()


def test_a_source_that_cmake_refuses(cache: Path) -> None:
    sdist = make_sdist(cache / "sdist", CMakeLists_txt='project(x C)\nmessage(FATAL_ERROR "needs a left-handed C")')
    sentence = refusal(cache, sdist)
    assert "CMake could not configure" in sentence
    assert "needs a left-handed C" in sentence
    log = Path(sentence.rsplit("Full log: ", 1)[1])
    assert "needs a left-handed C" in log.read_text()
    assert not scratch_folders(cache)


def test_a_source_that_does_not_compile(cache: Path) -> None:
    sentence = refusal(cache, make_sdist(cache / "sdist", main_c="int main(void) { return nothing_here; }"))
    assert "Compiling the engine failed" in sentence
    assert "nothing_here" in sentence
    assert "[1/" not in sentence  # the quoted lines are the compiler's
    assert "nothing_here" in Path(sentence.rsplit("Full log: ", 1)[1]).read_text()


@pytest.mark.parametrize("main_c", ["int main(void) { return 3; }", "int main(void) { __builtin_trap(); }"])
def test_a_binary_that_does_not_run_is_not_installed(cache: Path, main_c: str) -> None:
    assert "built but does not run" in refusal(cache, make_sdist(cache / "sdist", main_c=main_c))
    assert not list(cache.glob("1.0-*"))


def test_a_binary_without_the_channel_is_not_installed(cache: Path) -> None:
    without = CMAKE.replace("project(", 'set(CMAKE_PROJECT_INCLUDE "")\nproject(')
    assert "without the service's channel" in refusal(cache, make_sdist(cache / "sdist", CMakeLists_txt=without))
    assert not list(cache.glob("1.0-*"))


@pytest.mark.parametrize(("available_gb", "jobs"), [(64, 4), (5.0, 3), (3.0, 1), (1.0, 1)])
def test_fewer_compilers_where_memory_is_short(monkeypatch: pytest.MonkeyPatch, available_gb: float, jobs: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3}, raising=False)
    memory = SimpleNamespace(available=int(available_gb * 1e9))
    monkeypatch.setattr(compilation.psutil, "virtual_memory", lambda: memory)
    assert compilation.default_jobs("cpu") == jobs


def test_memory_running_out_is_told_from_a_wrong_source() -> None:
    output = command.Output()
    output.add("c++: fatal error: Killed signal terminated program cc1plus")
    assert output.out_of_memory
    assert not output.disk_full


def test_a_cache_that_is_no_folder(cache: Path, tiny: Sdist) -> None:
    wrong = cache / "sdist" / tiny.filename / "engine"
    assert "IMAGEGEN_CACHE" in refusal(wrong, tiny)


def test_a_python_without_the_data_filter_unpacks_the_same(
    cache: Path, tiny: Sdist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian 12's Python 3.11.2, whose tarfile has none."""
    monkeypatch.delattr("tarfile.data_filter", raising=False)
    built, _ = make(cache, tiny)
    assert built.fresh
    assert built.binary.is_file()

"""Two builders at once, a build that is ended, a disk that fills up: in processes of their own."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_source import DEADLINE_S, driver, make, make_sdist, scratch_folders

from imagegen.engine_build import Options, plan
from imagegen.engine_build.plan import Sdist


def in_small_disk(require: Callable[[str, bool], None], size: str) -> list[str]:
    """A command prefix: run the rest with a RAM disk of `size` bytes on the folder named by its first argument."""
    prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    script = f'mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@"'
    try:
        works = subprocess.run([*prefix, script, "/mnt", "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        works = False
    require("mounting a RAM disk in a user namespace (unshare)", works)
    return [*prefix, script]


@pytest.mark.parametrize(
    ("size", "asked_bytes"), [("8m", 10_000_000), ("3m", 1_000_000)], ids=["before", "while compiling"]
)
def test_a_full_disk(
    require: Callable[[str, bool], None],
    cache: Path,
    tmp_path: Path,
    index: Path,
    size: str,
    asked_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    sdist = make_sdist(index)
    monkeypatch.setenv("TINY_FILL", "1")
    command = [*in_small_disk(require, size), str(disk), *driver(disk / "engine", sdist, asked_bytes)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    last = answer.stdout.splitlines()[-1]
    assert last.startswith("ERROR Not enough disk space"), answer.stdout + answer.stderr
    assert f"needs {asked_bytes / 1e9:.1f} GB" in last
    assert "IMAGEGEN_CACHE" in last
    assert ("compiling" in answer.stdout) == (asked_bytes < 8_000_000)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a driver; whatever of it is left at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(cache: Path, sdist: Sdist, gate: Path | None = None) -> subprocess.Popen[str]:
        env = {**os.environ, "TINY_GATE": str(gate or "")}
        child = subprocess.Popen(driver(cache, sdist), stdout=subprocess.PIPE, text=True, env=env)
        started.append(child)
        return child

    yield begin
    for child in started:
        if child.poll() is None:
            child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A FIFO that holds the compiling of whoever reads it."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


def read_until(child: subprocess.Popen[str], start: str) -> str:
    """The first line that begins with `start`; a child that ends first is a failure."""
    assert child.stdout is not None
    seen = []
    for line in child.stdout:
        seen.append(line)
        if line.startswith(start):
            return line
    raise AssertionError(f"ended without {start!r}: {seen}")


def open_gate(gate: Path) -> int:
    """Wait until somebody is held at the gate; the file descriptor whose closing lets them through."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > deadline:
                raise
            time.sleep(0.01)  # a FIFO without a reader gives nothing to wait on


def test_a_second_builder_waits_and_uses_what_the_first_built(
    cache: Path, tiny: Sdist, start: Callable[..., subprocess.Popen[str]], gate: Path
) -> None:
    first = start(cache, tiny, gate)
    held = open_gate(gate)
    second = start(cache, tiny)
    assert f"(process {first.pid})" in read_until(second, "waiting")
    os.close(held)
    assert read_until(first, "BUILT") == "BUILT True\n"
    assert read_until(second, "BUILT") == "BUILT False\n"


def test_an_interrupt_ends_the_compilers_and_leaves_nothing(
    cache: Path, tiny: Sdist, start: Callable[..., subprocess.Popen[str]], gate: Path
) -> None:
    build = start(cache, tiny, gate)
    held = open_gate(gate)
    build.send_signal(signal.SIGINT)
    read_until(build, "INTERRUPTED")
    assert build.wait(DEADLINE_S) == 0
    os.set_blocking(held, True)
    with pytest.raises(BrokenPipeError):  # the step that was held is gone, not orphaned
        os.write(held, b"x")
    os.close(held)
    assert not scratch_folders(cache)
    assert make(cache, tiny)[0].fresh


def test_after_a_kill_the_next_build_starts_clean(
    cache: Path, tiny: Sdist, start: Callable[..., subprocess.Popen[str]], gate: Path
) -> None:
    build = start(cache, tiny, gate)
    held = open_gate(gate)
    build.kill()
    build.wait(DEADLINE_S)
    left = scratch_folders(cache)
    assert len(left) == 1
    assert make(cache, tiny)[0].fresh
    assert not left[0].exists()
    os.close(held)
    assert [folder.name for folder in cache.glob("1.0-*")] == [plan.name_of(tiny, Options(), plan.cpu_features())]

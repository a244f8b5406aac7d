"""A child process and its ports, without an engine: small programs stand in where only the process matters."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imagegen.engines import guarded_exec
from imagegen.engines.ports import listening_inodes, reserve_port, socket_inodes
from imagegen.engines.process import EngineProcess, engine_environment
from imagegen.startup import signals

Gone = Callable[[int], bool]

STATUS = "print(open('/proc/self/status').read())"


def guarded(parent_pid: int, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", guarded_exec.__file__, str(parent_pid), *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_program_ignores_what_the_supervisor_sends_and_leaves_no_core() -> None:
    program = f"{STATUS}; import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"
    done = guarded(os.getpid(), sys.executable, "-c", program)
    ignored = next(int(line.split()[1], 16) for line in done.stdout.splitlines() if line.startswith("SigIgn:"))
    sent = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, *signals.IGNORED}
    assert sent == set(guarded_exec.IGNORED)
    assert [name for name in sent if not ignored >> (name - 1) & 1] == []
    assert done.stdout.splitlines()[-1] == "(0, 0)"


def test_nothing_is_started_for_a_parent_that_is_already_gone(tmp_path: Path) -> None:
    done = guarded(1 if os.getpid() != 1 else 2, "/bin/sh", "-c", f"touch {tmp_path}/started")
    assert done.returncode == 1 and "the service ended" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_is_not_there_is_told_without_its_folder(tmp_path: Path) -> None:
    done = guarded(os.getpid(), str(tmp_path / "sd-server"))
    assert done.returncode == guarded_exec.CANNOT_RUN
    assert done.stderr == "[ERROR] sd-server cannot be run: No such file or directory\n"


def test_the_engines_environment_has_what_finds_a_gpu_and_nothing_of_ours() -> None:
    ours = {
        "PATH": "/bin", "HOME": "/h", "CUDA_VISIBLE_DEVICES": "0", "LD_LIBRARY_PATH": "/cuda",
        "IMAGEGEN_TOKENS": "me:secret", "HF_TOKEN": "secret", "HTTPS_PROXY": "p", "PYTHONPATH": "x", "LANG": "de_DE",
    }  # fmt: skip
    assert engine_environment(ours) == {
        "PATH": "/bin", "HOME": "/h", "CUDA_VISIBLE_DEVICES": "0", "LD_LIBRARY_PATH": "/cuda",
        "LC_ALL": "C", "GGML_NO_BACKTRACE": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }  # fmt: skip


def collect(argv: list[str], cwd: Path) -> tuple[EngineProcess, list[tuple[str, bool]]]:
    heard: list[tuple[str, bool]] = []

    async def scenario() -> EngineProcess:
        child = EngineProcess(argv, cwd, lambda line, from_stderr: heard.append((line, from_stderr)))
        await asyncio.wait_for(child.ended.wait(), 60)
        return child

    return asyncio.run(scenario()), heard


def test_all_output_is_read_before_the_end_is_told(tmp_path: Path) -> None:
    lines = 5000  # more than a pipe holds
    program = (
        f"import sys\nfor n in range({lines}): print('out', n)\nprint('err', file=sys.stderr, end='')\nsys.exit(3)"
    )
    child, heard = collect([sys.executable, "-c", program], tmp_path)
    assert [line for line, from_stderr in heard if not from_stderr] == [f"out {n}" for n in range(lines)]
    assert ("err", True) in heard
    assert child.returncode == 3 and child.describe_end() == "stopped by itself with exit status 3"


def test_an_end_by_a_signal_is_named(tmp_path: Path) -> None:
    child, _ = collect(["/bin/sh", "-c", "kill -ABRT $$"], tmp_path)
    assert child.describe_end() == "was ended by SIGABRT"


def test_a_grandchild_that_keeps_the_pipe_open_does_not_hide_the_end(tmp_path: Path, gone: Gone) -> None:
    child, heard = collect(["/bin/sh", "-c", "sleep 600 & echo $!"], tmp_path)
    grandchild = int(heard[0][0])
    try:
        assert child.returncode == 0
    finally:
        os.kill(grandchild, signal.SIGKILL)
    assert gone(grandchild)


# Ports


def test_a_reserved_port_is_for_the_engine_alone() -> None:
    with reserve_port() as held:
        address = held.getsockname()
        assert listening_inodes(address[1]) == set()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(address)
        with socket.socket() as engine:
            engine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as sd-server does
            engine.bind(address)
            engine.listen()
            with socket.create_connection(address, timeout=10):
                engine.accept()[0].close()  # and not the one that holds the port


def test_who_listens_is_told_by_inode() -> None:
    with socket.socket() as one, socket.socket() as two:
        for listener in (one, two):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = one.getsockname()[1]
        (alone,) = listening_inodes(port)
        assert alone in socket_inodes(os.getpid())
        assert alone not in socket_inodes(os.getppid())
        two.bind(("127.0.0.1", port))
        two.listen()
        assert len(listening_inodes(port)) == 2


def test_a_process_that_is_gone_has_no_sockets() -> None:
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    assert socket_inodes(ended.pid) == set()

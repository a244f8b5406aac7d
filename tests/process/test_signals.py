"""Signals that a terminal, a logout or a service manager sends: only those that ask the service to stop stop it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from served import ROOT, ImagegenServe, Service, gone, new_home

from imagegen.startup import signals

CTRL_Z = b"\x1a"
HARMLESS = (*signals.IGNORED, signal.SIGWINCH, signal.SIGPIPE, signal.SIGCONT, signal.SIGURG, signal.SIGCHLD)
LONG = {"width": 128, "height": 128, "steps": 100}
"""A signal lets the suspended engine go on for an instant."""
OF_A_SHELL = (signal.SIGHUP, signal.SIGQUIT, signal.SIGINT, signal.SIGTERM, signal.SIGTSTP)


class InTerminal(ImagegenServe):
    """`imagegen serve` as the foreground process of a terminal, for a user whose home folder cannot be written."""

    def environment(self, **more: object) -> dict[str, str]:
        return super().environment(**more) | {"HOME": os.devnull + "/nowhere"}

    def launch(self, *arguments: str) -> None:
        self.terminal, theirs = pty.openpty()

        def prepare() -> None:  # as a shell starts it: whatever runs the tests may have had signals ignored
            os.setsid()
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
            for number in OF_A_SHELL:
                signal.signal(number, signal.SIG_DFL)

        command = [sys.executable, "-m", *self._command, *arguments]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=self.environment(), stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=prepare
        )
        os.close(theirs)
        self._open, self._screen = True, threading.Thread(target=self._show, daemon=True)
        self._screen.start()

    def _show(self) -> None:
        with self.log.open("ab", buffering=0) as log, contextlib.suppress(OSError):  # EIO: all processes have ended
            while self._open:
                if select.select([self.terminal], [], [], 0.1)[0]:
                    log.write(os.read(self.terminal, 65536))

    def hang_up(self) -> None:
        """Close the terminal's window: the kernel sends SIGHUP and SIGCONT, and writing to it fails from now on."""
        self._open = False
        self._screen.join()
        os.close(self.terminal)


@pytest.fixture
def in_terminal(tmp_path: Path, models_dir: Path, sd_server: Path) -> Iterator[InTerminal]:
    service = InTerminal(
        new_home(tmp_path / "home", models_dir), sd_server, {"idle_timeout": "never", "host": "localhost"}
    )
    service.start()
    yield service
    service.end()


def identities(service: Service) -> set[tuple[int, float]]:
    return {(process.pid, process.create_time()) for process in service.processes()}


def test_only_signals_that_ask_for_a_stop_stop_the_service(in_terminal: InTerminal) -> None:
    service = in_terminal
    with service.at_work(**LONG) as job:
        before = identities(service)
        engine = psutil.Process(service.engine_pid or 0)
        os.write(service.terminal, CTRL_Z)
        fcntl.ioctl(service.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
        for number in HARMLESS:
            for process in (service.supervisor, service.worker, engine):
                if number != signal.SIGPIPE or process != engine:  # the engine's own pipe: it ends with the service
                    process.send_signal(number)
                if number == signal.SIGCONT and process == engine:
                    engine.suspend()
            assert service.job(job["job_id"])["status"] == "running", number
        for process in (service.worker, engine):  # it is the supervisor that is asked to stop
            process.send_signal(signal.SIGQUIT)
        service.hang_up()
        assert service.job(job["job_id"])["status"] == "running"
    done = service.ended(job["job_id"])
    assert (done["status"], done["attempts"]) == ("complete", 1)
    assert service.supervisor.status() != psutil.STATUS_STOPPED
    assert identities(service) == before
    service.draw("a green tree")  # its log goes nowhere now

    service.supervisor.send_signal(signal.SIGQUIT)
    assert service.wait() == 0
    assert all(gone(pid) for pid, _ in before)

"""`imagegen watch` in a terminal, on the running service: what ends it, what it leaves, and an outage."""

from __future__ import annotations

import os
import signal
import threading

import psutil
import pytest
from proxy import reverse_proxy
from served import Service, until
from terminals import IMAGEGEN, STARTS, Terminal

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
MODES = 'before=$(stty -g); %s; code=$?; [ "$before" = "$(stty -g)" ] && echo SAME; exit $code'


def watching(url: str, kind: str = "plain") -> Terminal:
    """The command in a shell that then compares the terminal's modes."""
    return Terminal(["bash", "-c", MODES % f"{IMAGEGEN} watch --url {url}"], kind, size=(30, 100, 0, 0))


def interrupt(terminal: Terminal) -> None:
    terminal.type(b"\x1a\x03")  # Ctrl-Z does nothing here


def terminate(terminal: Terminal) -> None:
    (command,) = psutil.Process(terminal.pid).children()
    os.kill(command.pid, signal.SIGTERM)


@pytest.mark.parametrize(
    ("end", "code"),
    [(lambda terminal: terminal.type(b"q"), 0), (interrupt, 130), (terminate, 143)],
    ids=["q", "Ctrl-C", "SIGTERM"],
)
def test_what_ends_it_leaves_the_terminal_as_it_was(service: Service, end, code: int) -> None:  # type: ignore[no-untyped-def]
    terminal = watching(service.url)
    terminal.until(lambda: b"q ends" in terminal.written, "the first screen is there")
    end(terminal)
    assert terminal.end() in {code, -signal.SIGINT if code == 130 else code}
    assert terminal.written.index(ENTER) < terminal.written.index(b"queue   ") < terminal.written.index(LEAVE)
    after = terminal.written.rpartition(LEAVE)[2]
    assert b"Traceback" not in after
    assert b"SAME" in after or code == 130, "the shell ends with Ctrl-C too"


def test_a_service_that_goes_away_is_waited_for(service: Service) -> None:
    away = threading.Event()
    with reverse_proxy(service.port, "", {}, loses=lambda _request: away.is_set()) as url:
        terminal = watching(url)
        terminal.until(lambda: b"queue   " in terminal.written, "the state is shown")
        away.set()
        terminal.until(lambda: b"Waiting for the service" in terminal.written, "the outage is shown")
        gone = len(terminal.written)
        away.clear()
        terminal.until(lambda: b"\x1b[2;1H" in terminal.written[gone:], "the sentence is replaced")
        terminal.type(b"q")
        assert terminal.end() == 0


def test_without_a_service_the_screen_is_not_taken() -> None:
    terminal = watching("http://127.0.0.1:9")
    assert terminal.end() == 4
    assert b"no service answers at http://127.0.0.1:9" in terminal.written
    assert ENTER not in terminal.written and b"SAME" in terminal.written


def test_the_preview_of_a_running_job_is_shown(service: Service) -> None:
    job = service.submit("watched", width=256, height=256, steps=100, n=4, preview="auto")
    terminal = watching(service.url, "kitty")
    terminal.until(lambda: STARTS["kitty"] in terminal.written, "a preview is shown")
    assert job["job_id"][:8].encode() in terminal.written
    service.http.delete(f"/api/jobs/{job['job_id']}")
    until(lambda: service.job(job["job_id"])["status"] == "cancelled", "it is cancelled")
    terminal.type(b"q")
    assert terminal.end() == 0
    assert b"\x1b_Ga=d,d=I" in terminal.written.rpartition(STARTS["kitty"])[2], "and removed at the end"

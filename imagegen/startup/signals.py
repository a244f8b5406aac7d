"""Signal handling of the service's processes, and the end of a start that failed.

| signal | supervisor | worker | engine |
|---|---|---|---|
| SIGTERM, SIGINT | orderly stop | orderly stop | ignored; the worker ends it |
| SIGQUIT | orderly stop | ignored | ignored |
| IGNORED | ignored | ignored | ignored |
| SIGWINCH, SIGCONT, SIGPIPE | no effect | no effect | no effect |

The supervisor forwards a stop to the worker. The engine's signals are set in `engines/guarded_exec.py`.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, NoReturn

from circus.sighandler import SysHandler

from imagegen.startup.configuration import sentence

log = logging.getLogger("imagegen")

IGNORED = (
    signal.SIGHUP,  # a logout or a closed terminal; BentoML's supervisor would replace the worker during a picture
    signal.SIGTSTP,  # Ctrl-Z
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGIO,
)
"""Signals whose default action would end or suspend a process. Child processes inherit that they are ignored."""

START_FAILED = signal.SIGRTMAX
"""Sent to the supervisor by a worker that cannot start. No terminal, shell or service manager sends this signal."""

DRAIN_BOUND_S = 10.0
"""Time limit for clients to read their last responses after the picture is done."""


def guard_supervisor() -> None:
    """Ignore IGNORED, exit with status 1 after START_FAILED, and print a sentence if BentoML fails before it serves.

    BentoML exits with 0 after every SIGTERM, which systemd and Docker would treat as an orderly stop.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # a program that only loads the service, in a thread; only the main thread can set handlers
    _ignore(*IGNORED)
    # circus registers its handlers later (circus/sighandler.py, 0.19); its reload at SIGHUP would replace the worker.
    SysHandler.SIGNALS = [one for one in SysHandler.SIGNALS if one not in IGNORED]
    failed = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal failed
        failed = True

    def end() -> None:
        if failed:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)

    signal.signal(START_FAILED, note)
    atexit.register(end)
    sys.excepthook = _in_a_sentence


def guard_worker() -> None:
    """Ignore IGNORED and SIGQUIT, and exit with the supervisor: else the worker would keep the port and the GPU."""
    _ignore(*IGNORED, signal.SIGQUIT)
    parent = os.getppid()
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the supervisor died before prctl
            os.kill(os.getpid(), signal.SIGKILL)


def end_start(failure: Exception, in_worker: bool) -> NoReturn:
    """End a service that cannot start, with one sentence and exit status 1.

    A worker also ends its supervisor, which would otherwise restart the worker forever. It does not raise, because
    BentoML would print two tracebacks after the sentence.
    """
    reason = sentence(failure)
    if reason is None:
        log.error("cannot start: internal error", exc_info=failure)
    else:
        print(f"imagegen cannot start: {reason}", file=sys.stderr, flush=True)
    if in_worker:
        _end_both()
    sys.exit(1)


def end_running(reason: str) -> NoReturn:
    """End a running worker that can no longer do its work, and its supervisor, at once and with exit status 1."""
    log.error("ends: %s", reason)
    _end_both()


def _end_both() -> NoReturn:
    os.kill(os.getppid(), START_FAILED)
    os.kill(os.getppid(), signal.SIGTERM)
    os._exit(1)


def stop_on_signals(begin_stop: Callable[[], None], grace_s: float) -> None:
    """Call `begin_stop` at SIGTERM and SIGINT, before uvicorn's handler; exit `grace_s` + DRAIN_BOUND_S later.

    uvicorn first waits until all connections are closed, and long-polls and event streams end only when the service
    stops. BentoML would wait a day for a client that never reads; no data is lost at the exit.
    """
    loop = asyncio.get_running_loop()

    def begin() -> None:
        begin_stop()
        loop.call_later(grace_s + DRAIN_BOUND_S, os._exit, 0)

    for signum in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(signum)

        def handle(number: int, frame: FrameType | None, before: Any = before) -> None:
            loop.call_soon_threadsafe(begin)
            if callable(before):
                before(number, frame)

        signal.signal(signum, handle)


def _ignore(*numbers: signal.Signals) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def _in_a_sentence(kind: type[BaseException], failure: BaseException, trace: TracebackType | None) -> None:
    """Report an exception that ends the supervisor, such as an address that was taken after its check."""
    reason = sentence(failure)
    if reason is None:
        sys.__excepthook__(kind, failure, trace)
    else:
        print(f"imagegen cannot start: {reason}", file=sys.stderr, flush=True)

"""Signals of the service's processes, and how a worker that cannot start ends its supervisor.

| signal | supervisor | worker | engine |
|---|---|---|---|
| SIGTERM, SIGINT | stops in order | stops in order | ignored; the worker ends it |
| SIGQUIT | stops in order | ignored | ignored |
| IGNORED | ignored | ignored | ignored |
| SIGWINCH, SIGCONT, SIGPIPE | without effect | without effect | without effect |

The supervisor passes a stop on to the worker. The engine's part is in `engines/guarded_exec.py`.
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
    signal.SIGHUP,  # a logout or a closed terminal; BentoML's supervisor would replace the worker in mid-picture
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
"""Their default action would end or suspend a process. A program that this one starts ignores them too."""

START_FAILED = signal.SIGRTMAX
"""From a worker that cannot start to its supervisor. No terminal, shell or service manager sends this one."""

DRAIN_BOUND_S = 10.0
"""How long clients may take to read their last answers once the picture is done."""


def guard_supervisor() -> None:
    """Ignore what must not stop the service, exit with 1 after START_FAILED, and end with a sentence when BentoML
    fails before it serves.

    BentoML exits with 0 after every SIGTERM, which systemd and Docker would take for an orderly stop.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # a program that only loads the service, in a thread of its own
    _ignore(*IGNORED)
    # circus registers its handlers after this (circus/sighandler.py, 0.19): its reload at SIGHUP replaces the worker.
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
    """Ignore what must not stop the service, and die with the supervisor: the worker would live on and hold port and
    GPU."""
    _ignore(*IGNORED, signal.SIGQUIT)
    parent = os.getppid()
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died in between
            os.kill(os.getpid(), signal.SIGKILL)


def end_start(failure: Exception, in_worker: bool) -> NoReturn:
    """End the service, which cannot start, with one sentence and exit code 1.

    A worker ends its supervisor too, which would start a dead worker again for ever. It does not raise, because
    BentoML would print two tracebacks after the sentence.
    """
    reason = sentence(failure)
    if reason is None:
        log.error("cannot start: internal error", exc_info=failure)
    else:
        print(f"imagegen cannot start: {reason}", file=sys.stderr, flush=True)
    if in_worker:
        os.kill(os.getppid(), START_FAILED)
        os.kill(os.getppid(), signal.SIGTERM)
        os._exit(1)
    sys.exit(1)


def stop_on_signals(begin_stop: Callable[[], None], grace_s: float) -> None:
    """Call `begin_stop` at SIGTERM and SIGINT, before uvicorn's own handler, and end the worker at last.

    uvicorn first waits for every open connection to end, and long-polls and event streams only end when the service
    stops. BentoML waits a day for a client that never reads; nothing is lost by then.
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
    """An exception that ends the supervisor, such as an address that is taken since it was checked."""
    reason = sentence(failure)
    if reason is None:
        sys.__excepthook__(kind, failure, trace)
    else:
        print(f"imagegen cannot start: {reason}", file=sys.stderr, flush=True)

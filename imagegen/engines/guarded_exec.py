"""Prepares the engine's process, then replaces itself by the engine (exec).

`python -I -S guarded_exec.py PARENT_PID PROGRAM ARGUMENT…`. It is a program and not a `preexec_fn`, because code
between fork and exec is unsafe in a process with threads. Its imports delay the engine's start, so it imports only
what it needs; pathlib, for example, is avoided.
"""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
IGNORED = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP),
    *(signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO),
)
CANNOT_RUN = 127  # the exit status that shells use for a program that cannot be run


def main(arguments: list[str]) -> None:
    """Tie this process to its parent, ignore the signals that end or suspend a process, and exec.

    A signal ignored before exec stays ignored after it. This is necessary because circus, BentoML's supervisor, sends
    SIGTERM to the worker's children at once, before the worker has finished its requests. The engine is ended only by
    SIGKILL.
    """
    parent_pid, program = int(arguments[0]), arguments[1]
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec would keep that
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would contain the model and the last prompt
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0) != 0:
        sys.exit(f"[ERROR] prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:  # the parent died before prctl, so the kernel will not send the signal
        sys.exit("[ERROR] the service ended while it started the engine")
    try:
        os.execv(program, arguments[1:])  # noqa: S606 - no shell wanted
    except OSError as error:
        sys.stderr.write(f"[ERROR] {program.rpartition('/')[2]} cannot be run: {error.strerror}\n")
        sys.exit(CANNOT_RUN)


if __name__ == "__main__":
    main(sys.argv[1:])

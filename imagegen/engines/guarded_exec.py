"""What runs in the engine's process before the engine does; then it becomes the engine.

`python -I -S guarded_exec.py PARENT_PID PROGRAM ARGUMENT…`. A program of its own and not a `preexec_fn`: code
between fork and exec is unsafe in a process with threads. It delays the engine by its imports, so nothing is
imported here that is not needed, pathlib for one.
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
CANNOT_RUN = 127  # the exit status shells use for a program that cannot be run


def main(arguments: list[str]) -> None:
    """Tie this process to its parent, ignore all signals that ask a process to end or to wait, and exec.

    A signal ignored before exec stays ignored: circus, BentoML's supervisor, sends SIGTERM to the worker's
    children at once, before the worker has finished its requests. The engine is only ever ended with SIGKILL.
    """
    parent_pid, program = int(arguments[0]), arguments[1]
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and that too would outlive the exec
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold the model, and the last prompt
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0) != 0:
        sys.exit(f"[ERROR] prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:  # it died before the line above: that signal will never come
        sys.exit("[ERROR] the service ended while it started the engine")
    try:
        os.execv(program, arguments[1:])  # noqa: S606 - no shell wanted
    except OSError as error:
        sys.stderr.write(f"[ERROR] {program.rpartition('/')[2]} cannot be run: {error.strerror}\n")
        sys.exit(CANNOT_RUN)


if __name__ == "__main__":
    main(sys.argv[1:])

"""The engine's process: `python -P …/glm_engine/__main__.py serve FOLDER PORT THREADS`, or `… make FOLDER`.

Started by path, because the environment it gets says nothing of where the service's code is.
"""

from __future__ import annotations

import mmap
import os
import re
import socket
import sys
import warnings
from pathlib import Path

PORT_TAKEN = 98  # the exit status that says so: EADDRINUSE
MAX_SAID_CHARS = 300

_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|bad_alloc|Cannot allocate memory", re.IGNORECASE)
_PROBE_BYTES = 64 * 1024**2


def say(line: str) -> None:
    """To the service, at once."""
    print(line, flush=True)


def serve(folder: Path, port: int, threads: int) -> int:
    """Hold the port, load the model, then listen until the process is ended."""
    from imagegen.glm_engine import lines

    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # the service has bound it, so that nobody else gets it
    try:
        held.bind(("127.0.0.1", port))
    except OSError:
        return PORT_TAKEN
    quieten()
    import uvicorn

    from imagegen.glm_engine.painter import Interrupted, Painter
    from imagegen.glm_engine.server import Server

    def explain(failure: Exception, order: object) -> tuple[int, str]:
        if isinstance(failure, Interrupted):
            return 409, "interrupted"
        words = in_words(failure, getattr(order, "prompt", ""))
        is_memory = isinstance(failure, MemoryError) or _OUT_OF_MEMORY.search(words) or _is_onednn_short(words)
        return (507, f"out of memory: {words}") if is_memory else (500, words)

    painter = Painter(folder, threads, say)
    config = uvicorn.Config(
        Server(painter.draw, explain).app, log_config=None, access_log=False, server_header=False, lifespan="on"
    )
    say(lines.LISTENING)
    uvicorn.Server(config).run(sockets=[held])
    return 0


def _is_onednn_short(words: str) -> bool:
    """oneDNN gives no reason: whether it is memory shows when there is not even a little left."""
    if "could not create a primitive" not in words:
        return False
    try:
        mmap.mmap(-1, _PROBE_BYTES).close()
    except OSError:
        return True
    return False


def quieten() -> None:
    """Nothing is printed but what `say` says and why the process ends: no bar, no advice, no text of a caller."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")
    warnings.simplefilter("ignore")
    import diffusers.utils.logging
    import transformers.utils.logging

    for logging in (diffusers.utils.logging, transformers.utils.logging):
        logging.set_verbosity(logging.CRITICAL)
        logging.disable_progress_bar()


def in_words(failure: BaseException, prompt: str = "") -> str:
    """What went wrong, on one line, without the prompt."""
    text = f"{type(failure).__name__}: {failure}"
    for secret in (prompt, repr(prompt)[1:-1]):
        if secret.strip():
            text = text.replace(secret, "…")
    return " ".join(text.split())[:MAX_SAID_CHARS]


def main(arguments: list[str]) -> int:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from imagegen.glm_engine import lines

    what, folder, *rest = arguments
    try:
        if what == "make":
            quieten()
            from imagegen.glm_engine.tiny import make

            make(Path(folder))
            return 0
        port, threads = map(int, rest)
        return serve(Path(folder), port, threads)
    except Exception as failure:
        sys.stderr.write(lines.complaint(in_words(failure)) + "\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

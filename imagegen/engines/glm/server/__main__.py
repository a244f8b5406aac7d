"""The engine's process: `python -P …/glm/server/__main__.py serve FOLDER SOCKET THREADS`, or `… make FOLDER`.

Started by path, because its environment has no PYTHONPATH to the service's code.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import warnings
from pathlib import Path

SOCKET_TAKEN = 98  # exit status: EADDRINUSE


def say(line: str) -> None:
    """Print a line to the service and flush it."""
    print(line, flush=True)


def serve(folder: Path, path: str, threads: int) -> int:
    """Make the Unix socket `path` (mode 0600), load the model, then serve until the process is ended."""
    from imagegen.engines.glm.server import lines

    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(path)
    except OSError as refused:
        if refused.errno == errno.EADDRINUSE:
            return SOCKET_TAKEN
        raise
    finally:
        os.umask(before)
    quieten()
    import uvicorn

    from imagegen.engines.glm.server.app import Server
    from imagegen.engines.glm.server.failures import explain
    from imagegen.engines.glm.server.pipeline import Pipeline
    from imagegen.engines.glm.server.request import DrawRequestBody

    pipeline = Pipeline(folder, threads, say)

    def describe(failure: Exception, order: DrawRequestBody) -> tuple[int, str]:
        return explain(failure, (order.prompt, pipeline.sent(order.prompt)))

    config = uvicorn.Config(
        Server(pipeline.draw, describe).app, log_config=None, access_log=False, server_header=False, lifespan="on"
    )
    say(lines.LISTENING)
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def quieten() -> None:
    """Silence the libraries: no progress bars, no warnings, no text of a caller. Only `say` and fatal errors print."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")
    warnings.simplefilter("ignore")
    import diffusers.utils.logging
    import transformers.utils.logging

    for logging in (diffusers.utils.logging, transformers.utils.logging):
        logging.set_verbosity(logging.CRITICAL)
        logging.disable_progress_bar()


def main(arguments: list[str]) -> int:
    sys.path.insert(0, str(Path(__file__).parents[4]))
    from imagegen.engines.glm.server import lines
    from imagegen.engines.glm.server.failures import in_words

    what, folder, *rest = arguments
    try:
        if what == "make":
            quieten()
            from imagegen.engines.glm.server.tiny import make

            make(Path(folder))
            return 0
        path, threads = rest
        return serve(Path(folder), path, int(threads))
    except Exception as failure:
        sys.stderr.write(lines.complaint(in_words(failure)) + "\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

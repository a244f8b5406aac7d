"""The engine's process: `python -P …/glm_engine/__main__.py serve FOLDER PORT THREADS`, or `… make FOLDER`.

Started by path, because the environment it gets says nothing of where the service's code is.
"""

from __future__ import annotations

import os
import socket
import sys
import warnings
from pathlib import Path

PORT_TAKEN = 98  # the exit status that says so: EADDRINUSE


def say(line: str) -> None:
    """To the service, at once."""
    print(line, flush=True)


def serve(folder: Path, port: int, threads: int) -> int:
    """Hold the port, load the model, then listen until the process is ended."""
    from imagegen.engines.glm.server import lines

    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # the service has bound it, so that nobody else gets it
    try:
        held.bind(("127.0.0.1", port))
    except OSError:
        return PORT_TAKEN
    quieten()
    import uvicorn

    from imagegen.engines.glm.server.app import Server
    from imagegen.engines.glm.server.failures import explain
    from imagegen.engines.glm.server.pipeline import Pipeline
    from imagegen.engines.glm.server.request import DrawRequestBody

    pipeline = Pipeline(folder, threads, say)

    def told(failure: Exception, order: DrawRequestBody) -> tuple[int, str]:
        return explain(failure, (order.prompt, pipeline.sent(order.prompt)))

    config = uvicorn.Config(
        Server(pipeline.draw, told).app, log_config=None, access_log=False, server_header=False, lifespan="on"
    )
    say(lines.LISTENING)
    uvicorn.Server(config).run(sockets=[held])
    return 0


def quieten() -> None:
    """Nothing is printed but what `say` says and why the process ends: no bar, no advice, no text of a caller."""
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
        port, threads = map(int, rest)
        return serve(Path(folder), port, threads)
    except Exception as failure:
        sys.stderr.write(lines.complaint(in_words(failure)) + "\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

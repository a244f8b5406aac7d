"""GlmImageAdapter: drives this project's server around diffusers' GlmImagePipeline (imagegen.engines.glm.server)."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path
from time import monotonic
from typing import ClassVar

import httpx

from imagegen.engines.base import INTERRUPTED, DrawRequest, EngineError, LoadProgress
from imagegen.engines.endpoint import Endpoint, UnixEndpoint
from imagegen.engines.glm import server
from imagegen.engines.glm.server import components, failures, lines
from imagegen.engines.glm.server.__main__ import SOCKET_TAKEN
from imagegen.engines.glm.server.lines import Loaded
from imagegen.engines.http_process import HttpSubprocessAdapter
from imagegen.engines.life import Launch
from imagegen.engines.tracking import Bar, Mark, Tokens

PROGRAM = Path(server.__file__).with_name("__main__.py")
INTERRUPT_TIMEOUT_S = 5.0


class GlmImageAdapter(HttpSubprocessAdapter):
    """One process of imagegen.engines.glm.server and the pipeline that it has loaded.

    folder: a diffusers repository. threads: torch's CPU threads. python: an interpreter with the extra installed.
    """

    ready_path: ClassVar[str] = "/ready"
    connections: ClassVar[int] = 2  # one for the running picture's response, one to interrupt it
    mend: ClassVar[str] = "install the service again"

    def __init__(
        self,
        folder: Path,
        threads: int,
        workdir: Path,
        load_stall_s: float = 300.0,
        python: Path = Path(sys.executable),
    ) -> None:
        super().__init__(python, workdir, load_stall_s)
        self.folder, self.threads = folder, threads
        self._load_at: tuple[float, int] | None = None  # time and bytes of the load's first report
        self._interrupting: asyncio.Task[None] | None = None

    def _launch(self, endpoint: Endpoint) -> Launch:
        assert isinstance(endpoint, UnixEndpoint)
        self._load_at = None
        # -P: a module in the working folder must not shadow an installed one.
        return Launch(["-P", str(PROGRAM), "serve", str(self.folder), str(endpoint.path), str(self.threads)])

    def _check_files(self) -> None:
        if gone := components.missing(self.folder):
            raise EngineError("model_missing", f"The model's folder has no {', '.join(gone)}: fetch the model again.")

    # Reading the log

    def _heard(self, line: str) -> bool:
        event = lines.parse(line)
        if event is Mark.LISTENING:
            self._listening()
        elif isinstance(event, Loaded):
            self._loading(self._load_progress(event, monotonic()))
        elif self._on_load is None:
            self._drawn(event)
        return not isinstance(event, Loaded | Bar | Tokens | Mark)

    def _load_progress(self, event: Loaded, now: float) -> LoadProgress:
        if self._load_at is None:
            self._load_at = now, event.done
        since, before = self._load_at
        rate = (event.done - before) / (now - since) if now > since and event.done > before else None
        return LoadProgress(event.done / event.total, rate, event.done, event.total)

    def _blame(self, complaints: str) -> str | None:
        return "out_of_vram" if failures.OUT_OF_MEMORY.search(complaints) else None

    def _complains(self, line: str) -> bool:
        return line.startswith("[ERROR]")

    def _readable(self, line: str) -> str:
        return line.removeprefix("[ERROR] ")

    def _could_not_bind(self, exit_status: int | None) -> bool:
        return exit_status == SOCKET_TAKEN

    # Drawing

    async def _picture(self, request: DrawRequest, number: int, client: httpx.AsyncClient) -> bytes:
        body = await asyncio.to_thread(order, request)
        answer = await client.post(f"/draw/{number}", content=body, headers={"Content-Type": "application/json"})
        match answer.status_code:
            case httpx.codes.OK:
                return answer.content
            case httpx.codes.CONFLICT:
                raise EngineError(INTERRUPTED, "The picture was interrupted.")
            case httpx.codes.INSUFFICIENT_STORAGE:
                raise self._too_large()
            case httpx.codes.INTERNAL_SERVER_ERROR:
                detail = f"The engine could not draw it: {self._words.without_folders(_detail(answer))}."
                raise EngineError("draw_failed", f"{detail}{self._words.as_suffix()}", draws_on=True)
            case _:
                raise EngineError("draw_failed", f"The engine refused the picture: {_detail(answer)}", draws_on=True)

    def interrupt(self) -> bool:
        """Ask the engine to interrupt the running picture before its next step or token: see Adapter."""
        if self._client is None or self.pid is None or self._drawing is None or self._drawing.done():
            return False
        interrupt = self._interrupt(self._client, self._number)
        self._interrupting = asyncio.create_task(interrupt, name="engine-interrupt")
        return True

    async def _interrupt(self, client: httpx.AsyncClient, number: int) -> None:
        """Repeat the request until the engine answers, which can take long on a busy machine."""
        while True:
            try:
                await client.post(f"/interrupt/{number}", timeout=INTERRUPT_TIMEOUT_S)
                return
            except httpx.TimeoutException:
                if self._drawing is None or self._drawing.done():
                    return
            except (httpx.TransportError, RuntimeError):  # the engine is exiting or has exited, and with it the picture
                return


def order(request: DrawRequest) -> bytes:
    """The JSON of `POST /draw` (server/request.py). The pipeline takes no negative prompt, sampler or mask."""
    return json.dumps(
        {
            "prompt": request.prompt,
            "width": request.width,
            "height": request.height,
            "steps": request.steps,
            "guidance_scale": float(request.cfg_scale),
            "seed": request.seed,
            "references": [base64.b64encode(picture).decode() for picture in request.references],
        },
        allow_nan=False,
    ).encode()


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"

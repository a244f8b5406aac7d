"""SdcppServerAdapter: drives stable-diffusion.cpp's sd-server through its native API.

Uses only `/sdcpp/v1`. The server's OpenAI and SD-WebUI routes execute commands in the prompt (`<sd_cpp_extra_args>`),
including paths of files to open.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import httpx

from imagegen.engines.base import INTERRUPTED, DrawRequest, EngineError, LoadProgress
from imagegen.engines.endpoint import Endpoint, TcpEndpoint, UnixEndpoint
from imagegen.engines.http_process import HttpSubprocessAdapter
from imagegen.engines.life import Launch
from imagegen.engines.safetensors import lora_fault
from imagegen.engines.sdcpp import channel as messages
from imagegen.engines.sdcpp import log as sdcpp_log
from imagegen.engines.sdcpp.channel import Channel, EnginePhase, Outcome
from imagegen.engines.sdcpp.log import LoadTracker
from imagegen.engines.sdcpp.loras import LoraLinks, LoraWatch
from imagegen.engines.sdcpp.wire import picture, refusal, request_body
from imagegen.engines.tracking import Bar, Mark, Skipped, Tile
from imagegen.schemas import Warn

SLOW_POLL_S = 0.5  # works without log and channel, which only make polling faster
FAST_POLL_S = 0.005  # after the engine reports that the picture is drawn, while it encodes the PNG
FAST_POLL_GROWTH = 1.5
LARGE_BYTES = 262_144  # larger bodies are encoded and decoded in a thread
LAST_LINE_S = 2.0  # wait after the picture for its last log line and last frame, which arrive separately
UNUSED_PORT = 1  # an engine with the channel binds its socket instead of the port; it could not bind port 1
CHATTY_FLAGS = {"-v", "--verbose"}


class SdcppServerAdapter(HttpSubprocessAdapter):
    """One sd-server process and the model that it has loaded.

    model_argv: the catalog entry's flags, files as absolute paths; no listen, thread or verbosity flags.
    threads: CPU threads, also for loading. workdir: the engine's private working folder.
    loras: the model's own LoRAs, which each picture names; their files are checked before the start.
    channel: whether the binary has the channel (engine_build.probe.channel_version). Without it the engine listens on a
    TCP port, its progress is read from its log, there are no previews, and a picture cannot be interrupted.
    """

    ready_path: ClassVar[str] = "/v1/models"
    connections: ClassVar[int] = 1  # sd-server has 8 threads, and each open connection occupies one
    mend: ClassVar[str] = "build it again"

    def __init__(
        self,
        binary: Path,
        model_argv: list[str],
        threads: int,
        workdir: Path,
        load_stall_s: float = 300.0,
        loras: Sequence[Path] = (),
        *,
        channel: bool,
    ) -> None:
        if chatty := CHATTY_FLAGS.intersection(model_argv):
            raise ValueError(f"{chatty.pop()} makes the engine print prompts: take it out of the model's flags")
        super().__init__(binary, workdir, load_stall_s)
        self.model_argv, self.threads = list(model_argv), threads
        self._loras = tuple(loras)
        self._lora_links = LoraLinks(workdir / "loras")
        self._load, self._files_bytes = LoadTracker(), 0
        self._worth_a_look, self._all_said = asyncio.Event(), asyncio.Event()
        self._lora_watch = LoraWatch()
        self._has_channel = channel
        self._channel: Channel | None = None
        self._over = asyncio.Event()  # the picture's last frame has arrived
        self._announced = 0  # the number of the running picture
        self._stopped = 0  # pictures up to this number are to be stopped
        self._skipped: Skipped | None = None  # the log's report on the running picture's cache

    def _new_endpoint(self) -> Endpoint:
        return UnixEndpoint(self.workdir) if self._has_channel else TcpEndpoint()

    def _launch(self, endpoint: Endpoint) -> Launch:
        self._lora_links.clear()
        self._load, self._lora_watch = LoadTracker(), LoraWatch()
        port = endpoint.port if isinstance(endpoint, TcpEndpoint) else UNUSED_PORT
        arguments = [
            *self.model_argv,
            "--listen-ip", "127.0.0.1",
            "--listen-port", str(port),
            "-t", str(self.threads),
            "--lora-model-dir", str(self._lora_links.folder),
            "--lora-apply-mode", "at_runtime",  # else a LoRA is merged into full-precision weights, and leaves traces
        ]  # fmt: skip
        if not isinstance(endpoint, UnixEndpoint):
            return Launch(arguments)
        self._channel = Channel(self._on_message, self._channel_broke)
        descriptor = str(self._channel.descriptor)
        environment = {"IMAGEGEN_ENGINE_FD": descriptor, "IMAGEGEN_ENGINE_SOCKET": str(endpoint.path)}
        return Launch(arguments, environment, self._channel)

    def _check_files(self) -> None:
        files = [Path(word) for word in self.model_argv if word.startswith("/")]
        if gone := ", ".join(file.name for file in files if not file.is_file()):
            raise EngineError("model_missing", f"The model's folder has no {gone}: fetch the model again.")
        for lora in self._loras:
            if fault := lora_fault(lora):
                raise EngineError("load_failed", f"The LoRA {lora.name} {fault}. Fetch or copy it again.")
        self._files_bytes = sum(file.stat().st_size for file in files)

    # Reading the log

    def _heard(self, line: str) -> bool:
        event = sdcpp_log.parse(line)
        if event is Mark.LISTENING:
            self._listening()
        elif self._on_load is not None:
            if bar := self._load.feed(event, monotonic()):
                self._loading(self._load_progress(self._load.fraction, bar.bytes_per_s, self._load.bytes_done))
            elif not isinstance(event, Bar):  # a repeated bar means no progress
                self._loading(None)
        else:
            self._heard_drawing(event)
            self._lora_watch.hear(line)
        return not isinstance(event, Bar)

    def _heard_drawing(self, event: Bar | Mark | Skipped | None) -> None:
        if self._channel is None:
            self._drawn(event)
        elif isinstance(event, Skipped):
            self._skipped = event
        if event is Mark.DRAW_DONE:
            self._all_said.set()
        if event is Mark.TROUBLE or (event is Mark.DRAW_DONE and self._channel is None):
            self._worth_a_look.set()

    def _load_progress(self, fraction: float, bytes_per_s: float | None, bytes_done: int | None) -> LoadProgress:
        done = None if bytes_done is None else min(bytes_done, self._files_bytes)
        return LoadProgress(fraction, bytes_per_s, done, self._files_bytes)

    # Reading the channel

    def _on_message(self, message: messages.Message) -> None:
        match message:
            case messages.Loaded(tensors, of_tensors, bytes_read, seconds):
                fraction = tensors / of_tensors if of_tensors else 0.0
                if self._on_load is not None and fraction > self._load.fraction:
                    self._load.fraction = fraction
                    self._loading(self._load_progress(fraction, bytes_read / seconds if seconds else None, bytes_read))
            case messages.PhaseBegun(picture, phase) if picture == self._announced:
                if phase is EnginePhase.SAMPLING:
                    self._drawn(Mark.SAMPLING_BEGUN)
                elif phase is EnginePhase.DECODING:
                    self._drawn(Mark.DECODING)
            case messages.StepDone(picture, step, steps) if picture == self._announced and step > 0:
                self._drawn(Bar(step, steps, None))
            case messages.TileDone(picture, tile, tiles) if picture == self._announced:
                self._drawn(Tile(tile, tiles))
            case messages.PreviewMade(picture, preview) if picture == self._announced:
                if self._on_preview is not None:
                    self._on_preview(preview)
            case messages.PictureEnded(picture, outcome) if picture == self._announced:
                if outcome is Outcome.DRAWN:
                    self._drawn(Mark.DRAW_DONE)
                self._over.set()
                self._worth_a_look.set()

    def _channel_broke(self, why: str) -> None:
        """End the engine: without a readable channel its pictures cannot be tracked or stopped."""
        self._words.complain(f"[ERROR] The channel of the engine cannot be read: {why}.")
        if self._child is not None:
            self._child.kill()

    @property
    def last_line_at(self) -> float:
        """Time of the engine's last line or frame, or of the last draw request (time.monotonic)."""
        return max(super().last_line_at, self._channel.last_frame_at if self._channel else 0.0)

    def _blame(self, complaints: str) -> str | None:
        return sdcpp_log.blame(complaints)

    def _complains(self, line: str) -> bool:
        return sdcpp_log.is_complaint(line)

    def _readable(self, line: str) -> str:
        return sdcpp_log.untagged(line)

    def _could_not_bind(self, exit_status: int | None) -> bool:
        return exit_status == 0 and self._about_to_listen.is_set()

    # Drawing

    async def _picture(self, request: DrawRequest, number: int, client: httpx.AsyncClient) -> bytes:
        for event in (self._worth_a_look, self._all_said, self._over):
            event.clear()
        self._announced, self._skipped = number, None
        linked = self._lora_links.link(request.loras)
        self._lora_watch.begin(linked)
        native = [{"path": link.name, "multiplier": use.multiplier} for link, use in linked.items()]
        encode = partial(request_body, loras=native)
        body = await _in_thread_if_large(sum(map(len, request.references)), encode, request)
        try:
            if self._channel is not None:
                await self._channel.announce(number, request.preview)
            self._end_if_stopped(number)
            accepted = await client.post(
                "/sdcpp/v1/img_gen", content=body, headers={"Content-Type": "application/json"}
            )
            if accepted.status_code != httpx.codes.ACCEPTED:
                raise EngineError("draw_failed", f"The engine refused the picture: {refusal(accepted)}")
            job = await self._finished(client, f"/sdcpp/v1/jobs/{accepted.json()['id']}", number)
            await self._last_words_of_picture(request)
            return await _in_thread_if_large(len(job), picture, job)
        except (LookupError, TypeError, ValueError) as odd:
            raise EngineError(
                "draw_failed",
                f"The engine answers in a way this service does not know ({type(odd).__name__}): "
                "sd-server has to be the version that this service builds.",
            ) from odd

    async def _last_words_of_picture(self, request: DrawRequest) -> None:
        """Wait for the last log line and the last frame of a drawn picture, at most LAST_LINE_S each."""
        with contextlib.suppress(TimeoutError):
            if self._channel is not None:
                await asyncio.wait_for(self._over.wait(), LAST_LINE_S)
            if request.loras or "cache_mode" in request.options:
                await asyncio.wait_for(self._all_said.wait(), LAST_LINE_S)
        if self._skipped is not None:
            self._drawn(self._skipped)

    def interrupt(self) -> bool:
        """Order the engine to stop the running picture before its next step: see Adapter. Encoding and decoding are
        not interrupted; the picture is discarded after them."""
        if self._channel is None or self.pid is None or self._drawing is None or self._drawing.done():
            return False
        self._stopped = self._number
        return self._channel.stop(self._number)

    def _end_if_stopped(self, number: int) -> None:
        if number <= self._stopped:
            raise EngineError(INTERRUPTED, "The picture was interrupted.")

    def _drawn_with(self) -> tuple[Warn, ...]:
        return self._lora_watch.verdict()

    def _died_of(self, exit_status: int | None) -> str | None:
        if exit_status != -signal.SIGABRT:
            return None
        return self._lora_watch.broke_it(self._words.complaints)

    async def _finished(self, client: httpx.AsyncClient, url: str, number: int) -> bytes:
        """Poll the job and return its JSON when it is finished. Channel and log only make the polling faster."""
        pause_s = SLOW_POLL_S
        while True:
            if self._worth_a_look.is_set():
                await asyncio.sleep(pause_s)
            else:
                try:
                    await asyncio.wait_for(self._worth_a_look.wait(), SLOW_POLL_S)
                    pause_s = FAST_POLL_S
                except TimeoutError:
                    pass
            answer = await client.get(url)
            if answer.status_code != httpx.codes.OK:
                raise EngineError("draw_failed", f"The engine lost the picture: {refusal(answer)}")
            if len(answer.content) > LARGE_BYTES:  # only a finished picture is that large
                return answer.content
            job = answer.json()
            if job["status"] == "completed":
                return answer.content
            if job["status"] in {"failed", "cancelled"}:
                self._end_if_stopped(number)
                raise self._draw_error(str((job.get("error") or {}).get("message", job["status"])))
            if job["status"] not in {"queued", "generating"}:
                raise ValueError(f"unknown status {job['status']}")
            pause_s = min(pause_s * FAST_POLL_GROWTH, SLOW_POLL_S)


async def _in_thread_if_large(size_bytes: int, work: Callable[..., bytes], *arguments: Any) -> bytes:
    if size_bytes > LARGE_BYTES:
        return await asyncio.to_thread(work, *arguments)
    return work(*arguments)

"""The service's end of the channel to sd-server: receives progress and previews, sends announcements and stops.

The protocol is described in docs/engine.md (The channel); the engine's end is
imagegen/engine_build/channel/channel.cpp. Decoder is pure; Channel does the I/O.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from time import monotonic

from imagegen.engines.base import Preview, PreviewMode, PreviewPlan

log = logging.getLogger("imagegen.engine")

VERSION = 1
MAX_SIDE_PX = 512
MAX_PAYLOAD_BYTES = 16 + 3 * MAX_SIDE_PX**2  # a preview, which is the longest frame
READ_BYTES = 65_536

_HEADER = struct.Struct("<IB")
_PICTURE, _STOP = 1, 2
_MODES = {None: 0, PreviewMode.PROJECTION: 1, PreviewMode.TAE: 2, PreviewMode.VAE: 3}


class ChannelError(Exception):
    """The received data is not a frame of this protocol; the message says what is wrong."""


class FrameKind(IntEnum):
    """The kinds of the engine's frames."""

    HELLO = 1
    PHASE = 2
    STEP = 3
    LOAD = 4
    TILE = 5
    PREVIEW = 6
    END = 7


_LAYOUTS: dict[int, struct.Struct] = {
    FrameKind.HELLO: struct.Struct("<H"),
    FrameKind.PHASE: struct.Struct("<IB"),
    FrameKind.STEP: struct.Struct("<IIIf"),
    FrameKind.LOAD: struct.Struct("<IIQf"),
    FrameKind.TILE: struct.Struct("<IIIf"),
    FrameKind.PREVIEW: struct.Struct("<IIII"),
    FrameKind.END: struct.Struct("<IB"),
}


class EnginePhase(IntEnum):
    ENCODING = 1
    SAMPLING = 2
    DECODING = 3
    UPSCALING = 4


class Outcome(IntEnum):
    DRAWN = 0
    FAILED = 1
    STOPPED = 2


@dataclass(frozen=True)
class Hello:
    version: int


@dataclass(frozen=True)
class PhaseBegun:
    picture: int
    phase: EnginePhase


@dataclass(frozen=True)
class StepDone:
    """`step` of `steps` is done; 0 when sampling begins. seconds: the duration of this step."""

    picture: int
    step: int
    steps: int
    seconds: float


@dataclass(frozen=True)
class Loaded:
    """Tensors and bytes read so far by a load, and the seconds since its start."""

    tensors: int
    of_tensors: int
    bytes_read: int
    seconds: float


@dataclass(frozen=True)
class TileDone:
    picture: int
    tile: int
    tiles: int
    seconds: float


@dataclass(frozen=True)
class PreviewMade:
    picture: int
    preview: Preview


@dataclass(frozen=True)
class PictureEnded:
    picture: int
    outcome: Outcome


Message = Hello | PhaseBegun | StepDone | Loaded | TileDone | PreviewMade | PictureEnded


class Decoder:
    """Decodes bytes from the socket into messages. Keeps less than one frame between two calls."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes. Raises ChannelError; the decoder is unusable after it."""
        self._rest += data
        messages: list[Message] = []
        at = 0
        while len(self._rest) - at >= _HEADER.size:
            length, kind = _HEADER.unpack_from(self._rest, at)
            if length > MAX_PAYLOAD_BYTES:
                raise ChannelError(f"a frame of {length:,} bytes")
            end = at + _HEADER.size + length
            if len(self._rest) < end:
                break
            message = _message(kind, bytes(self._rest[at + _HEADER.size : end]))
            if message is not None:
                messages.append(message)
            at = end
        del self._rest[:at]
        return messages


def _message(kind: int, payload: bytes) -> Message | None:
    """Decode one frame. None: an unknown kind or value, from a later version of the protocol."""
    layout = _LAYOUTS.get(kind)
    if layout is None:
        return None
    if len(payload) < layout.size:
        raise ChannelError(f"a frame of kind {kind} with {len(payload)} bytes")
    fields = layout.unpack_from(payload)
    match kind:
        case FrameKind.HELLO:
            return Hello(*fields)
        case FrameKind.PHASE:
            return PhaseBegun(fields[0], EnginePhase(fields[1])) if fields[1] in set(EnginePhase) else None
        case FrameKind.STEP:
            return StepDone(*fields)
        case FrameKind.LOAD:
            return Loaded(*fields)
        case FrameKind.TILE:
            return TileDone(*fields)
        case FrameKind.PREVIEW:
            return _preview(payload[layout.size :], *fields)
        case _:
            return PictureEnded(fields[0], Outcome(fields[1])) if fields[1] in set(Outcome) else None


def _preview(rgb: bytes, picture: int, step: int, width: int, height: int) -> PreviewMade:
    if not (0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX) or len(rgb) < 3 * width * height:
        raise ChannelError(f"a preview of {width}×{height} px in {len(rgb)} bytes")
    return PreviewMade(picture, Preview(step, width, height, rgb[: 3 * width * height]))


def announcement(picture: int, plan: PreviewPlan | None) -> bytes:
    """A PICTURE frame."""
    payload = struct.pack("<IBI", picture, _MODES[plan.mode if plan else None], plan.every if plan else 0)
    return _HEADER.pack(len(payload), _PICTURE) + payload


def stop_order(picture: int) -> bytes:
    """A STOP frame."""
    payload = struct.pack("<I", picture)
    return _HEADER.pack(len(payload), _STOP) + payload


class Channel:
    """The channel of one engine process. The engine exits when this end is closed, so call `close` after its exit."""

    def __init__(self, on_message: Callable[[Message], None], on_broken: Callable[[str], None]) -> None:
        """on_broken: called once, with a reason, if the received data cannot be decoded; then end the engine."""
        self._on_message, self._on_broken = on_message, on_broken
        self._ours, self._theirs = socket.socketpair()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self.last_frame_at = 0.0  # monotonic

    @property
    def descriptor(self) -> int:
        """The engine's end, for its process to inherit."""
        return self._theirs.fileno()

    async def open(self) -> None:
        """Begin to read; called when the engine's process has inherited its end."""
        self._theirs.close()
        reader, self._writer = await asyncio.open_unix_connection(sock=self._ours)
        self._writer.transport.set_write_buffer_limits(0)  # `drain` returns when the kernel has all data
        self._reading = asyncio.create_task(self._read(reader), name="engine-channel")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        decoder = Decoder()
        try:
            while data := await reader.read(READ_BYTES):
                self.last_frame_at = monotonic()
                for message in decoder.feed(data):
                    if isinstance(message, Hello) and message.version != VERSION:
                        raise ChannelError(f"version {message.version} of the protocol instead of {VERSION}")
                    self._tell(message)
        except ChannelError as wrong:
            self._on_broken(str(wrong))
        except OSError:  # the engine exited without reading all frames
            pass

    def _tell(self, message: Message) -> None:
        try:
            self._on_message(message)
        except Exception:
            log.exception("A listener failed on a message of the engine; the engine still runs.")

    async def announce(self, picture: int, plan: PreviewPlan | None) -> None:
        """Send a picture's number, higher than all before, and its preview plan; call it before the HTTP request."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(announcement(picture, plan))
            with contextlib.suppress(ConnectionError):  # the engine has exited, which EngineLife detects
                await self._writer.drain()

    def stop(self, picture: int) -> bool:
        """Order a stop; False if the channel is closed."""
        if self._writer is None or self._writer.is_closing():
            return False
        self._writer.write(stop_order(picture))
        return True

    async def close(self) -> None:
        """Close both ends. Idempotent."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        self._ours.close()
        self._theirs.close()

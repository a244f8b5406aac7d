"""Parser of sd-server's output: bytes to lines, lines to events, events to the progress of a load.

Pure: no I/O and no clock. Written from the sources of stable-diffusion.cpp as vendored by
stable-diffusion-cpp-python 0.4.7 (src/util.cpp, src/model.cpp, src/stable-diffusion.cpp). Without `-v` the engine never
prints a prompt, so a caller cannot forge these lines. Implausible values are ignored nevertheless.
"""

from __future__ import annotations

import re

from imagegen.engines.tracking import Bar, Mark, Skipped

MAX_LINE_BYTES = 4096  # the engine's own log buffer (LOG_BUFFER_SIZE); the rest of a longer line is dropped
MAX_COUNT = 1_000_000  # a larger "n/m" is not from the engine: models have thousands of tensors

# A progress bar ends with the escape sequence "erase to end of line"; only the last bar ends with a newline.
_LINE_END = re.compile(rb"[\r\n]|\x1b\[K")
_LONGEST_END = 3
_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_BAR = re.compile(r"\|[ =>]{10,200}\| (\d{1,7})/(\d{1,7}) - (\d{1,12}\.\d\d)(it/s|s/it|MB/s|GB/s)$", re.ASCII)
_TAGGED = re.compile(r"^\[(?P<level>DEBUG|INFO |WARN |ERROR)\] (?P<source>[\w.-]+:\d+ +- )?(?P<text>.*)$")
_UNIT_BYTES = {"MB/s": 1024.0**2, "GB/s": 1024.0**3}
_SKIPPED = re.compile(r"(?:EasyCache|UCache|CacheDIT|Spectrum) skipped (\d{1,7})/\d{1,7} steps", re.ASCII)
_MARKS = (
    ("listening on: ", Mark.LISTENING),
    ("generate_image completed", Mark.DRAW_DONE),
    ("generate_image ", Mark.DRAW_BEGUN),
    ("generating image: ", Mark.SAMPLING_BEGUN),
    ("sampling completed", Mark.SAMPLING_DONE),
    ("decoding ", Mark.DECODING),
)


class LineSplitter:
    """Splits bytes from a pipe into printable lines. Keeps at most MAX_LINE_BYTES between two calls."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes, without empty lines; a progress bar is a complete line."""
        *lines, rest = _LINE_END.split(self._rest + data)
        if len(rest) > MAX_LINE_BYTES:  # keep its start, which identifies it, and an incomplete line end
            rest = rest[: MAX_LINE_BYTES - _LONGEST_END] + rest[-_LONGEST_END:]
        self._rest = rest
        return [text for line in lines if (text := _printable(line))]

    def flush(self) -> list[str]:
        """The unfinished last line, when the pipe has closed."""
        line, self._rest = _printable(self._rest), b""
        return [line] if line else []


def _printable(line: bytes) -> str:
    text = _ESCAPE.sub("", line[:MAX_LINE_BYTES].decode("utf-8", "replace"))
    return "".join(character for character in text if character.isprintable()).rstrip()


def parse(line: str) -> Bar | Mark | Skipped | None:
    """The event that a line reports; None for a line without meaning for the service."""
    if bar := _BAR.search(line):
        done, total, unit = int(bar[1]), int(bar[2]), bar[4]
        if not 0 < done <= total <= MAX_COUNT:
            return None
        return Bar(done, total, float(bar[3]) * _UNIT_BYTES[unit] if unit in _UNIT_BYTES else None)
    tagged = _TAGGED.match(line)
    if tagged is None:
        return None
    if tagged["level"] == "ERROR":
        return Mark.TROUBLE
    if skipped := _SKIPPED.match(tagged["text"]):
        return Skipped(int(skipped[1]))
    return next((mark for start, mark in _MARKS if tagged["text"].startswith(start)), None)


def is_complaint(line: str) -> bool:
    """Whether a line from stdout is a warning or an error (every line on stderr is)."""
    return line.startswith(("[ERROR]", "[WARN ]"))


def untagged(line: str) -> str:
    """A line without its level and source position."""
    tagged = _TAGGED.match(line)
    return tagged["text"].strip() if tagged else line.strip()


_OUT_OF_MEMORY = re.compile(
    "|".join(
        (
            r"cudaMalloc failed",  # ggml-cuda.cu, ggml_backend_cuda_buffer_type_alloc_buffer
            r"out of memory",  # cudaGetErrorString, and CUDA_CHECK's abort
            r"bad_alloc",  # libstdc++'s message before SIGABRT; gguf.cpp
            r"CUBLAS_STATUS_ALLOC_FAILED",
            r"ErrorOutOf(?:Device|Host)Memory",  # Vulkan
            r"alloc (?:partial )?(?:runtime )?params backend buffer failed",  # ggml_extend.hpp
            r"alloc compute (?:buffer|graph) failed",  # ggml_extend.hpp
            r"failed to allocate",  # ggml-alloc.c, ggml-backend.cpp, ggml.c
            r"insufficient memory",  # ggml.c, ggml_aligned_malloc
            r"too less memory for conversion",  # model.cpp
        )
    ),
    re.IGNORECASE,
)
_MODEL_MISSING = re.compile(
    r"file .+ not found"  # model.cpp
    r"|failed to open .*No such file or directory"  # gguf.cpp
)


def blame(complaints: str) -> str | None:
    """The job code for the engine's warnings and errors: out_of_vram, model_missing, or None."""
    if _OUT_OF_MEMORY.search(complaints):
        return "out_of_vram"
    return "model_missing" if _MODEL_MISSING.search(complaints) else None


class LoadTracker:
    """Progress of a load. Tensor bars count over all files; a LoRA's own bar may start again from 1.

    The engine prints no bytes, only bytes/s since it began to load tensors. It begins after the last line before the
    first bar. So `bytes_done` is that rate times the time since that line, accurate within the bars' interval of
    200 ms.
    """

    def __init__(self) -> None:
        self.fraction = 0.0
        self.bytes_done: int | None = None
        self._begun_at: float | None = None

    def feed(self, event: Bar | Mark | Skipped | None, now: float) -> Bar | None:
        """The bar, if it shows progress; `now` in seconds of any monotonic clock."""
        if not isinstance(event, Bar) or event.bytes_per_s is None:
            if self.fraction == 0.0:
                self._begun_at = now
            return None
        fraction = event.done / event.total
        if fraction <= self.fraction:
            return None
        self.fraction = fraction
        if self._begun_at is not None:
            self.bytes_done = max(self.bytes_done or 0, int(event.bytes_per_s * (now - self._begun_at)))
        return event

"""Argument types: prompts, input files, output files. Each is checked before a job is submitted."""

from __future__ import annotations

import math
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import click

from imagegen_client import spelling

STANDARD = "-"
"""Means standard input as a prompt, standard output as a file."""
PROMPT_MAX_BYTES = 64 * 1024
PICTURE_MAX_BYTES = 64 * 1024 * 1024
KINDS = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp"}
"""The suffixes of output files and their formats. A name without a suffix means PNG."""


class _Argument(click.ParamType):
    """A parameter type that reports problems as sentences, with exit code 2. `shell_type`: what a shell offers."""

    shell_type = ""

    def __call__(self, value: Any, param: Any = None, ctx: Any = None) -> Any:
        """Where a shell completes the command line, the value as it is: no input is read, and no file is tried."""
        return value if ctx is not None and ctx.resilient_parsing else super().__call__(value, param, ctx)

    def shell_complete(self, _ctx: Any, _param: Any, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type=self.shell_type)] if self.shell_type else []

    def wrong(self, sentence: str, param: Any, ctx: Any) -> NoReturn:
        self.fail(printable(sentence), param, ctx)


class Prompt(_Argument):
    """A prompt, read from standard input for `-`."""

    name = "text"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        if value == STANDARD:
            return self._read(param, ctx)
        if printable(value) != value:
            self.wrong(f"{value!r} is not UTF-8 text.", param, ctx)
        return str(value)

    def _read(self, param: Any, ctx: Any) -> str:
        if sys.stdin is None:
            self.wrong("Standard input is closed: write the prompt to it.", param, ctx)
        if sys.stdin.isatty():
            click.echo("Type the prompt, then Ctrl-D.", err=True)
        try:
            data = sys.stdin.buffer.read(PROMPT_MAX_BYTES + 1)
            if len(data) > PROMPT_MAX_BYTES:
                self.wrong(f"Standard input has more than {PROMPT_MAX_BYTES:,} bytes: it is no prompt.", param, ctx)
            text = data.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            self.wrong("Standard input is not UTF-8 text.", param, ctx)
        except OSError as failure:
            self.wrong(f"Standard input cannot be read: {failure.strerror}.", param, ctx)
        if not text:
            self.wrong("Standard input is empty: write the prompt to it.", param, ctx)
        return text


class LoraChoice(_Argument):
    """A LoRA's name and its strength, `NAME` or `NAME:STRENGTH`, as a request has them."""

    name = "lora"

    def convert(self, value: Any, param: Any, ctx: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        lora, colon, strength = str(value).partition(":")
        try:
            number = float(strength) if colon else 1.0
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.wrong(f"{strength!r} is no strength: write a number, as in {lora}:0.8.", param, ctx)
        return {"name": lora, "strength": number}


class InputFile(_Argument):
    """An existing, readable file. Accepts other spellings of its name."""

    name = shell_type = "file"

    def __init__(self, most_bytes: int = PICTURE_MAX_BYTES) -> None:
        self._most_bytes = most_bytes

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        try:
            path = spelling.existing(str(value))
            found = path.stat()
            if stat.S_ISDIR(found.st_mode):
                self.wrong(f"{str(path)!r} is a folder.", param, ctx)
            if not stat.S_ISREG(found.st_mode):
                self.wrong(f"{str(path)!r} is not an ordinary file.", param, ctx)
            if found.st_size > self._most_bytes:
                self.wrong(f"{str(path)!r} has {found.st_size / 2**20:.0f} MiB: that is too large.", param, ctx)
            path.open("rb").close()
        except spelling.Ambiguous as several:
            self.wrong(str(several), param, ctx)
        except FileNotFoundError:
            self.wrong(f"There is no file {str(value)!r}.", param, ctx)
        except OSError as failure:
            self.wrong(f"{str(value)!r} cannot be read: {failure.strerror}.", param, ctx)
        return path


class OutputFile(_Argument):
    """A writable file with a suffix in KINDS. With `standard` also `-`, unless standard output is a terminal.

    Creates and changes nothing: missing folders are created when the picture is written.
    """

    name = shell_type = "file"

    def __init__(self, standard: bool = False) -> None:
        self._standard = standard

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        path = Path(value)
        if str(value) == STANDARD:
            if not self._standard:
                self.wrong("This command writes its table to standard output: name a file.", param, ctx)
            if sys.stdout is None:
                self.wrong("Standard output is closed.", param, ctx)
            if sys.stdout.isatty():
                self.wrong("Standard output is a terminal, which shows no PNG: redirect it.", param, ctx)
            return path
        if path.suffix and path.suffix.lower() not in KINDS:
            kinds = f"{', '.join(list(KINDS)[:-1])} or {list(KINDS)[-1]}"
            self.wrong(f"{str(path)!r}: {path.suffix!r} cannot be written. The name may end in {kinds}.", param, ctx)
        if (problem := cannot_be_written(path)) is not None:
            self.wrong(problem, param, ctx)
        return path


def cannot_be_written(path: Path) -> str | None:
    """Why the file cannot be written, as a sentence; None if it can. Tries it, and leaves no file behind."""
    try:
        if path.is_dir():
            return f"{str(path)!r} is a folder."
        if path.exists():
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # fails for a pipe without a reader
            return None
    except OSError as failure:
        return f"{str(path)!r} cannot be written: {failure.strerror}."
    return no_new_file_in(path.parent)


def no_new_file_in(folder: Path) -> str | None:
    """Why no file can be created in the folder, which may not exist yet; None if one can."""
    place = folder
    try:
        while not place.exists() and place != place.parent:
            place = place.parent
        if not place.is_dir():
            return f"{str(place)!r} is not a folder."
        tempfile.TemporaryFile(dir=place).close()
    except OSError as failure:
        return f"Nothing can be written in {str(place)!r}: {failure.strerror}."
    return None


def format_of(path: Path) -> str:
    """The format of the file: png, jpg or webp."""
    return KINDS.get(path.suffix.lower(), "png")


def printable(text: str) -> str:
    """The text, with bytes that are not UTF-8 written as `\\xNN`."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")

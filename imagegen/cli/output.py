"""What a command prints on standard output with --json: one document, also when it fails."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(document: Any) -> None:
    """Print a document: a dataclass, or what JSON has."""
    if dataclasses.is_dataclass(document) and not isinstance(document, type):
        document = dataclasses.asdict(document)
    click.echo(_text(document))


def _text(document: Any, indent: int | None = 2) -> str:
    """The JSON. Bytes of a path that is not UTF-8 become escapes, since JSON is UTF-8."""
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(document, indent=indent)
    return text


def print_json_line(document: Any) -> None:
    """Print a document of a stream on a line of its own, at once."""
    click.echo(_text(document, indent=None))


def wants_json(words: Sequence[str]) -> bool:
    """Whether the command line asks for JSON, also if it cannot be used otherwise."""
    options = words[: words.index("--")] if "--" in words else words
    return "--json" in options


def print_error(code: str, detail: str, exit_code: int) -> None:
    """Print why the command failed."""
    print_json({"error": {"code": code, "detail": detail, "exit_code": exit_code}})

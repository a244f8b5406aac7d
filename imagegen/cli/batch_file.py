"""The requests of a batch file: text lines, CSV or JSON Lines. Pure but for reading the file."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
"""The formats by suffix. Another suffix means text."""
MAX_LINES = 100_000
WHOLE = frozenset({"width", "height", "steps", "seed", "n", "preview"})
FRACTIONS = frozenset({"cfg_scale", "lease_s", "strength"})
LISTS = frozenset({"images", "loras"})
OF_EDITS = frozenset({"mask", "fit", "strength"})
SEPARATOR = "|"
"""Between the entries of a list in a CSV cell."""
BOOLEANS = {"true": True, "false": False}


class BadLine(Exception):
    """A line is no request. The message is a sentence."""

    def __init__(self, number: int, sentence: str) -> None:
        super().__init__(f"Line {number}: {sentence}")


@dataclass(frozen=True)
class Line:
    """A request of the file. number: of its line in the file; n: of the request, from 1."""

    number: int
    n: int
    request: dict[str, Any]


def format_of(path: Path) -> str:
    """The format that the file's suffix means."""
    return FORMATS.get(path.suffix.lower(), "text")


def read(data: bytes, kind: str) -> list[Line]:
    """The requests, in order. Raises BadLine for the first line that is none."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as odd:
        raise BadLine(data[: odd.start].count(b"\n") + 1, "it is not UTF-8 text.") from None
    lines: list[Line] = []
    for number, request in _READERS[kind](text):
        if len(lines) == MAX_LINES:
            raise BadLine(number, f"a batch has at most {MAX_LINES:,} requests.")
        if not request.get("images") and (of_edits := sorted(OF_EDITS & request.keys())):
            raise BadLine(number, f"{of_edits[0]} is of an edit: name its pictures, as images.")
        if not isinstance(request.get("prompt"), str) or not request["prompt"].strip():
            raise BadLine(number, "it has no prompt.")
        lines.append(Line(number, len(lines) + 1, request))
    if not lines:
        raise BadLine(1, "the file has no requests.")
    return lines


def _text(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """A prompt a line, except empty lines and those that begin with #."""
    for number, line in enumerate(text.split("\n"), 1):
        if (prompt := line.strip()) and not prompt.startswith("#"):
            yield number, {"prompt": prompt}


def _jsonl(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """A JSON object a line, or a prompt as a JSON string."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            request = json.loads(line, object_pairs_hook=_once, parse_constant=_no_constant)
        except (ValueError, RecursionError) as wrong:
            raise BadLine(number, f"it is not JSON: {wrong}.") from None
        if isinstance(request, str):
            request = {"prompt": request}
        if not isinstance(request, dict):
            raise BadLine(number, 'it is no JSON object, such as {"prompt": "a red circle"}.')
        yield number, request


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} is there more than once")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _csv(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """A row a request; the first row has the names of the fields. An empty cell leaves its field out."""
    head = text.partition("\n")[0]
    delimiter = next((mark for mark in ",;\t" if mark in head), ",")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    while True:
        begins = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as wrong:
            raise BadLine(begins, f"it is not CSV: {wrong}.") from None
        if not any(cell.strip() for cell in row):
            continue
        if not names:
            names = _header([cell.strip() for cell in row], begins)
            continue
        if len(row) > len(names):
            raise BadLine(begins, f"it has {len(row)} cells, and the first row names {len(names)} fields.")
        cells = {name: cell.strip() for name, cell in zip(names, row, strict=False) if cell.strip()}
        yield begins, {name: _value(name, cell) for name, cell in cells.items()}


def _header(names: list[str], number: int) -> list[str]:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice or "prompt" not in names or "" in names:
        why = f"it names {twice[0]!r} more than once" if twice else "it does not name the field prompt"
        raise BadLine(
            number, f"the first row has the names of the fields, and {why if '' not in names else 'one is empty'}."
        )
    return names


def _value(name: str, cell: str) -> Any:
    """A cell as JSON has it. What is no number stays text, which the service refuses with a sentence."""
    if name in WHOLE or name in FRACTIONS:
        for number in (int, float) if name in FRACTIONS else (int,):
            try:
                return number(cell)
            except ValueError:
                continue
        return cell
    if name == "loras":
        return [_lora(one.strip()) for one in cell.split(SEPARATOR)]
    if name in LISTS:
        return [one.strip() for one in cell.split(SEPARATOR)]
    return BOOLEANS.get(cell.lower(), cell) if name == "draft" else cell


def _lora(text: str) -> dict[str, Any]:
    """NAME or NAME:STRENGTH, as `imagegen draw --lora` takes it."""
    name, colon, strength = text.partition(":")
    try:
        return {"name": name, "strength": float(strength)} if colon else {"name": name}
    except ValueError:
        return {"name": name, "strength": strength}


_READERS: dict[str, Callable[[str], Iterator[tuple[int, dict[str, Any]]]]] = {
    "text": _text,
    "csv": _csv,
    "jsonl": _jsonl,
}

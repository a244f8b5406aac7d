"""The command line run in the process of the tests, which saves its start: output, errors and exit code."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_schemas import COMMANDS
from jsonschema import Draft202012Validator

from imagegen.cli import main

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as the one JSON document that it is."""
        return json.loads(self.out)


class CommandLine:
    """Runs `imagegen …` in a folder."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str], folder: Path) -> None:
        self._patch, self._capture, self.folder = patch, capture, folder

    def __call__(self, *words: str) -> Ran:
        self._patch.chdir(self.folder)
        self._patch.setattr(sys, "argv", ["imagegen", *words])
        self._capture.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        printed = self._capture.readouterr()
        return Ran(code, printed.out, printed.err)


def document_of(command: str, printed: str) -> Any:
    """What a command printed with --json, checked against the schema that docs/cli.md names for it."""
    document = json.loads(printed)
    check_schema(document, COMMANDS[command])
    return document


def check_schema(document: Any, schema: str) -> None:
    """Raises ValidationError."""
    loaded = json.loads((SCHEMAS / f"{schema}.json").read_text())
    Draft202012Validator.check_schema(loaded)
    Draft202012Validator(loaded).validate(document)

"""A finding of the doctor: how bad it is, what is so, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """What a finding means for the service."""

    OK = "ok"  # as it should be
    WARN = "warn"  # it works, and something is not as it should be
    FAIL = "fail"  # it does not work, or will not


@dataclass(frozen=True)
class Finding:
    """check: the name of the check, stable; what: a sentence; do: what to do, empty where nothing is to be done."""

    check: str
    level: Level
    what: str
    do: str = ""


def ok(check: str, what: str) -> Finding:
    return Finding(check, Level.OK, what)


def warn(check: str, what: str, do: str) -> Finding:
    return Finding(check, Level.WARN, what, do)


def fail(check: str, what: str, do: str) -> Finding:
    return Finding(check, Level.FAIL, what, do)

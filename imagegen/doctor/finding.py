"""A finding of the doctor: its level, the observation and the fix."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

BLOCKS_START = "The service does not start until this is fixed."
"""The fix of a finding whose observation already says what to do."""


class Level(StrEnum):
    """Effect of a finding on the service."""

    OK = "ok"  # no problem
    WARN = "warn"  # the service works, with a problem
    FAIL = "fail"  # the service does not work, or will fail


@dataclass(frozen=True)
class Finding:
    """check: the stable name of the check. what: the observation, a sentence. do: the fix, empty if none is needed."""

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

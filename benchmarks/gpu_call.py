"""One call of gpu.py: the results of all calls so far, and the time left in this call."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

UNKNOWN = 1 / 3  # share of a call: the assumed time of a step without a measured or expected time
MARGIN = 1.2


class OutOfTime(Exception):
    """The time of this call is up. Its results are kept."""


@dataclass
class State:
    """The results so far, in a file that is written atomically."""

    path: Path
    data: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, about: dict[str, Any]) -> State:
        """Read the earlier results. Raises SystemExit if they belong to another machine or version."""
        try:
            kept = json.loads(path.read_text())
        except FileNotFoundError:
            kept = {"about": about, "done": {}, "took_s": {}}
        if kept["about"] != about:
            changed = [name for name in about if kept["about"].get(name) != about[name]]
            raise SystemExit(f"{path} was begun with another {', '.join(changed)}: use a new --work folder.")
        return cls(path, kept)

    def done(self, name: str) -> Any:
        return self.data["done"].get(name)

    def took_s(self, kind: str) -> float | None:
        """The longest time of a step of this kind in any call, in seconds; None if there was none."""
        return self.data.get("took_s", {}).get(kind)

    def note_time(self, kind: str, seconds: float) -> None:
        longest = max(seconds, self.took_s(kind) or 0.0)
        self.data.setdefault("took_s", {})[kind] = round(longest, 3)
        self._write()

    def note(self, name: str, result: Any) -> None:
        self.data["done"][name] = result
        self._write()
        print(f"{name}: {json.dumps(result)}", flush=True)

    def _write(self) -> None:
        making = self.path.with_suffix(".making")
        making.write_text(json.dumps(self.data, indent=2))
        making.replace(self.path)


@dataclass
class Call:
    """A call that may take `seconds` from `began` (time.monotonic()). `has_result`: it has measured something.

    expected_s: expected seconds of a kind of step, used until one was measured.
    """

    state: State
    seconds: float
    began: float
    has_result: bool = False
    expected_s: dict[str, float] = field(default_factory=dict)

    @property
    def left_s(self) -> float:
        return self.began + self.seconds - time.monotonic()

    def demand(self, *kinds: str) -> None:
        """Raises OutOfTime unless steps of these kinds, in sequence, are expected to end in time."""
        needed = sum(self._expected_s(kind) for kind in kinds)
        if self.has_result and MARGIN * needed > self.left_s:
            raise OutOfTime

    def _expected_s(self, kind: str) -> float:
        took = self.state.took_s(kind)
        return self.expected_s.get(kind, self.seconds * UNKNOWN) if took is None else took

    def timed(self, kind: str, work: Callable[[], Any]) -> Any:
        """Run a step that each call may have to repeat."""
        began = time.monotonic()
        result = work()
        self.state.note_time(kind, time.monotonic() - began)
        return result

    def unit(self, name: str, kind: str, work: Callable[[], Any]) -> None:
        """Run `work` unless its result is known. Raises OutOfTime if it is not expected to end in time."""
        if self.state.done(name) is not None:
            return
        self.demand(kind)
        result = self.timed(kind, work)
        self.has_result = True
        self.state.note(name, result)

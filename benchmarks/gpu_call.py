"""One call of gpu.py: what all calls have done so far, and whether this one has the time for more."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

UNKNOWN = 1 / 3  # of a call: what a kind of step takes that was not done yet and of which nothing is expected
MARGIN = 1.2


class OutOfTime(Exception):
    """This call's minutes are over; what it has done is kept."""


@dataclass
class State:
    """The results so far, in a file that is whole at any time."""

    path: Path
    data: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, about: dict[str, Any]) -> State:
        """Go on with what is there. SystemExit if that was measured on something else."""
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
        """The longest that a step of this kind took in any call; None if there was none."""
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
    """`seconds`: how long it may take, since `began` of time.monotonic(); `has_result`: it has measured something.

    expected_s: seconds that a kind of step is expected to take before it was done once.
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
        """Raises OutOfTime unless steps of these kinds, one after the other, can be expected to end in time."""
        needed = sum(self._expected_s(kind) for kind in kinds)
        if self.has_result and MARGIN * needed > self.left_s:
            raise OutOfTime

    def _expected_s(self, kind: str) -> float:
        took = self.state.took_s(kind)
        return self.expected_s.get(kind, self.seconds * UNKNOWN) if took is None else took

    def timed(self, kind: str, work: Callable[[], Any]) -> Any:
        """Do a step that each call may have to do again."""
        began = time.monotonic()
        result = work()
        self.state.note_time(kind, time.monotonic() - began)
        return result

    def unit(self, name: str, kind: str, work: Callable[[], Any]) -> None:
        """Do `work` unless it was done before, if it can be expected to end in time."""
        if self.state.done(name) is not None:
            return
        self.demand(kind)
        result = self.timed(kind, work)
        self.has_result = True
        self.state.note(name, result)

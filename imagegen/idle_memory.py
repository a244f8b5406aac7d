"""What the idle policy is told: the gaps, loads and ledger of this service, gathered as the worker lives.

Kept over restarts as one JSON note (`dump`, `restore`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from imagegen.idle import Decision, Evidence, Ledger, after_first_start, after_gap, decide


class IdleMemory:
    """The evidence of one service. Times are monotonic seconds, as the worker passes them."""

    def __init__(self, mode: str, *, min_s: float = 0.0, max_s: float = 3600.0, knob: float = 3.0) -> None:
        self._evidence = Evidence(ended_at=0.0, mode=mode, min_s=min_s, max_s=max_s, knob=knob)
        self._cold_s: dict[str, float] = {}
        self._lived = False  # a first request was served
        self._unloaded_at: float | None = None

    def decide(self, now: float) -> Decision:
        """When to unload, and why; `unload_at` on the caller's clock."""
        return decide(now, self._evidence)

    def arrived(self, now: float, *, cold: bool, warmed: bool = False) -> None:
        """A request is about to be served (or a warm-up begins): the gap since the last one has ended."""
        if warmed:
            return
        if not self._lived:
            self._lived = True
            self._evidence = after_first_start(self._evidence)
            return
        gap = max(0.0, now - self._evidence.ended_at)
        held = gap if self._unloaded_at is None else max(0.0, self._unloaded_at - self._evidence.ended_at)
        self._evidence = after_gap(self._evidence, gap, cold, min(held, gap))

    def served(self, now: float, *, warmed: bool = False) -> None:
        """The engine is idle from now on."""
        self._evidence = replace(self._evidence, ended_at=now, warmed_unused=warmed)
        self._unloaded_at = None

    def loaded(self, model: str, seconds: float) -> None:
        """A cold start of `model` took `seconds`: half of the expectation is the newest one."""
        known = self._cold_s.get(model)
        self._cold_s[model] = seconds if known is None else (known + seconds) / 2
        self._evidence = replace(self._evidence, cold_start_s=self._cold_s[model])

    def unloaded(self, now: float) -> None:
        self._unloaded_at = now

    @property
    def cold_start_s(self) -> float | None:
        return self._evidence.cold_start_s

    @property
    def beta_s(self) -> float:
        return self._evidence.beta_s

    def dump(self) -> dict[str, Any]:
        """What is worth keeping over a restart."""
        return {"cold_s": self._cold_s, "gaps": list(self._evidence.gaps)}

    def restore(self, kept: dict[str, Any], model: str | None) -> None:
        """Take up what was learned; a new life has a ledger of its own."""
        self._cold_s = {str(k): float(v) for k, v in kept.get("cold_s", {}).items()}
        gaps = tuple(float(g) for g in kept.get("gaps", ()))
        self._evidence = replace(
            self._evidence, gaps=gaps, ledger=Ledger(), cold_start_s=self._cold_s.get(model or "")
        )

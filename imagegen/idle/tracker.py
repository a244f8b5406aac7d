"""IdleTracker: collects the evidence for the idle policy from the worker: gaps, loads and the ledger.

Stored over restarts as one JSON note (`dump`, `restore`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

from imagegen.idle.cold_starts import ColdStarts, came_from_disk
from imagegen.idle.policy import Decision, Evidence, after_first_start, after_gap, decide

TYPING_S = 300.0
"""Time for typing a prompt after a warm-up; equal to the time for which a touched page counts as viewed."""


class IdleTracker:
    """The evidence of one service. The worker passes all times, in monotonic seconds."""

    def __init__(
        self, mode: str, *, min_s: float, max_s: float, knob: float, available_bytes: Callable[[], int]
    ) -> None:
        self._evidence = Evidence(ended_at=0.0, mode=mode, min_s=min_s, max_s=max_s, knob=knob)
        self._available_bytes = available_bytes
        self._starts: dict[str, ColdStarts] = {}
        self._model, self._files_bytes = "", 0  # the last loaded model
        self._lived = False  # a first request has arrived
        self._unloaded_at: float | None = None
        self._latest_at: float | None = None  # the latest unload time decided in this gap
        self._by_policy = True
        self._served_at: float | None = None  # end of the last job; warm-ups do not count
        self._typing_until: float | None = None  # a warm-up announced a request that is being typed
        self.present = False  # a user views an open page
        self.gpu_wanted = False  # another program needs GPU memory

    def decide(self, now: float) -> Decision:
        """When to unload, and why; `unload_at` on the caller's clock."""
        until = inf if self.present else self._typing_until  # inf: the policy has its own bound
        decision = decide(now, replace(self._evidence, present_until=until, gpu_wanted=self.gpu_wanted))
        if decision.unload_at is not None:
            self._latest_at = max(self._latest_at or 0.0, decision.unload_at)
        return decision

    def typing(self, now: float) -> None:
        """Note a warm-up of the loaded model: a request for it is expected within TYPING_S."""
        self._typing_until = now + TYPING_S

    def used(self, now: float) -> None:
        """Note that a user keeps a draft: it now counts like an ordinary picture."""
        self._evidence, self._served_at = replace(self._evidence, kept_until=None, warmed_unused=False), now

    def arrived(self, now: float, *, cold: bool, warming: bool = False, draft: bool = False) -> None:
        """Note that a request starts, which ends the gap, and add the gap's cost to the ledger.

        cold: the model must be loaded. Without an unload in the gap, another model is loaded and must be replaced,
        which no time-out avoids. A warm-up (`warming`) has the cost of a request, but its gap is not learned: the
        next request's gap counts from the last request. The same holds for a `draft`, which keeps the model only
        while a user is present.
        """
        kept_until = self._kept_until(now, cold) if draft else None
        self._evidence = replace(self._evidence, kept_until=kept_until)
        unlearned = warming or draft or self._served_at is None
        learned_s = 0.0 if unlearned else max(0.0, now - (self._served_at or 0.0))
        if not self._lived:
            self._lived = True
            return  # `loaded` books the first cold start, when its duration is known
        gap_s = max(0.0, now - self._evidence.ended_at)
        ends = [at for at in (now, self._unloaded_at, self._latest_at) if at is not None]
        held_s = max(0.0, min(ends) - self._evidence.ended_at)  # later, the machine was suspended
        gap_s = gap_s if cold else held_s
        by_policy = self._by_policy and self._unloaded_at is not None
        self._evidence = after_gap(self._evidence, gap_s, cold, held_s, by_policy=by_policy, learned_s=learned_s)

    def _kept_until(self, now: float, cold: bool) -> float:
        """When the model would have been unloaded without this draft and those before it."""
        if cold:
            return now
        if self._evidence.kept_until is not None:
            return self._evidence.kept_until
        unload_at = decide(now, replace(self._evidence, present_until=None)).unload_at
        return inf if unload_at is None else unload_at

    def served(self, now: float, *, warmed: bool = False, loaded: bool = True, draft: bool = False) -> None:
        """Note that a job or warm-up has ended, so that a gap begins.

        The gap's price (`cold_start_s`) is fixed now, from the memory that is available now. warmed: it was a warm-up.
        loaded: the engine still runs.
        """
        kept = self._evidence.kept_until is None  # not a draft, or a draft that was kept while it was drawn
        unused = warmed or (draft and self._evidence.warmed_unused)
        self._evidence = replace(self._evidence, ended_at=now, warmed_unused=unused, cold_start_s=self._expected_s())
        if not warmed and (kept or not draft):
            self._served_at = now
        self._latest_at = None
        self._unloaded_at, self._by_policy = (None, True) if loaded else (now, False)

    def loaded(self, model: str, seconds: float, read_bytes: int, files_bytes: int) -> None:
        """Note a cold start of `model` that took `seconds` and read `read_bytes` from storage."""
        from_disk = came_from_disk(read_bytes, files_bytes)
        starts = self._starts.get(model, ColdStarts()).after_load(seconds, from_disk=from_disk)
        self._starts[model], self._model, self._files_bytes = starts, model, files_bytes
        self._evidence = replace(self._evidence, cold_start_s=self._expected_s())
        if not self._evidence.ledger.j_s:
            self._evidence = after_first_start(self._evidence)

    def unloaded(self, now: float, *, by_policy: bool) -> None:
        """Note that the engine was ended; `by_policy`: by the idle time-out."""
        self._unloaded_at, self._by_policy = now, by_policy

    @property
    def cold_start_s(self) -> float | None:
        return self._evidence.cold_start_s

    @property
    def beta_s(self) -> float:
        return self._evidence.beta_s

    def dump(self) -> dict[str, Any]:
        """The JSON to store over a restart."""
        starts = {model: starts.dump() for model, starts in self._starts.items()}
        return {"evidence": self._evidence.dump(), "cold_starts": starts}

    def restore(self, kept: dict[str, Any], model: str, files_bytes: int) -> None:
        """Load the JSON from `dump`; the ledger starts at zero. `model`, `files_bytes`: the default model."""
        starts = kept.get("cold_starts")
        if isinstance(starts, dict):
            self._starts = {str(name): ColdStarts.restore(one) for name, one in starts.items()}
        self._model, self._files_bytes = model, files_bytes
        self._evidence = replace(self._evidence.restore(kept.get("evidence")), cold_start_s=self._expected_s())

    def _expected_s(self) -> float | None:
        """Expected seconds of the next load of the last model, with the memory that is available now."""
        starts = self._starts.get(self._model, ColdStarts())
        return starts.expected_s(self._files_bytes, self._available_bytes())

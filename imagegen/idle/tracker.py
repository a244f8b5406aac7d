"""What the idle policy is told: the gaps, loads and ledger of this service, gathered as the worker lives.

Kept over restarts as one JSON note (`dump`, `restore`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

from imagegen.idle.cold_starts import ColdStarts, came_from_disk
from imagegen.idle.policy import Decision, Evidence, after_first_start, after_gap, decide

TYPING_S = 300.0
"""So long a prompt may take after a warm-up: as long as a page that was touched counts as looked at."""


class IdleTracker:
    """The evidence of one service. Times are monotonic seconds, as the worker passes them."""

    def __init__(
        self, mode: str, *, min_s: float, max_s: float, knob: float, available_bytes: Callable[[], int]
    ) -> None:
        self._evidence = Evidence(ended_at=0.0, mode=mode, min_s=min_s, max_s=max_s, knob=knob)
        self._available_bytes = available_bytes
        self._starts: dict[str, ColdStarts] = {}
        self._model, self._files_bytes = "", 0  # what was loaded last
        self._lived = False  # a first request was served
        self._unloaded_at: float | None = None
        self._latest_at: float | None = None  # the latest end that was decided on in this gap
        self._by_policy = True
        self._served_at: float | None = None  # end of the last service; a warm-up is none
        self._typing_until: float | None = None  # a request was announced, and is being written
        self.present = False  # somebody has the page open and looks at it
        self.gpu_wanted = False  # another program wants the GPU's memory

    def decide(self, now: float) -> Decision:
        """When to unload, and why; `unload_at` on the caller's clock."""
        until = inf if self.present else self._typing_until  # nobody knows how long: the policy has a bound
        decision = decide(now, replace(self._evidence, present_until=until, gpu_wanted=self.gpu_wanted))
        if decision.unload_at is not None:
            self._latest_at = max(self._latest_at or 0.0, decision.unload_at)
        return decision

    def typing(self, now: float) -> None:
        """Somebody who may soon ask for the loaded model has said so (a warm-up that finds it there)."""
        self._typing_until = now + TYPING_S

    def used(self, now: float) -> None:
        """Somebody keeps a draft: it counts like any other picture from now on."""
        self._evidence, self._served_at = replace(self._evidence, kept_until=None, warmed_unused=False), now

    def arrived(self, now: float, *, cold: bool, warming: bool = False, draft: bool = False) -> None:
        """A request is about to be served: the gap since the last one has ended.

        cold: its model has to be loaded. If nothing was unloaded since, another model is there and has to go, which
        no time-out would have spared anybody. A warm-up (`warming`) costs what a request does and is booked like one,
        but nothing is learned from it: the next request's gap is learned from the last request. The same holds for a
        `draft`, which keeps the model only while somebody is here.
        """
        kept_until = self._kept_until(now, cold) if draft else None
        self._evidence = replace(self._evidence, kept_until=kept_until)
        unlearned = warming or draft or self._served_at is None
        learned_s = 0.0 if unlearned else max(0.0, now - (self._served_at or 0.0))
        if not self._lived:
            self._lived = True
            return  # the first cold start is booked once it is known how long it takes
        gap_s = max(0.0, now - self._evidence.ended_at)
        ends = [at for at in (now, self._unloaded_at, self._latest_at) if at is not None]
        held_s = max(0.0, min(ends) - self._evidence.ended_at)  # beyond what was decided the machine slept
        gap_s = gap_s if cold else held_s
        by_policy = self._by_policy and self._unloaded_at is not None
        self._evidence = after_gap(self._evidence, gap_s, cold, held_s, by_policy=by_policy, learned_s=learned_s)

    def _kept_until(self, now: float, cold: bool) -> float:
        """When the model would have gone without the draft that arrives now, and those before it."""
        if cold:
            return now
        if self._evidence.kept_until is not None:
            return self._evidence.kept_until
        unload_at = decide(now, replace(self._evidence, present_until=None)).unload_at
        return inf if unload_at is None else unload_at

    def served(self, now: float, *, warmed: bool = False, loaded: bool = True, draft: bool = False) -> None:
        """Nothing runs from now on; `warmed`: nobody has used the engine yet; `loaded`: there still is one.

        A gap begins, and has its price for good: whether the files still fit in memory is looked at now.
        """
        kept = self._evidence.kept_until is None  # no draft, or one that somebody kept while it was drawn
        unused = warmed or (draft and self._evidence.warmed_unused)
        self._evidence = replace(self._evidence, ended_at=now, warmed_unused=unused, cold_start_s=self._expected_s())
        if not warmed and (kept or not draft):
            self._served_at = now
        self._latest_at = None
        self._unloaded_at, self._by_policy = (None, True) if loaded else (now, False)

    def loaded(self, model: str, seconds: float, read_bytes: int, files_bytes: int) -> None:
        """A cold start of `model` took `seconds`, for which the engine fetched `read_bytes` from storage."""
        from_disk = came_from_disk(read_bytes, files_bytes)
        starts = self._starts.get(model, ColdStarts()).after_load(seconds, from_disk=from_disk)
        self._starts[model], self._model, self._files_bytes = starts, model, files_bytes
        self._evidence = replace(self._evidence, cold_start_s=self._expected_s())
        if not self._evidence.ledger.j_s:
            self._evidence = after_first_start(self._evidence)

    def unloaded(self, now: float, *, by_policy: bool) -> None:
        """The engine is gone; `by_policy`: because it was idle long enough."""
        self._unloaded_at, self._by_policy = now, by_policy

    @property
    def cold_start_s(self) -> float | None:
        return self._evidence.cold_start_s

    @property
    def beta_s(self) -> float:
        return self._evidence.beta_s

    def dump(self) -> dict[str, Any]:
        """What is worth keeping over a restart."""
        starts = {model: starts.dump() for model, starts in self._starts.items()}
        return {"evidence": self._evidence.dump(), "cold_starts": starts}

    def restore(self, kept: dict[str, Any], model: str, files_bytes: int) -> None:
        """Take up what was learned; a new life has a ledger of its own."""
        starts = kept.get("cold_starts")
        if isinstance(starts, dict):
            self._starts = {str(name): ColdStarts.restore(one) for name, one in starts.items()}
        self._model, self._files_bytes = model, files_bytes
        self._evidence = replace(self._evidence.restore(kept.get("evidence")), cold_start_s=self._expected_s())

    def _expected_s(self) -> float | None:
        """What the next load of the last model will take, with the memory that is free now."""
        starts = self._starts.get(self._model, ColdStarts())
        return starts.expected_s(self._files_bytes, self._available_bytes())

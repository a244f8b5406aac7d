"""IdlePolicy: when an idle model gives its memory back. Pure arithmetic: no I/O and no clock of its own.

The cost of a life is J = idle seconds + beta x cold starts, where beta is the number of idle GPU-seconds
that a cold start is worth: `Evidence.knob` x `Evidence.cold_start_s`. A gap that ends within the time-out tau
costs its own length, a longer one tau + beta; who knew it beforehand would pay min(gap, beta): OPT.

Why J <= 3 OPT after every gap, whatever the gaps. For a given tau the worst gap ends just after it.
- tau in [beta/2, 2 beta] then costs tau + beta <= 3 min(tau, beta), so 3 OPT - J does not fall.
- tau < beta/2 costs tau + beta where OPT pays tau, so 3 OPT - J falls by beta - 2 tau; such a tau is used
  only when 3 OPT - J is at least that much.
Hence 3 OPT - J, which is 2 beta after the life's first cold start (nobody can avoid it: both sides pay),
never falls below 0. Without learning, tau = beta costs at most 2 beta where OPT pays beta: J <= 2 OPT. Each
gap is priced with one beta: `cold_start_s` is set when the gap begins and stays until it has been booked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from imagegen.idle import reason as idle_reason
from imagegen.idle.cold_starts import positive_seconds
from imagegen.idle.gaps import MAX_GAPS, cheapest_timeout_s, likely_gaps

UNKNOWN_COLD_START_S = 60.0
"""Assumed until a load was measured: tens of seconds are usual for 10 to 20 GB of weights."""

ROUNDING = 1e-9
"""Keeps the account's floor on the safe side of the arithmetic's rounding, as a share of beta."""

WARMED_LEAST_S = 60.0
"""A warm-up is given this long for its request, and no more than beta/2: whoever announced one is typing it."""

QUEUED_S = 0.1
"""A shorter gap is that of a request that had been waiting: it says nothing of when people come."""


class Decision(NamedTuple):
    """When to unload (on the clock of `Evidence.ended_at`; None: never), and why, in a sentence."""

    unload_at: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """What this life has cost so far, in idle GPU-seconds: ours, and the least possible."""

    j_s: float = 0.0
    opt_s: float = 0.0

    @property
    def slack_s(self) -> float:
        return 3 * self.opt_s - self.j_s

    def shortest_s(self, beta_s: float) -> float:
        """The shortest time-out the account allows: slack >= beta - 2 tau; at beta/2 none is needed."""
        lacking = beta_s - self.slack_s
        return min(lacking / 2 + ROUNDING * beta_s, beta_s / 2) if lacking > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the policy knows. Times in seconds; `ended_at` and `present_until` on the caller's clock.

    ended_at       end of the last service or warm-up
    mode           `IMAGEGEN_IDLE_TIMEOUT`: auto, never, or seconds; all below only matters for auto
    knob           idle GPU-seconds that one second of waiting is worth
    cold_start_s   what the next cold start will take; None: no load was measured yet
    min_s, max_s   bounds of the operator; they go before everything else, the guarantee included
    gaps           recent gaps, oldest first
    present_until  somebody is here (an open page, a prompt being typed) and will be until then
    warmed_unused  the model was warmed up and nobody has used it: no longer is waited than for a used one, and at
                   most beta/2; WARMED_LEAST_S is waited even if a used one would go sooner
    kept_until     drafts were drawn since the last other picture: when the model would have gone without them. Once
                   nobody is here, no longer is waited than until then, or than the account demands
    gpu_wanted     another program wants the GPU's memory: no longer is waited than the account demands
    """

    ended_at: float
    mode: str = "auto"
    knob: float = 10.0
    cold_start_s: float | None = None
    min_s: float = 0.0
    max_s: float = 3600.0
    gaps: tuple[float, ...] = ()
    ledger: Ledger = Ledger()
    present_until: float | None = None
    warmed_unused: bool = False
    kept_until: float | None = None
    gpu_wanted: bool = False

    @property
    def beta_s(self) -> float:
        """Idle GPU-seconds that the next cold start is worth."""
        return self.knob * (UNKNOWN_COLD_START_S if self.cold_start_s is None else self.cold_start_s)

    @property
    def after_drafts_s(self) -> float:
        """Seconds from `ended_at` for which drafts may keep the model; infinite if there were none."""
        if self.kept_until is None:
            return float("inf")
        here_until = self.ended_at if self.present_until is None else self.present_until
        return max(self.kept_until, here_until) - self.ended_at

    def dump(self) -> dict[str, Any]:
        """As JSON, what is kept over a restart: the gaps. A new life begins with a new ledger."""
        return {"gaps": list(self.gaps)}

    def restore(self, kept: Any) -> Evidence:
        """With what `dump` gave; whatever is not a positive number of seconds is left out."""
        gaps = positive_seconds(kept.get("gaps") if isinstance(kept, dict) else None)
        return replace(self, gaps=gaps[-MAX_GAPS:], ledger=Ledger())


@dataclass(frozen=True, slots=True)
class IdlePolicy:
    """Chooses the time-out. `learning=False`: tau = beta, and only min_s and max_s move it."""

    learning: bool = True

    def decide(self, now: float, evidence: Evidence) -> Decision:
        """When to unload, and why. `now` only serves to say how long that is from now."""
        if evidence.mode == "never":
            return Decision(None, "stays loaded: IMAGEGEN_IDLE_TIMEOUT is never")
        timeout_s, cause = self._timeout(evidence)
        unload_at = evidence.ended_at + timeout_s
        return Decision(unload_at, f"{idle_reason.when(unload_at - now)}: {cause}")

    def timeout_s(self, evidence: Evidence) -> float:
        """Seconds from `ended_at` to the unload; infinite for `never`."""
        return float("inf") if evidence.mode == "never" else self._timeout(evidence)[0]

    def _timeout(self, evidence: Evidence) -> tuple[float, str]:
        """The time-out in seconds, and what it comes from, in words."""
        if evidence.mode != "auto":
            fixed_s, drafts_s = float(evidence.mode), max(0.0, evidence.after_drafts_s)
            if drafts_s < fixed_s:
                return drafts_s, idle_reason.DRAFTS
            return fixed_s, f"IMAGEGEN_IDLE_TIMEOUT is {evidence.mode}"
        wanted_s, cause = self._unbounded(evidence)
        if wanted_s < evidence.min_s:
            return evidence.min_s, f"IMAGEGEN_IDLE_MIN_S is {evidence.min_s:g}"
        if wanted_s > evidence.max_s:
            return evidence.max_s, f"IMAGEGEN_IDLE_MAX_S is {evidence.max_s:g}"
        return wanted_s, f"{idle_reason.load(evidence.cold_start_s, UNKNOWN_COLD_START_S)}, and {cause}"

    def _unbounded(self, evidence: Evidence) -> tuple[float, str]:
        beta_s = evidence.beta_s
        if not self.learning:
            return beta_s, idle_reason.FIXED_BY_LOAD
        points = likely_gaps(evidence.gaps)
        shortest_s = evidence.ledger.shortest_s(beta_s)
        tau_s = cheapest_timeout_s(points, beta_s, shortest_s, 2 * beta_s)
        cause = idle_reason.habit(evidence.gaps, tau_s)
        if 0 < tau_s == shortest_s and evidence.ledger.j_s > 2 * evidence.ledger.opt_s:
            cause = idle_reason.TOO_OFTEN
        if evidence.warmed_unused:
            tau_s = min(max(tau_s, WARMED_LEAST_S), beta_s / 2)
            cause = idle_reason.WARMED_UNUSED
        if (drafts_s := max(shortest_s, evidence.after_drafts_s)) < tau_s:
            tau_s, cause = drafts_s, idle_reason.DRAFTS
        if evidence.gpu_wanted and shortest_s < tau_s:
            tau_s, cause = shortest_s, idle_reason.GPU_WANTED
        if evidence.present_until is not None and not evidence.gpu_wanted:
            stay_s = min(evidence.present_until - evidence.ended_at, tau_s + beta_s, 2 * beta_s)
            if stay_s > tau_s:
                return stay_s, idle_reason.PRESENT
        return tau_s, cause


def after_first_start(evidence: Evidence) -> Evidence:
    """The life's first cold start, booked to both sides; `cold_start_s` as it is known after that start."""
    return replace(evidence, ledger=Ledger(evidence.beta_s, evidence.beta_s))


def after_gap(
    evidence: Evidence,
    gap_s: float,
    was_cold: bool,
    held_s: float | None = None,
    *,
    by_policy: bool = True,
    learned_s: float | None = None,
) -> Evidence:
    """Learn a gap that has ended, and book it.

    evidence   as the gap's time-out was decided with
    gap_s      from the end of service to the next arrival; one below QUEUED_S is not learned
    learned_s  what to learn instead of gap_s: one that a warm-up divided is booked in parts and learned whole;
               0: nothing, because it ended with a warm-up
    was_cold   the engine had been ended before the arrival
    held_s     how much of the gap it had stayed loaded; None: as long as IdlePolicy says
    by_policy  False: it was ended for another reason (by hand, it died, another model was asked for). That
               cold start is booked to both sides, because no time-out avoids it
    """
    beta_s, ledger = evidence.beta_s, evidence.ledger
    if not was_cold:
        held_s = gap_s
    elif held_s is None:
        held_s = min(gap_s, IdlePolicy().timeout_s(evidence))
    start_s = beta_s if was_cold else 0.0
    opt_s = min(gap_s, beta_s) if by_policy else min(held_s, beta_s) + start_s
    ledger = Ledger(ledger.j_s + held_s + start_s, ledger.opt_s + opt_s)
    learned_s = gap_s if learned_s is None else learned_s
    gaps = (*evidence.gaps, learned_s)[-MAX_GAPS:] if learned_s >= QUEUED_S else evidence.gaps
    return replace(evidence, gaps=gaps, ledger=ledger)


def decide(now: float, evidence: Evidence) -> Decision:
    """`IdlePolicy().decide`."""
    return IdlePolicy().decide(now, evidence)

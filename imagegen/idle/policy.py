"""IdlePolicy: when to unload an idle model. Pure arithmetic: no I/O and no clock of its own.

The cost since the service's start is J = idle seconds + beta x cold starts. Beta is the number of idle GPU-seconds
that a cold start is worth: `Evidence.knob` x `Evidence.cold_start_s`. A gap that ends within the time-out tau costs
its own length, a longer one tau + beta. OPT is the cost of a policy that knows each gap in advance: min(gap, beta).

Proof that J <= 3 OPT after every gap, for any gaps. For a given tau the worst gap ends just after tau.
- tau in [beta/2, 2 beta] then costs tau + beta <= 3 min(tau, beta), so 3 OPT - J does not fall.
- tau < beta/2 costs tau + beta where OPT pays tau, so 3 OPT - J falls by beta - 2 tau; such a tau is used
  only when 3 OPT - J is at least that much.
The first cold start is unavoidable, so J and OPT both count it: 3 OPT - J is then 2 beta. Hence it never falls
below 0. Without learning, tau = beta costs at most 2 beta where OPT pays beta: J <= 2 OPT. Each gap is priced with
one beta: `cold_start_s` is set when the gap begins and does not change until the gap is booked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from imagegen.idle import reason as idle_reason
from imagegen.idle.cold_starts import positive_seconds
from imagegen.idle.gaps import MAX_GAPS, cheapest_timeout_s, likely_gaps

UNKNOWN_COLD_START_S = 60.0
"""Assumed until a load has been measured: tens of seconds are usual for 10 to 20 GB of weights."""

ROUNDING = 1e-9
"""Margin against rounding errors in `Ledger.shortest_s`, as a share of beta."""

WARMED_LEAST_S = 60.0
"""How long to keep a warmed-up model for its request, at most beta/2: the user is still typing the prompt."""

QUEUED_S = 0.1
"""A shorter gap belongs to a request that was queued, so it is not learned: it has no information on arrivals."""


class Decision(NamedTuple):
    """When to unload (on the clock of `Evidence.ended_at`; None: never), and the reason as a sentence."""

    unload_at: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """The cost since the service's start, in idle GPU-seconds: actual (`j_s`) and least possible (`opt_s`)."""

    j_s: float = 0.0
    opt_s: float = 0.0

    @property
    def slack_s(self) -> float:
        return 3 * self.opt_s - self.j_s

    def shortest_s(self, beta_s: float) -> float:
        """The shortest time-out tau that the bound J <= 3 OPT allows: slack >= beta - 2 tau, at most beta/2."""
        lacking = beta_s - self.slack_s
        return min(lacking / 2 + ROUNDING * beta_s, beta_s / 2) if lacking > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """The input of the policy. Times in seconds; `ended_at`, `present_until` and `kept_until` on the caller's clock.

    ended_at       end of the last job or warm-up
    mode           `IMAGEGEN_IDLE_TIMEOUT`: auto, never, or seconds (then only kept_until and present_until matter)
    knob           idle GPU-seconds that one second of waiting is worth
    cold_start_s   expected time of the next cold start; None: no load has been measured
    min_s, max_s   the operator's bounds; they override everything else, including J <= 3 OPT
    gaps           recent gaps, oldest first
    present_until  until when a user is present (an open page, a prompt being typed); None: no user is
    warmed_unused  the model was warmed up and not used since: the time-out is that of a used model, but at least
                   WARMED_LEAST_S, and always at most beta/2
    kept_until     when the model would have been unloaded without the drafts drawn since the last ordinary picture;
                   None: no drafts. Without a present user, it is unloaded then, but not before `Ledger.shortest_s`
    gpu_wanted     another program needs GPU memory: the time-out is at most `Ledger.shortest_s`
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
        """The cost of the next cold start in idle GPU-seconds."""
        return self.knob * (UNKNOWN_COLD_START_S if self.cold_start_s is None else self.cold_start_s)

    @property
    def after_drafts_s(self) -> float:
        """Seconds from `ended_at` for which drafts may keep the model loaded; infinite without drafts."""
        if self.kept_until is None:
            return float("inf")
        here_until = self.ended_at if self.present_until is None else self.present_until
        return max(self.kept_until, here_until) - self.ended_at

    def dump(self) -> dict[str, Any]:
        """The JSON to store over a restart: the gaps, but not the ledger."""
        return {"gaps": list(self.gaps)}

    def restore(self, kept: Any) -> Evidence:
        """A copy with the gaps from `dump` and a new ledger. Ignores values that are not positive numbers."""
        gaps = positive_seconds(kept.get("gaps") if isinstance(kept, dict) else None)
        return replace(self, gaps=gaps[-MAX_GAPS:], ledger=Ledger())


@dataclass(frozen=True, slots=True)
class IdlePolicy:
    """Chooses the time-out. `learning=False`: tau = beta, within min_s and max_s."""

    learning: bool = True

    def decide(self, now: float, evidence: Evidence) -> Decision:
        """When to unload, and why. `now` is used only for the remaining time in the reason."""
        if evidence.mode == "never":
            return Decision(None, "stays loaded: IMAGEGEN_IDLE_TIMEOUT is never")
        timeout_s, cause = self._timeout(evidence)
        unload_at = evidence.ended_at + timeout_s
        return Decision(unload_at, f"{idle_reason.when(unload_at - now)}: {cause}")

    def timeout_s(self, evidence: Evidence) -> float:
        """Seconds from `ended_at` to the unload; infinite for `never`."""
        return float("inf") if evidence.mode == "never" else self._timeout(evidence)[0]

    def _timeout(self, evidence: Evidence) -> tuple[float, str]:
        """The time-out in seconds, and its reason in words."""
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
    """Add the first cold start to both sides of the ledger. `cold_start_s` includes that start's measurement."""
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
    """Learn a gap that has ended, and add its cost to the ledger.

    evidence   the evidence with which the gap's time-out was decided
    gap_s      seconds from the end of the last job to the next arrival; a gap below QUEUED_S is not learned
    learned_s  the gap to learn in place of gap_s: a gap that a warm-up divided is booked in parts, but learned as a
               whole; 0: learn nothing, because the gap ended with a warm-up
    was_cold   the engine had been ended before the arrival
    held_s     seconds of the gap for which the model stayed loaded; None: the time-out of IdlePolicy
    by_policy  False: the engine ended for another reason (by hand, it died, another model was needed). That cold
               start is added to both sides, because no time-out avoids it
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

"""IdlePolicy: when an idle model gives its memory back. Pure arithmetic: no I/O and no clock of its own.

The cost of a gap between two requests is J = idle seconds + beta x cold starts, where beta is the number of
idle GPU-seconds that one cold start is worth (`Evidence.knob` x `Evidence.cold_start_s`). Who knew the gap
would pay min(gap, beta): OPT. A time-out tau pays the gap if it ends by tau, else tau + beta.

Why J <= 3 OPT after every gap, whatever the gaps: the worst gap for tau ends just after it.
- tau in [beta/2, 2 beta] pays tau + beta <= 3 min(tau, beta): the slack 3 OPT - J does not fall.
- tau < beta/2 pays tau + beta where OPT pays tau: the slack falls by beta - 2 tau at most, and such a tau is
  used only when the slack is at least that.
So the slack, which starts at 0 or more, stays there. Without learning tau = beta pays at most 2 beta where OPT
pays beta, so J <= 2 OPT. Each gap is priced with the beta its time-out was chosen with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

UNKNOWN_COLD_START_S = 60.0
"""Assumed until a load was measured: tens of seconds are usual for 10 to 20 GB of weights."""

MAX_GAPS = 200
"""Gaps remembered; older ones say little about how the service is used now."""

WINDOW = 50


class Decision(NamedTuple):
    """When to unload (on the clock of `Evidence.ended_at`; None: never), and why, in a sentence."""

    unload_at: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """What this life has cost so far, in idle GPU-seconds: ours (`j_s`) and the offline optimum's (`opt_s`)."""

    j_s: float = 0.0
    opt_s: float = 0.0

    @property
    def slack_s(self) -> float:
        return 3 * self.opt_s - self.j_s


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the policy knows. Times in seconds; `ended_at` and `present_until` on the caller's clock."""

    ended_at: float
    mode: str = "auto"
    knob: float = 3.0
    cold_start_s: float | None = None
    min_s: float = 0.0
    max_s: float = 3600.0
    gaps: tuple[float, ...] = ()
    ledger: Ledger = Ledger()
    present_until: float | None = None
    warmed_unused: bool = False
    gpu_wanted: bool = False

    @property
    def beta_s(self) -> float:
        """Idle GPU-seconds that the next cold start is worth."""
        return self.knob * (UNKNOWN_COLD_START_S if self.cold_start_s is None else self.cold_start_s)


@dataclass(frozen=True, slots=True)
class IdlePolicy:
    """Chooses the time-out; `learning=False` always takes tau = beta."""

    learning: bool = True

    def decide(self, now: float, evidence: Evidence) -> Decision:
        """When to unload, and why. `now` is only needed to say how long that is from now."""
        if evidence.mode == "never":
            return Decision(None, "stays loaded: IMAGEGEN_IDLE_TIMEOUT is never")
        unload_at = evidence.ended_at + self.timeout_s(evidence)
        when = f"unloads in {unload_at - now:.0f} s" if unload_at > now else "unloads now"
        if evidence.mode != "auto":
            return Decision(unload_at, f"{when}: IMAGEGEN_IDLE_TIMEOUT is {evidence.mode}")
        if evidence.cold_start_s is None:
            return Decision(unload_at, f"{when}: no load was measured here yet, a minute is assumed")
        return Decision(unload_at, f"{when}: loading takes {evidence.cold_start_s:.0f} s here")

    def timeout_s(self, evidence: Evidence) -> float:
        """Seconds from `ended_at` to the unload; infinite for `never`."""
        if evidence.mode == "never":
            return float("inf")
        if evidence.mode != "auto":
            return float(evidence.mode)
        beta = evidence.beta_s
        tau = learned_timeout_s(evidence.gaps, beta) if self.learning else beta
        lowest = (beta - evidence.ledger.slack_s) / 2  # the account's: slack >= beta - 2 tau
        if evidence.gpu_wanted:
            tau = 0.0
        elif evidence.warmed_unused:
            tau = min(tau, beta / 2)
        tau = max(tau, min(lowest, beta / 2))
        if evidence.present_until is not None:
            stay = min(evidence.present_until - evidence.ended_at, tau + beta, 2 * beta)
            tau = max(tau, stay)
        return min(max(tau, evidence.min_s), evidence.max_s)


def learned_timeout_s(gaps: tuple[float, ...], beta: float) -> float:
    """The time-out in [0, 2 beta] that would have cost least over the recent gaps; beta without any."""
    recent = sorted(gaps[-WINDOW:])
    if not recent:
        return beta
    best, best_cost = 0.0, beta * len(recent)
    held = 0.0
    for count, gap in enumerate(recent, start=1):
        held += gap
        cost = held + (len(recent) - count) * (gap + beta)
        if gap <= 2 * beta and cost < best_cost:
            best, best_cost = gap, cost
    return best


def after_first_start(evidence: Evidence) -> Evidence:
    """A life begins with a cold start that nobody can avoid: booked to both sides."""
    beta = evidence.beta_s
    return replace(evidence, ledger=Ledger(beta, beta))


def after_gap(evidence: Evidence, gap_s: float, was_cold: bool, held_s: float | None = None) -> Evidence:
    """Learn the gap that ended and book its cost.

    `held_s`: seconds of the gap that the model stayed loaded; None: as long as the policy had said.
    """
    beta = evidence.beta_s
    if held_s is None:
        held_s = min(gap_s, decide_timeout_s(evidence)) if was_cold else gap_s
    ledger = Ledger(
        evidence.ledger.j_s + held_s + (beta if was_cold else 0.0),
        evidence.ledger.opt_s + min(gap_s, beta),
    )
    return replace(evidence, gaps=(*evidence.gaps, gap_s)[-MAX_GAPS:], ledger=ledger)


def decide_timeout_s(evidence: Evidence) -> float:
    return IdlePolicy().timeout_s(evidence)


def decide(now: float, evidence: Evidence) -> Decision:
    """`IdlePolicy().decide`."""
    return IdlePolicy().decide(now, evidence)

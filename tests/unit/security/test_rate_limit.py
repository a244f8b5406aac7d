"""The rate limit of a token: a bucket that fills again."""

from __future__ import annotations

from imagegen.security.rate_limit import RateLimit


def test_a_bucket_fills_again_and_holds_no_more_than_its_burst() -> None:
    now = 0.0
    rate = RateLimit(0.5, clock=lambda: now)  # a burst of 5
    assert [rate.take("a") for _ in range(7)] == [0, 0, 0, 0, 0, 2, 2]
    assert rate.take("b") == 0
    now = 2.0
    assert [rate.take("a"), rate.take("a")] == [0, 2]
    now = 1000.0
    assert [rate.take("a") for _ in range(6)] == [0, 0, 0, 0, 0, 2]

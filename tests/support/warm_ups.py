"""Warm-ups of a model, within the rate that the service allows."""

from __future__ import annotations

import httpx
from served import Service, until


def until_warmed(service: Service, model: str | None = None, status: int = 202) -> httpx.Response:
    """The answer to a warm-up, as soon as the rate allows one; it has this status."""
    params, answers = {} if model is None else {"model": model}, []

    def allowed() -> bool:
        answers.append(service.http.post("/api/warm", params=params))
        return answers[-1].status_code != 429

    until(allowed, "it may be asked for", 60, 0.5)
    assert answers[-1].status_code == status, answers[-1].text
    return answers[-1]

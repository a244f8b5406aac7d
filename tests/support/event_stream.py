"""Read the service's event streams in tests."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from served import Service


@dataclass
class Event:
    name: str
    id: int | None
    data: dict[str, Any]


@contextlib.contextmanager
def listening(service: Service, path: str, **headers: str) -> Iterator[Iterator[Event]]:
    """The events of a stream as they arrive. A read fails after 40 s without data."""
    with (
        httpx.Client(base_url=service.url, timeout=40, trust_env=False) as http,
        http.stream("GET", path, headers=headers) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events(answer.iter_lines())


def events(lines: Iterator[str]) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            number = int(fields["id"]) if "id" in fields else None
            yield Event(fields["event"], number, json.loads(fields["data"]))
            fields = {}

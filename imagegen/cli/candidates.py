"""What the shell offers for an argument: models, LoRAs and jobs of the running service.

A service has ANSWER_S to answer. Without an answer there are the packaged models, or nothing. Nothing is printed,
started or written.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from imagegen.cli.plain import one_line

ANSWER_S = 1.0
ENTRIES = Path(__file__).parents[1] / "models" / "entries"
WITHOUT_FILES = "lanczos"
"""The upscaler that needs no files."""
UPSCALER = 'adapter = "esrgan"'
"""Marks the entry of an upscaler."""
JOBS = 50


def models(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The names of models."""
    answer = _answer(context, "/api/models")
    return _matching(_titles(answer.get("items")) or _packaged(), incomplete)


def several_models(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The last of several names of models, separated by commas."""
    before, comma, last = incomplete.rpartition(",")
    found = models(context, parameter, last)
    return [CompletionItem(f"{before}{comma}{item.value}", help=item.help) for item in found]


def catalog_models(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The names of this machine's packaged models and upscalers. Asks no service."""
    return _matching(_packaged(upscalers=True), incomplete)


def upscalers(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The names of upscalers."""
    found = _titles(_answer(context, "/api/models").get("upscalers"))
    return _matching(found | {WITHOUT_FILES: "Lanczos"}, incomplete)


def loras(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The names of LoRAs."""
    return _matching({str(one["name"]): "" for one in _answer(context, "/api/loras").get("items", [])}, incomplete)


def jobs(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The ids of the newest jobs."""
    return _matching(_jobs(context), incomplete)


def unfinished_jobs(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The ids of the jobs that can be cancelled."""
    return _matching(_jobs(context, {"queued", "running"}), incomplete)


def jobs_or_files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The ids of the newest jobs, where they match; else files."""
    return jobs(context, parameter, incomplete) or [CompletionItem(incomplete, type="file")]


def _jobs(context: click.Context, states: set[str] | None = None) -> dict[str, str]:
    items = _answer(context, f"/api/jobs?limit={JOBS}").get("items", [])
    return {
        str(job["job_id"]): f"{job['status']}: {one_line(job['prompt'], 50)}"
        for job in items
        if states is None or job["status"] in states
    }


def _titles(items: Any) -> dict[str, str]:
    return {str(one["name"]): str(one["title"]) for one in items or []}


def _packaged(upscalers: bool = False) -> dict[str, str]:
    """The packaged models, by the names of their files."""
    files = sorted(ENTRIES.glob("*.toml"))
    return {file.stem: "" for file in files if upscalers or UPSCALER not in file.read_text(encoding="utf-8")}


def _matching(found: dict[str, str], incomplete: str) -> list[CompletionItem[str]]:
    return [CompletionItem(name, help=text or None) for name, text in found.items() if name.startswith(incomplete)]


def _answer(context: click.Context, path: str) -> dict[str, Any]:
    """The service's answer; empty without one in time. The thread that waits longer ends with the process."""
    heard: list[dict[str, Any]] = []

    def ask() -> None:
        from imagegen.cli.client import service_of

        try:
            heard.append(service_of(context.params.get("url")).json("GET", path))
        except Exception:  # whatever it is, a shell that completes a word has no place for it
            return

    waiting = threading.Thread(target=ask, daemon=True)
    waiting.start()
    waiting.join(ANSWER_S)
    return heard[0] if heard else {}

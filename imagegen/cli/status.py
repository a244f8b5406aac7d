"""`imagegen status | warm | unload`: the model's lifecycle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from imagegen.cli import candidates
from imagegen.cli.client import service_of, url_option
from imagegen_client.progress import duration

json_option = click.option("--json", "as_json", is_flag=True, help="Print the service's own JSON.")


@click.command()
@json_option
@url_option
def status(as_json: bool, url: str | None) -> None:
    """Show the state of the service."""
    _show(service_of(url).json("GET", "/api/status"), as_json)


@click.command()
@click.option(
    "--model", shell_complete=candidates.models, help="See `imagegen models list`; default: the service's own."
)
@json_option
@url_option
def warm(model: str | None, as_json: bool, url: str | None) -> None:
    """Load a model now, so that the next picture is ready sooner."""
    state = service_of(url).json("POST", "/api/warm", params={} if model is None else {"model": model})
    if not as_json:
        click.echo(_warmed(state, model or state["model"]["default"]))
    _show(state, as_json)


def _warmed(state: dict[str, Any], model: str) -> str:
    """What the service does after it accepted a warm-up of `model`."""
    engine = state["engine"]
    if engine["model"] != model or engine["state"] in {"unloading", "cold", "failed"}:
        return f"{model} is loaded after the jobs that came first."
    return f"{model} is loading." if engine["state"] == "loading" else f"{model} is already loaded."


@click.command()
@json_option
@url_option
def unload(as_json: bool, url: str | None) -> None:
    """End the idle engine, or a warm-up, and free its memory now."""
    _show(service_of(url).json("POST", "/api/unload"), as_json)


def _show(state: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(state, indent=2))
    else:
        show_status(state)


def show_status(state: dict[str, Any]) -> None:
    """Print `/api/status` as text."""
    for line in status_lines(state):
        click.echo(line)


def status_lines(state: dict[str, Any]) -> Iterator[str]:
    """`/api/status` as lines of text."""
    engine, queue, card = state["engine"], state["queue"], state["gpu"]
    yield f"model   {engine['model'] or state['model']['default']}"
    if limits := state["model"].get("limits"):
        yield f"        {state['model']['default']}: {limits}"
    yield f"engine  {engine['state']} since {engine['since']}"
    if engine["load"] and engine["load"]["waits_for"]:
        yield f"        {engine['load']['waits_for']}"
    elif engine["load"]:
        eta = engine["load"]["eta_s"]
        left = "" if eta is None else f", {duration(eta)} left"
        yield f"        {engine['load']['fraction']:.0%} loaded{left}"
    if memory := engine.get("memory"):
        yield f"memory  {memory['mode']}: {memory['reason']}"
    if fetch := engine["fetch"]:
        yield f"fetch   {fetch['model']}: {fetch['detail']}"
    if engine["error"]:
        yield f"        {engine['error']['detail']}"
    if state["idle"]["reason"]:
        yield f"        {state['idle']['reason']}"
    yield f"queue   {queue['running']} running, {queue['queued']} waiting"
    if card:
        gb = 1e9
        free = "an unknown part" if card["free_bytes"] is None else f"{card['free_bytes'] / gb:.1f}"
        yield f"gpu     {card['name']} ({card['backend']}): {free} of {card['total_bytes'] / gb:.1f} GB free"
    else:
        yield "gpu     none found"
    for warning in state.get("warnings", []):
        yield f"warning {warning['detail']}"

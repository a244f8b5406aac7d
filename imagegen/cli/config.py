"""`imagegen config`: the settings, and where each comes from."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from imagegen.config_file import ADDRESS, PREFIX, SECRETS, VARIABLE
from imagegen.settings import Loaded, Settings

HIDDEN = "(hidden)"


@click.group()
def config() -> None:
    """Show the settings of the service and of the command line."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(as_json: bool) -> None:
    """Show each setting's value and where it comes from: default, file or environment. Secrets are hidden."""
    loaded = Loaded.now()
    entries = [_entry(loaded, name) for name in [*Settings.model_fields, *sorted(ADDRESS)]]
    path = None if loaded.file.path is None else str(loaded.file.path)
    if as_json:
        click.echo(json.dumps({"file": path, "settings": entries}, indent=2, ensure_ascii=False))
        return
    click.echo(f"settings file: {path or f'none (docs/settings.md says where it may be; {VARIABLE} names one)'}")
    rows = [(entry["name"], _shown(entry), _origin(entry)) for entry in entries]
    width = max(len(name) for name, _, _ in rows)
    origins = max(len(origin) for _, _, origin in rows)
    for name, value, origin in rows:
        click.echo(f"{name:<{width}}  {origin:<{origins}}  {value}")


def _entry(loaded: Loaded, name: str) -> dict[str, Any]:
    """A setting as `--json` has it. A secret has no value there."""
    source = loaded.source(name)
    value = getattr(loaded.settings, name) if name in Settings.model_fields else loaded.file.get(name) or None
    secret = name in SECRETS and value is not None
    return {
        "name": name,
        "variable": PREFIX + name.upper(),
        "value": None if secret else os.fspath(value) if isinstance(value, os.PathLike) else value,
        "source": source,
        "line": loaded.file.lines[name] if source == "file" else None,
        "hidden": secret,
    }


def _shown(entry: dict[str, Any]) -> str:
    """The value as the file or the variable has it."""
    value = entry["value"]
    if value is None or value == "":
        return HIDDEN if entry["hidden"] else "(unset)"
    if isinstance(value, bool):
        return "1" if value else "0"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _origin(entry: dict[str, Any]) -> str:
    return f"file, line {entry['line']}" if entry["source"] == "file" else str(entry["source"])

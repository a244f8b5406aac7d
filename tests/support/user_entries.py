"""Entries of a user in the models folder, and the empty files of an entry."""

from __future__ import annotations

from pathlib import Path

from imagegen.models.entry import Entry
from imagegen.settings import Settings

COMPLETE = """
title = "Mine"
description = "A model of my own."
size_multiple = 64
[licence]
name = "mine"
[capabilities]
draw = true
edit = false
[defaults]
steps = 20
cfg_scale = { value = 7.0, min = 3, max = 12.0 }
width = 512
height = 512
sampler = "euler_a"
[[files]]
role = "model"
flag = "--model"
file = "mine.safetensors"
"""
"""The TOML of an entry of the user, complete and without sources."""


def user_file(settings: Settings, name: str, text: str) -> Path:
    """Write a file into the models folder."""
    path = settings.models_dir / name
    path.write_text(text, encoding="utf-8")
    return path


def fill(entry: Entry, settings: Settings) -> None:
    """Put an empty file wherever one that is not optional belongs."""
    for file in entry.missing(settings):
        path = entry.path_of(file, settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name.replace("*", "x")).touch()

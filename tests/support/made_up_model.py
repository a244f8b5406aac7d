"""A model on a hub of the tests: its entry, its bytes, and the places of its file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from imagegen.settings import Settings

WEIGHTS = hashlib.shake_256(b"weights").digest(300_000)
ENTRY = """
title = "Made up"
description = "A model on a hub of the tests."
size_multiple = 64
[licence]
name = "Apache-2.0"
commercial = true
[capabilities]
draw = true
edit = false
[defaults]
steps = 1
cfg_scale = 1
width = 64
height = 64
sampler = "euler"
[[files]]
role = "model"
flag = "--model"
file = "model.gguf"
repo = "owner/model"
path = "model.gguf"
"""

VISION = """
[[files]]
role = "llm_vision"
flag = "--llm_vision"
file = "vision.gguf"
repo = "owner/vision"
optional = true
"""
"""An optional file, for the end of `ENTRY`."""


def folder(settings: Settings) -> Path:
    return settings.models_dir / "made-up"


def part(settings: Settings) -> Path:
    return folder(settings) / f".model.gguf.{hashlib.sha256(WEIGHTS).hexdigest()[:16]}.part"

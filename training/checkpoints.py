"""Checkpoints: written whole or not at all, every few minutes, with the states of chance in them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

EVERY_S = 240.0


def save(path: str | Path, kept: dict[str, Any]) -> None:
    torch.save(kept, str(path) + ".part")
    Path(str(path) + ".part").replace(path)


def chance(rng: np.random.Generator) -> dict[str, Any]:
    """Where numpy's and torch's random numbers are."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"numpy": rng.bit_generator.state, "torch": torch.get_rng_state(), "cuda": cuda}


def go_on(rng: np.random.Generator, kept: dict[str, Any]) -> None:
    """Random numbers as they would have come after `chance`."""
    rng.bit_generator.state = kept["numpy"]
    torch.set_rng_state(kept["torch"].cpu())
    if torch.cuda.is_available() and kept["cuda"]:
        torch.cuda.set_rng_state_all([state.cpu() for state in kept["cuda"]])


class Clock:
    """Calls `save` when so many seconds have gone since it last did."""

    def __init__(self, save: Callable[[], None], every: float = EVERY_S) -> None:
        self._save, self._every, self._last = save, every, time.monotonic()

    def tick(self) -> None:
        if time.monotonic() - self._last > self._every:
            self._save()
            self._last = time.monotonic()

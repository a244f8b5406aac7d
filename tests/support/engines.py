"""The engines for fault tests, each with its tiny model and pictures that take long enough to be interrupted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

Fields = dict[str, Any]


@dataclass(frozen=True)
class Engine:
    """model: its name. long: a picture of some seconds on one thread, long enough to be interrupted; endless: the
    longest possible one. decoding: a picture with an observable decoding phase, if any. main_file: a glob of the file
    without which the model is not installed; weights: a glob of the transformer's. breath_s: approximate seconds of a
    start."""

    model: str
    long: Fields
    endless: Fields
    decoding: Fields | None
    main_file: str
    weights: str
    breath_s: float

    def __str__(self) -> str:
        return self.model


SDCPP = Engine(
    "tiny",
    long={"width": 128, "height": 128, "steps": 40},
    endless={"width": 256, "height": 256, "steps": 100, "n": 4},
    decoding={"width": 256, "height": 256, "steps": 1},  # decodes for seconds
    main_file="dit*",
    weights="dit*",
    breath_s=0.4,
)
GLM = Engine(
    "glm-tiny",
    long={"width": 512, "height": 512, "steps": 100},
    endless={"width": 512, "height": 512, "steps": 100, "n": 4},
    decoding=None,
    main_file="model_index.json",
    weights="transformer/*.safetensors",
    breath_s=5,
)

first_engine = pytest.mark.parametrize("drawer", [SDCPP], indirect=True, ids=str)
"""For tests of code that is not engine-specific, or that the second engine cannot run.

Do not combine it with a plain argument in one parametrize: pytest then gives the engine and its fixtures function
scope, and starts a service for each test. Do not list the second engine alone: pytest identifies parameters by their
place in the list. Both rules also apply to `second_engine_long`.
"""
second_engine_long = pytest.mark.parametrize(
    "drawer", [SDCPP, pytest.param(GLM, marks=pytest.mark.long)], indirect=True, ids=str
)
"""For tests of the worker's code, which is the same for both engines. The second one runs in `make test-long` only."""

"""The engines, each with its tiny model and pictures that take long enough to be hit: what fault tests run on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

Fields = dict[str, Any]


@dataclass(frozen=True)
class Engine:
    """model: its name. long: a picture of some seconds on one thread, long enough to be hit while it is drawn; endless:
    the longest there is. decoding: a picture that is decoded long enough to be seen, where there is one. main_file: a
    pattern of the file without which there is no model; weights: of the transformer's. breath_s: about what a start
    takes."""

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
    long={"width": 128, "height": 128, "steps": 20},
    endless={"width": 256, "height": 256, "steps": 100},
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
"""Nothing of an engine's own is in it, or the second engine cannot be hit there: once is enough.

Never in one parametrize with a plain argument: pytest then gives the engine, and what is made for it, the scope of a
function, and starts a service for each test. Nor with the second engine alone: pytest tells parameters apart by their
place in the list. The same holds for the next one.
"""
second_engine_long = pytest.mark.parametrize(
    "drawer", [SDCPP, pytest.param(GLM, marks=pytest.mark.long)], indirect=True, ids=str
)
"""On the second engine only `make test-long` runs it: the code that it checks is the worker's, the same for both."""

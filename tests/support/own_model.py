"""A copy of a tiny model whose files a test may damage."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class OwnModel:
    """changes: arguments of `make_adapter`. weights: a file that the load reads; errors name it `called`. needed: a
    file without which the engine is not started; errors name it `needed_called`."""

    changes: dict[str, Any]
    weights: Path
    called: str
    needed: Path
    needed_called: str


def of_sd_server(argv: list[str], folder: Path) -> OwnModel:
    """A copy of the model that these engine flags name."""
    folder.mkdir()
    files = [Path(word) for word in argv if word.startswith("/")]
    own = [str(shutil.copy(word, folder)) if Path(word) in files else word for word in argv]
    weights, needed = (Path(own[own.index(flag) + 1]) for flag in ("--diffusion-model", "--llm"))
    return OwnModel({"model_argv": own}, weights, weights.name, needed, needed.name)


def of_glm(model: Path, folder: Path) -> OwnModel:
    """A copy of the repository in `model`."""
    shutil.copytree(model, folder)
    weights, needed = (next((folder / part).glob("*.safetensors")) for part in ("transformer", "vae"))
    return OwnModel({"folder": folder}, weights, "transformer: ", needed, "weights of vae")

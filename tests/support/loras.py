"""LoRAs for tests: valid and invalid safetensors files for the tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

MATRIX, INNER, OUTER = "model.diffusion_model.single_blocks.0.linear1", 128, 9 * 128
"""A matrix of the tiny model's transformer, and its dimensions."""
Tensors = dict[str, np.ndarray]


def pair(matrix: str = MATRIX, inner: int = INNER, outer: int = OUTER, ranks: tuple[int, int] = (4, 4)) -> Tensors:
    """The two halves of a LoRA on one matrix. They match if their ranks are equal."""
    rng = np.random.default_rng(1)
    down, up = rng.standard_normal((ranks[0], inner)), rng.standard_normal((outer, ranks[1]))
    return {f"{matrix}.lora_down.weight": (down / 2).astype("<f2"), f"{matrix}.lora_up.weight": (up / 2).astype("<f2")}


def safetensors(tensors: Tensors, metadata: dict[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file with these tensors."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    end = 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F16", "shape": tensor.shape, "data_offsets": [end, end + tensor.nbytes]}
        end += tensor.nbytes
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + b"".join(t.tobytes() for t in tensors.values())


def put(home: Path, name: str, lora: bytes | None = None) -> Path:
    """Put a LoRA for the tiny model, or these bytes, into the folder that requests name LoRAs of."""
    file = home / "loras" / f"{name}.safetensors"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(safetensors(pair()) if lora is None else lora)
    return file


def add_entry(models: Path, name: str, lora: bytes) -> None:
    """Add a catalog entry for the tiny model with this LoRA."""
    (models / f"{name}.toml").write_text('base = "tiny"\n[[files]]\nrole = "lora"\nfile = "some.safetensors"\n')
    (models / name).mkdir()
    (models / name / "some.safetensors").write_bytes(lora)

"""Writes the upscaler's checkpoint as a safetensors file that the engine loads as an ESRGAN model.

python training/export_upscaler.py UPSCALER.pt UPSCALER.safetensors

Weights in half precision, as the engine computes with them; biases in single precision.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from upscaler import BLOCKS, Upscaler

MAX_BYTES = 3_000_000


def packed(state: dict[str, Tensor]) -> bytes:
    """The file of these weights: exactly those of an Upscaler."""
    Upscaler(BLOCKS).load_state_dict(state)
    header, parts, end = {}, [], 0
    for name, tensor in state.items():
        kind, dtype = ("F16", "<f2") if name.endswith("weight") else ("F32", "<f4")
        part = tensor.detach().float().cpu().numpy().astype(dtype)
        if not np.isfinite(part).all():
            raise ValueError(f"{name} has values that {kind} does not hold")
        header[name] = {"dtype": kind, "shape": list(part.shape), "data_offsets": [end, end + part.nbytes]}
        parts.append(part.tobytes())
        end += part.nbytes
    told = json.dumps(header).encode()
    told += b" " * (-len(told) % 8)
    return len(told).to_bytes(8, "little") + told + b"".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("upscaler", help="a checkpoint with `net`")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    file = packed(torch.load(options.upscaler, map_location="cpu")["net"])
    if len(file) > MAX_BYTES:
        raise SystemExit(f"{len(file):,} bytes: more than the {MAX_BYTES:,} that may be committed")
    options.out.write_bytes(file)
    print(f"{options.out}: {len(file):,} bytes")


if __name__ == "__main__":
    main()

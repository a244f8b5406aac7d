"""Checks whether a LoRA fits a model, from the shapes of both. Pure.

The engine checks nothing: it aborts at a matrix of another size, and silently repeats one that covers a part of a fused
matrix. Written from lora.hpp of the pinned engine, for LoRAs that are applied at runtime.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from imagegen.engines.safetensors import Tensor, by
from imagegen.engines.sdcpp.tensor_names import (
    AUTOENCODERS,
    CLIP_PREFIXES,
    PREFIXES,
    Family,
    engine_name,
    family_of,
    lora_name,
)

FLOATS = frozenset({"F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2"})
NUMBERS = FLOATS | {"I32", "I64"}
"""The types that the engine reads. It skips U8, and reads no file with another type."""
MOST_DIMS = 5
ROLES = PREFIXES.keys() | CLIP_PREFIXES.keys()
"""The roles of the files whose matrices a LoRA may change: all but autoencoders."""
_PART_OF_FUSED = re.compile(r"(?P<matrix>.+\.(?:weight|bias))\.(?P<index>\d{1,3})")
_LYCORIS = ("hada_", "lokr_")
_FUSED_CLIP = "cond_stage_model.1.transformer.text_model.encoder.layers"
_CLIP_PARTS = {
    f"self_attn.{one}_proj.{kind}": f"self_attn.in_proj.{kind}{index}"
    for one, index in (("q", ""), ("k", ".1"), ("v", ".2"))
    for kind in ("weight", "bias")
}


class Misfit(Exception):
    """The LoRA cannot be used with the model.

    another_model: the LoRA was made for another model, and the message says how that shows. Else the engine cannot
    apply LoRAs of its kind, and the message is the end of a sentence that begins with the LoRA's name.
    """

    def __init__(self, detail: str, *, another_model: bool) -> None:
        super().__init__(detail)
        self.another_model = another_model


@dataclass(frozen=True)
class Weights:
    """A model's matrices by the engine's names; a matrix that the file has in parts is one."""

    family: Family
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, files: Iterable[tuple[str, Mapping[str, tuple[int, ...]]]]) -> Weights | None:
        """The matrices of a model's files, each given with its role. None: the model's family is unknown here."""
        by_role = dict(files)
        clips = {role: shapes for role, shapes in by_role.items() if role in CLIP_PREFIXES}
        named = {
            name if name.startswith(PREFIXES[role]) else PREFIXES[role] + name: shape
            for role, shapes in by_role.items()
            if role in PREFIXES
            for name, shape in shapes.items()
        }
        family = family_of(named)
        if family is None:
            return None
        for role, shapes in clips.items():
            prefix = CLIP_PREFIXES[role][0 if family.is_unet else 1]
            named |= {name if name.startswith(prefix) else prefix + name: shape for name, shape in shapes.items()}
        return cls(family, _joined({engine_name(name, family): shape for name, shape in named.items()}))


def _joined(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        part = _PART_OF_FUSED.fullmatch(name)
        whole = part["matrix"] if part else name
        other = found.get(whole)
        found[whole] = shape if other is None else (other[0] + shape[0], *shape[1:])
    return found


Parts = dict[str, Tensor]  # by `lora_up`, `lora_down`, `alpha`, …


def check(lora: Mapping[str, Tensor], weights: Weights) -> int:
    """The number of the LoRA's tensors that the engine applies to the model, at least 1. Raises Misfit."""
    matrices, applied = _by_matrix(lora, weights), 0
    for matrix, parts in matrices.items():
        shape = weights.shapes.get(matrix)
        if shape is not None:
            applied += _applied(matrix, shape, parts)
    if not applied:
        detail = f"none of its {len(lora)} tensors belongs to a matrix of this one"
        raise Misfit(detail, another_model=True)
    return applied


def _by_matrix(lora: Mapping[str, Tensor], weights: Weights) -> Mapping[str, Mapping[int, Parts]]:
    """The LoRA's tensors by the model's matrix, and by the number of the part of a fused matrix."""
    found: defaultdict[str, defaultdict[int, Parts]] = defaultdict(lambda: defaultdict(dict))
    fused_clip = f"{_FUSED_CLIP}.0.self_attn.in_proj.weight" in weights.shapes
    for name, tensor in lora.items():
        if tensor.dtype == "U8":
            continue
        if tensor.dtype not in NUMBERS or len(tensor.shape) > MOST_DIMS:
            raise Misfit(f"has a tensor of {tensor.dtype} numbers that the engine does not read", another_model=False)
        named = lora_name(name, weights.family)
        if named.startswith(AUTOENCODERS):
            raise Misfit("changes the autoencoder, which is not supported", another_model=False)
        if fused_clip and _FUSED_CLIP in named:
            for old, new in _CLIP_PARTS.items():
                named = named.replace(old, new, 1)
        matrix, _, part = named.rpartition(".")
        fused = _PART_OF_FUSED.fullmatch(matrix)
        matrix, index = (fused["matrix"], int(fused["index"])) if fused else (matrix, 0)
        if part in found[matrix][index]:
            raise Misfit(f"gives {matrix} twice", another_model=False)
        found[matrix][index][part] = tensor
    return found


def _applied(matrix: str, shape: tuple[int, ...], parts: Mapping[int, Parts]) -> int:
    """The number of tensors applied to this matrix of the model. Raises Misfit."""
    for one in parts.values():
        if any(part.startswith(_LYCORIS) for part in one) or "lora_mid" in one:
            detail = "is a LyCORIS file (LoHa, LoKr or Tucker), and only plain LoRAs are supported"
            raise Misfit(detail, another_model=False)
        for part in ("alpha", "scale"):
            if part in one and prod(one[part].shape) != 1:
                raise Misfit(f"has an {part} of {matrix} that is no single number", another_model=False)
        if any(tensor.dtype not in FLOATS or 0 in tensor.shape for part, tensor in one.items() if part in _MATRICES):
            raise Misfit(f"has a matrix of {matrix} without numbers in it", another_model=False)
    pairs = [parts[index] for index in _first(parts, "lora_up", "lora_down")]
    differences = [parts[index]["diff"].shape for index in _first(parts, "diff")]
    if pairs:
        _check_pairs(matrix, shape, pairs)
    if differences and sum(map(prod, differences)) != prod(shape):
        raise _other_size(matrix, shape, differences[0])
    return sum(len({"lora_up", "lora_down", "alpha", "scale"} & one.keys()) for one in pairs) + len(differences)


_MATRICES = frozenset({"lora_up", "lora_down", "diff"})


def _first(parts: Mapping[int, Parts], *needed: str) -> list[int]:
    """The parts of a fused matrix that the engine applies: from the first on, up to the first that is incomplete."""
    found: list[int] = []
    while len(found) in parts and all(one in parts[len(found)] for one in needed):
        found.append(len(found))
    return found


def _check_pairs(matrix: str, shape: tuple[int, ...], pairs: list[Parts]) -> None:
    rows = 0
    for one in pairs:
        down, up = one["lora_down"].shape, one["lora_up"].shape
        rank = up[1] if len(up) > 1 else 0
        ones = (1,) * (len(shape) - 2)
        if len(shape) not in {2, 4} or down != (rank, *shape[1:]) or up != (up[0], rank, *ones):
            raise _other_size(matrix, shape, (up[0], *down[1:]))
        rows += up[0]
    if rows == shape[0]:
        return
    if len(pairs) == 1 and rows > shape[0]:
        raise _other_size(matrix, shape, (rows, *shape[1:]))
    raise Misfit(
        f"changes {rows} of the {shape[0]} rows of {matrix}: the engine can only change all of them, so a LoRA for a "
        "part is not supported",
        another_model=False,
    )


def _other_size(matrix: str, shape: tuple[int, ...], given: tuple[int, ...]) -> Misfit:
    detail = f"its {matrix} is {by(given)}, and this model's is {by(shape)}"
    return Misfit(detail, another_model=True)

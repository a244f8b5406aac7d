"""Resolves a job's parameters: the caller's values, else the catalog entry's defaults. Pure, except for random seeds.

The functions append to `warnings` where a job differs from its request.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from imagegen.admission.sizes import Sizes, reduced, shaped
from imagegen.admission.validation import check_aspect, short
from imagegen.images.references import Reference
from imagegen.models.entry import Entry
from imagegen.models.entry_tables import Sourced
from imagegen.requests import EditRequest, GenerateRequest
from imagegen.schemas import SEED_MAX, Params, Speed, StoredImage, Warn
from imagegen.settings import Settings


def resolve(
    request: GenerateRequest,
    entry: Entry,
    references: Sequence[StoredImage | Reference],
    warnings: list[Warn],
    caps: Settings,
) -> Params:
    """Resolve all parameters: the caller's values, else the catalog's (D-02, BS-04).

    Appends to `warnings`. Raises Refused 422 `size_out_of_range` for an edit's aspect ratio.
    """
    d = entry.defaults
    width, height = _size(request, entry, references, warnings, caps.max_dimension)
    if references:
        check_aspect(entry, width, height)
    steps = _chosen("steps", request.steps, d.steps, entry, warnings)
    cfg = _chosen("cfg_scale", request.cfg_scale, d.cfg_scale, entry, warnings)
    return Params(
        width=width,
        height=height,
        steps=min(int(steps), caps.max_steps),
        cfg_scale=float(cfg),
        sampler=request.sampler or str(d.sampler.value),
        scheduler=None if d.scheduler is None else str(d.scheduler.value),
        seed=secrets.randbelow(SEED_MAX + 1) if request.seed is None else request.seed,
        seed_given=request.seed is not None,
        n=request.n,
        negative=request.negative if request.negative and request.negative.strip() else "",
        speed=_speed(request, entry, int(steps), warnings),
        background=request.background or "opaque",
        fit=request.fit if isinstance(request, EditRequest) else None,
        strength=request.strength if isinstance(request, EditRequest) else None,
    )


def _size(
    request: GenerateRequest,
    entry: Entry,
    references: Sequence[StoredImage | Reference],
    warnings: list[Warn],
    max_dimension: int,
) -> tuple[int, int]:
    sizes = Sizes.of(entry, max_dimension)
    usual = int(entry.defaults.width.value), int(entry.defaults.height.value)
    asked = request.width or usual[0], request.height or usual[1]
    first = _gives_shape(request, references)
    if first is None:
        size = sizes.up(*asked)
    else:
        area_px = usual[0] * usual[1]
        size = shaped(first.width, first.height, request.width, request.height, sizes, area_px)
        asked = request.width or size[0], request.height or size[1]
        if not sizes.keep_shape(first.width, first.height, *size):
            warnings.append(_shape_not_kept(entry, first, size, sizes))
    if size != asked:
        rounded = f"{asked[0]}x{asked[1]} became {size[0]}x{size[1]}"
        detail = f"{entry.name} draws sides that are multiples of {entry.size_multiple} px: {rounded}."
        warnings.append(Warn(code="size_rounded", detail=detail))
    return size


def reduce_size(request: GenerateRequest, entry: Entry, warnings: list[Warn], max_dimension: int) -> GenerateRequest:
    """Replace the request's size with one that the model draws. Appends a warning if the size changes."""
    sizes, asked = Sizes.of(entry, max_dimension), (request.width, request.height)
    if any(side is not None and side < 1 for side in asked):
        return request  # validation refuses it later
    size = reduced(*asked, sizes)
    if size != asked:
        now = f"{_sides_in_words(*asked)} became {_sides_in_words(*size)}"
        warnings.append(Warn(code="size_reduced", detail=f"{entry.name} draws {sizes}: {now}."))
    return request.model_copy(update={"width": size[0], "height": size[1]})


def _gives_shape(
    request: GenerateRequest, references: Sequence[StoredImage | Reference]
) -> StoredImage | Reference | None:
    """The picture that determines the edit's shape; None if the request does."""
    if not isinstance(request, EditRequest) or (request.width and request.height):
        return None
    one_side = request.width is not None or request.height is not None
    return None if one_side and request.fit != "contain" else references[0]


def _shape_not_kept(entry: Entry, first: StoredImage | Reference, size: tuple[int, int], sizes: Sizes) -> Warn:
    return Warn(
        code="shape_not_kept",
        detail=f"The picture is {first.width}x{first.height}, and {entry.name} draws {sizes}: "
        f"{size[0]}x{size[1]} is drawn, which is another shape. Crop the picture, or choose how it is fitted (fit).",
    )


def _sides_in_words(width: int | None, height: int | None) -> str:
    return "x".join("auto" if side is None else short(side) for side in (width, height))


def _chosen(name: str, asked: float | None, default: Sourced, entry: Entry, warnings: list[Warn]) -> float:
    """The caller's value, with a warning if it is outside the catalog's range; else the catalog's default."""
    if asked is None:
        return float(default.value)
    low, high = default.min, default.max
    if (low is not None and asked < float(low)) or (high is not None and asked > float(high)):
        detail = (
            f"{name} {asked:g} is outside {low} to {high}, the range known to work with {entry.name} "
            f"({default.source}). Its default is {default.value}."
        )
        warnings.append(Warn(code="outside_range", detail=detail))
    return asked


def _speed(request: GenerateRequest, entry: Entry, steps: int, warnings: list[Warn]) -> Speed:
    """`fast` if requested and there are enough steps to skip some, else `quality`. Warns if there are too few steps."""
    if request.speed != "fast" or entry.fast is None or entry.fast.min_steps is None:
        return "quality"
    if steps < entry.fast.min_steps:
        detail = f"Every step is computed: fast leaves steps out from {entry.fast.min_steps} on, and this has {steps}."
        warnings.append(Warn(code="speed_without_effect", detail=detail))
        return "quality"
    return "fast"

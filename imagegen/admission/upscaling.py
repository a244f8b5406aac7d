"""Chooses how a picture is enlarged, and checks the size of the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from imagegen.images.pixels import MAX_SIDE_PX
from imagegen.images.references import Reference
from imagegen.models.catalog import Catalog, unknown_model
from imagegen.models.weights import Upscaler
from imagegen.schemas import Method, Refused, StoredImage, Warn
from imagegen.settings import Settings

LANCZOS = "lanczos"
RECOMMENDED = "realesrgan-x4plus"


class UpscalerChecks(Protocol):
    """Checks of an upscaler on this machine. See `worker.model_files.ModelFiles`."""

    def unobtainable_upscaler(self, upscaler: Upscaler) -> str | None:
        """Why an upscaler cannot run; None if no reason is known. Blocks."""

    def no_upscaling(self) -> str | None:
        """Why no upscaler can run on this machine; None if one can. Blocks."""


@dataclass(frozen=True)
class Chosen:
    """The upscaler of a job: its name and method, and what its owner should know."""

    name: str
    method: Method
    warnings: tuple[Warn, ...] = ()


def choose_upscaler(asked: str | None, catalog: Catalog, settings: Settings, checks: UpscalerChecks) -> Chosen:
    """The upscaler `asked`; without one the recommended or else the first one installed, at last Lanczos' filter.

    Blocks. Raises Refused 422 `unknown_model`, `model_missing`.
    """
    if asked == LANCZOS:
        return Chosen(LANCZOS, "lanczos")
    if asked is not None:
        upscaler = catalog.upscaler(asked)
        if upscaler is None:
            raise unknown_model(asked, [LANCZOS, *(one.name for one in catalog.upscalers())], "upscaler")
        if (lacking := checks.unobtainable_upscaler(upscaler)) is not None:
            raise Refused(422, "model_missing", lacking)
        return Chosen(upscaler.name, "esrgan")
    installed = installed_upscalers(catalog, settings)
    lacking = checks.no_upscaling() if installed else f"Install an upscaler: imagegen models fetch {RECOMMENDED}"
    if lacking is None:
        return Chosen(RECOMMENDED if RECOMMENDED in installed else installed[0], "esrgan")
    detail = f"The picture is enlarged by Lanczos' filter, which adds no detail. {lacking}"
    return Chosen(LANCZOS, "lanczos", (Warn(code="enlarged_by_lanczos", detail=detail),))


def installed_upscalers(catalog: Catalog, settings: Settings) -> list[str]:
    """The names of the upscalers whose file is here, without those that a script makes for tests."""
    return [one.name for one in catalog.upscalers() if one.made_by is None and one.installed(settings)]


def check_upscaled_size(source: StoredImage | Reference, factor: int, max_px: int) -> None:
    """Refuse a result larger than the operator allows, or than a file can hold. Raises Refused 422."""
    width, height = source.width * factor, source.height * factor
    if width * height > max_px or max(width, height) > MAX_SIDE_PX:
        advice = "Ask for the factor 2, or send a smaller picture." if factor > 2 else "Send a smaller picture."
        detail = (
            f"The picture has {source.width}x{source.height} pixels and would have {width}x{height}; at most {max_px} "
            f"in all are made (IMAGEGEN_MAX_UPSCALED_PX), and {MAX_SIDE_PX} on a side. {advice}"
        )
        raise Refused(422, "size_out_of_range", detail, param="factor")

"""How a picture is enlarged, and how large it may become."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from imagegen.admission.upscaling import check_upscaled_size, choose_upscaler
from imagegen.models.catalog import Catalog
from imagegen.schemas import Refused
from imagegen.settings import Settings

FETCH = "imagegen models fetch realesrgan-x4plus"


class Checks:
    """A machine whose engine cannot enlarge for the reason `engine`, and which lacks `file`."""

    def __init__(self, engine: str | None = None, file: str | None = None) -> None:
        self._engine, self._file = engine, file

    def no_upscaling(self) -> str | None:
        return self._engine

    def unobtainable_upscaler(self, _upscaler: Any) -> str | None:
        return self._engine or self._file


def install(settings: Settings, *names: str) -> None:
    for name in names:
        upscaler = Catalog.load(settings).upscaler(name)
        assert upscaler is not None
        path = upscaler.network(settings)
        path.parent.mkdir(parents=True)
        path.touch()


@pytest.mark.parametrize(
    ("installed", "asked", "checks", "chosen", "says"),
    [
        ([], None, Checks(), ("lanczos", "lanczos"), f"adds no detail. Install an upscaler: {FETCH}"),
        ([], "lanczos", Checks(engine="no engine"), ("lanczos", "lanczos"), None),
        ([], "upscaler-tiny", Checks(), ("upscaler-tiny", "esrgan"), None),
        (["realesrgan-x4plus-anime"], None, Checks(), ("realesrgan-x4plus-anime", "esrgan"), None),
        (["realesrgan-x4plus-anime", "realesrgan-x4plus"], None, Checks(), ("realesrgan-x4plus", "esrgan"), None),
        (["realesrgan-x4plus"], None, Checks(engine="Build it."), ("lanczos", "lanczos"), "no detail. Build it."),
    ],
)
def test_the_upscaler_of_a_request(
    tmp_path: Path, installed: list[str], asked: str | None, checks: Checks, chosen: tuple[str, str], says: str | None
) -> None:
    settings = Settings(home=tmp_path)
    install(settings, *installed)
    found = choose_upscaler(asked, Catalog.load(settings), settings, checks)
    assert (found.name, found.method) == chosen
    assert [one.code for one in found.warnings] == ([] if says is None else ["enlarged_by_lanczos"])
    assert says is None or found.warnings[0].detail.endswith(says)


@pytest.mark.parametrize(
    ("asked", "checks", "code", "says"),
    [
        ("tiny", Checks(), "unknown_model", "no upscaler 'tiny'. There are: lanczos, realesrgan-x4plus,"),
        ("realesrgan-x4plus", Checks(file="Fetch it."), "model_missing", "Fetch it."),
        ("upscaler-tiny", Checks(engine="Build it."), "model_missing", "Build it."),
    ],
)
def test_an_upscaler_that_cannot_run_is_refused(
    tmp_path: Path, asked: str, checks: Checks, code: str, says: str
) -> None:
    settings = Settings(home=tmp_path)
    with pytest.raises(Refused, match=says) as caught:
        choose_upscaler(asked, Catalog.load(settings), settings, checks)
    assert (caught.value.status, caught.value.code) == (422, code)


@pytest.mark.parametrize(
    ("size", "factor", "says"),
    [
        ((100, 50), 2, None),
        ((101, 50), 2, "Send a smaller picture"),
        ((51, 50), 4, "Ask for the factor 2, or"),
        ((8192, 1), 2, "16383 on a side"),
    ],
)
def test_the_size_of_the_result_is_bounded(size: tuple[int, int], factor: int, says: str | None) -> None:
    source: Any = SimpleNamespace(width=size[0], height=size[1])
    limit_px = 40_000 if max(size) > 1000 else 20_000
    if says is None:
        check_upscaled_size(source, factor, limit_px)
        return
    with pytest.raises(Refused, match=says) as caught:
        check_upscaled_size(source, factor, limit_px)
    assert (caught.value.status, caught.value.code) == (422, "size_out_of_range")

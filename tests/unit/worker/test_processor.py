"""The draw request of a job, by the policy in force when it was submitted, and the metadata of its picture."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
from PIL import Image

from imagegen import __version__
from imagegen.engines.base import EngineError
from imagegen.images.cutout import REMOVED
from imagegen.images.png import AI_COMMENT, AI_SOURCE_TYPE, XMP_KEYWORD, BrokenPng
from imagegen.images.png_texts import texts
from imagegen.images.provenance.reader import Reader
from imagegen.images.provenance.report import judge
from imagegen.images.provenance.signer import Signer
from imagegen.images.store import ImageStore
from imagegen.models.catalog import Catalog
from imagegen.models.loras.folder import LoraFolder
from imagegen.prompts.guardrails import PROMPT_JOIN, Guardrails
from imagegen.schemas import EngineTexts, Job, Kind, Params, Policy, Refused, Status, StoredImage, Warn
from imagegen.settings import Settings
from imagegen.worker.processor import ImageProcessor

STORED = EngineTexts(prompt="a red circle, plainly", negative="clowns")
COMPOSED_ANEW = EngineTexts(prompt=f"a red circle{PROMPT_JOIN}Kein Text.", negative="spiders")


@pytest.mark.parametrize(
    ("stored", "expected"),
    [(STORED, STORED), (None, COMPOSED_ANEW)],
    ids=["stored with the job", "accepted by a version that stored none"],
)
def test_another_policy_file_does_not_change_a_job_that_was_accepted(
    tmp_path: Path, stored: EngineTexts | None, expected: EngineTexts
) -> None:
    job = Job(
        id="a" * 32, seq=1, revision=1, kind=Kind.GENERATE, status=Status.RUNNING, model="tiny", prompt="a red circle",
        params=Params(width=64, height=64, steps=2, cfg_scale=2.0, sampler="euler", seed=1),
        policy=Policy(negative="applied"), engine_texts=stored, created_at=1.0,
    )  # fmt: skip
    no_store: ImageStore = SimpleNamespace()  # type: ignore[assignment]  # the job has no reference
    settings = Settings(home=tmp_path)
    other_policy = Guardrails("spiders", "Kein Text.", "other.toml")
    processor = ImageProcessor(no_store, other_policy, Catalog.load(settings), LoraFolder(settings), settings)
    request = asyncio.run(processor.preprocess(job, seed=1))
    assert EngineTexts(prompt=request.prompt, negative=request.negative) == expected


@pytest.mark.parametrize(
    ("said", "prompts"),
    [("full", "a red circle\nNegative prompt: hats\n"), ("no-prompt", ""), ("off", None)],
)
def test_a_picture_carries_its_settings_as_other_programs_read_them(
    tmp_path: Path, said: Literal["full", "no-prompt", "off"], prompts: str | None
) -> None:
    kept: list[bytes] = []

    async def write(png: bytes, **_more: object) -> None:
        kept.append(png)

    store: ImageStore = SimpleNamespace(write=write)  # type: ignore[assignment]
    params = Params(width=64, height=64, steps=2, cfg_scale=2.0, sampler="euler_a", seed=1, negative="hats")
    job = Job(
        id="a" * 32, seq=1, revision=1, kind=Kind.GENERATE, status=Status.RUNNING, model="tiny", prompt="a red circle",
        params=params, policy=Policy(negative="applied"), created_at=1.0,
    )  # fmt: skip
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "PNG")
    mine = Settings(home=tmp_path, png_metadata=said)
    processor = ImageProcessor(store, Guardrails("", "", "x.toml"), Catalog.load(mine), LoraFolder(mine), mine)
    asyncio.run(processor.postprocess(job, 0, 7, file.getvalue()))
    settings = "Steps: 2, Sampler: Euler a, CFG scale: 2, Seed: 7, Size: 64x64, Model: tiny, Version: imagegen "
    assert texts(kept[0]).get("parameters") == (None if prompts is None else prompts + settings + __version__)
    if said == "no-prompt":
        assert not any("circle" in text or "hats" in text for text in texts(kept[0]).values())


PROVENANCES: list[tuple[dict[str, object], bool, bool, set[str]]] = [
    ({}, True, True, {"model", "seed", "prompt"}),
    ({"png_metadata": "no-prompt"}, True, True, {"model", "seed"}),
    ({"png_metadata": "off"}, True, True, set()),
    ({"provenance": "metadata"}, True, False, set()),
    ({"provenance": "off"}, False, False, set()),
    ({"provenance": "off", "png_metadata": "off"}, False, False, set()),
]
"""Settings; whether the file is marked in XMP, whether it is signed, and what the manifest tells of the drawing."""


@pytest.mark.parametrize(("settings", "marked", "signed", "told"), PROVENANCES)
def test_what_a_file_tells_and_whether_it_is_marked_are_two_settings(
    tmp_path: Path, settings: dict[str, object], marked: bool, signed: bool, told: set[str]
) -> None:
    processor, job, written = transparent(tmp_path, settings, background="opaque")
    asyncio.run(processor.postprocess(job, 0, 7, pictured(plain=False)))
    png = written[0]["png"]
    assert isinstance(png, bytes)
    keywords = texts(png)
    assert (AI_SOURCE_TYPE in keywords.get(XMP_KEYWORD, ""), keywords.get("Comment") == AI_COMMENT) == (marked, marked)
    assert ("parameters" in keywords) == (settings.get("png_metadata") != "off")
    said = judge(asyncio.run(Reader().read(png, "image/png", b"")))
    assert said.verdict == ("intact" if signed else "none")
    assert {name for name, value in vars(said.drawing).items() if value is not None} == told


def test_a_picture_that_cannot_be_signed_is_kept_unless_that_is_required(tmp_path: Path) -> None:
    (tmp_path / "provenance").write_text("no folder")
    processor, job, written = transparent(tmp_path, {}, background="opaque")
    asyncio.run(processor.postprocess(job, 0, 7, pictured(plain=False)))
    (warning,) = written[0]["warnings"]  # type: ignore[misc]
    assert warning.code == "not_signed" and "File exists. It is marked as AI-generated in XMP alone." in warning.detail
    processor, job, written = transparent(tmp_path, {"provenance_required": True}, background="opaque")
    with pytest.raises(EngineError, match="IMAGEGEN_PROVENANCE_REQUIRED=1 keeps no picture") as refused:
        asyncio.run(processor.postprocess(job, 0, 7, pictured(plain=False)))
    assert (refused.value.code, refused.value.draws_on, written) == ("not_signed", True, [])


def test_a_source_that_is_damaged_meanwhile_costs_the_signature_alone(tmp_path: Path) -> None:
    processor, job, written = transparent(tmp_path, {}, background="opaque")

    async def read(_id: str) -> bytes:
        raise Refused(500, "image_damaged", "damaged")

    processor._images.read = read  # type: ignore[method-assign]
    edit = job.model_copy(update={"kind": Kind.EDIT, "references": ["b" * 32]})
    asyncio.run(processor.postprocess(edit, 0, 7, pictured(plain=False)))
    (warning,) = written[0]["warnings"]  # type: ignore[misc]
    assert (warning.code, "cannot be read any more" in warning.detail) == ("not_signed", True)


def pictured(*, plain: bool) -> bytes:
    """A red square on white, or on a gradient."""
    image = Image.new("RGB", (64, 64), "white") if plain else Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    image.paste((200, 30, 30), (16, 16, 48, 48))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def transparent(
    tmp_path: Path, chosen: dict[str, object] | None = None, n: int = 1, **params: object
) -> tuple[ImageProcessor, Job, list[dict[str, object]]]:
    """A processor, a job with a transparent background, and the pictures that were written."""
    written: list[dict[str, object]] = []

    async def write(png: bytes, **more: object) -> None:
        written.append({"png": png, **more})

    store: ImageStore = SimpleNamespace(write=write)  # type: ignore[assignment]
    given = {"width": 64, "height": 64, "steps": 2, "cfg_scale": 2.0, "sampler": "euler", "seed": 1, "n": n}
    job = Job(
        id="a" * 32, seq=1, revision=1, kind=Kind.GENERATE, status=Status.RUNNING, model="tiny", prompt="a red square",
        params=Params.model_validate(given | {"background": "transparent"} | params), policy=Policy(negative="applied"),
        created_at=1.0,
    )  # fmt: skip
    settings = Settings.model_validate({"home": tmp_path, **(chosen or {})})
    catalog, loras = Catalog.load(settings), LoraFolder(settings)
    signer = Signer(settings) if settings.provenance == "c2pa" else None
    return ImageProcessor(store, Guardrails("", "", "x.toml"), catalog, loras, settings, signer), job, written


def test_a_plain_background_is_cut_out_and_the_picture_says_so(tmp_path: Path) -> None:
    processor, job, written = transparent(tmp_path)
    png, background = asyncio.run(processor.cut_out(job, 0, pictured(plain=True)))
    assert background is not None and background.code == "background_removed"
    asyncio.run(processor.postprocess(job, 0, 1, png, background))
    (one,) = written
    assert one["warnings"] == (background,)
    assert isinstance(one["png"], bytes) and texts(one["png"])["background"] == "transparent"
    image = Image.open(io.BytesIO(one["png"]))
    assert (image.mode, image.getpixel((2, 2))[3], image.getpixel((32, 32))) == ("RGBA", 0, (200, 30, 30, 255))


@pytest.mark.parametrize("warnings", [(REMOVED,), ()])
def test_a_larger_copy_is_as_transparent_as_its_source(tmp_path: Path, warnings: tuple[Warn, ...]) -> None:
    processor, job, written = transparent(tmp_path)
    now = {"created_at": 1.0, "expires_at": 2e9, "sha256": "a" * 64, "bytes": 1, "seed": 1, "index": 0}
    source = StoredImage(id="b" * 32, job_id="a" * 32, width=64, height=64, warnings=warnings, **now)

    async def get(_id: str) -> StoredImage:
        return source

    async def read(_id: str) -> bytes:
        return pictured(plain=True)

    processor._images.get, processor._images.read = get, read  # type: ignore[method-assign]
    params = Params.of_upscale(128, 128, 2, "lanczos")
    upscale = job.model_copy(update={"kind": Kind.UPSCALE, "references": [source.id], "params": params})
    asyncio.run(processor.postprocess_upscale(upscale, pictured(plain=True)))
    assert written[0]["warnings"] == warnings


@pytest.mark.parametrize(("n", "named"), [(1, "The background was kept"), (3, "The background of picture 2 was kept")])
def test_a_background_that_is_not_plain_is_kept(tmp_path: Path, n: int, named: str) -> None:
    processor, job, written = transparent(tmp_path, n=n)
    drawn = pictured(plain=False)
    png, background = asyncio.run(processor.cut_out(job, 1, drawn))
    assert background is not None and background.code == "background_kept"
    assert background.detail.startswith(named) and "another seed" in background.detail
    asyncio.run(processor.postprocess(job, 1, 1, png, background))
    assert png == drawn and written[0]["warnings"] == ()
    assert isinstance(written[0]["png"], bytes) and "background" not in texts(written[0]["png"])


def test_an_opaque_picture_is_not_cut_and_damage_is_found_before_it_is(tmp_path: Path) -> None:
    processor, job, _ = transparent(tmp_path, background="opaque")
    assert asyncio.run(processor.cut_out(job, 0, b"not looked at")) == (b"not looked at", None)
    processor, job, _ = transparent(tmp_path)
    with pytest.raises(BrokenPng):
        asyncio.run(processor.cut_out(job, 0, pictured(plain=True)[:-40]))

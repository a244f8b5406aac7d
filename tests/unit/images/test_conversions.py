"""Conversions are made once, are the same bytes from then on, and go with their picture."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from pictures import quarters, saved
from state_folder import TTL_S, State, opened, picture, scenario

from imagegen.images import conversions
from imagegen.images.conversions import Conversions
from imagegen.images.files import ImageFiles
from imagegen.images.png import AI_SOURCE_TYPE, finish_png
from imagegen.images.provenance.manifest import Facts
from imagegen.images.provenance.signer import Signer
from imagegen.schemas import StoredImage
from imagegen.settings import Settings

MARKED = finish_png(saved(quarters(), "PNG"), {"model": "tiny"}).data
PLAIN = finish_png(saved(quarters(), "PNG"), None).data


def made_by(state: State, signs: bool = True) -> Conversions:
    signer = Signer(Settings(home=state.folder)) if signs else None
    return Conversions(state.images, ImageFiles(state.folder / "images"), signer)


async def stored(state: State, png: bytes) -> StoredImage:
    file = dataclasses.replace(picture(), png=png, width=32, height=24, sha256=hashlib.sha256(png).hexdigest())
    return await state.images.upload(file)


def cached(state: State, image: StoredImage) -> list[Path]:
    return sorted((state.folder / "images" / f"{image.id}.converted").glob("*"))


@scenario
async def test_a_conversion_is_made_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as state:
        image, converts = await stored(state, MARKED), made_by(state)
        first, again = [await converts.read(image, "jpeg", 16) for _ in range(2)]
        assert first == again and first.etag != (await converts.read(image, "webp", 16)).etag
        assert first == await made_by(state).read(image, "jpeg", 16), "also after a restart"
        [kept, _webp] = cached(state, image)
        kept.write_bytes(kept.read_bytes()[:-9])
        assert (await converts.read(image, "jpeg", 16)).data[:3] == b"\xff\xd8\xff", "a damaged one is made anew"
        whole = await converts.read(image, "png", 32)
        assert (whole.data, whole.etag) == (MARKED, f'"{image.sha256[:32]}"'), "the stored file itself is not cached"


@scenario
async def test_what_is_signed_is_what_a_model_drew(tmp_path: Path) -> None:
    async with opened(tmp_path) as state:
        signed = Signer(Settings(home=tmp_path)).sign(MARKED, "image/png", Facts("drawn", {}))
        for png, signs, manifest in (
            (signed, True, True),
            (MARKED, True, True),  # drawn before pictures were signed
            (PLAIN, True, False),
            (MARKED, False, False),
        ):
            data = (await made_by(state, signs).read(await stored(state, png), "jpeg")).data
            assert (b"c2pa" in data, AI_SOURCE_TYPE.encode() in data) == (manifest, png != PLAIN)


@scenario
async def test_conversions_go_with_their_picture(tmp_path: Path) -> None:
    async with opened(tmp_path) as state:
        swept, left = [await stored(state, MARKED) for _ in range(2)]
        for image in (swept, left):
            await made_by(state).read(image, "webp")
        state.clock.now += TTL_S + 1
        fresh = await stored(state, MARKED)
        await made_by(state).read(fresh, "webp")
        await state.jobs.sweep()
        assert [len(cached(state, one)) for one in (swept, left, fresh)] == [0, 0, 1]
        (tmp_path / "images" / f"{fresh.id}.png").unlink()
        lost = tmp_path / "images" / f"{'d' * 32}.converted"
        lost.mkdir()
        await state.images.sweep_orphans()
        assert not lost.exists()


@scenario
async def test_few_conversions_of_a_picture_are_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as state:
        image, converts = await stored(state, MARKED), made_by(state, signs=False)
        for quality in range(1, conversions.MOST_KEPT + 5):
            await converts.read(image, "jpeg", None, quality)
        assert len(cached(state, image)) == conversions.MOST_KEPT


def full(*_of: object) -> None:
    raise OSError(28, "No space left on device")


def no_key(*_of: object) -> None:
    raise conversions.NotSigned("The key is gone.")


@pytest.mark.parametrize(
    ("owner", "name", "fault", "signed"),
    [(conversions.permissions, "open_private", full, True), (Signer, "sign", no_key, False)],
    ids=["the disk is full", "the key is gone"],
)
def test_a_fault_costs_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, fault: Callable[..., None], signed: bool
) -> None:
    @scenario
    async def converted(folder: Path) -> None:
        async with opened(folder) as state:
            image, converts = await stored(state, MARKED), made_by(state)
            await converts.read(await stored(state, MARKED), "jpeg")  # the keys are made
            monkeypatch.setattr(owner, name, fault)
            assert (b"c2pa" in (await converts.read(image, "jpeg")).data) == signed
            monkeypatch.undo()

    converted(tmp_path)

"""Fitness: what a model lacks on a machine, by the catalog's numbers or by the files that are there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from imagegen.hardware import compatibility
from imagegen.hardware.compatibility import Machine
from imagegen.models import packages
from imagegen.models.catalog import Catalog
from imagegen.models.entry_tables import Memory
from imagegen.settings import Settings

FLAGS = frozenset({"--flow-shift", "--diffusion-fa", "--qwen-image-zero-cond-t"})


def machine(card_bytes: int | None, ram_bytes: int, flags: frozenset[str] = FLAGS) -> Machine:
    return Machine(flags, None if card_bytes is None else "Test Card", card_bytes, ram_bytes)


@pytest.mark.parametrize(
    ("vram", "ram", "files", "here", "said"),
    [
        (10, 4, 0, machine(8, 100), "needs 10.0 GB, and the card (Test Card) has 8.0 GB"),
        (10, 4, 0, machine(12, 1), None),
        (10, 4, 0, machine(None, 8), None),
        (10, 14, 0, machine(None, 8), "needs 14.0 GB, and this machine has 8.0 GB"),
        (None, None, 30, machine(24, 100), "has 30.0 GB of files"),
        (None, None, 20, machine(24, 100), None),
        (None, None, 0, machine(8, 100), "has 18.2 GB of files"),
        (None, None, 0, machine(24, 100), None),
    ],
)
def test_a_model_that_needs_more_memory_than_there_is_warns(
    tmp_path: Path, vram: int | None, ram: int | None, files: int, here: Machine, said: str | None
) -> None:
    def gb(value: int | None) -> int | None:
        return None if value is None else value * 10**9

    here = Machine(here.flags, here.card_name, gb(here.card_bytes), here.ram_bytes * 10**9)
    memory = Memory(vram_bytes=gb(vram), ram_bytes=gb(ram), source="test") if vram or ram else None
    entry = Catalog.packaged().get("qwen-image").model_copy(update={"memory": memory})
    settings = Settings(home=tmp_path)
    if files:
        path = entry.path_of(entry.files[0], settings)
        path.parent.mkdir(parents=True)
        with path.open("wb") as sparse:
            sparse.truncate(files * 10**9)
    found = compatibility.warnings(entry, settings, here)
    assert [warning.code for warning in found] == ([] if said is None else ["does_not_fit"])
    if said:
        assert said in found[0].detail


@pytest.mark.parametrize(
    ("needed", "here", "refused"),
    [
        ("0.5", "0.4.7", True),
        ("0.4.8", "0.4.7", True),
        ("0.10", "0.9.2", True),  # compared as numbers
        ("0.4.7", "0.4.7", False),
        ("0.4", "0.4.0", False),
        ("0.4.7", "0.5", False),
        (None, "0.4.7", False),
        ("9.9", None, False),  # an engine of which nothing is known is probed, not refused
        ("9.9", "master-612-ab12cd3", False),
    ],
)
def test_an_entry_may_need_a_newer_engine(needed: str | None, here: str | None, refused: bool) -> None:
    entry = Catalog.packaged().get("qwen-image").model_copy(update={"engine_min": needed})
    found = compatibility.too_old(entry, replace(machine(None, 10**12), engine_release=here))
    assert (found is not None) is refused
    if found is not None:
        assert found.code == "engine_too_old"
        assert f"release {needed} of the engine or newer" in found.detail and f"release {here}." in found.detail


def test_request_fields_that_the_engine_lacks_warn(tmp_path: Path, sd_server: Path) -> None:
    tiling = {"vae_tiling_params": {"enabled": True, "tile_size_x": 4}, "no_such_field_of_any_engine": 1}
    entry = Catalog.packaged().get("qwen-image").model_copy(update={"options": tiling})
    found = compatibility.lacking_fields(entry, sd_server)
    assert found is not None and "no_such_field_of_any_engine (options)" in found.detail
    assert "tile_size_x" not in found.detail and "enabled" not in found.detail
    newer = tmp_path / "sd-server"
    newer.write_bytes(b"\x7fELF vae_tiling_params enabled tile_size_w tile_size_h no_such_field_of_any_engine")
    found = compatibility.lacking_fields(entry, newer)
    assert found is not None and "tile_size_x (renamed to tile_size_w, in pixels)" in found.detail
    newer.write_bytes(b"#!/bin/sh\nexec /opt/sd-server")
    assert compatibility.lacking_fields(entry, newer) is None
    assert compatibility.lacking_fields(entry, None) is None
    assert compatibility.lacking_fields(entry, tmp_path / "missing") is None


def test_a_flag_that_the_engine_lacks_warns_with_its_source(tmp_path: Path) -> None:
    entry = Catalog.packaged().get("qwen-image-edit-2511")
    here = machine(None, 10**12, FLAGS - {"--qwen-image-zero-cond-t"})
    (warning,) = compatibility.warnings(entry, Settings(home=tmp_path), here)
    assert warning.code == "flag_missing"
    assert "sd.cpp docs/qwen_image_edit.md" in warning.detail
    assert compatibility.warnings(entry, Settings(home=tmp_path), machine(None, 10**12)) == ()
    unknown = machine(None, 10**12, frozenset())
    assert compatibility.warnings(entry, Settings(home=tmp_path), unknown) == (), "nothing is known, nothing is claimed"


@pytest.mark.parametrize(
    ("model", "cuda", "said"), [("glm-tiny", False, True), ("glm-tiny", True, False), ("tiny", False, False)]
)
def test_a_card_that_the_second_engines_torch_does_not_use_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, cuda: bool, said: bool
) -> None:
    monkeypatch.setitem(packages.PACKAGES, "glm", ("json",))  # they are all here
    entry, settings = Catalog.packaged().get(model), Settings(home=tmp_path)
    with_card = Machine(FLAGS, "Test Card", 10**12, 10**12, torch_uses_cuda=cuda)
    found = [warning for warning in compatibility.warnings(entry, settings, with_card) if warning.code == "gpu_unused"]
    assert [("Test Card" in one.detail, "built for the CPU" in one.detail) for one in found] == [(True, True)] * said
    without = Machine(FLAGS, None, None, 10**12, torch_uses_cuda=cuda)
    assert "gpu_unused" not in {warning.code for warning in compatibility.warnings(entry, settings, without)}


def test_the_second_engine_goes_by_parts_on_a_card_that_cannot_hold_all(tmp_path: Path) -> None:
    entry, settings = Catalog.packaged().get("glm-image"), Settings(home=tmp_path)
    for name, size in (("model_index.json", 0), ("a/1.safetensors", 6), ("a/2.safetensors", 7), ("b/1.safetensors", 9)):
        path = entry.folder(settings) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as sparse:
            sparse.truncate(size * 10**9)
    assert compatibility.memory(entry, settings, machine(14 * 10**9, 10**12)) is None
    small = compatibility.memory(entry, settings, machine(12 * 10**9, 10**12))
    assert small is not None and "has 13.0 GB of files" in small.detail


@pytest.mark.parametrize(
    ("flags", "card_gb", "ram_gb", "fits"),
    [
        ({"--offload-to-cpu"}, 14, 64, True),
        ({"--offload-to-cpu"}, 12, 64, False),
        ({"--offload-to-cpu"}, 14, 16, False),
        ({"--offload-to-cpu", "--max-vram"}, 4, 64, True),
        (set(), 14, 64, False),
    ],
    ids=["one part at a time", "a part too large", "too little RAM", "block by block", "an engine without the flags"],
)
def test_with_weights_in_ram_the_card_holds_one_part_at_a_time(
    tmp_path: Path, flags: set[str], card_gb: int, ram_gb: int, fits: bool
) -> None:
    entry, settings = Catalog.packaged().get("qwen-image"), Settings(home=tmp_path)
    for file, size in zip(entry.files, (13, 4, 1), strict=True):
        path = entry.path_of(file, settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as sparse:
            sparse.truncate(size * 10**9)
    here = machine(card_gb * 10**9, ram_gb * 10**9, FLAGS | flags)
    found = compatibility.memory(entry, settings, here)
    assert (found is None) is fits
    if found:
        assert "has 18" in found.detail

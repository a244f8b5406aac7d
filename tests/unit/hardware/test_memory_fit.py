"""Whether models of the catalog fit: their parts, the modes that an engine offers, and what is advised instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagegen.hardware import ram
from imagegen.hardware.memory_fit import MemoryFit, Place, files_bytes, modes_of, usual_shape, weights_of
from imagegen.hardware.memory_mode import MODE_FLAGS, MemoryMode, Room, Shape
from imagegen.hardware.memory_needs import CPU, MemoryNeed, MemoryNeeds, NeedKey
from imagegen.models.catalog import Catalog
from imagegen.models.entry import Entry
from imagegen.models.entry_tables import Flag
from imagegen.schemas import Kind
from imagegen.settings import Settings

GB = 10**9
CARD, OFFLOAD, STREAM = MemoryMode
ALL_FLAGS = MODE_FLAGS[STREAM]
LARGE = Shape(Kind.GENERATE, 1024, 1024)


def with_files(settings: Settings, name: str, /, **sizes_gb: float) -> Entry:
    """The entry, with sparse files of these sizes by role."""
    entry = Catalog.packaged().get(name)
    for file in entry.files:
        if file.role in sizes_gb:
            path = entry.path_of(file, settings)
            path.parent.mkdir(parents=True, exist_ok=True)
            with (path.parent / path.name.replace("*", "a")).open("wb") as sparse:
                sparse.truncate(int(sizes_gb[file.role] * GB))
    return entry


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def test_the_parts_of_a_model_are_those_that_the_engine_moves(settings: Settings) -> None:
    entry = with_files(settings, "qwen-image-edit-2511", diffusion_model=13, llm=5, llm_vision=9, vae=0.25)
    weights = weights_of(entry, settings)
    assert (weights.total_bytes, weights.largest_bytes, weights.decoder_bytes) == (27.25 * GB, 14 * GB, 0.25 * GB)
    tiled = entry.model_copy(update={"options": {"vae_tiling_params": {"enabled": True}}})
    assert weights.decode_bytes_per_px > weights_of(tiled, settings).decode_bytes_per_px == 0


def test_the_second_engine_goes_by_folders_and_chooses_itself(settings: Settings) -> None:
    entry = Catalog.packaged().get("glm-image")
    for name, size in (("model_index.json", 0), ("a/1.safetensors", 6), ("a/2.safetensors", 7), ("b/1.safetensors", 9)):
        path = entry.folder(settings) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as sparse:
            sparse.truncate(size * GB)
    assert weights_of(entry, settings).total_bytes == 13 * GB
    assert modes_of(entry, settings, ALL_FLAGS) == (CARD,)


@pytest.mark.parametrize(
    ("setting", "known", "own", "modes"),
    [
        ("auto", ALL_FLAGS, (), (CARD, OFFLOAD, STREAM)),
        ("auto", {"--offload-to-cpu"}, (), (CARD, OFFLOAD)),
        ("auto", {"--max-vram"}, (), (CARD,)),
        ("auto", set(), (), (CARD,)),
        ("auto", ALL_FLAGS, ("--offload-to-cpu",), (OFFLOAD, STREAM)),
        ("auto", ALL_FLAGS, ("--offload-to-cpu", "--max-vram"), (STREAM,)),
        ("offload", ALL_FLAGS, (), (OFFLOAD,)),
        ("card", ALL_FLAGS, (), (CARD,)),
        ("card", ALL_FLAGS, ("--offload-to-cpu",), (OFFLOAD,)),
        ("offload", set(), (), (OFFLOAD,)),
    ],
)
def test_modes_are_what_the_engine_knows_and_the_operator_allows(
    tmp_path: Path, setting: str, known: set[str], own: tuple[str, ...], modes: tuple[MemoryMode, ...]
) -> None:
    entry = Catalog.packaged().get("qwen-image")
    flags = [*entry.flags, *(Flag(flag=flag, source="a test") for flag in own)]
    settings = Settings(home=tmp_path, memory_mode=setting)  # type: ignore[arg-type]
    assert modes_of(entry.model_copy(update={"flags": flags}), settings, known) == modes


def fit_of(settings: Settings, *measured: MemoryNeed) -> MemoryFit:
    return MemoryFit(settings, Catalog.packaged().entries, MemoryNeeds(measured))


def place(card_gb: float, ram_gb: float = 64) -> Place:
    return Place(Room("Test Card", int(card_gb * GB), int(card_gb * GB), int(ram_gb * GB)), int(ram_gb * GB), ALL_FLAGS)


def key(settings: Settings, entry: Entry, mode: str) -> NeedKey:
    return NeedKey(entry.name, files_bytes(entry, settings), Kind.GENERATE, mode)


def test_a_size_that_failed_in_the_last_mode_is_refused_with_advice(settings: Settings) -> None:
    with_files(settings, "sd-turbo", model=2)
    entry = with_files(settings, "qwen-image", diffusion_model=13, llm=5, vae=0.25)
    failures = [MemoryNeed(key(settings, entry, mode), LARGE.pixels, 12 * GB, failed=True) for mode in MemoryMode]
    why = fit_of(settings, *failures).too_large(entry, LARGE, place(12))
    assert why is not None and "of the card (Test Card) for a picture of 1024x1024" in why
    assert why.endswith("Ask for at most 880x880 or use the model sd-turbo."), why
    assert fit_of(settings, *failures).too_large(entry, usual_shape(entry), place(12)) is None, "a smaller one may fit"
    assert fit_of(settings, *failures).too_large(entry, LARGE, place(24)) is None, "a larger card"
    assert fit_of(settings, *failures[:2]).too_large(entry, LARGE, place(12)) is None, "one mode was not tried yet"
    forced = settings.model_copy(update={"memory_mode": "stream"})
    assert fit_of(forced, *failures).too_large(entry, LARGE, place(12)) is None, "the operator wants it tried"


def test_weights_that_neither_card_nor_ram_can_hold_are_refused(settings: Settings) -> None:
    with_files(settings, "sd-turbo", model=2)
    entry = with_files(settings, "qwen-image", diffusion_model=13, llm=5, vae=0.25)
    why = fit_of(settings).too_large(entry, usual_shape(entry), place(12, ram_gb=8))
    assert why == (
        "qwen-image does not fit on the card (Test Card) as a whole, and its weights need 19.3 GB of RAM, of which 8.0 "
        "GB are available. Use the model sd-turbo."
    )
    assert fit_of(settings).too_large(entry, usual_shape(entry), place(12, ram_gb=32)) is None


def test_without_a_card_a_measured_need_above_the_ram_is_refused(settings: Settings) -> None:
    entry = with_files(settings, "sd-turbo", model=2)
    took = [MemoryNeed(key(settings, entry, CPU), px, need) for px, need in ((512**2, 4 * GB), (640**2, 5 * GB))]
    why = fit_of(settings, *took).too_large(entry, LARGE, Place(None, 8 * GB))
    assert why is not None and "would need about 9.3 GB of RAM for a picture of 1024x1024" in why
    assert why.endswith("Ask for at most 832x832."), why
    assert fit_of(settings, *took).too_large(entry, LARGE, Place(None, 10 * GB)) is None
    assert fit_of(settings).too_large(entry, LARGE, Place(None, GB)) is None, "nothing was measured"


@pytest.mark.parametrize(
    ("files", "limit_gb", "left_gb"),
    [
        ({"memory.max": "max", "memory.current": "1", "memory.stat": ""}, None, None),
        ({"memory.max": f"{2**30}", "memory.current": f"{2**29}", "memory.stat": f"inactive_file {2**28}"}, 1, 0.75),
        (
            {
                "memory/memory.limit_in_bytes": f"{2**30}",
                "memory/memory.usage_in_bytes": f"{2**30}",
                "memory/memory.stat": "cache 5\ntotal_inactive_file 0",
            },
            1,
            0,
        ),
    ],
    ids=["no limit", "version 2", "version 1"],
)
def test_a_containers_limit_bounds_the_ram(
    tmp_path: Path, files: dict[str, str], limit_gb: float | None, left_gb: float | None
) -> None:
    machine = ram.read(tmp_path)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    here = ram.read(tmp_path)
    if limit_gb is None or left_gb is None:
        assert here.total_bytes == machine.total_bytes
    else:
        assert here.total_bytes == limit_gb * 2**30
        assert here.available_bytes == pytest.approx(min(left_gb * 2**30, here.available_bytes))

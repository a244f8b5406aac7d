"""Trained weights in the package: packed, unpacked, checked, and made anew when the package brings others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, dequantize

from imagegen.doctor import model as drawing
from imagegen.models.catalog import Catalog
from imagegen.models.synthetic import make as synthetic
from imagegen.models.synthetic.packed import F16, F32, Q8_0, Dense, Pack, Table, pack
from imagegen.settings import Settings

RNG = np.random.default_rng(1)
CORNER = np.zeros((96, 128), np.float32)
CORNER[40:50, 33:70] = RNG.normal(size=(10, 37))
FILL = np.zeros(64, np.float32)
FILL[0] = 2.0**50
TENSORS = {
    "blocks": Dense(RNG.normal(size=(7, 64)), Q8_0),
    "corner": Dense(CORNER, Q8_0),
    "half": Dense(RNG.normal(size=(5, 6, 3, 3)), F16),
    "whole": Dense(np.arange(5), F32),
    "nothing": Dense(np.zeros((8, 32)), Q8_0),
    "table": Table(1000, FILL, [3, 999], RNG.normal(size=(2, 64))),
}


@pytest.fixture
def small(tmp_path: Path) -> Pack:
    return pack(tmp_path, "small", {"a.gguf": ("test", TENSORS)}, things=[["circle"]])


def unpacked(packed: Pack, folder: Path) -> dict[str, np.ndarray]:
    path = folder / "unpacked.gguf"
    packed.files()["a.gguf"].write(path, lambda _bytes: None)
    return {t.name: dequantize(t.data, t.tensor_type) for t in GGUFReader(path).tensors}


def test_what_was_packed_comes_out(small: Pack, tmp_path: Path) -> None:
    found = unpacked(small, tmp_path)
    assert list(found) == list(TENSORS)
    for name in ("blocks", "corner"):
        values = np.asarray(TENSORS[name].values)
        assert np.abs(found[name] - values).max() <= np.abs(values).max() / 127, name
    assert np.allclose(found["half"], TENSORS["half"].values, atol=2e-3)
    assert (found["whole"] == np.arange(5)).all()
    assert found["nothing"].shape == (8, 32) and not found["nothing"].any()
    table = found["table"]
    assert (table[[0, 1, 2, 4, 998]] == FILL).all(), "a power of two is exact"
    assert np.abs(table[[3, 999]] - TENSORS["table"].rows).max() < 0.01
    assert small.about["things"] == [["circle"]]


def test_zeros_and_rows_that_are_alike_take_no_room(small: Pack) -> None:
    dense = sum(gguf.written_bytes for gguf in small.files().values())
    assert small.about["packed"]["size_bytes"] < dense / 10


def test_packing_twice_gives_the_same_bytes(small: Pack, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    pack(again, "small", {"a.gguf": ("test", TENSORS)}, things=[["circle"]])
    for file in ("small.npz", "small.json"):
        assert (again / file).read_bytes() == (tmp_path / file).read_bytes()


def test_damage_is_told_and_nothing_is_written(small: Pack, tmp_path: Path) -> None:
    packed, stated = tmp_path / "small.npz", tmp_path / "small.json"
    good = packed.read_bytes()
    packed.write_bytes(good[:-100])
    with pytest.raises(OSError, match="damaged, install imagegen anew"):
        small.files()
    packed.write_bytes(good)
    about = json.loads(stated.read_text())
    about["files"]["a.gguf"]["sha256"] = "0" * 64
    stated.write_text(json.dumps(about))
    with pytest.raises(OSError, match="came out otherwise"):
        unpacked(small, tmp_path)
    stated.write_text("{")
    with pytest.raises(OSError, match="damaged"):
        small.files()


# The model that the package has


def test_sketch_is_unpacked_as_it_was_packed_and_small(tmp_path: Path) -> None:
    settings, heard = Settings(home=tmp_path), []
    folder = synthetic.make("sketch", settings, lambda done, total: heard.append((done, total)))
    entry = Catalog.load(settings).get("sketch")
    assert entry.installed(settings) and not synthetic.to_make(entry, settings)
    assert {path.name for path in folder.glob("*.gguf")} == set(synthetic.stated(entry))
    assert heard == sorted(heard) and heard[-1][0] == heard[-1][1]
    assert synthetic.PACKS["sketch"].about["packed"]["size_bytes"] <= 12_000_000


def test_other_weights_in_the_package_are_unpacked_again(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    entry = Catalog.load(settings).get("sketch")
    assert synthetic.to_make(entry, settings)
    folder = synthetic.make("sketch", settings)
    (folder / synthetic.VERSION).write_text("of an older package")
    (folder / "dit.gguf").write_bytes(b"older weights")
    assert synthetic.to_make(entry, settings)
    synthetic.make("sketch", settings)
    assert not synthetic.to_make(entry, settings)
    assert (folder / "dit.gguf").stat().st_size > 1_000_000
    tiny = Catalog.load(settings).get("tiny")
    synthetic.make("tiny", settings)
    assert not synthetic.to_make(tiny, settings), "random weights are always the same"


def test_the_doctor_sees_a_damaged_weight(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    entry = Catalog.load(settings).get("sketch")

    def findings() -> str:
        return " ".join(f"{f.level}: {f.what} {f.do}" for f in drawing.model_files(entry, settings, False, False))

    assert findings().startswith("ok: The service makes the files of sketch")
    folder = synthetic.make("sketch", settings)
    assert findings().startswith("ok: All files of sketch are here")
    with (folder / "tae.gguf").open("r+b") as file:
        file.seek(-5, 2)
        file.write(b"!")
    assert "is not the file that was meant" in findings()
    assert "imagegen models make sketch" in findings()

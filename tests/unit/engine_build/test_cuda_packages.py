"""CUDA's packages from the package index: real pip, wheels in the form of NVIDIA's, an nvcc that compiles nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from fake_cuda import H200, OLD_DRIVER
from tiny_source import Progress, make_sdist

from imagegen import engine_build
from imagegen.engine_build import EngineBuildError, Options, Stage, builder, cuda_packages, select, toolchain
from imagegen.engine_build.plan import Sdist

OPTIONS = Options("cuda", ("90-real",), portable=True)
FAKE_NVCC = b"""#!/bin/sh
root=$(cd "${0%/*}/.." && pwd)
case "$1" in
--version) echo "Cuda compilation tools, release 13.0, V13.0.88" ;;
--dryrun) echo "#\\$ TOP=$root/bin/.." >&2; echo "#\\$ INCLUDES=\\"-I$root/include\\"" >&2 ;;
--list-gpu-code) echo sm_90 ;;
esac
"""
"""It answers questions as the real one does, and lies wherever pip puts it."""


def wheel(index: Path, name: str, version: str, files: dict[str, bytes]) -> str:
    """Write a wheel into `index`; its line of the lock."""
    stem = f"{name.replace('-', '_')}-{version}"
    files = files | {
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{stem}.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{stem}.dist-info/RECORD": b"",
    }
    path = index / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, data in files.items():
            info = zipfile.ZipInfo(inner)
            info.external_attr = (0o100755 if "/bin/" in inner else 0o100644) << 16
            archive.writestr(info, data)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"


@pytest.fixture
def lock(index: Path, tmp_path: Path, no_cuda: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock of six small wheels that are on the index and together a toolkit. The machine has none."""
    for tool in ("as", "ld", "ar", "ranlib"):  # that the compilers of `no_cuda` run
        (no_cuda / tool).symlink_to(str(shutil.which(tool, path=os.defpath)))
    lines = []
    for package, part in toolchain.CUDA_WHEELS.items():
        files = {f"nvidia/cu13/{part}": FAKE_NVCC if part == "bin/nvcc" else b"x"}
        if package == "nvidia-cublas":
            files["nvidia/cu13/lib/libcublas.so.13"] = b"x"
        version = next(pin.name for pin in cuda_packages.pins() if pin.name.startswith(f"{package}==")).split("==")[1]
        lines.append(wheel(index, package, version, files))
    path = tmp_path / "cuda.txt"
    path.write_text("".join(lines))
    monkeypatch.setattr(cuda_packages, "LOCK", path)
    monkeypatch.setitem(builder.DISK_BYTES, "cuda", 10_000_000)
    monkeypatch.setattr(cuda_packages, "DISK_BYTES", 10_000_000)
    return path


def made(cache: Path) -> tuple[engine_build.Built, Progress]:
    sdist: Sdist = make_sdist(cache / "sdist")
    progress = Progress()
    return engine_build.build(cache, OPTIONS, progress, jobs=1, sdist=sdist), progress


def test_every_pin_of_the_lock_has_its_size() -> None:
    assert {pin.name for pin in cuda_packages.pins()} == set(cuda_packages.DOWNLOAD_BYTES)
    assert {pin.name.split("==")[0] for pin in cuda_packages.pins()} == set(toolchain.CUDA_WHEELS)
    assert all("--hash=sha256:" in pin.lines for pin in cuda_packages.pins())


def test_a_machine_without_nvcc_fetches_it_and_builds(tmp_path: Path, lock: Path) -> None:
    cache = tmp_path / "engine"
    built, progress = made(cache)
    assert built.manifest.cuda == (13, 0)
    said = [message for stage, _, _, message in progress if stage is Stage.TOOLKIT]
    assert "(525 MB; about 1 min at 100 Mbit/s)" in said[0]
    kept = cuda_packages.folder(cache)
    assert (kept / "nvidia/cu13/include/cublas_v2.h").is_file()
    assert not (cache / "cuda-wheels").exists()
    cuda = toolchain.find_cuda(kept)
    assert (cuda.root, cuda.wheels) == (kept / "nvidia/cu13", True)
    with pytest.raises(toolchain.NoCuda):  # nothing came into the Python environment
        toolchain.find_cuda()
    again, progress = made(cache)
    assert (again.fresh, progress.stages) == (False, [Stage.READY])


def test_what_has_arrived_is_not_fetched_again(tmp_path: Path, index: Path, lock: Path) -> None:
    cache = tmp_path / "engine"
    late = next(index.glob("nvidia_nvvm-*"))
    late.rename(tmp_path / late.name)
    with pytest.raises(EngineBuildError, match=r"nvidia-nvvm==\S+ could not be fetched .* what has arrived is kept"):
        made(cache)
    arrived = {path.name for path in (cache / "cuda-wheels").iterdir()}
    assert arrived  # those before it in the lock
    for path in index.iterdir():
        if path.name in arrived:
            path.unlink()
    (tmp_path / late.name).rename(late)
    assert made(cache)[0].fresh


@pytest.mark.parametrize("spoilt", ["on the index", "in the cache"])
def test_a_wheel_with_another_hash_is_never_used(tmp_path: Path, index: Path, lock: Path, spoilt: str) -> None:
    cache = tmp_path / "engine"
    good = next(index.glob("nvidia_nvvm-*"))
    if spoilt == "in the cache":
        (cache / "cuda-wheels").mkdir(parents=True)
    bad = (index if spoilt == "on the index" else cache / "cuda-wheels") / good.name
    whole = good.read_bytes()
    bad.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(EngineBuildError, match=r"CUDA's packages|could not be fetched"):
        made(cache)
    assert not cuda_packages.folder(cache).exists()
    good.write_bytes(whole)
    assert made(cache)[0].fresh


def test_a_full_disk_is_told_before_anything_is_fetched(
    tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_packages, "DISK_BYTES", 1 << 60)
    with pytest.raises(EngineBuildError, match="Not enough disk space"):
        made(tmp_path / "engine")
    assert list((tmp_path / "engine/cuda-wheels").iterdir()) == []


def test_an_old_driver_is_told_before_anything_is_fetched(
    tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = r"runs CUDA up to 12\.4, .* needs the driver 580 or newer"
    with pytest.raises(EngineBuildError, match=words):
        select.default_backend(OLD_DRIVER)
    monkeypatch.setattr(builder, "find_cards", lambda: OLD_DRIVER)
    with pytest.raises(EngineBuildError, match=words):
        engine_build.build(tmp_path / "engine", Options("cuda", ("86-real",)), Progress())
    assert not (tmp_path / "engine").exists()


def test_a_gpu_without_nvcc_is_built_for(lock: Path) -> None:
    assert select.default_backend(H200) == "cuda"


def test_without_the_list_of_packages_a_toolkit_is_asked_for(tmp_path: Path, lock: Path) -> None:
    """As in an image's builder stage, whose Python environment has the packages."""
    lock.unlink()
    with pytest.raises(
        EngineBuildError, match=r"lacks cuda\.txt, the list of its packages: install NVIDIA's CUDA toolkit"
    ):
        made(tmp_path / "engine")

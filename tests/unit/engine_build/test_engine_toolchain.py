"""CUDA's compiler: where it is looked for, what it must be able to do."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_cuda import H200, fake_toolkit

from imagegen import engine_build as engines
from imagegen.engine_build import EngineBuildError, Options, builder, toolchain
from imagegen.engine_build.cards import Cards


def test_cuda_without_nvcc_and_network_is_a_sentence(no_cuda: Path, index: Path, tmp_path: Path) -> None:
    with pytest.raises(toolchain.NoCuda, match="nvcc, was not found") as caught:
        toolchain.find_cuda()
    assert "12.8 or newer" in str(caught.value)
    assert "nvidia-cuda-nvcc==13.0.*" in str(caught.value)
    with pytest.raises(EngineBuildError, match="could not be fetched from the package index") as caught:
        engines.build(tmp_path / "engine", Options("cuda", ("90-real",), portable=True), lambda *_: None)
    assert "12.8 or newer" in str(caught.value)
    assert not list((tmp_path / "engine").glob("*/sd-server"))


def test_nvcc_is_looked_for_in_order(no_cuda: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {name: tmp_path / name for name in ("usual", "path", "home", "cudapath", "cudacxx")}
    for root in places.values():
        fake_toolkit(root)
    monkeypatch.setattr(toolchain, "CUDA_FOLDERS", (places["usual"],))
    assert toolchain.find_cuda().root == places["usual"]
    (no_cuda / "nvcc").symlink_to(places["path"] / "bin" / "nvcc")
    assert toolchain.find_cuda() == toolchain.Cuda(no_cuda / "nvcc", places["path"], (13, 0), cublas=True)
    monkeypatch.setenv("CUDA_HOME", str(places["home"]))
    assert toolchain.find_cuda().root == places["home"]
    monkeypatch.setenv("CUDA_PATH", str(places["cudapath"]))
    assert toolchain.find_cuda().root == places["cudapath"]
    monkeypatch.setenv("CUDACXX", str(places["cudacxx"] / "bin" / "nvcc"))
    assert toolchain.find_cuda().root == places["cudacxx"]


def test_an_nvcc_that_is_of_no_use(no_cuda: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDACXX", "/nowhere/nvcc")
    with pytest.raises(EngineBuildError, match="CUDACXX=/nowhere/nvcc is not a program"):
        toolchain.find_cuda()
    monkeypatch.setenv("CUDACXX", str(no_cuda / "cc"))
    with pytest.raises(EngineBuildError, match="does not answer as CUDA's nvcc does"):
        toolchain.find_cuda()
    monkeypatch.setenv("CUDACXX", str(fake_toolkit(tmp_path / "bare", cublas=False)))
    with pytest.raises(EngineBuildError, match=r"lacks cuBLAS \(cublas_v2.h\)"):
        toolchain.find_cuda()
    monkeypatch.delenv("CUDACXX")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "bare"))
    with pytest.raises(EngineBuildError, match=r"lacks cuBLAS \(cublas_v2.h\)"):
        toolchain.find_cuda()


def test_an_arch_that_nvcc_does_not_know(no_cuda: Path, tmp_path: Path) -> None:
    cuda = toolchain.Cuda(fake_toolkit(tmp_path / "cuda"), tmp_path / "cuda", (13, 0), cublas=True)
    toolchain.check_archs(cuda, ("75-real", "120a-real"))
    with pytest.raises(EngineBuildError, match=r"cannot compile for 70-real, 86-real: it knows 75, 90, 120\."):
        toolchain.check_archs(cuda, ("70-real", "86-real", "90-real"))


def test_the_real_nvcc_is_understood(require: Callable[[str, bool], None]) -> None:
    found = shutil.which("nvcc")
    require("CUDA's nvcc in the PATH", found is not None)
    assert found is not None
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    cuda = toolchain.inspect(Path(found))
    assert f"release {cuda.release[0]}.{cuda.release[1]}," in said
    assert (cuda.root / "bin" / "nvcc").is_file()
    toolchain.check_archs(cuda, ("80-real", "90-real"))
    with pytest.raises(EngineBuildError, match="cannot compile for 10-real"):
        toolchain.check_archs(cuda, ("10-real",))


def test_a_driver_older_than_nvcc(no_cuda: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDACXX", str(fake_toolkit(tmp_path / "cuda")))
    old = Cards(H200.found, driver_cuda=(12, 4))
    monkeypatch.setattr(builder, "find_cards", lambda: old)
    with pytest.raises(EngineBuildError, match=r"nvcc 13\.0 .* is too new .* CUDA up to 12\.4"):
        engines.build(tmp_path / "engine", Options("cuda", ("90-real",)), lambda *_: None)


def wheels(site: Path, without: str | None = None) -> Path:
    """CUDA's wheels as pip lays them: no lib64, no library name without a version."""
    root = site / "nvidia" / "cu13"
    fake_toolkit(root)
    for package, part in toolchain.CUDA_WHEELS.items():
        if package != without:
            (root / part).parent.mkdir(parents=True, exist_ok=True)
            (root / part).touch()
    (root / "lib").mkdir()
    for library in ("libcublas.so.13", "libcudart.so.13", "libcudadevrt.a"):
        (root / "lib" / library).touch()
    return root


def test_cuda_from_wheels(no_nvcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    root = wheels(site)
    monkeypatch.syspath_prepend(site)
    found = toolchain.find_cuda()
    assert found.wheels
    assert found.root == root
    before = sorted(root.rglob("*"))
    for _ in range(2):  # the second time finds its links
        cuda = toolchain.linked(found, tmp_path / "engine")
    assert sorted(root.rglob("*")) == before
    assert (cuda.root / "lib64" / "libcublas.so").resolve() == root / "lib" / "libcublas.so.13"
    assert (cuda.root / "lib" / "libcudart.so").resolve() == root / "lib" / "libcudart.so.13"
    assert (cuda.nvcc.parent / ".." / "include" / "cublas_v2.h").is_file()  # where nvcc looks
    assert (cuda.root / "nvvm" / "bin" / "cicc").is_file()


@pytest.mark.parametrize(("release", "package"), [(13, "cu13"), (12, "cublas")])
def test_cublas_of_pytorch_completes_a_toolkit_without_it(
    no_nvcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: int, package: str
) -> None:
    nvcc = fake_toolkit(tmp_path / "cuda", release=f"{release}.0", cublas=False)
    for part in ("include/cuda_runtime.h", "nvvm/bin/cicc", "lib64/libcudart.so.9", "lib64/libcudart.so"):
        (tmp_path / "cuda" / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cuda" / part).touch()
    root = tmp_path / "site/nvidia" / package
    for part in ("include/cublas_v2.h", f"lib/libcublas.so.{release}", f"lib/libcublasLt.so.{release}"):
        (root / part).parent.mkdir(parents=True, exist_ok=True)
        (root / part).touch()
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("CUDA_HOME", str(nvcc.parents[1]))
    found = toolchain.find_cuda()
    assert (found.nvcc, found.cublas, found.cublas_package) == (nvcc, True, root)
    cuda = toolchain.linked(found, tmp_path / "engine")
    lib64 = cuda.root / "lib64"
    assert (lib64 / "libcublas.so").resolve() == root / f"lib/libcublas.so.{release}"
    assert (lib64 / "libcublasLt.so").resolve() == root / f"lib/libcublasLt.so.{release}"
    assert (lib64 / "libcudart.so").resolve() == tmp_path / "cuda/lib64/libcudart.so"
    assert {header.name for header in (cuda.root / "include").iterdir()} >= {"cublas_v2.h", "cuda_runtime.h"}
    assert (cuda.root / "nvvm/bin/cicc").is_file()
    assert (cuda.nvcc.parent / ".." / "include" / "cublas_v2.h").is_file()  # where nvcc looks


def test_cublas_of_another_release_completes_nothing(
    no_nvcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_HOME", str(fake_toolkit(tmp_path / "cuda", cublas=False).parents[1]))
    root = tmp_path / "site/nvidia/cublas"
    for part in ("include/cublas_v2.h", "lib/libcublas.so.12"):
        (root / part).parent.mkdir(parents=True, exist_ok=True)
        (root / part).touch()
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(EngineBuildError, match=r"lacks cuBLAS \(cublas_v2.h\)"):
        toolchain.find_cuda()


def test_cuda_wheels_that_are_not_all_there(no_nvcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    wheels(site, without="nvidia-nvvm")
    monkeypatch.syspath_prepend(site)
    with pytest.raises(EngineBuildError, match=r"not complete\. Missing: nvidia-nvvm"):
        toolchain.find_cuda()
    monkeypatch.setenv("CUDA_HOME", str(fake_toolkit(tmp_path / "cuda").parents[1]))
    assert toolchain.find_cuda().root == tmp_path / "cuda"  # a whole toolkit does not need them

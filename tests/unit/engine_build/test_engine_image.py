"""What an image's builder stage keeps of CUDA's wheels: libraries, and no compiler. The wheels are made up."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from imagegen.engine_build import EngineBuildError

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_engine", ROOT / "deploy" / "build_engine.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiled(source: str, out: Path, *options: str) -> Path:
    subprocess.run(["cc", "-x", "c", "-", "-x", "none", "-o", out, *options], input=source, text=True, check=True)
    return out


def test_the_binary_runs_on_the_libraries_that_are_kept(tmp_path: Path, builder: ModuleType) -> None:
    wheels, engines = tmp_path / "site-packages" / "nvidia" / "cu13", tmp_path / "engine"
    toolkit = engines / "cuda-13.0-wheels"
    for folder in (wheels / "lib", wheels / "include", toolkit / "lib"):
        folder.mkdir(parents=True)
    # As in the wheels: one library needs another, and finds it beside itself.
    inner = compiled(
        "int inner() { return 7; }", wheels / "lib" / "libinner.so.13", "-shared", "-fPIC", "-Wl,-soname,libinner.so.13"
    )
    outer = compiled(
        "int inner(); int outer() { return inner(); }", wheels / "lib" / "libouter.so.13",
        "-shared", "-fPIC", "-Wl,-rpath,$ORIGIN", str(inner), "-Wl,-soname,libouter.so.13",
    )  # fmt: skip
    unused = compiled("int unused() { return 1; }", wheels / "lib" / "libunused.so.13", "-shared", "-fPIC")
    for library in (inner, outer, unused):
        (toolkit / "lib" / library.name).symlink_to(library)
    (toolkit / "lib64").symlink_to("lib")
    (toolkit / "include").symlink_to(wheels / "include")
    run_path = f"-Wl,-rpath,{toolkit}/lib64"
    program = compiled(
        "int outer(); int main() { return outer(); }", engines / "sd-server",
        str(toolkit / "lib64" / "libouter.so.13"), run_path, f"-Wl,-rpath-link,{wheels / 'lib'}",
    )  # fmt: skip
    assert subprocess.run([program]).returncode == 7

    builder.keep_libraries(program, engines)
    shutil.rmtree(tmp_path / "site-packages")  # the image's runtime stage does not have them
    assert subprocess.run([program]).returncode == 7
    assert sorted(path.name for path in (toolkit / "lib").iterdir()) == ["libinner.so.13", "libouter.so.13"]
    assert not any(path.is_symlink() for path in (toolkit / "lib").iterdir())
    assert not (toolkit / "include").exists()


def test_a_binary_without_cuda_is_no_cuda_engine(tmp_path: Path, builder: ModuleType) -> None:
    (tmp_path / "cuda-13.0-wheels").mkdir()
    (tmp_path / "wheels" / "include").mkdir(parents=True)
    (tmp_path / "cuda-13.0-wheels" / "include").symlink_to(tmp_path / "wheels" / "include")
    program = compiled("int main() { return 0; }", tmp_path / "sd-server")
    with pytest.raises(EngineBuildError, match="names no CUDA library"):
        builder.keep_libraries(program, tmp_path)

"""What a build is made of and called, and how Ninja's lines are read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegen.engine_build import EngineBuildError, Options, command, plan


def test_ninja_lines() -> None:
    assert command.parse_ninja("[12/193] Building CXX object a.o") == (12, 193, "Building CXX object a.o")
    assert command.parse_ninja("[0/2] Re-checking globbed directories...") == (
        0,
        2,
        "Re-checking globbed directories...",
    )
    for line in ("", "ninja: no work to do.", "[3/2] more than all", "[0/0] nothing", " [1/2] a note", "[1/2]"):
        assert command.parse_ninja(line) is None


@given(st.text())
def test_no_line_upsets_the_ninja_parser(line: str) -> None:
    step = command.parse_ninja(line)
    assert step is None or 0 <= step.done <= step.total


def name(options: Options, features: frozenset[str] = frozenset({"avx2"})) -> str:
    return plan.name_of(plan.PINNED, options, features)


def test_the_key_tells_every_kind_of_build_apart() -> None:
    kinds = [
        Options(),
        Options(portable=True),
        Options("cuda", ("90-real",)),
        Options("cuda", ("90-real",), portable=True),
        Options("cuda", ("86-real", "90-real"), portable=True),
        Options("cuda", plan.ALL_ARCHS, portable=True),
    ]
    names = [name(kind) for kind in kinds]
    assert len(set(names)) == len(kinds)
    assert names[0].startswith("0.4.7-cpu-native-")
    assert names[4].startswith("0.4.7-cuda-86+90-")
    assert names[5].startswith("0.4.7-cuda-all-")


def test_the_key_of_a_native_build_is_this_cpus_alone() -> None:
    assert name(Options(), frozenset({"avx2"})) != name(Options(), frozenset({"avx2", "avx512f"}))
    assert name(Options(portable=True), frozenset()) == name(Options(portable=True), frozenset({"avx512f"}))


def test_flags() -> None:
    assert "-DGGML_NATIVE=OFF" not in Options().flags
    assert "-DGGML_NATIVE=OFF" in Options(portable=True).flags
    flags = Options("cuda", ("75-real", "90-real"), portable=True).flags
    assert "-DSD_CUDA=ON" in flags
    assert "-DCMAKE_CUDA_ARCHITECTURES=75-real;90-real" in flags


@pytest.mark.parametrize(
    ("text", "archs"),
    [
        ("90", ("90-real",)),
        ("90, 75;86", ("75-real", "86-real", "90-real")),
        ("sm_89", ("89-real",)),
        ("120", ("120a-real",)),
        ("100f", ("100f-real",)),
        ("90-virtual,90", ("90-real", "90-virtual")),
        ("ALL", plan.ALL_ARCHS),
    ],
)
def test_archs_as_typed(text: str, archs: tuple[str, ...]) -> None:
    assert plan.parse_archs(text) == archs


@pytest.mark.parametrize("text", ["", "9.0", "hopper", "90,,86", "9", "90-sass", "native"])
def test_archs_that_are_none(text: str) -> None:
    with pytest.raises(EngineBuildError, match="not a CUDA architecture"):
        plan.parse_archs(text)


@pytest.mark.parametrize(
    ("arch", "capability", "runs"),
    [
        ("86-real", (8, 6), True),
        ("80-real", (8, 9), True),
        ("89-real", (8, 6), False),
        ("86-real", (9, 0), False),
        ("86-virtual", (9, 0), True),
        ("90-virtual", (8, 6), False),
        ("120a-real", (12, 0), True),
        ("120a-real", (12, 1), False),
        ("100-real", (10, 3), True),
    ],
)
def test_which_card_runs_which_code(arch: str, capability: tuple[int, int], runs: bool) -> None:
    assert plan.arch_runs_on(arch, capability) is runs


def test_cpu_features(tmp_path: Path) -> None:
    x86 = tmp_path / "x86"
    x86.write_text("processor\t: 0\nflags\t\t: fpu vme sse2 ssse3 fma avx2 hypervisor avx512f\nbugs\t\t: none\n")
    assert plan.cpu_features(x86) == {"sse2", "ssse3", "fma", "avx2", "avx512f"}
    arm = tmp_path / "arm"
    arm.write_text("processor\t: 0\nFeatures\t: fp asimd sve\n")
    assert plan.cpu_features(arm) == {"fp", "asimd", "sve"}
    assert plan.cpu_features(tmp_path / "none") == frozenset()


@pytest.mark.parametrize("changed", plan.CHANNEL_FILES)
def test_a_change_of_the_channel_is_another_build(tmp_path: Path, changed: str) -> None:
    copy = shutil.copytree(plan.CHANNEL_DIR, tmp_path / "channel")
    before = plan.name_of(plan.PINNED, plan.Options(), frozenset(), copy)
    assert before == plan.name_of(plan.PINNED, plan.Options(), frozenset())
    (copy / changed).write_bytes((copy / changed).read_bytes() + b"\n")
    assert plan.name_of(plan.PINNED, plan.Options(), frozenset(), copy) != before

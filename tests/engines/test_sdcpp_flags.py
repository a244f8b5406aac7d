"""Flags: what a usage text lists, and a command line in the words of the engine at hand."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from lives import Ask, Make, nobody

from imagegen.engine_build import probe
from imagegen.engines.sdcpp.adapter import SdcppServerAdapter
from imagegen.engines.sdcpp.flags import ESSENTIAL, adapt, known_flags
from imagegen.hardware.memory_mode import MODE_FLAGS, MemoryMode
from imagegen.models.catalog import Catalog

OLD = frozenset({"--flow-shift", "--diffusion-fa", "--qwen-image-zero-cond-t", "--llm"})
NEW = frozenset({"--flow-shift", "--diffusion-fa", "--model-args", "--eager-load", "--llm"})


@pytest.mark.parametrize(
    ("argv", "known", "taken", "lacking"),
    [
        (["--qwen-image-zero-cond-t"], OLD, ["--qwen-image-zero-cond-t"], ()),
        (["--qwen-image-zero-cond-t"], NEW, ["--model-args", "qwen_image_zero_cond_t=true", "--eager-load"], ()),
        (["--qwen-image-zero-cond-t"], OLD & NEW, [], ("--qwen-image-zero-cond-t",)),
        (["--qwen-image-zero-cond-t"], OLD | NEW, ["--qwen-image-zero-cond-t", "--eager-load"], ()),
        (["--flow-shift", "-3", "--gone", "-1.5"], OLD, ["--flow-shift", "-3"], ("--gone",)),
        (["--tae", "/m/tae.gguf", "--gone"], OLD, ["--tae", "/m/tae.gguf"], ("--gone",)),
        (["--eager-load"], NEW, ["--eager-load"], ()),
        (["--anything", "x"], frozenset(), ["--anything", "x"], ()),
    ],
)
def test_a_command_line_in_the_words_of_the_engine(
    argv: list[str], known: frozenset[str], taken: list[str], lacking: tuple[str, ...]
) -> None:
    command = adapt(argv, known)
    assert (command.argv, command.lacking) == (taken, lacking)


def test_the_pinned_engine_knows_every_flag_of_the_catalog(sd_server: Path) -> None:
    known = known_flags(probe.usage(sd_server))
    assert known >= ESSENTIAL
    for entry in Catalog.packaged().entries():
        flags = [*entry.engine_flags, *(file.flag for file in entry.files if file.flag)]
        assert adapt(flags, known).lacking == (), entry.name


def test_a_memory_mode_changes_no_picture(
    engine: SdcppServerAdapter,
    loop: asyncio.Runner,
    make_adapter: Make,
    ask: Ask,
    tiny_argv: list[str],
    sd_server: Path,
) -> None:
    """On the CPU, where the engine takes the flags and ignores them."""
    flags = ["--offload-to-cpu", "--max-vram", "0.1"]
    assert MODE_FLAGS[MemoryMode.STREAM] <= known_flags(probe.usage(sd_server))

    async def draw() -> tuple[bytes, bytes]:
        streaming = make_adapter(model_argv=[*tiny_argv, *flags])
        await streaming.start(nobody)
        try:
            return await engine.generate(ask(), nobody), await streaming.generate(ask(), nobody)
        finally:
            await streaming.stop()

    one, other = loop.run(draw())
    assert one == other


def test_a_usage_text_is_asked_for_again_when_the_binary_changes(tmp_path: Path) -> None:
    binary = tmp_path / "sd-server"
    binary.write_text("#!/bin/sh\necho Usage: sd-server; echo '  -a, --one <int>   first --no-flag'\n")
    binary.chmod(0o755)
    assert known_flags(probe.usage(binary)) == {"-a", "--one"}
    binary.write_text("#!/bin/sh\necho broken library; exit 127\n")
    for _ in range(2):
        with pytest.raises(probe.EngineSilent, match=r"exit status 127.*broken library"):
            probe.usage(binary)
    binary.unlink()
    with pytest.raises(probe.EngineSilent, match="No such file"):
        probe.usage(binary)

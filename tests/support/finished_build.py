"""Finished builds of the engine whose binary is a stand-in, for tests of what chooses among them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from imagegen.engine_build import Options, plan
from imagegen.settings import Settings

HERE = plan.cpu_features()
See = Callable[..., None]
"""The fixture `see` of tests/unit/engine_build."""


def finished(
    settings: Settings, options: Options, features: frozenset[str] = HERE, cuda: tuple[int, int] | None = None
) -> Path:
    """Make one in the cache of `settings`; returns its binary. `resolve` chooses from such folders."""
    folder = settings.engine_dir / plan.name_of(plan.PINNED, options, features)
    folder.mkdir(parents=True)
    binary = folder / "sd-server"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    manifest = plan.Manifest(
        version=plan.PINNED.version,
        backend=options.backend,
        archs=options.archs,
        portable=options.portable,
        flags=options.flags,
        cpu_features=tuple(sorted(options.needs(features))),
        sha256=hashlib.sha256(binary.read_bytes()).hexdigest(),
        size_bytes=binary.stat().st_size,
        seconds=1.0,
        cuda=cuda,
    )
    (folder / "engine.json").write_text(manifest.model_dump_json())
    return binary

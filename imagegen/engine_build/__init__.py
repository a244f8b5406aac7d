"""The engine's binary, sd-server: built from its pinned source or supplied by the user.

Belongs here: source, toolchain, build, choice of the binary. Not here: running it (engines)."""

from imagegen.engine_build.builder import Built, build
from imagegen.engine_build.plan import Archive, EngineBuildError, EngineMissing, Manifest, OnProgress, Options, Stage
from imagegen.engine_build.select import (
    backend_here,
    default_backend,
    ensure,
    lost_gpu,
    options_for,
    require_gpu,
    resolve,
)

__all__ = [
    "Archive",
    "Built",
    "EngineBuildError",
    "EngineMissing",
    "Manifest",
    "OnProgress",
    "Options",
    "Stage",
    "backend_here",
    "build",
    "default_backend",
    "ensure",
    "lost_gpu",
    "options_for",
    "require_gpu",
    "resolve",
]

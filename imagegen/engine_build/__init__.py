"""The engine's binary, sd-server: built from its pinned source or supplied by the user.

Belongs here: source, toolchain, build, choice of the binary. Not here: running it (engines)."""

from imagegen.engine_build.builder import Built, build
from imagegen.engine_build.plan import EngineBuildError, EngineMissing, Manifest, OnProgress, Options, Stage
from imagegen.engine_build.select import default_backend, ensure, options_for, require_gpu, resolve

__all__ = [
    "Built",
    "EngineBuildError",
    "EngineMissing",
    "Manifest",
    "OnProgress",
    "Options",
    "Stage",
    "build",
    "default_backend",
    "ensure",
    "options_for",
    "require_gpu",
    "resolve",
]

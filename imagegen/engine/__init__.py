"""The engine's binary: sd-server, built from its pinned source or brought by the user."""

from imagegen.engine.builder import Built, build
from imagegen.engine.choose import default_backend, ensure, options_for, require_gpu, resolve
from imagegen.engine.plan import EngineBuildError, EngineMissing, Manifest, OnProgress, Options, Stage

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

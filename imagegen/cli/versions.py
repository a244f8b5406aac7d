"""The lines of `imagegen --version`: the version, the commit, and the engine that the service would start."""

from __future__ import annotations

import imagegen
from imagegen import settings, version
from imagegen.engine_build import EngineMissing, probe, resolve
from imagegen.engine_build.plan import PINNED
from imagegen.setting_values import SettingsError


def lines() -> list[str]:
    """Two lines. A wrong setting or a missing engine is no failure here."""
    return [f"imagegen {imagegen.__version__}, commit {version.commit()}", f"engine: {_engine()}"]


def _engine() -> str:
    pinned = f"{PINNED.project} {PINNED.version}"
    try:
        binary = resolve(settings.load())
    except SettingsError:
        return f"unknown, as a setting is wrong (`imagegen doctor`); this version builds {pinned}"
    except EngineMissing:
        return f"not built; this version builds {pinned}"
    release = probe.release_of(binary)
    return f"sd-server {release or 'of an unknown release'} ({probe.backend_of(binary) or 'unknown backend'}), {binary}"

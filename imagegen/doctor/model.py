"""Checks the engine's binary and the default model's files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from imagegen import engine_build
from imagegen.doctor.finding import Finding, Level, fail, ok, warn
from imagegen.engine_build import probe
from imagegen.engines.sdcpp import flags as sdcpp_flags
from imagegen.engines.sdcpp.channel import VERSION as CHANNEL_VERSION
from imagegen.hardware import compatibility
from imagegen.hardware.gpu import Gpu
from imagegen.models import check
from imagegen.models import packages as extras
from imagegen.models.catalog import missing_sentence
from imagegen.models.download.background import may_fetch
from imagegen.models.entry import Entry
from imagegen.models.entry_tables import ModelFile
from imagegen.models.synthetic import make as synthetic
from imagegen.settings import Settings

HASHED_BYTES = 64 * 1024 * 1024
"""Larger files are hashed only with `--deep`, because a disk reads only some hundred MB a second."""


def find_engine(settings: Settings, entry: Entry | None) -> tuple[Path | None, frozenset[str], Iterable[Finding]]:
    """Find the sd-server that the service would start, and its flags (empty: unknown). Check whether it runs.

    A problem is a failure only if the default model, `entry`, uses sd-server.
    """
    binary, flags, found = _sd_server(settings)
    if found.level is Level.FAIL and entry is not None and entry.adapter != "sdcpp":
        what = f"{entry.name} has an engine of its own; models of sd-server cannot be drawn. {found.what}"
        wrong = settings.sd_server is not None  # the operator chose it explicitly
        found = warn("engine", what, "Or unset IMAGEGEN_SD_SERVER.") if wrong else ok("engine", what)
    return binary, flags, [found]


def _sd_server(settings: Settings) -> tuple[Path | None, frozenset[str], Finding]:
    try:
        binary = engine_build.resolve(settings)
    except engine_build.EngineBuildError as missing:
        return None, frozenset(), fail("engine", str(missing), "Without an engine nothing can be drawn.")
    try:
        flags = sdcpp_flags.known_flags(probe.usage(binary))
    except probe.EngineSilent as silent:
        return binary, frozenset(), fail("engine", str(silent), "Build one that runs: `imagegen engine build`.")
    if lacking := sorted(sdcpp_flags.ESSENTIAL - flags):
        what = f"{binary} does not know {', '.join(lacking)}, which the service needs."
        return binary, flags, fail("engine", what, "Use the engine that `imagegen engine build` makes.")
    return binary, flags, ok("engine", f"The engine runs: {binary}.")


def engine_flags(entry: Entry, binary: Path | None, flags: frozenset[str]) -> Iterable[Finding]:
    """Check whether the engine supports every flag and request field of the default model."""
    if binary is None or not flags or entry.adapter != "sdcpp":
        return
    machine = compatibility.Machine(flags, None, None, 0, binary=binary, engine_release=probe.release_of(binary))
    if (older := compatibility.too_old(entry, machine)) is not None:
        yield fail("flags", older.detail, "Its jobs are refused.")
        return
    lacking = next(filter(None, compatibility.engine_misfits(entry, machine)), None)
    if lacking is None:
        yield ok("flags", f"The engine knows every flag of {entry.name}.")
    else:
        yield warn("flags", lacking.detail, "Or take that flag out of the model's entry, if it is yours.")


def engine_channel(entry: Entry, binary: Path | None, flags: frozenset[str]) -> Iterable[Finding]:
    """Check whether the engine has this release's channel. An engine that does not run has no flags."""
    if binary is None or not flags or entry.adapter != "sdcpp":
        return
    has_channel = probe.channel_version(binary) == CHANNEL_VERSION
    if lacking := compatibility.lacking_channel(entry, has_channel):
        yield warn("channel", lacking.detail, "`imagegen engine build` builds one in some minutes.")
    else:
        yield ok("channel", "The engine has no port; it takes orders only from the service.")


def limits(entry: Entry) -> Iterable[Finding]:
    """Report limits of the default model that a user may not expect."""
    if entry.limits is not None:
        yield ok("model", f"The model is {entry.name}. {entry.limits} `imagegen models list` names others.")


def packages(entry: Entry) -> Iterable[Finding]:
    """Check the Python packages of the default model's engine. For other models missing packages are no problem."""
    if lacking := extras.lacking_sentence(entry):
        yield fail("packages", lacking, "Or choose another model: IMAGEGEN_MODEL.")
        return
    for adapter in sorted(extras.PACKAGES.keys() - {entry.adapter}):
        if names := extras.lacking(adapter):
            yield ok(
                "packages",
                f"Models of the adapter {adapter} cannot be drawn with: {', '.join(names)} are not installed. "
                f"To use them: {extras.how_to_install(adapter)} (docs/engine.md).",
            )
    if entry.adapter in extras.PACKAGES:
        yield ok("packages", f"The packages that {entry.name} needs are installed.")


def torch(entry: Entry, settings: Settings, card: Gpu | None) -> Iterable[Finding]:
    """Check whether the second engine, if the default model uses it, uses this machine's card."""
    misfit = compatibility.unused_card(entry, None if card is None else card.name, extras.torch_uses_cuda())
    if misfit is not None:
        level = Level.FAIL if settings.on_missing_gpu == "exit" else Level.WARN
        yield Finding("torch", level, misfit.detail, "Which torch to take, and how: docs/engine.md.")


def model_files(entry: Entry, settings: Settings, deep: bool, has_gpu: bool) -> Iterable[Finding]:
    """Check that every file of the default model exists, with the expected size, hash and file type."""
    try:
        if synthetic.to_make(entry, settings):
            yield ok("model files", f"The service makes the files of {entry.name} when they are first needed.")
            return
        expected = list(check.expectations(entry, settings))
    except OSError as damaged:
        yield fail("model files", f"{damaged.strerror}: {damaged.filename}.", "Every job fails until this is fixed.")
        return
    fetches = may_fetch(entry, settings.auto_fetch, is_default=True, has_gpu=has_gpu)
    if entry.missing(settings):
        if fetches:
            yield ok("model files", f"The service fetches {entry.name} at its start (IMAGEGEN_AUTO_FETCH).")
        else:
            yield fail(
                "model files", missing_sentence(entry, settings), "Every job fails until this is fixed: model_missing."
            )
    elif absent := entry.absent(settings):
        yield from _absent(entry, absent, fetches)
    wrong = unhashed = 0
    for path, stated in expected:
        if not path.is_file():
            continue
        up_to = None if deep else HASHED_BYTES
        if damage := check.damage(stated, path, up_to):
            wrong += 1
            again = "fetch it again" if entry.made_by is None else f"make it again: imagegen models make {entry.name}"
            yield fail("model files", f"{path} {damage}.", f"Remove it and {again}.")
        elif up_to is not None and stated.has_checksum and path.stat().st_size > up_to:
            unhashed += 1
    if not wrong and not entry.missing(settings):
        large = f"; {unhashed} large files were not hashed (--deep)" if unhashed else ""
        yield ok("model files", f"All files of {entry.name} are here{large}.")


def _absent(entry: Entry, absent: list[ModelFile], fetches: bool) -> Iterable[Finding]:
    """Report missing optional files that a hub has. Nothing else reports that the model draws without them."""
    named = "; ".join(file.file + (f" ({file.note})" if file.note else "") for file in absent)
    what = f"{entry.name} works without {named}, which is not here: pictures are drawn without it."
    if fetches:
        yield ok("model files", f"{what} The service fetches it beside its work.")
    else:
        yield warn("model files", what, f"Fetch it: imagegen models fetch {entry.name}")

"""LoraFolder: the LoRAs of the state folder, checked before the engine sees them."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imagegen.engines.safetensors import Header, NotSafetensors, Tensor, odd_pairs, read_header
from imagegen.engines.sdcpp.lora_fit import ROLES, Misfit, Weights, check
from imagegen.models.entry import Entry
from imagegen.models.loras.facts import Facts, facts_of
from imagegen.models.recognition import WeightsError, read
from imagegen.schemas import Refused
from imagegen.settings import Settings
from imagegen.storage.descriptors import are_short

SUFFIX = ".safetensors"
NAME = re.compile(r"[^\x00-\x1f\x7f./\\:<>|\"*?][^\x00-\x1f\x7f/\\:<>|\"*?]{0,127}")
"""A LoRA's name: no part of a path, no hidden file, and no sign of the notation `<lora:NAME:STRENGTH>`."""
MAX_HEADER_BYTES = 16 * 1024 * 1024
SHOWN = 10


@dataclass(frozen=True)
class LoraFile:
    """A LoRA of the folder. `fault`: why it cannot be used with any model, as the end of a sentence, else None."""

    name: str
    path: Path
    bytes: int
    tensors: Mapping[str, Tensor]
    facts: Facts
    fault: str | None


class LoraFolder:
    """The files `NAME.safetensors` of IMAGEGEN_HOME/loras. Blocks; its methods may run in several threads.

    Headers are kept as long as their files do not change, those of models too.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._files: dict[Path, tuple[object, LoraFile]] = {}
        self._weights: dict[str, tuple[object, Weights | None]] = {}
        self._misfits: dict[tuple[str, str], tuple[LoraFile, Weights, Misfit | None]] = {}

    @property
    def path(self) -> Path:
        return self._settings.loras_dir

    def names(self) -> list[str]:
        """The names of the usable files and of those that have a fault. Links that leave the folder are left out."""
        try:
            found = [one.name.removesuffix(SUFFIX) for one in os.scandir(self.path) if one.name.endswith(SUFFIX)]
        except OSError:
            return []
        return sorted(name for name in found if self._place(name) is not None)

    def all(self) -> list[LoraFile]:
        """Every LoRA of the folder, in the order of the names."""
        found = []
        for name in self.names():
            try:
                found.append(self._read(name))
            except Refused:
                continue  # removed since the folder was listed
        return found

    def checked(self, name: str, entry: Entry) -> LoraFile:
        """The LoRA called `name`, if it can be used with the model. Its fit is not checked while the model's files are
        missing. Raises Refused 422 `unknown_lora`, `lora_damaged`, `lora_of_another_model`, `lora_not_supported`."""
        lora = self._read(name)
        if lora.fault is not None:
            raise Refused(422, "lora_damaged", f"The LoRA {lora.name} {lora.fault}. Add it again.", param="loras")
        if (misfit := self._misfit(lora, entry)) is not None:
            raise self._refusal(lora, entry, misfit)
        return lora

    def fits(self, lora: LoraFile, entry: Entry) -> bool:
        """Whether the LoRA can be used with the model, whose files are installed."""
        if lora.fault is not None or entry.adapter != "sdcpp" or not entry.installed(self._settings):
            return False
        return self._misfit(lora, entry) is None

    def _misfit(self, lora: LoraFile, entry: Entry) -> Misfit | None:
        if not entry.installed(self._settings):
            return None
        weights = self._weights_of(entry)
        if weights is None:
            return Misfit(f"cannot be checked: {entry.name} is of a family without LoRAs here", another_model=False)
        key = (lora.name, entry.name)
        known = self._misfits.get(key)
        if known is None or known[0] is not lora or known[1] is not weights:
            try:
                check(lora.tensors, weights)
                misfit = None
            except Misfit as found:
                misfit = found
            known = self._misfits[key] = (lora, weights, misfit)
        return known[2]

    def _refusal(self, lora: LoraFile, entry: Entry, misfit: Misfit) -> Refused:
        advice = "GET /api/loras lists the models of each."
        if not misfit.another_model:
            return Refused(422, "lora_not_supported", f"The LoRA {lora.name} {misfit}. {advice}", param="loras")
        weights, made_for = self._weights_of(entry), lora.facts.base_model or lora.facts.family
        families = f" ({made_for}, and {entry.name} is {weights.family})" if weights and made_for else ""
        detail = f"The LoRA {lora.name} was made for another model{families}: {misfit}. {advice}"
        return Refused(422, "lora_of_another_model", detail, param="loras")

    # ---- files ------------------------------------------------------------------------------------

    def _place(self, name: str) -> Path | None:
        """The file of a LoRA, without symbolic links; None unless it is an ordinary file of the folder."""
        if not NAME.fullmatch(name):
            return None
        try:
            folder = self.path.resolve(strict=True)
            file = (folder / f"{name}{SUFFIX}").resolve(strict=True)
            return file if file.parent == folder and stat.S_ISREG(file.stat().st_mode) else None
        except (OSError, RuntimeError, ValueError):
            return None

    def _read(self, name: str) -> LoraFile:
        """Raises Refused 422 `unknown_lora`."""
        name = name.removesuffix(SUFFIX)
        file = self._place(name)
        try:
            if file is None:
                raise FileNotFoundError(errno.ENOENT, "no such file")
            mark = _mark(file)
            known = self._files.get(file)
            if known is None or known[0] != (mark, name):
                known = self._files[file] = ((mark, name), read_lora(file, name))
        except FileNotFoundError:
            raise self.unknown(name) from None
        except OSError as failure:
            if are_short(failure):
                raise
            detail = f"The LoRA {name} cannot be read: {failure.strerror}."
            raise Refused(422, "lora_damaged", detail, param="loras") from None
        return known[1]

    def unknown(self, name: str) -> Refused:
        shown = name if len(name) <= 64 else f"{name[:60]}…"
        names = self.names()
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        there = f"There are: {', '.join(names[:SHOWN])}{more}." if names else "There are none yet."
        detail = f"There is no LoRA {shown!r}. {there} `imagegen loras add` adds one."
        return Refused(422, "unknown_lora", detail, param="loras")

    def _weights_of(self, entry: Entry) -> Weights | None:
        files = [(file.role, entry.path_of(file, self._settings)) for file in entry.files if file.role in ROLES]
        try:
            mark: object = [_mark(path) for _, path in files if path.is_file()]
            known = self._weights.get(entry.name)
            if known is None or known[0] != mark:
                shapes = [(role, read(path).shapes) for role, path in files if path.is_file()]
                known = self._weights[entry.name] = (mark, Weights.of(shapes))
        except (OSError, WeightsError):
            return None
        return known[1]


def read_lora(file: Path, name: str) -> LoraFile:
    """Read and check a LoRA's header. Raises OSError."""
    size_bytes = file.stat().st_size
    try:
        header = read_header(file, MAX_HEADER_BYTES)
        shapes = {tensor: one.shape for tensor, one in header.tensors.items()}
        fault = next(odd_pairs(shapes), None) if shapes else "has no tensor"
    except NotSafetensors as wrong:
        header, fault = Header({}), str(wrong)
    return LoraFile(name, file, size_bytes, header.tensors, facts_of(header), fault)


def _mark(path: Path) -> tuple[object, ...]:
    """A value that changes with the file."""
    state = path.stat()
    return str(path), state.st_size, state.st_mtime_ns, state.st_ino

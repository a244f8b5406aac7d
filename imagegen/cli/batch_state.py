"""What a batch has done so far: a file beside its pictures, so that a second run goes on where the first one ended.

Every record is on the disk before what it announces is done:
`batch` begins the file; `job` is the job of a request; `files` are the names that its pictures get; `done` ends it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO
from uuid import uuid4

from imagegen.cli.errors import ServiceError

SUFFIX = ".batch"
BEGIN = b'{"batch": "'


@dataclass
class Known:
    """What is known of a request. attempt: how many jobs of it have failed or were lost."""

    attempt: int = 0
    job_id: str | None = None
    files: list[str] = field(default_factory=list)
    done: bool = False


class BatchState:
    """The state file, locked while it is open. Raises ServiceError for a file that is none, or is in use."""

    def __init__(self, path: Path, anew: bool = False) -> None:
        self.path = path
        self.known: dict[str, Known] = {}
        self.id = ""
        self._made_folder = not path.parent.exists()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = path.open("a+b")
        except OSError as failed:
            raise ServiceError(f"{path} cannot be written: {failed.strerror}.") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ServiceError(f"{path} is in use: another run of this batch is at work.") from None
        try:
            self._read()
            if anew:
                self._file.truncate(0)
                self.known, self.id = {}, ""
            if not self.id:
                self.id = uuid4().hex
                self._write({"batch": self.id})
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> BatchState:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; delete it again if no job was made."""
        if not any(known.job_id for known in self.known.values()):
            self.path.unlink(missing_ok=True)
            if self._made_folder:
                with contextlib.suppress(OSError):
                    self.path.parent.rmdir()
        self._file.close()

    def of(self, key: str) -> Known:
        """What is known of the request `key`."""
        return self.known.setdefault(key, Known())

    def note_job(self, key: str, attempt: int, job_id: str) -> None:
        known = self.of(key)
        known.attempt, known.job_id, known.files = attempt, job_id, []
        self._write({"job": job_id, "key": key, "attempt": attempt})

    def note_files(self, key: str, files: list[str]) -> None:
        self.of(key).files = files
        self._write({"files": files, "key": key})

    def note_done(self, key: str) -> None:
        self.of(key).done = True
        self._write({"done": True, "key": key})

    def _read(self) -> None:
        self._file.seek(0)
        data = self._file.read()
        whole = data[: data.rfind(b"\n") + 1]  # a run that was killed may have left a part of a line
        try:
            for line in whole.splitlines():
                self._take(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._foreign() from None
        if not self.id and not BEGIN.startswith(data[: len(BEGIN)]):
            raise self._foreign()
        self._file.truncate(len(whole))

    def _foreign(self) -> ServiceError:
        return ServiceError(f"{self.path} is no state of a batch. Move it away, or draw to another folder.")

    def _take(self, record: dict[str, Any]) -> None:
        if "batch" in record:
            self.id = str(record["batch"])
            return
        known = self.of(str(record["key"]))
        if "job" in record:
            known.attempt, known.job_id, known.files = int(record["attempt"]), str(record["job"]), []
        elif "files" in record:
            known.files = [str(name) for name in record["files"]]
        else:
            known.done = bool(record["done"])

    def _write(self, record: dict[str, Any]) -> None:
        """Append a record, and wait until the disk has it."""
        try:
            self._file.seek(0, os.SEEK_END)
            self._file.write(json.dumps(record).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as failed:
            raise ServiceError(f"{self.path} cannot be written: {failed.strerror}.") from None

"""Where an engine's HTTP server listens: on a Unix socket in a private folder, or on a loopback TCP port."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import ssl
import struct
import tempfile
from abc import ABC, abstractmethod
from enum import Enum, auto
from pathlib import Path
from typing import ClassVar

import httpx

from imagegen.engines.base import EngineError
from imagegen.engines.ports import LOOPBACK, listening_inodes, reserve_port, session_pids, socket_inodes

MAX_PATH_BYTES = 107  # sockaddr_un.sun_path without the closing zero byte (unix(7))
PREFIX = "imagegen-engine-"
KEEPALIVE_S = 2.0
"""Below the 5 s of sd-server (CPPHTTPLIB_KEEPALIVE_TIMEOUT_SECOND) and uvicorn, so that they never close first."""
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)
_FOLDER_ATTEMPTS = 5


class AddressTaken(Exception):
    """Another program listens where the engine should."""


class Listener(Enum):
    """Who listens on an endpoint, seen from the process that was started as the engine."""

    NOBODY = auto()
    ENGINE = auto()
    DESCENDANT = auto()  # a process that the engine's process has started
    STRANGER = auto()


class Endpoint(ABC):
    """The address of one engine process; a new one is made for each start."""

    taken: ClassVar[str]  # a sentence: what it means that the engine could not listen, several times in a row

    @abstractmethod
    def listener(self, pid: int) -> Listener:
        """Who listens here; `pid` is the process that was started as the engine."""

    @abstractmethod
    def client(self, connections: int) -> httpx.AsyncClient:
        """An HTTP client with at most `connections` keep-alive connections and no time-out."""

    @abstractmethod
    def ready(self) -> None:
        """The engine listens: release what was held for it until then."""

    @abstractmethod
    def close(self) -> None:
        """The engine's process is gone: leave nothing behind. Idempotent."""


class TcpEndpoint(Endpoint):
    """A loopback port of its own, for an engine without the channel: any local program can connect to it."""

    taken: ClassVar[str] = (
        "Another program took the engine's port. Find out what listens on 127.0.0.1 here, or use an engine with the "
        "channel: it has no port."
    )

    def __init__(self, reserved: socket.socket | None = None) -> None:
        """reserved: a bound socket that does not listen and shares its port (tests)."""
        self._reserved = reserved or reserve_port()
        self.port: int = self._reserved.getsockname()[1]

    def listener(self, pid: int) -> Listener:
        """See Endpoint. SO_REUSEPORT lets a second server of the same user share the port and take half of the
        requests: then nobody but the engine may listen."""
        listening = listening_inodes(self.port)
        if not listening:
            return Listener.NOBODY
        if listening <= socket_inodes(pid):
            return Listener.ENGINE
        family = set[str]().union(*(socket_inodes(member) for member in session_pids(pid)))
        return Listener.DESCENDANT if listening <= family else Listener.STRANGER

    def client(self, connections: int) -> httpx.AsyncClient:
        return _client(f"http://{LOOPBACK}:{self.port}", None, connections)

    def ready(self) -> None:
        self._reserved.close()

    def close(self) -> None:
        self._reserved.close()


class UnixEndpoint(Endpoint):
    """A socket named `path` in a new folder that only its owner can enter. No other user and no browser reaches it."""

    taken: ClassVar[str] = "The engine could not listen on its Unix socket."

    def __init__(self, fallback: Path) -> None:
        """fallback: an existing folder to use where neither the temporary nor the runtime folder serves.

        Raises OSError, or EngineError(load_failed) if every folder's path is too long for a socket.
        """
        self._lock, self._folder = _new_folder(_parents(fallback))
        self.path = self._folder / "s"

    def listener(self, pid: int) -> Listener:
        with socket.socket(socket.AF_UNIX) as knock:
            knock.setblocking(False)
            try:
                knock.connect(str(self.path))
            except OSError:  # not there, not listening, or its backlog is full
                return Listener.NOBODY
            peer, _uid, _gid = _CREDENTIALS.unpack(
                knock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
        if peer == pid:
            return Listener.ENGINE
        return Listener.DESCENDANT if peer in session_pids(pid) else Listener.STRANGER

    def client(self, connections: int) -> httpx.AsyncClient:
        return _client("http://localhost", str(self.path), connections)

    def ready(self) -> None:
        """Nothing was held."""

    def close(self) -> None:
        if self._lock >= 0:
            _remove(self._folder)
            os.close(self._lock)
            self._lock = -1


def _client(base_url: str, uds: str | None, connections: int) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(
        uds=uds,
        trust_env=False,
        limits=httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEEPALIVE_S
        ),
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # unused; the default would load every CA: 36 ms
    )
    return httpx.AsyncClient(
        base_url=base_url,
        transport=transport,
        trust_env=False,  # a proxy from the environment has no business here
        timeout=None,  # noqa: S113 - a silent engine is the worker's to judge
    )


def _parents(fallback: Path) -> list[Path]:
    """Folders for the socket's folder, best first.

    The temporary folder comes before XDG_RUNTIME_DIR, because logind deletes the latter when its user logs out,
    while a service in tmux goes on.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    named = [tempfile.gettempdir(), *([runtime] if runtime else []), "/tmp", str(fallback)]  # noqa: S108
    return [Path(folder) for folder in dict.fromkeys(named)]


def _new_folder(parents: list[Path]) -> tuple[int, Path]:
    """A new 0700 folder in the first of `parents` that takes one, and the descriptor that holds its lock."""
    refused: OSError | None = None
    for parent in parents:
        longest = os.fsencode(parent / f"{PREFIX}12345678" / "s")
        if len(longest) > MAX_PATH_BYTES:
            continue
        try:
            _remove_stale(parent)
            return _locked_folder(parent)
        except OSError as failure:
            refused = failure
    if refused is not None:
        raise refused
    raise EngineError(
        "load_failed",
        f"The engine's socket needs a path of at most {MAX_PATH_BYTES} bytes: set TMPDIR to a shorter folder.",
    )


def _locked_folder(parent: Path) -> tuple[int, Path]:
    """The lock tells _remove_stale, and systemd-tmpfiles, that the folder is in use; it ends with this process."""
    for _ in range(_FOLDER_ATTEMPTS):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), folder.stat()):
                return lock, folder
        except OSError:  # another service has just taken it for a stale one
            pass
        os.close(lock)
    raise BlockingIOError("no folder for the engine's socket could be locked")


def _remove_stale(parent: Path) -> None:
    """Delete the folders of services that were killed: ours by owner, and no longer locked."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(folder)
            finally:
                os.close(lock)


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):
        (folder / "s").unlink(missing_ok=True)
        folder.rmdir()

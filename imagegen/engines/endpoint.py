"""The address of an engine's HTTP server: a Unix socket in a private folder, or a loopback TCP port."""

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
"""Below the 5 s of sd-server (CPPHTTPLIB_KEEPALIVE_TIMEOUT_SECOND) and uvicorn, so that the client closes first."""
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)
_FOLDER_ATTEMPTS = 5


class AddressTaken(Exception):
    """Another program listens on the engine's address."""


class ListenerOwner(Enum):
    """The process that listens on an endpoint, relative to the process that was started as the engine."""

    NONE = auto()
    ENGINE = auto()
    DESCENDANT = auto()  # a child of the engine's process
    STRANGER = auto()


class Endpoint(ABC):
    """The address of one engine process; each start makes a new one."""

    taken: ClassVar[str]  # a sentence for the error when the engine failed to listen several times in a row

    @abstractmethod
    def listener(self, pid: int) -> ListenerOwner:
        """The process that listens here; `pid` is the process that was started as the engine."""

    @abstractmethod
    def client(self, connections: int) -> httpx.AsyncClient:
        """An HTTP client with at most `connections` keep-alive connections and no timeout."""

    @abstractmethod
    def ready(self) -> None:
        """Release what was reserved for the engine; call it when the engine listens."""

    @abstractmethod
    def close(self) -> None:
        """Remove everything that the endpoint made; call it when the engine's process has exited. Idempotent."""


class TcpEndpoint(Endpoint):
    """A loopback port for an engine without the channel. Any local program can connect to it."""

    taken: ClassVar[str] = (
        "Another program took the engine's port. Find out what listens on 127.0.0.1 here, or use an engine with the "
        "channel: it has no port."
    )

    def __init__(self, reserved: socket.socket | None = None) -> None:
        """reserved: a bound socket that does not listen and shares its port (tests)."""
        self._reserved = reserved or reserve_port()
        self.port: int = self._reserved.getsockname()[1]

    def listener(self, pid: int) -> ListenerOwner:
        """See Endpoint. With SO_REUSEPORT a second server of the same user can share the port and receive half of the
        requests, so only the engine may listen."""
        listening = listening_inodes(self.port)
        if not listening:
            return ListenerOwner.NONE
        if listening <= socket_inodes(pid):
            return ListenerOwner.ENGINE
        family = set[str]().union(*(socket_inodes(member) for member in session_pids(pid)))
        return ListenerOwner.DESCENDANT if listening <= family else ListenerOwner.STRANGER

    def client(self, connections: int) -> httpx.AsyncClient:
        return _client(f"http://{LOOPBACK}:{self.port}", None, connections)

    def ready(self) -> None:
        self._reserved.close()

    def close(self) -> None:
        self._reserved.close()


class UnixEndpoint(Endpoint):
    """A socket named `path` in a new folder of mode 0700. Other users and browsers cannot connect to it."""

    taken: ClassVar[str] = "The engine could not listen on its Unix socket."

    def __init__(self, fallback: Path) -> None:
        """fallback: an existing folder, used if neither the temporary nor the runtime folder is usable.

        Raises OSError, or EngineError(load_failed) if every folder's path is too long for a socket.
        """
        self._lock, self._folder = _new_folder(_parents(fallback))
        self.path = self._folder / "s"

    def listener(self, pid: int) -> ListenerOwner:
        with socket.socket(socket.AF_UNIX) as knock:
            knock.setblocking(False)
            try:
                knock.connect(str(self.path))
            except OSError:  # missing, not listening, or its backlog is full
                return ListenerOwner.NONE
            peer, _uid, _gid = _CREDENTIALS.unpack(
                knock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
        if peer == pid:
            return ListenerOwner.ENGINE
        return ListenerOwner.DESCENDANT if peer in session_pids(pid) else ListenerOwner.STRANGER

    def client(self, connections: int) -> httpx.AsyncClient:
        return _client("http://localhost", str(self.path), connections)

    def ready(self) -> None:
        """Nothing is reserved."""

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
        trust_env=False,  # no proxy from the environment: the engine is local
        timeout=None,  # noqa: S113 - the worker's watchdog handles a silent engine
    )


def _parents(fallback: Path) -> list[Path]:
    """Folders for the socket's folder, best first.

    The temporary folder comes before XDG_RUNTIME_DIR, because logind deletes the latter at logout, while a service in
    tmux continues to run.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    named = [tempfile.gettempdir(), *([runtime] if runtime else []), "/tmp", str(fallback)]  # noqa: S108
    return [Path(folder) for folder in dict.fromkeys(named)]


def _new_folder(parents: list[Path]) -> tuple[int, Path]:
    """Make a 0700 folder in the first usable folder of `parents`; return its lock's descriptor and its path."""
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
    """Make and lock a folder. The lock marks it as in use for _remove_stale and systemd-tmpfiles; the kernel releases
    it when this process exits."""
    for _ in range(_FOLDER_ATTEMPTS):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), folder.stat()):
                return lock, folder
        except OSError:  # another service has just judged it stale
            pass
        os.close(lock)
    raise BlockingIOError("no folder for the engine's socket could be locked")


def _remove_stale(parent: Path) -> None:
    """Delete the folders of killed services: same owner, and no longer locked."""
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

"""A disk of known speed: a folder of files, served through FUSE with a chosen bandwidth and latency.

    with SlowDisk(files, at=folder, mb_per_s=300, latency_ms=1): ...

The host of a virtual machine has its own cache, so the speed of a virtual disk depends on earlier reads. The speed of
this disk does not: its files are in memory. A read that finds the disk free is answered after bytes / bandwidth +
latency. Other reads queue for the bandwidth, while latencies overlap, as in a drive with a queue or a network volume.
The kernel's page cache is above it, as with any file system.

Implements the kernel's FUSE protocol (linux/fuse.h, read-only, no library). Needs Linux, /dev/fuse and the right to
mount (root): `why_not()` says what is missing.
"""

from __future__ import annotations

import ctypes
import errno
import heapq
import os
import select
import stat
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_NOSUID, MS_NODEV, MNT_DETACH = 1, 2, 4, 2
HEADER = struct.Struct(
    "<IIQQIIIHH"
)  # fuse_in_header: length, opcode, unique, nodeid, uid, gid, pid, extensions, padding
ANSWER = struct.Struct("<IiQ")  # fuse_out_header: length, error, unique
ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")  # fuse_attr
READ = struct.Struct("<QQIIQII")  # fuse_read_in: handle, offset, size, …
LOOKUP, FORGET, GETATTR, OPEN, READ_, STATFS, RELEASE, FLUSH, INIT = 1, 2, 3, 14, 15, 17, 18, 25, 26
OPENDIR, READDIR, RELEASEDIR, INTERRUPT, BATCH_FORGET = 27, 28, 29, 36, 42
ASYNC_READ, MAX_PAGES, PARALLEL = 1 << 0, 1 << 22, 1 << 18
KEEP_CACHE = 1 << 1
BUFFER_BYTES = 16_384
MAX_PAGES_A_READ = 256
FOREVER_S = 1 << 30
ROOT = 1


def why_not() -> str | None:
    """Why this machine cannot have such a disk, as a sentence; None if it can."""
    if not sys.platform.startswith("linux"):
        return "a disk of known speed is served by FUSE, which needs Linux"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "a disk of known speed is served by FUSE, and /dev/fuse is not there or not ours to open"
    if os.geteuid() != 0:
        return "a disk of known speed has to be mounted, which needs root"
    return None


@dataclass(frozen=True)
class Speed:
    """The bandwidth in bytes per second, and the latency of a read in seconds."""

    bytes_per_s: float
    latency_s: float

    def __str__(self) -> str:
        return f"{self.bytes_per_s / 1e6:.0f} MB/s, {self.latency_s * 1e3:g} ms"


class SlowDisk:
    """The files, mounted read-only at `at` by a separate process during the `with` block.

    Raises OSError if mounting fails.
    """

    def __init__(self, files: list[Path], at: Path, speed: Speed) -> None:
        self._files, self._at, self._speed = files, at, speed
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> SlowDisk:
        self._at.mkdir(parents=True, exist_ok=True)
        device = os.open("/dev/fuse", os.O_RDWR)
        try:
            options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
            _checked(
                LIBC.mount(b"slow-disk", bytes(self._at), b"fuse", MS_RDONLY | MS_NOSUID | MS_NODEV, options.encode())
            )
            command = [sys.executable, __file__, str(device), str(self._speed.bytes_per_s), str(self._speed.latency_s)]
            self._server = subprocess.Popen([*command, *map(str, self._files)], pass_fds=[device])
        finally:
            os.close(device)
        return self

    def __exit__(self, *_: object) -> None:
        LIBC.umount2(bytes(self._at), MNT_DETACH)
        if self._server is not None:
            self._server.kill()
            self._server.wait()


def _checked(status: int) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# ---- the serving process ----------------------------------------------------------------------


class Server:
    """Answers the kernel until the disk is unmounted."""

    def __init__(self, device: int, speed: Speed, files: list[Path]) -> None:
        self._device, self._speed = device, speed
        self._names = {path.name.encode(): ROOT + 1 + i for i, path in enumerate(files)}
        self._content = {ROOT + 1 + i: memoryview(path.read_bytes()) for i, path in enumerate(files)}
        self._free_at = 0.0
        self._due: list[tuple[float, int, int, int, int]] = []  # when, unique, node, offset, size

    def run(self) -> None:
        while True:
            wait_s = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            if select.select([self._device], [], [], wait_s)[0]:
                try:
                    self._take(os.read(self._device, BUFFER_BYTES))
                except OSError as ended:
                    if ended.errno == errno.ENODEV:  # unmounted
                        return
                    if ended.errno not in {errno.ENOENT, errno.EINTR, errno.EAGAIN}:  # the reader has ended
                        raise
            while self._due and self._due[0][0] <= time.monotonic():
                _, unique, node, offset, size = heapq.heappop(self._due)
                self._answer(unique, self._content[node][offset : offset + size])

    def _take(self, message: bytes) -> None:
        _, opcode, unique, node, *_ = HEADER.unpack_from(message)
        body = memoryview(message)[HEADER.size :]
        if opcode == READ_:
            _, offset, size, *_ = READ.unpack_from(body)
            size = max(0, min(size, len(self._content[node]) - offset))
            self._free_at = max(time.monotonic(), self._free_at) + size / self._speed.bytes_per_s
            heapq.heappush(self._due, (self._free_at + self._speed.latency_s, unique, node, offset, size))
        elif opcode == INIT:
            _major, minor, read_ahead, flags = struct.unpack_from("<IIII", body)
            flags &= ASYNC_READ | MAX_PAGES | PARALLEL
            # Allow as many pending reads as the kernel sends, as a disk's queue does; FUSE's default is 12.
            init = struct.pack(
                "<IIIIHHIIHHI", 7, min(minor, 31), read_ahead, flags, 65535, 65535, 4096, 1, MAX_PAGES_A_READ, 0, 0
            )
            self._answer(unique, init.ljust(64, b"\0"))
        elif opcode == LOOKUP:
            self._lookup(unique, bytes(body).rstrip(b"\0"))
        elif opcode == GETATTR:
            self._answer(unique, struct.pack("<QII", FOREVER_S, 0, 0) + self._attributes(node))
        elif opcode in {OPEN, OPENDIR}:
            self._answer(unique, struct.pack("<QII", 0, KEEP_CACHE, 0))
        elif opcode == READDIR:
            self._list(unique, *struct.unpack_from("<QQI", body)[1:])
        elif opcode == STATFS:
            self._answer(unique, bytes(80))
        elif opcode in {RELEASE, RELEASEDIR, FLUSH}:
            self._answer(unique, b"")
        elif opcode not in {FORGET, BATCH_FORGET, INTERRUPT}:  # these get no answer
            self._answer(unique, b"", errno.ENOSYS)

    def _lookup(self, unique: int, name: bytes) -> None:
        node = self._names.get(name)
        if node is None:
            self._answer(unique, b"", errno.ENOENT)
        else:
            self._answer(unique, struct.pack("<QQQQII", node, 0, FOREVER_S, FOREVER_S, 0, 0) + self._attributes(node))

    def _attributes(self, node: int) -> bytes:
        size = 0 if node == ROOT else len(self._content[node])
        mode = stat.S_IFDIR | 0o755 if node == ROOT else stat.S_IFREG | 0o644
        blocks = -(-size // 512)
        return ATTRIBUTES.pack(node, size, blocks, 1, 1, 1, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def _list(self, unique: int, offset: int, room: int) -> None:
        entries = b""
        for index, (name, node) in list(enumerate(self._names.items(), 1))[offset:]:
            entry = struct.pack("<QQII", node, index, len(name), stat.S_IFREG >> 12) + name
            entry = entry.ljust(-(-len(entry) // 8) * 8, b"\0")
            if len(entries) + len(entry) > room:
                break
            entries += entry
        self._answer(unique, entries)

    def _answer(self, unique: int, data: bytes | memoryview, error: int = 0) -> None:
        try:
            os.writev(self._device, [ANSWER.pack(ANSWER.size + len(data), -error, unique), data])
        except OSError as gone:
            if gone.errno not in {errno.ENOENT, errno.ENODEV}:  # interrupted, or unmounted
                raise


def main() -> None:
    device, bytes_per_s, latency_s, *files = sys.argv[1:]
    Server(int(device), Speed(float(bytes_per_s), float(latency_s)), [Path(file) for file in files]).run()


if __name__ == "__main__":
    main()

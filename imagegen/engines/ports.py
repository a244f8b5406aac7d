"""Loopback ports: one to give to an engine, and whether it alone listens there (Linux)."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import psutil

LOOPBACK = "127.0.0.1"
_LISTEN = "0A"  # TCP_LISTEN in the kernel's include/net/tcp_states.h, as /proc/net/tcp prints it


def reserve_port() -> socket.socket:
    """Bind a free loopback port and do not listen, so that nothing else is given it while the engine loads.

    sd-server binds with SO_REUSEPORT (other servers with SO_REUSEADDR), so it can take the port from under a
    socket that has the option too and does not listen; a connection of another program cannot. Close the socket
    when the engine listens.
    """
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((LOOPBACK, 0))
    return held


def listening_inodes(port: int) -> set[str]:
    """Inodes of every IPv4 socket that listens on `port`, whoever owns it."""
    inodes = set()
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        # sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
        columns = row.split()
        if columns[3] == _LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
            inodes.add(columns[9])
    return inodes


def session_pids(session: int) -> list[int]:
    """The processes of a session, its leader among them."""
    members = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == session:
                members.append(pid)
    return members


def socket_inodes(pid: int) -> set[str]:
    """Inodes of the sockets a process has open; empty if it is gone."""
    inodes = set()
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(descriptor.readlink())
            except FileNotFoundError:  # closed since
                continue
            if target.startswith("socket:["):
                inodes.add(target[len("socket:[") : -1])
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone; a zombie's folder cannot be read
        return set()
    return inodes

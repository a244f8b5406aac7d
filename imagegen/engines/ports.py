"""Loopback ports: reserve one for an engine, and find out which processes listen on it (Linux)."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import psutil

LOOPBACK = "127.0.0.1"
_LISTEN = "0A"  # TCP_LISTEN in the kernel's include/net/tcp_states.h, as /proc/net/tcp prints it


def reserve_port() -> socket.socket:
    """Bind a free loopback port without listening, so that the system gives it to no other program.

    sd-server binds with SO_REUSEPORT (other servers with SO_REUSEADDR), so it can bind the port while this socket, with
    the same option, does not listen. An outgoing connection of another program cannot. Close the socket when the engine
    listens.
    """
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((LOOPBACK, 0))
    return held


def listening_inodes(port: int) -> set[str]:
    """Inodes of all IPv4 sockets that listen on `port`, of any user."""
    inodes = set()
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        # sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
        columns = row.split()
        if columns[3] == _LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
            inodes.add(columns[9])
    return inodes


def session_pids(session: int) -> list[int]:
    """The processes of a session, including its leader."""
    members = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == session:
                members.append(pid)
    return members


def socket_inodes(pid: int) -> set[str]:
    """Inodes of a process's open sockets; empty if the process has exited."""
    inodes = set()
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(descriptor.readlink())
            except FileNotFoundError:  # closed meanwhile
                continue
            if target.startswith("socket:["):
                inodes.add(target[len("socket:[") : -1])
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # exited; a zombie's folder is not readable
        return set()
    return inodes

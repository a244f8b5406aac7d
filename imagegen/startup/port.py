"""Checks whether the service can listen on its address, and finds the programs that use the port."""

from __future__ import annotations

import errno
import socket

import click
import psutil

from imagegen.settings import Settings, SettingsError


def asked_for(settings: Settings) -> tuple[str, int]:
    """Host and port on which the running command listens. The options and variables of `bentoml serve` (--host,
    BENTOML_PORT) override the settings."""
    context = click.get_current_context(silent=True)
    typed = context.params if context else {}
    return typed.get("host") or settings.host, typed.get("port") or settings.port


def check(host: str, port: int) -> None:
    """Raises SettingsError, with the setting to change, if the service cannot listen on the address."""
    if (problem := problem_of(host, port)) is not None:
        raise SettingsError(problem)


def problem_of(host: str, port: int) -> str | None:
    """Why the service cannot listen on the address, as a sentence, or None. Binds the address briefly."""
    refusal = _refusal(host, port)
    if refusal is None:
        return None
    if refusal.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
        return (
            f"IMAGEGEN_HOST={host} is not an address of this machine ({refusal.strerror}). Set one that is, "
            "or 127.0.0.1."
        )
    setting = f"IMAGEGEN_PORT={port}"
    if refusal.errno == errno.EADDRINUSE:
        taken_by = ", ".join(sorted(map(_name, holders(port)))) or "another program"
        return f"{setting} is taken by {taken_by}. End that program, or set another port."
    if refusal.errno == errno.EACCES:
        return f"{setting} may not be listened on by this user. Set a port above 1023."
    return f"{setting}: {host}:{port} cannot be listened on: {refusal.strerror}. Set another port."


def holders(port: int) -> set[int | None]:
    """The ids of the processes that listen on the port, on any address; None: a process of another user."""
    return {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
    }


def _refusal(host: str, port: int) -> OSError | None:
    """The error of a bind with the options of BentoML's supervisor (circus/sockets.py), or None."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except OSError as refused:
        return refused
    return None


def _name(pid: int | None) -> str:
    if pid is None:
        return "a program of another user"
    try:
        process = psutil.Process(pid)
        return f"{process.name()} (process {pid}: {' '.join(process.cmdline())[:80]})"
    except psutil.Error:
        return f"process {pid}"

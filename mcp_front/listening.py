"""Process setup of the HTTP front: a check of its address before it listens, and its signals."""

from __future__ import annotations

import os
import signal
import socket
from types import FrameType

from mcp_front.settings import Settings, SettingsError

IGNORED = (
    *("SIGHUP", "SIGTSTP", "SIGTTIN", "SIGTTOU"),
    *("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO"),
)
"""Signals of a terminal, a logout or a service manager that do not mean stop. Some systems lack some of them."""


def guard() -> None:
    """Ignore the signals in IGNORED. SIGQUIT (Ctrl-\\) shuts down gracefully, as SIGTERM and SIGINT do."""
    for name in IGNORED:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "SIGQUIT"):
        signal.signal(signal.SIGQUIT, _stop)


def _stop(_number: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGTERM)


def check(settings: Settings) -> None:
    """Bind the address briefly. Raises SettingsError if the front cannot listen on it."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as trial:
                if os.name == "posix":  # on Windows the option would share a port that is in use
                    trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(address)
    except OSError as refused:
        raise SettingsError(
            f"IMAGEGEN_MCP_PORT={settings.port}: {settings.host} cannot be listened on: {refused.strerror}. End the "
            "program that listens there, or set another port or address (IMAGEGEN_MCP_HOST)."
        ) from None

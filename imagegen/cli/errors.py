"""Errors of the command line that are about the service, each with the exit code of the command."""

from __future__ import annotations


class ServiceError(Exception):
    """The command failed. The message is a sentence that says what to do.

    code: the service's, empty without one; then `own_code` is printed. detail: the message without the code.
    """

    exit_code = 1
    own_code = "failed"

    def __init__(self, sentence: str, code: str = "", detail: str = "") -> None:
        super().__init__(sentence)
        self.code, self.detail = code, detail or sentence


class PartlyFailed(ServiceError):
    """Some of the work failed. The command has printed its result, which says what."""


class WrongUse(ServiceError):
    """An argument cannot be used: an address that is none."""

    exit_code = 2
    own_code = "usage"


class Refused(ServiceError):
    """The service refused the request: repeating it unchanged does not help."""

    exit_code = 3
    own_code = "refused"


class Unreachable(ServiceError):
    """No service answers, its certificate is not trusted, another program answers, or the connection broke."""

    exit_code = 4
    own_code = "no_service"


INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""

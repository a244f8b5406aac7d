"""Every error of the client: one class per kind of failure, chosen by the service's code."""

from __future__ import annotations

import json
from collections.abc import Mapping


class ServiceError(Exception):
    """The service refused or failed, or cannot be reached. The message is a sentence that says what to do.

    code: stable, for programs: one of the service's codes (docs/http.md), or `unreachable`, `distrusted`,
    `not_the_service`, `too_old`, `proxy_refused`, `wait_too_long`.
    status: the HTTP status; None if there was no answer.
    retry_after_s: after how many seconds the service suggests to repeat the request.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        expired_at: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.code, self.detail, self.status, self.retry_after_s = code, detail, status, retry_after_s
        self.expired_at = expired_at


class Unreachable(ServiceError):
    """No service answers, or the connection broke. `silent`: the service took the request and sent no answer."""

    def __init__(self, detail: str, *, cause: str = "", refused: bool = False, silent: bool = False) -> None:
        super().__init__("unreachable", detail)
        self.cause, self.refused, self.silent = cause, refused, silent


class ProxyRefused(ServiceError):
    """A proxy variable of the environment, or the service's address, cannot be used."""


class Distrusted(ServiceError):
    """The service's TLS certificate is not trusted, or is not the pinned one. Nothing was sent."""


class NotTheService(ServiceError):
    """What answers is not the image service, or is of another version."""


class TooOld(ServiceError):
    """The service lacks this operation: it is older than the client."""


class Refused(ServiceError):
    """The service refused the request."""


class InvalidRequest(Refused):
    """The request is not valid: repeating it unchanged does not help."""


class UnknownModel(InvalidRequest):
    """The service has no model of this name."""


class BadImage(InvalidRequest):
    """A picture of the request cannot be read, or is not known."""


class NotSupportedByModel(InvalidRequest):
    """The model cannot do this."""


class Unauthorized(Refused):
    """A token is required, or the token is unknown."""


class Forbidden(Refused):
    """The service does not serve this machine or this host name."""


class NotFound(Refused):
    """No such route, job, picture or preview."""


class Expired(Refused):
    """The job or picture existed until `expired_at`."""


class Busy(Refused):
    """The service has too much to do now. Repeat the request later."""


class Unavailable(Refused):
    """The service stops, or another process has taken its place. Repeat the request."""


class InternalError(ServiceError):
    """The service failed by itself. Its log says why."""


class JobFailed(ServiceError):
    """The job ended without its pictures. `code` is the job's error code."""


class JobCancelled(JobFailed):
    """The job was cancelled."""


BY_STATUS: Mapping[int, type[ServiceError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: InvalidRequest,
    408: Unavailable,
    409: Refused,
    410: Expired,
    412: Unavailable,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: Busy,
    500: InternalError,
    503: Unavailable,
    504: Unavailable,
    507: InternalError,
}
"""The class for a code that BY_CODE does not have: also codes of services newer than this client."""

BY_CODE: Mapping[str, type[ServiceError]] = {
    "unknown_model": UnknownModel,
    "unknown_image": BadImage,
    "bad_image": BadImage,
    "not_supported_by_model": NotSupportedByModel,
    "idempotency_conflict": InvalidRequest,
    "keep_limit": InvalidRequest,
    "board_exists": InvalidRequest,
    "busy": Busy,
    "gpu_busy": Busy,
    "uploads_busy": Busy,
    "too_many_connections": Busy,
    "cancelled": JobCancelled,
}
"""The class for codes that say more than their status."""


def refusal(status: int, body: bytes, retry_after: str | None = None) -> ServiceError | None:
    """The error in an RFC 9457 problem answer. None for another body: it is not the service that answered."""
    try:
        problem = json.loads(body)
        code, detail = str(problem["code"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return None
    kind = BY_CODE.get(code) or BY_STATUS.get(status) or (InternalError if status >= 500 else Refused)
    expired_at = problem.get("expired_at")
    return kind(
        code,
        detail,
        status=status,
        retry_after_s=_seconds(retry_after),
        expired_at=None if expired_at is None else str(expired_at),
    )


def _seconds(retry_after: str | None) -> float | None:
    """The value of a Retry-After header. A date is not read: the service sends seconds."""
    return float(retry_after) if retry_after is not None and retry_after.isdigit() else None

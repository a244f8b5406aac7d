"""A client of the image service: draw, edit and follow pictures, blocking or with asyncio.

    from imagegen_client import Client
    Client().draw("a cat").save("cat.png")

Belongs here: requests, waiting, retries and trust, for programs, the command line and the MCP front.
Not here: any import of the service.

Each name is imported when it is first used, so that a program that needs one part starts fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imagegen_client.answers import (
        Capabilities,
        Check,
        ImageInfo,
        Inspection,
        JobState,
        Model,
        Progress,
        Provenance,
        Said,
    )
    from imagegen_client.async_client import AsyncClient
    from imagegen_client.calls import DrawOptions, ImageFilters, Lora, UpscaleOptions, VaryOptions, Webhook
    from imagegen_client.client import Client
    from imagegen_client.errors import (
        BadImage,
        Busy,
        Distrusted,
        Expired,
        Forbidden,
        InternalError,
        InvalidRequest,
        JobCancelled,
        JobFailed,
        NotFound,
        NotSupportedByModel,
        NotTheService,
        ProxyRefused,
        Refused,
        ServiceError,
        TooOld,
        Unauthorized,
        Unavailable,
        UnknownModel,
        Unreachable,
    )
    from imagegen_client.jobs import AsyncJob, Job
    from imagegen_client.pictures import ImageLike, Picture, Preview
    from imagegen_client.watch import Update

__version__ = "0.1.0"

_MODULES = {
    "answers": (
        "Capabilities",
        "Check",
        "ImageInfo",
        "Inspection",
        "JobState",
        "Model",
        "Progress",
        "Provenance",
        "Said",
    ),
    "async_client": ("AsyncClient",),
    "calls": ("DrawOptions", "ImageFilters", "Lora", "UpscaleOptions", "VaryOptions", "Webhook"),
    "client": ("Client",),
    "errors": (
        *("BadImage", "Busy", "Distrusted", "Expired", "Forbidden", "InternalError", "InvalidRequest"),
        *("JobCancelled", "JobFailed", "NotFound", "NotSupportedByModel", "NotTheService", "ProxyRefused"),
        *("Refused", "ServiceError", "TooOld", "Unauthorized", "Unavailable", "UnknownModel", "Unreachable"),
    ),
    "jobs": ("AsyncJob", "Job"),
    "pictures": ("ImageLike", "Picture", "Preview"),
    "watch": ("Update",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "BadImage",
    "Busy",
    "Capabilities",
    "Check",
    "Client",
    "Distrusted",
    "DrawOptions",
    "Expired",
    "Forbidden",
    "ImageFilters",
    "ImageInfo",
    "ImageLike",
    "Inspection",
    "InternalError",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobState",
    "Lora",
    "Model",
    "NotFound",
    "NotSupportedByModel",
    "NotTheService",
    "Picture",
    "Preview",
    "Progress",
    "Provenance",
    "ProxyRefused",
    "Refused",
    "Said",
    "ServiceError",
    "TooOld",
    "Unauthorized",
    "Unavailable",
    "UnknownModel",
    "Unreachable",
    "Update",
    "UpscaleOptions",
    "VaryOptions",
    "Webhook",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

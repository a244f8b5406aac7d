"""A client of the image service: draw, edit and follow pictures, blocking or with asyncio.

from imagegen_client import Client
Client().draw("a cat").save("cat.png")
"""

from imagegen_client.answers import Capabilities, Check, ImageInfo, JobState, Model, Progress, Said
from imagegen_client.async_client import AsyncClient
from imagegen_client.calls import DrawOptions, UpscaleOptions, Webhook
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
    "ImageInfo",
    "ImageLike",
    "InternalError",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobState",
    "Model",
    "NotFound",
    "NotSupportedByModel",
    "NotTheService",
    "Picture",
    "Preview",
    "Progress",
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
    "Webhook",
]

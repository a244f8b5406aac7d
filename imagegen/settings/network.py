"""Settings of the address and of connections."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from imagegen import setting_values as values


class Network(BaseModel):
    """Where the service listens, and how many and how slow connections may be."""

    host: Annotated[
        str,
        AfterValidator(values.listen_address),
        Field(description="Address to listen on, without a port; 0.0.0.0 and :: mean all."),
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535, description="Port to listen on.")] = 8765
    max_connections: Annotated[
        int | None,
        Field(
            ge=32,
            le=60_000,
            description="Most open connections; unset: 1000, or fewer where the limit of open files is lower. An "
            "eighth is for loopback clients only.",
        ),
    ] = None
    max_connections_per_address: Annotated[
        int,
        Field(
            ge=1,
            le=60_000,
            description="Most open connections of one address (IPv6: one /64); loopback has no such cap. Raise it for "
            "a reverse proxy on another address.",
        ),
    ] = 256
    header_timeout_s: Annotated[
        float,
        Field(gt=0, le=3600, description="A connection is closed if a request's headers take longer, in seconds."),
    ] = 20.0
    body_timeout_s: Annotated[
        float,
        Field(
            gt=0,
            le=3600,
            description="A request is refused if its body does not advance by 16 KiB in this time, in seconds.",
        ),
    ] = 30.0
    keepalive_s: Annotated[
        float,
        Field(
            gt=0,
            le=600,
            description="A blocking call of OpenAI's or AUTOMATIC1111's API that takes longer gets whitespace at this "
            "interval, in seconds, so that no proxy cuts it.",
        ),
    ] = 15.0

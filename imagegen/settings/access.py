"""Settings of callers, and of the addresses that webhooks may reach."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from imagegen import setting_values as values


class Access(BaseModel):
    """Who may call the service, how often, and by which names and proxies."""

    tokens: Annotated[str | None, Field(description="name:token,… or @FILE of name:sha256 lines.", repr=False)] = None
    rate_limit_per_s: Annotated[
        float, Field(gt=0, description="Requests a second that each token may make, in the long run.")
    ] = 50.0
    max_queue_per_token: Annotated[
        int, Field(ge=1, le=100_000, description="Most jobs of one token waiting; without tokens IMAGEGEN_MAX_QUEUE.")
    ] = 80
    allowed_hosts: Annotated[
        str, Field(description="More names the service may be called by, separated by commas (see docs/security.md).")
    ] = ""
    cors_origins: Annotated[
        str,
        Field(
            description="Origins of pages and Electron programs that may call the service from a browser, separated "
            "by commas, such as app://obsidian.md; with a bearer token only."
        ),
    ] = ""
    a1111: Annotated[
        bool, Field(description="Offer AUTOMATIC1111's API under /sdapi/v1, where HTTP Basic is taken too.")
    ] = True
    public_url: Annotated[
        str | None,
        Field(
            description="Scheme, host and path of the service behind a reverse proxy; every address in an answer "
            "begins with it. Unset: the address of the request."
        ),
    ] = None
    trusted_proxies: Annotated[
        str,
        Field(
            description="Addresses and networks of reverse proxies, separated by commas, whose X-Forwarded-Proto, "
            "-Host and -Prefix count; from any other peer they are ignored."
        ),
    ] = ""
    allow_anonymous: Annotated[bool, Field(description="Serve other machines without a token.")] = False
    tls: Annotated[
        str, AfterValidator(values.tls_files), Field(description="off, auto (self-signed), or CERT,KEY (two files).")
    ] = "off"


class Webhooks(BaseModel):
    """Where ended jobs are reported, and the addresses that webhooks may reach."""

    webhook_url: Annotated[
        str | None,
        Field(description="URL that receives each ended job that has no webhook of its own.", repr=False),
    ] = None
    webhook_secret: Annotated[
        str | None,
        Field(description="Key that signs the requests to IMAGEGEN_WEBHOOK_URL: whsec_ and base64.", repr=False),
    ] = None
    webhook_allow: Annotated[
        str,
        Field(
            description="Hosts, addresses and networks, separated by commas, that webhooks may reach although they are "
            "not public."
        ),
    ] = ""

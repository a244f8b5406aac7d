"""`imagegen-mcp`: over stdio for a client on this machine, or `--http` for others."""

from __future__ import annotations

import argparse
import logging
import sys
from urllib.parse import urlsplit

import anyio
from fastmcp import FastMCP
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse

from mcp_front import __version__, listening
from mcp_front.app import build
from mcp_front.client import connected
from mcp_front.door import Door, add_metadata
from mcp_front.settings import Settings, SettingsError, is_loopback, load

log = logging.getLogger(__name__)

HEALTH_WAIT_S = 2.0
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""TLS 1.2 cipher suites in OpenSSL's notation, the same as the service's. uvicorn's default includes CBC suites."""


def main() -> None:
    """Run until the client disconnects (stdio) or a signal arrives (HTTP). Exit code 2 for a wrong setting."""
    parser = argparse.ArgumentParser(prog="imagegen-mcp", description=__doc__)
    parser.add_argument("--http", action="store_true", help="serve Streamable HTTP at /mcp instead of stdio")
    parser.add_argument("--version", action="version", version=__version__)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    for chatty in ("httpx", "httpx2", "mcp", "fastmcp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        settings = load()
        if arguments.http:
            _refuse_own_token(settings)
            listening.check(settings)
            listening.guard()
    except SettingsError as wrong:
        print(f"imagegen-mcp cannot start:\n{wrong}", file=sys.stderr)
        sys.exit(2)
    _warn_of_plain_http(settings)
    if arguments.http:
        run_http(http_server(settings), settings)
    else:
        build(settings, local=True).run("stdio", show_banner=False)


def http_server(settings: Settings) -> FastMCP:
    """Build the server for clients on other machines, with its health check."""
    mcp = build(settings, local=False)

    @mcp.custom_route("/healthz", methods=["GET"])
    async def healthz(_: Request) -> JSONResponse:
        """Always 200 while the front runs. The body says whether the service is ready."""
        ready = False
        with anyio.move_on_after(HEALTH_WAIT_S):
            async with connected(settings) as service:
                ready = await service.ready()
        return JSONResponse({"front": "up", "service": "ready" if ready else "not ready"})

    add_metadata(mcp, settings)
    return mcp


def run_http(mcp: FastMCP, settings: Settings) -> None:
    """Serve Streamable HTTP at /mcp. It has no sessions, so that clients do not notice a restart of the front."""
    tls = {}
    if settings.tls:
        certificate, key = map(str, settings.tls)
        tls = {"ssl_certfile": certificate, "ssl_keyfile": key, "ssl_ciphers": CIPHERS}
    scheme = "https" if settings.tls else "http"
    log.info("imagegen-mcp %s at %s://%s:%d/mcp", __version__, scheme, settings.host, settings.port)
    mcp.run(
        "http",
        host=settings.host,
        port=settings.port,
        path="/mcp",
        stateless_http=True,
        host_origin_protection=True,
        allowed_hosts=list(settings.allowed_hosts),
        show_banner=False,
        middleware=[Middleware(Door, settings=settings)],
        uvicorn_config={"log_level": "warning", "access_log": False, **tls},
    )


def _refuse_own_token(settings: Settings) -> None:
    if settings.token:
        raise SettingsError(
            "IMAGEGEN_TOKEN: with --http the front forwards each caller's own token and holds none, "
            "or everyone who reaches it would use yours. Unset it, and give the token to the client."
        )


def _warn_of_plain_http(settings: Settings) -> None:
    if settings.url.startswith("http://") and not is_loopback(urlsplit(settings.url).hostname or ""):
        log.warning(
            "%s is plain http: prompts, pictures and the token can be read on the way. IMAGEGEN_TLS=auto on "
            "the service makes a certificate.",
            settings.url,
        )

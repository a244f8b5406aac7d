"""The command line's client: imagegen_client's transport, with errors as sentences."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import click

import imagegen_client.errors as client_errors
from imagegen import config_file
from imagegen.cli.errors import Refused, ServiceError, Unreachable, WrongUse
from imagegen.cli.trust import context_for
from imagegen.config_file import ConfigFile
from imagegen_client.address import DEFAULT_URL, Address, checked_url
from imagegen_client.transport import Transport
from imagegen_client.wire import MAX_PICTURE_BYTES, Call, Reply, Request, Retries, exchange, read_json

if TYPE_CHECKING:
    from imagegen.settings import Settings

T = TypeVar("T")

OUTAGE_S = 60.0
"""How long a restart of the service may take."""
SIMPLE = {"token", "home", "port"}
"""Settings with which the address of this machine's service is known without the others."""


class Service:
    """A running imagegen service. Every method raises ServiceError, Unreachable for a failed connection."""

    def __init__(self, url: str, token: str | None = None, context: ssl.SSLContext | None = None) -> None:
        try:
            address = Address(checked_url(url), token, context=context)
        except client_errors.ServiceError as wrong:
            raise WrongUse(str(wrong)) from None
        self.url = address.url
        self._transport = Transport(address)

    def run(self, call: Call[T]) -> T:
        """The result of a call of imagegen_client."""
        with sentences(self.url):
            return self._transport.run(call)

    def attempt(self, call: Call[T]) -> T:
        """The same with the errors of imagegen_client, for a caller that waits and tries again."""
        return self._transport.run(call)

    @property
    def patient(self) -> Retries:
        """Retries while the service is busy, and over its restart; not if it has never answered."""
        return Retries(OUTAGE_S, lambda: self._transport.answered)

    def call(self, method: str, path: str, *, json: Any = None, params: dict[str, Any] | None = None) -> Reply:
        """Send a request."""
        return self.run(exchange(_request(method, path, json, params)))

    def json(self, method: str, path: str, *, json: Any = None, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer to a request, a JSON object."""
        body = self.run(read_json(_request(method, path, json, params)))
        if not isinstance(body, dict):
            raise ServiceError(f"{self.url} is not an imagegen service: its answer is no JSON object.")
        return body

    def upload(self, picture: Path) -> str:
        """Store a picture for an edit. Returns its id."""
        from imagegen_client import calls

        return self.run(calls.upload(picture.read_bytes())).id


def _request(method: str, path: str, json: Any, params: dict[str, Any] | None) -> Request:
    """Every POST has a key, so that it is safe to repeat it after a lost connection."""
    headers = {"Idempotency-Key": uuid4().hex} if method == "POST" else {}
    query = None if params is None else {name: str(value) for name, value in params.items()}
    return Request(method, path, params=query, json=json, headers=headers, limit_bytes=MAX_PICTURE_BYTES)


@contextmanager
def sentences(url: str) -> Iterator[None]:
    """Errors of imagegen_client as those of the command line."""
    try:
        yield
    except client_errors.Unreachable as down:
        start = f"no service answers at {url}. Start one with `imagegen serve`, or name it with --url."
        raise Unreachable(start if down.refused else str(down)) from None
    except (client_errors.NotTheService, client_errors.Distrusted, client_errors.ProxyRefused) as other:
        raise Unreachable(str(other)) from None
    except client_errors.Refused as refused:
        raise Refused(f"{refused} ({refused.code})", refused.code, str(refused)) from None
    except client_errors.ServiceError as failed:
        if failed.status is None:
            raise ServiceError(str(failed)) from None
        raise ServiceError(f"{failed} ({failed.code})", failed.code, str(failed)) from None


def service_of(url: str | None) -> Service:
    """The service named by --url, else by the setting `url`, else the one that the settings describe."""
    file = config_file.read()
    if not file.values.keys() <= SIMPLE | config_file.ADDRESS:
        from imagegen import settings

        settings.load()  # refuses unknown names and wrong values of the file
    named = url or file.get("url")
    own = None if named else _own_settings(file)
    address = named or (own.url if own else _usual_url(file))
    try:
        context = context_for(address, own, file.get("tls_sha256"), file.get("tls_ca"))
    except OSError as failure:
        raise ServiceError(f"no service answers at {address}: {failure}.") from None
    return Service(address, file.get("token"), context)


def _own_settings(file: ConfigFile) -> Settings | None:
    """The settings of this machine's service. None if SIMPLE says its address, because reading them takes long."""
    prefix, variables = config_file.PREFIX, {name.upper() for name in os.environ} - {config_file.VARIABLE}
    named = {name.removeprefix(prefix).lower() for name in variables if name.startswith(prefix)} | file.values.keys()
    port = file.get("port") or "1"
    if named <= SIMPLE and port.isascii() and port.isdigit() and 1 <= int(port) <= 65535:
        return None
    from imagegen import settings

    return settings.load()


def _usual_url(file: ConfigFile) -> str:
    port = file.get("port")
    return f"http://127.0.0.1:{int(port)}" if port else DEFAULT_URL


url_option = click.option("--url", help="The service; default: IMAGEGEN_URL, else this machine's.")

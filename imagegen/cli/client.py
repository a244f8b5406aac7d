"""The command line's HTTP client, with errors as sentences."""

from __future__ import annotations

import os
import ssl
from typing import Any

import click
import httpx

from imagegen import settings
from imagegen.cli.trust import context_for
from imagegen.security import outgoing_proxies


class ServiceError(Exception):
    """The service refused or cannot be reached. The message says what to do."""


class Unreachable(ServiceError):
    """No service answers, or the connection broke."""


class Service:
    """A running imagegen service."""

    def __init__(self, url: str, token: str | None = None, verify: ssl.SSLContext | bool = True) -> None:
        self.url = url.rstrip("/")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        here = outgoing_proxies.is_loopback(self.url)
        try:
            self._http = httpx.Client(
                base_url=self.url,
                headers=headers,
                verify=verify,
                timeout=httpx.Timeout(70, connect=5),
                trust_env=not here,  # a proxy cannot reach this machine's loopback
            )
        except (ImportError, ValueError, httpx.InvalidURL) as wrong:
            sentence = None if here else outgoing_proxies.unusable(wrong)
            raise ServiceError(sentence or f"{self.url} is not an address of a service: {wrong}.") from None

    def call(self, method: str, path: str, **how: Any) -> httpx.Response:
        """Send a request. Raises ServiceError with the service's sentence, Unreachable for a failed connection."""
        try:
            answer = self._http.request(method, path, **how)
        except httpx.ConnectError:
            raise Unreachable(
                f"no service answers at {self.url}. Start one with `imagegen serve`, or name it with --url."
            ) from None
        except httpx.TransportError as broken:
            raise Unreachable(f"the connection to {self.url} broke: {broken}") from None
        if answer.is_error:
            raise ServiceError(_sentence(answer))
        return answer

    def json(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        answer = self.call(method, path, **how)
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise ServiceError(f"{self.url} is not an imagegen service: its answer is no JSON object.")
        return body


def _sentence(answer: httpx.Response) -> str:
    try:
        body = answer.json()
        return f"{body['detail']} ({body['code']})"
    except (ValueError, KeyError, TypeError):
        return f"{answer.request.url} answered {answer.status_code}. Is it an imagegen service?"


def service_of(url: str | None) -> Service:
    """The service named by --url, else by IMAGEGEN_URL, else the one that the settings describe."""
    named = url or os.environ.get("IMAGEGEN_URL")
    own = None if named else settings.load()
    address = named or (own.url if own else "")
    try:
        verify = context_for(address, own)
    except OSError as failure:
        raise ServiceError(f"no service answers at {address}: {failure}.") from None
    return Service(address, os.environ.get("IMAGEGEN_TOKEN"), verify)


url_option = click.option("--url", help="The service; default: IMAGEGEN_URL, else this machine's.")

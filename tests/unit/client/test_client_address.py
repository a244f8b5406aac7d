"""Where the client sends: arguments before the environment, and each wrong value as a sentence."""

from __future__ import annotations

import pytest

from imagegen_client import Client, ServiceError
from imagegen_client.address import Address, address_of

PIN = "ab" * 32


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        ({}, {}, Address()),
        ({}, {"IMAGEGEN_URL": "http://gpu:1/", "IMAGEGEN_TOKEN": "t"}, Address("http://gpu:1", "t")),
        ({"url": "http://a", "token": "t"}, {"IMAGEGEN_URL": "b", "IMAGEGEN_TOKEN": "c"}, Address("http://a", "t")),
        ({"tls_sha256": "SHA256:" + ":".join(["AB"] * 32)}, {}, Address(tls_sha256=PIN)),
        ({}, {"IMAGEGEN_TLS_SHA256": PIN, "IMAGEGEN_URL": " "}, Address(tls_sha256=PIN)),
        ({"url": "https://a/prefix/"}, {}, Address("https://a/prefix")),
    ],
)  # fmt: skip
def test_an_argument_comes_before_the_environment(
    arguments: dict[str, str], environ: dict[str, str], expected: Address
) -> None:
    assert address_of(**arguments, environ=environ) == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"url": "gpu:8765"}, "gpu:8765 is not an address of a service"),
        ({"url": "http://["}, "is not an address"),
        ({"url": "http://caf\udce9"}, "is not an address"),
        ({"url": "http://a:99999"}, "is not an address"),
        ({"url": "http://me:secret@a"}, "contains a user or password"),
        ({"url": "http://a/?x=1"}, "must end before any"),
        ({"token": "two words"}, "The token contains blanks"),
        ({"tls_sha256": "abc"}, "64 hex digits"),
        ({"tls_sha256": PIN, "tls_ca": "ca.pem"}, "either IMAGEGEN_TLS_SHA256 or IMAGEGEN_TLS_CA"),
    ],
)
def test_a_wrong_value_is_a_sentence(arguments: dict[str, str], said: str) -> None:
    with pytest.raises(ServiceError, match=said) as wrong:
        address_of(**arguments, environ={})
    assert "secret" not in str(wrong.value)


def test_the_token_is_in_no_repr() -> None:
    assert "hidden" not in repr(address_of(token="hidden")) + repr(Client("http://127.0.0.1:1", "hidden"))

"""Where webhooks may go: addresses and secrets that are taken, and everything that leads into a private network."""

from __future__ import annotations

import asyncio

import pytest

from imagegen.security.webhook_targets import BadTarget, Targets, Webhook, key_of, parse_url
from imagegen.settings import SettingsError

PUBLIC = ["93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
PRIVATE = [
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
    *("224.0.0.1", "255.255.255.255", "240.0.0.1", "198.18.0.1", "192.0.2.1"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1", "2001::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::1", "2002:a00:1::1"),
]
RESOLVED_TO_LOOPBACK = [
    *("http://127.0.0.1/", "http://localhost:99/x", "https://LOCALHOST/", "http://[::1]/", "http://[::ffff:7f00:1]/"),
    *("http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/", "http://0/"),
]
MALFORMED = [
    *("", "hooks.example", "ftp://hooks.example/", "file:///etc/passwd", "http://", "http:///x", "http://a b/"),
    *("http://me:secret@hooks.example/", "http://hooks.example/#x", "http://hooks.example:99999/", "http://a:0/"),
    *("http://hooks.example/\r\nx: y", "http://h\u00f6oks.example/", "http://[fe80::1%25eth0]/", "http://[::1/"),
    "http://hooks.example/" + "a" * 2000,
]


@pytest.mark.parametrize(("address", "public"), [*((one, True) for one in PUBLIC), *((one, False) for one in PRIVATE)])
def test_only_public_addresses_are_allowed(address: str, public: bool) -> None:
    assert Targets().allows("hooks.example", address) is public


@pytest.mark.parametrize("url", RESOLVED_TO_LOOPBACK)
def test_what_resolves_to_this_machine_is_refused(url: str) -> None:
    with pytest.raises(BadTarget, match="IMAGEGEN_WEBHOOK_ALLOW"):
        asyncio.run(Targets().check(Webhook(url)))


@pytest.mark.parametrize("url", MALFORMED)
def test_a_malformed_address_is_refused(url: str) -> None:
    with pytest.raises(BadTarget):
        parse_url(url)


@pytest.mark.parametrize("allow", [["localhost"], ["127.0.0.0/8", "::1"], [" LOCALHOST. "]])
def test_what_the_operator_allows_is_taken(allow: list[str]) -> None:
    addresses = asyncio.run(Targets(allow).resolve(parse_url("http://localhost:99/")))
    assert set(addresses) <= {"127.0.0.1", "::1"} and addresses


def test_an_allowed_host_allows_no_other_host() -> None:
    with pytest.raises(BadTarget):
        asyncio.run(Targets(["localhost"]).check(Webhook("http://127.0.0.1/")))


def test_an_allowance_that_cannot_be_used_is_named() -> None:
    with pytest.raises(SettingsError, match="IMAGEGEN_WEBHOOK_ALLOW"):
        Targets(["http://hooks.lan/"])


def test_the_connection_goes_to_the_address_and_keeps_the_name() -> None:
    target = parse_url("https://Hooks.example:8443/a/b?c=d")
    assert (target.host, target.netloc) == ("hooks.example", "Hooks.example:8443")
    assert target.at("8.8.8.8") == "https://8.8.8.8:8443/a/b?c=d"
    assert parse_url("http://hooks.example").at("2606::1") == "http://[2606::1]:80/"


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_short", "whsec_!!!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
def test_a_secret_that_is_none_of_the_standard_is_refused(secret: str) -> None:
    with pytest.raises(BadTarget, match="whsec_"):
        key_of(secret)


def test_a_secret_is_in_no_representation() -> None:
    assert "whsec_" not in repr(Webhook("https://hooks.example/", "whsec_" + "A" * 32))

"""The public address and the proxies that may name it: what is read, and what is refused."""

from __future__ import annotations

import pytest

from imagegen.security.hosts import Hosts
from imagegen.security.proxies import Proxies, public_url
from imagegen.settings import SettingsError


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://pictures.example", "https://pictures.example"),
        ("https://pictures.example/", "https://pictures.example"),
        ("HTTPS://Pictures.Example:443/draw/", "https://pictures.example/draw"),
        ("http://pictures.example:8080/a/b", "http://pictures.example:8080/a/b"),
        ("http://[2001:db8::1]:80/draw", "http://[2001:db8::1]/draw"),
        ("http://10.0.0.7/my%20pictures", "http://10.0.0.7/my%20pictures"),
    ],
)
def test_a_public_address_is_normalised(given: str, url: str) -> None:
    address = public_url(given)
    assert address is not None
    assert address.url == url


@pytest.mark.parametrize("given", [None, "", "  "])
def test_no_public_address(given: str | None) -> None:
    assert public_url(given) is None


@pytest.mark.parametrize(
    "given",
    [
        "pictures.example",
        "ftp://pictures.example",
        "https://",
        "https:///draw",
        "https://user:secret@pictures.example",
        "https://pictures.example?x=1",
        "https://pictures.example/#a",
        "https://pictures.example/draw;a",
        "https://pictures.example/a//b",
        "https://pictures.example/../b",
        "https://pictures.example/%zz",
        "https://pictures.example:port",
        "https://[::1",
    ],
)
def test_a_wrong_public_address_names_the_setting(given: str) -> None:
    with pytest.raises(SettingsError, match="IMAGEGEN_PUBLIC_URL="):
        public_url(given)


@pytest.mark.parametrize(
    ("trusted", "peer", "trusts"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        (" 10.0.0.0/8 , fd00::/8", "10.9.8.7", True),
        ("10.0.0.0/8,fd00::/8", "fd12::1", True),
        ("10.0.0.0/8,fd00::/8", "fe80::1%eth0", False),
        ("10.0.0.5/8", "10.1.1.1", True),
        ("", "127.0.0.1", False),
        ("0.0.0.0/0", None, False),
        ("0.0.0.0/0", "", False),
        ("0.0.0.0/0", "a-name", False),
    ],
)
def test_a_peer_is_trusted_only_if_it_is_named(trusted: str, peer: str | None, trusts: bool) -> None:
    assert Proxies(trusted.split(",")).trusts(peer) is trusts


@pytest.mark.parametrize("trusted", ["*", "proxy.example", "10.0.0.0/33", "127.0.0.1:80"])
def test_a_wrong_proxy_names_the_setting(trusted: str) -> None:
    with pytest.raises(SettingsError, match="IMAGEGEN_TRUSTED_PROXIES"):
        Proxies([trusted])


def test_the_public_host_is_called_by_name_but_opens_no_other_port() -> None:
    hosts = Hosts([], "127.0.0.1:9000")
    assert hosts.same_origin("http://127.0.0.1:9000", "127.0.0.1:8765", "127.0.0.1:9000")
    assert not hosts.same_origin("http://127.0.0.1:3000", "127.0.0.1:8765", "127.0.0.1:9000")
    assert Hosts([], "pictures.example:9000").allows("pictures.example", {})
    assert not Hosts([]).allows("pictures.example", {})

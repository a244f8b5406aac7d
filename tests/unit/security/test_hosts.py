"""IMAGEGEN_ALLOWED_HOSTS: which entries are hosts, which Host headers they match; the service's own origins."""

from __future__ import annotations

import pytest
from refusals import NO_HOSTS

from imagegen.security.hosts import Hosts
from imagegen.security.tls import own_addresses
from imagegen.settings import SettingsError


@pytest.mark.parametrize(
    "host", [*(host for host in NO_HOSTS if host and "," not in host and host != "::1"), "http://x", "bücher.example"]
)
def test_an_allowed_host_that_nothing_could_match_stops_the_start(host: str) -> None:
    with pytest.raises(SettingsError, match="IMAGEGEN_ALLOWED_HOSTS"):
        Hosts(["pictures.example", host])


@pytest.mark.parametrize(
    ("allowed", "host"),
    [
        ("Pictures.Example.", "pictures.example:443"),
        ("pictures.example:8765", "pictures.example"),
        ("192.0.2.7", "192.0.2.7:8765"),
        ("2001:db8::1", "[2001:db8::1]:8765"),
        ("[2001:DB8:0::1]", "[2001:db8:0:0::1]"),
    ],
)
def test_an_allowed_host_is_answered_however_it_is_written(allowed: str, host: str) -> None:
    assert Hosts([" ", f" {allowed} "]).allows(host, {"server": ("10.0.0.1", 8765)})
    assert not Hosts([]).allows(host, {"server": ("10.0.0.1", 8765)})


def test_the_addresses_that_deploy_allows_are_all_taken() -> None:
    assert {"127.0.0.1", "::1"} <= set(own_addresses())
    Hosts(own_addresses())


@pytest.mark.parametrize("origin", [*(f"http://{host}" for host in NO_HOSTS), "http://localhost/", "localhost", "://"])
def test_what_is_no_origin_is_nobodys_own(origin: str) -> None:
    hosts = Hosts(["localhost", "evil.example"])
    assert not hosts.same_origin(origin, "localhost")
    assert not hosts.same_origin(origin, origin.removeprefix("http://")), "not even under the same wrong name"
    assert hosts.same_origin("http://localhost", "localhost")

"""Requests that a hostile page makes a browser send, by origin and by host; and requests for an earlier process. On a
service without tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from refusals import NO_HOSTS, refused
from served import Service


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "http://localhost"},
        {"origin": "chrome-extension://abc"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://[broken"},
    ],
)
def test_a_page_of_another_site_changes_nothing_and_reads_nothing(service: Service, headers) -> None:
    """On a service without tokens: there a browser needs nothing else."""
    for method, path in (("POST", "/api/generate"), ("POST", "/api/warm"), ("DELETE", "/api/jobs/x"), ("PUT", "/x")):
        refused(service.http.request(method, path, headers=headers), 403, "foreign_origin")
    seen = service.http.get("/api/status", headers=headers)
    assert seen.status_code == 200
    assert not [name for name in seen.headers if name.startswith("access-control")], "CORS is closed"


@pytest.mark.parametrize("query", ["presence=1", "presence=0&presence=1", "presence=%31", "x=1&presence=1", "presence"])
def test_a_page_of_another_site_cannot_keep_the_model_loaded(service: Service, query: str) -> None:
    """`GET /api/events?presence=1` has an effect, and any page can send a GET."""
    for method, headers in (
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}),
        ("GET", {"sec-fetch-site": "same-site"}),
        ("GET", {"origin": "https://evil.example"}),
        ("GET", {"origin": "null"}),
        ("HEAD", {"sec-fetch-site": "cross-site"}),
    ):
        with service.http.stream(method, f"/api/events?{query}", headers=headers) as answer:
            assert answer.status_code == 403, (method, headers)
    foreign = {"sec-fetch-site": "cross-site"}
    refused(service.http.get(f"/api/events?{query}", headers=foreign), 403, "foreign_origin")
    for path, headers in (
        ("/api/events", foreign),
        ("/api/events?presence=0", foreign),
        ("/api/events?presence=1", {"sec-fetch-site": "same-origin", "origin": service.url}),
        ("/api/events?presence=1", {}),
    ):
        with service.http.stream("GET", path, headers=headers) as answer:
            assert answer.status_code == 200, (path, headers)


def test_its_own_page_and_clients_without_origin_may_write(service: Service) -> None:
    for headers in ({"origin": service.url, "sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}, {}):
        refused(service.http.delete("/api/jobs/x", headers=headers), 404, "job_not_found")


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "192.0.2.7:8765", "0.0.0.0", "[::2]", *NO_HOSTS]
)
def test_a_foreign_host_is_refused_whatever_it_asks(service: Service, host: str) -> None:
    for path in ("/", "/api/status", "/readyz"):
        detail = refused(service.http.get(path, headers={"host": host}), 403, "foreign_host")
        assert "IMAGEGEN_ALLOWED_HOSTS" in detail


def test_a_wrong_allowed_host_is_told_at_the_start(home: Path, sd_server: Path) -> None:
    service = Service(home, sd_server, {"allowed_hosts": "pictures.example, https://pictures.example"})
    service.launch()
    assert service.wait() != 0
    assert "'https://pictures.example' is not a host name" in service.tail()
    assert "Traceback" not in service.tail()


def test_a_client_may_ask_whether_a_route_is_there(service: Service) -> None:
    answer = service.http.options("/v1/images/generations")
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, "POST, OPTIONS", b"")
    assert service.http.options("/v1/nowhere").status_code == 404


def test_every_answer_tells_browsers_to_be_strict(service: Service) -> None:
    foreign = service.http.get("/", headers={"host": "evil.example"})
    for answer in (service.http.get("/api/status"), service.http.get("/nowhere"), service.http.get("/readyz"), foreign):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_request_for_the_process_before_is_refused(service: Service) -> None:
    """What the MCP front relies on: no process carries out what was meant for another one."""
    name = service.http.get("/nowhere").headers["imagegen-instance"]
    assert len(name) >= 32
    for path in ("/", "/api/status", "/readyz"):
        assert service.http.get(path, headers={"imagegen-instance": name}).status_code == 200
    for other in (name[:-1], "another", ""):
        for method, path in (("GET", "/api/status"), ("POST", "/api/generate"), ("GET", "/readyz")):
            answer = service.http.request(method, path, headers={"imagegen-instance": other})
            refused(answer, 412, "instance_changed")
            assert answer.headers["imagegen-instance"] == name


def test_an_address_with_a_line_end_is_answered_like_any_other(service: Service) -> None:
    refused(service.http.get("/api/jobs/a%0Ab"), 404, "not_found")

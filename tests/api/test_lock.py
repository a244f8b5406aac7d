"""The lock: who is let in, by which name, from which page, how often. On a real service with tokens."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from served import Service, new_home, until

from imagegen.http.asgi import make_app
from imagegen.http.auth import AuthMiddleware, LoopbackOnly
from imagegen.http.routes.session import LIFE_S, Sessions
from imagegen.security import tokens
from imagegen.security.hosts import Hosts
from imagegen.security.rate_limit import RateLimit
from imagegen.security.tls import own_addresses
from imagegen.security.tokens import Tokens
from imagegen.settings import Settings, SettingsError
from imagegen.telemetry.metrics import Metrics

ANNA, BERT, GREEDY = ("a-token-of-anna-0", "a-token-of-bert-0", "a-token-of-greedy")
OBSIDIAN = "app://obsidian.md"
PICTURE = f"/images/{'0' * 32}"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, sd_server: Path) -> Iterator[Service]:
    home = new_home(tmp_path_factory.mktemp("locked") / "home", models_dir)
    listed = f"anna:{ANNA},bert:{BERT},greedy:{GREEDY}"
    limits = {"rate_limit_per_s": 4, "max_queue_per_token": 2, "max_job_s": 10**9}
    settings = {
        "tokens": listed,
        "allowed_hosts": "pictures.example",
        "strict_openai": 1,
        "cors_origins": OBSIDIAN,
    } | limits
    service = Service(home, sd_server, settings)
    service.start()
    yield service
    service.end()


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def refused(answer: httpx.Response, status: int, code: str) -> str:
    """The sentence of a problem document."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert answer.json()["code"] == code
    return answer.json()["detail"]


# ---- who is let in ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/readyz", "/livez", "/healthz", "/", "/static/x.js", f"{PICTURE}.png", f"{PICTURE}.webp"]
)
def test_open_without_a_token(locked: Service, path: str) -> None:
    assert locked.http.get(path).status_code != 401
    assert locked.http.options(path).status_code != 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/api/status", "/api/jobs", "/api/images", "/metrics", "/docs.json", "/nowhere")),
        *(("GET", path) for path in ("/images/", "/images/x.png", f"{PICTURE}.png/", f"{PICTURE}.gif")),
        *(
            ("GET", path)
            for path in ("/schema.json", "/static", "/static/../api/status", "/%61pi/status", "/API/status")
        ),
        *(("POST", path) for path in ("/", "/readyz", "/api/generate", "/api/session", "/generate", f"{PICTURE}.png")),
        ("DELETE", "/api/jobs/x"),
    ],
)
def test_everything_else_needs_one(locked: Service, method: str, path: str) -> None:
    answer = locked.http.request(method, path)
    assert "imagegen token new" in refused(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_openai_clients_are_refused_in_their_own_shape(locked: Service) -> None:
    answer = locked.http.get("/v1/models")
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "unauthorized"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"style": "vivid"}, "unsupported_value"),
        ({"colour": "red"}, "unknown_parameter"),
        ({"negative_prompt": "hats"}, "unknown_parameter"),
        ({"ref_images": ["a"]}, "unknown_parameter"),
        ({"width": 64}, "unknown_parameter"),
        ({"seed": -1}, "invalid_request"),
        ({"output_compression": 50}, "unsupported_value"),
    ],
)
def test_a_strict_service_refuses_what_has_no_effect(locked: Service, body: dict, code: str) -> None:
    url = "/v1/images/generations"
    answer = locked.http.post(url, json={"prompt": "a red circle"} | body, headers=bearer(ANNA))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_a_strict_service_takes_no_bare_base64(locked: Service) -> None:
    body = {"prompt": "make it blue", "image": "A" * 80}
    answer = locked.http.post("/v1/images/edits", json=body, headers=bearer(ANNA))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_image")


def test_a_right_token_lets_in_and_a_wrong_one_does_not(locked: Service) -> None:
    assert locked.http.get("/api/status", headers=bearer(ANNA)).status_code == 200
    assert locked.http.get("/metrics", headers=bearer(BERT)).status_code == 200
    assert locked.http.get("/api/status", headers={"authorization": f"bearer  {ANNA}"}).status_code == 200
    assert locked.http.get("/sdapi/v1/options", auth=("anybody", ANNA)).status_code == 200
    assert locked.http.get("/api/status", auth=("anybody", ANNA)).status_code == 401
    basic = {"authorization": f"Basic {ANNA}"}
    for headers in (bearer(ANNA[:-1]), bearer(ANNA + "0"), bearer(":"), bearer("é" * 20), basic):
        sent = {name: value.encode() for name, value in headers.items()}
        refused(locked.http.get("/api/status", headers=sent), 401, "unauthorized")


@pytest.mark.parametrize(
    "address",
    [
        *(f"?x=1&{name}={ANNA}" for name in ("token", "access_token", "API_KEY", "api%5Fkey", "api-key", "%20token")),
        *(f"?{separated}token={ANNA}" for separated in ("", ";", "a=1;", "a=1;b=2&", "a=1&;")),
        f"?a=1;access_token={ANNA}",
        f";token={ANNA}",
        "?token",
    ],
)
def test_a_token_in_the_address_is_refused_even_a_right_one(locked: Service, address: str) -> None:
    answer = locked.http.get(f"/api/status{address}", headers=bearer(ANNA))
    assert "header" in refused(answer, 400, "invalid_request")
    assert ANNA not in answer.text


def test_owners_are_told_apart(locked: Service) -> None:
    """Idempotency keys are per token: the same key of two tokens makes two jobs."""
    ids = set()
    for token, prompt in ((ANNA, "one"), (BERT, "two"), (ANNA, "one")):
        body = {"prompt": prompt, "width": 64, "height": 64, "steps": 1}
        answer = locked.http.post("/api/generate", json=body, headers=bearer(token) | {"idempotency-key": "k"})
        assert answer.status_code == 202, answer.text
        ids.add(answer.json()["job_id"])
    assert len(ids) == 2
    assert locked.http.get(f"/api/jobs/{ids.pop()}", headers=bearer(BERT)).status_code == 200


# ---- sessions -----------------------------------------------------------------------------------


def test_a_token_is_swapped_for_a_cookie_and_given_back(locked: Service) -> None:
    begun = locked.http.post("/api/session", headers=bearer(ANNA) | {"sec-fetch-site": "same-origin"})
    locked.http.cookies.clear()
    assert begun.json()["name"] == "anna"
    cookie = begun.headers["set-cookie"]
    assert re.search("httponly", cookie, re.I)
    assert re.search("samesite=strict", cookie, re.I)
    others = 'a[b]=1; {"no": "cookie"}; x=é'  # of other services on this host: browsers tell no ports apart
    value = {"cookie": f"{others}; {cookie.split(';')[0]}".encode()}
    assert ANNA not in cookie
    assert locked.http.get("/api/jobs", headers=value).status_code == 200
    assert locked.http.post("/api/warm", headers=value).status_code == 202
    both = value | {"authorization": b"Bearer " + b"wrong" * 5}
    refused(locked.http.get("/api/jobs", headers=both), 401, "unauthorized")
    ended = locked.http.delete("/api/session")
    assert ended.status_code == 204
    assert "max-age=0" in ended.headers["set-cookie"].lower()


def test_sessions_end_with_time_and_with_their_token_and_survive_a_restart(tmp_path: Path) -> None:
    def sessions(token: str, at: float) -> Sessions:
        digests = {"a.b": hashlib.sha256(token.encode()).digest()}
        return Sessions(Tokens(digests), tmp_path / "key", clock=lambda: at)

    session = sessions(ANNA, 1000.0).begin("a.b")
    expires = session.expires
    assert expires == 1000 + LIFE_S
    cookie = sessions(ANNA, 1000.0).cookie(session)
    assert sessions(ANNA, expires - 1).read(cookie) == session, "a service started again knows it"
    assert sessions(ANNA, expires).read(cookie) is None
    assert sessions(BERT, 1000.0).read(cookie) is None, "the token was replaced"
    assert Sessions(Tokens({}), tmp_path / "key", clock=lambda: 1000.0).read(cookie) is None
    name, _, mac = cookie.rsplit(".", 2)
    for forged in (
        f"{name}.{expires + 1}.{mac}",
        f"b.{expires}.{mac}",
        cookie[:-1],
        cookie + "0",
        "",
        "..",
        f"{name}.x.{mac}",
        f"{name}.{expires}.{'0' * 64}",  # a hexadecimal MAC, as cookies had it before itsdangerous
        f"é.{expires}.{mac}",
    ):
        assert sessions(ANNA, 1000.0).read(forged) is None, forged
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    (tmp_path / "key").unlink()
    assert sessions(ANNA, 1000.0).read(cookie) is None, "another key, another lock"


def test_a_session_cannot_renew_itself_and_the_token_begins_a_new_one(tmp_path: Path) -> None:
    """The whole way of a request, with a clock of the test's own."""
    now = 1000.0
    known = Tokens({"anna": hashlib.sha256(ANNA.encode()).digest()})
    sessions = Sessions(known, tmp_path / "key", clock=lambda: now)
    app = AuthMiddleware(make_app(sessions, Metrics()), known, sessions, Hosts([]), RateLimit(50))

    def begin(headers: dict[str, str]) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
                return await client.post("/api/session", headers=headers)

        return asyncio.run(ask())

    def cookie(answer: httpx.Response) -> dict[str, str]:
        return {"cookie": answer.headers["set-cookie"].split(";")[0]}

    first = begin(bearer(ANNA))
    assert f"Max-Age={LIFE_S}" in first.headers["set-cookie"]
    now += LIFE_S - 10
    renewed = begin(cookie(first))
    assert (renewed.status_code, renewed.json()) == (200, first.json()), "the same end as before"
    assert "Max-Age=10;" in renewed.headers["set-cookie"]
    fresh = begin(bearer(ANNA))
    assert fresh.json()["expires_at"] > first.json()["expires_at"]
    now += 10
    refused(begin(cookie(renewed)), 401, "unauthorized")
    assert begin(cookie(fresh)).status_code == 200


# ---- foreign pages ------------------------------------------------------------------------------


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


NO_HOSTS = [
    *("x y", "@", "", ":80", "localhost:x", "localhost:80:80", "::1", "[::1", "[localhost]", "localhost,evil.example"),
    *(f"localhost{mark}evil.example" for mark in "#?/\\@;%& "),
    *(f"evil.example{mark}localhost" for mark in ("#", "?", "/", "\\", "@", "\\@", "#@", "/@", ":80@", ":@")),
]
"""What a parser of whole addresses may find `localhost` or an address in, and what is no host at all."""


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "192.0.2.7:8765", "0.0.0.0", "[::2]", *NO_HOSTS]
)
def test_a_foreign_host_is_refused_whatever_it_asks(service: Service, host: str) -> None:
    for path in ("/", "/api/status", "/readyz"):
        detail = refused(service.http.get(path, headers={"host": host}), 403, "foreign_host")
        assert "IMAGEGEN_ALLOWED_HOSTS" in detail


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


def test_a_wrong_allowed_host_is_told_at_the_start(home: Path, sd_server: Path) -> None:
    service = Service(home, sd_server, {"allowed_hosts": "pictures.example, https://pictures.example"})
    service.launch()
    assert service.wait() != 0
    assert "'https://pictures.example' is not a host name" in service.tail()
    assert "Traceback" not in service.tail()


def test_a_second_host_does_not_hide_behind_an_own_one(tmp_path: Path) -> None:
    sessions = Sessions(None, tmp_path / "key")
    app = AuthMiddleware(make_app(sessions, Metrics()), None, sessions, Hosts([]), RateLimit(50))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return await client.get("/nowhere", headers=[("host", "localhost"), ("host", "evil.example")])

    refused(asyncio.run(ask()), 403, "foreign_host")


@pytest.mark.parametrize("origin", [*(f"http://{host}" for host in NO_HOSTS), "http://localhost/", "localhost", "://"])
def test_what_is_no_origin_is_nobodys_own(origin: str) -> None:
    hosts = Hosts(["localhost", "evil.example"])
    assert not hosts.same_origin(origin, "localhost")
    assert not hosts.same_origin(origin, origin.removeprefix("http://")), "not even under the same wrong name"
    assert hosts.same_origin("http://localhost", "localhost")


def test_own_names_and_allowed_ones_are_answered(locked: Service) -> None:
    for host in (
        "localhost",
        f"LOCALHOST:{locked.port}",
        "[::1]:80",
        "127.0.0.2",
        "localhost.",
        "pictures.example:443",
    ):
        assert locked.http.get("/readyz", headers={"host": host}).status_code == 200, host
    proxied = {"host": "127.0.0.1", "origin": "https://pictures.example"} | bearer(ANNA)
    refused(locked.http.delete("/api/jobs/x", headers=proxied), 404, "job_not_found")


def test_a_named_origin_may_call_and_read(locked: Service) -> None:
    """The rules are tested in tests/unit/http/test_callers.py; here, that the service has them."""
    page = {"origin": OBSIDIAN, "sec-fetch-site": "cross-site"}
    preflight = page | {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    asked = locked.http.options("/v1/images/generations", headers=preflight)
    assert (asked.status_code, asked.headers["access-control-allow-headers"]) == (204, "authorization")
    refused_one = locked.http.post("/v1/images/generations", headers=page)
    body = {"prompt": "a red circle", "size": "0x0"}
    let_in = locked.http.post("/v1/images/generations", headers=page | bearer(ANNA), json=body)
    assert [refused_one.json()["error"]["code"], let_in.json()["error"]["code"]] == ["unauthorized", "invalid_value"]
    for answer in (asked, refused_one, let_in):
        assert answer.headers["access-control-allow-origin"] == OBSIDIAN


def test_a_client_in_a_container_gets_addresses_that_it_can_reach(locked: Service) -> None:
    called = {"host": f"imagegen:{locked.port}"}
    detail = refused(locked.http.get("/api/openapi.json", headers=called), 403, "foreign_host")
    assert "IMAGEGEN_ALLOWED_HOSTS" in detail
    described = locked.http.get("/api/openapi.json", headers=called | bearer(ANNA)).json()
    assert described["servers"] == [{"url": f"http://imagegen:{locked.port}"}]


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


# ---- how much -----------------------------------------------------------------------------------


def test_too_many_requests_of_one_token_wait_and_those_of_others_do_not(locked: Service) -> None:
    def limited() -> bool:
        answer = locked.http.get("/api/jobs/x", headers=bearer(GREEDY))
        if answer.status_code != 429:
            return False
        assert int(answer.headers["retry-after"]) >= 1
        refused(answer, 429, "rate_limited")
        return True

    until(limited, "a greedy client is told to wait", every=0)
    assert locked.http.get("/api/status", headers=bearer(BERT)).status_code == 200


def test_a_bucket_fills_again_and_holds_no_more_than_its_burst() -> None:
    now = 0.0
    rate = RateLimit(0.5, clock=lambda: now)  # a burst of 5
    assert [rate.take("a") for _ in range(7)] == [0, 0, 0, 0, 0, 2, 2]
    assert rate.take("b") == 0
    now = 2.0
    assert [rate.take("a"), rate.take("a")] == [0, 2]
    now = 1000.0
    assert [rate.take("a") for _ in range(6)] == [0, 0, 0, 0, 0, 2]


def test_one_token_cannot_fill_the_queue(locked: Service) -> None:
    body = {"prompt": "a long job", "width": 512, "height": 512, "steps": 100, "n": 4}
    answers = [locked.http.post("/api/generate", json=body, headers=bearer(ANNA)) for _ in range(4)]
    other = locked.http.post("/api/generate", json=body, headers=bearer(BERT))
    for answer in (*answers, other):
        if answer.status_code == 202:
            locked.http.delete(f"/api/jobs/{answer.json()['job_id']}", headers=bearer(BERT))
    assert "token anna" in refused(answers[-1], 429, "queue_full")
    assert "retry-after" in answers[-1].headers
    assert other.status_code == 202, "the other token has room of its own"


# ---- a service that may not start ---------------------------------------------------------------


def test_the_service_does_not_start_beyond_loopback_without_a_token(home: Path, sd_server: Path) -> None:
    service = Service(home, sd_server, {"host": "0.0.0.0"})
    service.launch()
    assert service.wait() != 0
    assert "imagegen token new" in service.tail()
    assert "Traceback" not in service.tail()


def test_who_may_start_where(tmp_path: Path) -> None:
    def loaded(**settings: object) -> Tokens | None:
        return tokens.for_service(Settings(home=tmp_path, **settings))

    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        assert loaded(host=host) is None
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        with pytest.raises(SettingsError, match="no token"):
            loaded(host=host)
        assert loaded(host=host, allow_anonymous=True) is None
        assert loaded(host=host, tokens=f"anna:{ANNA}").names == ("anna",)


def test_without_tokens_each_request_is_judged_by_its_own_socket(tmp_path: Path) -> None:
    """However the service was started: BentoML's --host knows nothing of our settings."""
    sessions = Sessions(None, tmp_path / "key")
    app = AuthMiddleware(LoopbackOnly(make_app(sessions, Metrics())), None, sessions, Hosts([]), RateLimit(50))

    async def ask(url: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            return await client.get(url)

    assert "IMAGEGEN_TOKENS" in refused(asyncio.run(ask("http://192.0.2.1:8765/api/nowhere")), 403, "lock_required")
    assert asyncio.run(ask("http://127.0.0.1:8765/api/nowhere")).status_code == 404
    assert asyncio.run(ask("http://[::1]:8765/api/nowhere")).status_code == 404


# ---- tokens -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "sentence"),
    [
        ("justatoken0123456", "name:token"),
        ("a:short", "16"),
        (f"a:{ANNA},a:{BERT}", "name of its own"),
        (f"a b:{ANNA}", "letters"),
        ("a:with spaces in it 123", "without spaces"),
        (",", "no token"),
        ("@/nowhere/tokens", "cannot be read"),
    ],
)
def test_wrong_tokens_stop_the_start_without_showing_them(tmp_path: Path, listed: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(sentence)) as caught:
        tokens.load(Settings(home=tmp_path, tokens=listed))
    for secret in ("justatoken0123456", "short,", "with spaces", ANNA):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "# nobody\n", "anna\n", f"anna:{ANNA}\n", f"anna:{'0' * 64}\nanna:{'1' * 64}\n", "\xff"]
)
def test_wrong_files_of_tokens_stop_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokens").write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match="tokens"):
        tokens.load(Settings(home=tmp_path))


def token_new(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imagegen.cli", "token", "new", *arguments]
    environment = {**os.environ, "IMAGEGEN_HOME": str(home)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_a_new_token_is_shown_once_and_opens_the_lock(tmp_path: Path) -> None:
    first, second = token_new(tmp_path, "anna"), token_new(tmp_path, "bert")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    file = tmp_path / "tokens"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    made = first.stdout.strip()
    assert len(made) >= 40
    assert made not in file.read_text()
    read = tokens.load(Settings(home=tmp_path))
    assert read is not None
    assert (read.name_of(made), read.name_of(second.stdout.strip()), read.name_of(made + "x")) == ("anna", "bert", None)
    again = token_new(tmp_path, "anna")
    assert (again.returncode, again.stdout) == (1, "")
    assert "already" in again.stderr
    assert token_new(tmp_path, "no/name").returncode == 1


def test_a_new_token_goes_to_the_file_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere"
    file.write_text(f"old:{'0' * 64}")  # somebody's editor left no newline
    made = token_new(tmp_path, "anna", "--file", str(file))
    assert f"IMAGEGEN_TOKENS=@{file}" in made.stderr
    read = tokens.load(Settings(home=tmp_path, tokens=f"@{file}"))
    assert read is not None
    assert read.names == ("old", "anna")
    assert read.name_of(made.stdout.strip()) == "anna"

"""The page's files: what is served, how, and how much of it."""

from __future__ import annotations

import gzip
import re
from pathlib import PurePosixPath

import pytest
from served import Service

from imagegen.http.routes.page import FILES

FIRST_LOAD_BYTES = 100_000
LINK = re.compile(r'(?:href|src)="(static/[^"]+)"')
IMPORT = re.compile(r'(?:from|import)\s*"(\.[^"]+)"')
LATER = re.compile(r'import\("(\.[^"]+)"\)|"static/([^"]+\.css)"')


def text_of(service: Service, name: str) -> str:
    answer = service.http.get(f"/static/{name}")
    assert answer.status_code == 200, name
    return answer.text


def first_load(service: Service) -> dict[str, str]:
    """Every file that opening the page loads, by name: what the page links, and what its modules import."""
    loaded = {"index.html": service.http.get("/").text}
    load(service, loaded, [link.removeprefix("static/") for link in LINK.findall(loaded["index.html"])])
    return loaded


def load(service: Service, loaded: dict[str, str], wanted: list[str]) -> None:
    """Add these files and what they import."""
    while wanted:
        name = wanted.pop()
        if name in loaded:
            continue
        loaded[name] = text_of(service, name)
        wanted += [beside(name, target) for target in IMPORT.findall(loaded[name]) if name.endswith(".js")]


def beside(name: str, target: str) -> str:
    """The file that `name` means by a relative address."""
    parts: list[str] = []
    for part in (PurePosixPath(name).parent / target).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)


def whole_page(service: Service) -> dict[str, str]:
    """The first load, and the parts that are loaded when they are used."""
    loaded = first_load(service)
    for name, content in list(loaded.items()):
        if name.endswith(".js"):
            later = LATER.findall(content)
            load(service, loaded, [style or beside(name, module) for module, style in later])
    return loaded


def test_the_first_load_is_small_and_needs_every_file_there_is(service: Service) -> None:
    loaded = first_load(service)
    on_the_wire = sum(len(gzip.compress(content.encode())) for content in loaded.values())
    assert on_the_wire < FIRST_LOAD_BYTES
    assert not [name for name in loaded if "paint" in name or "/compare" in name], "loaded when they are used"
    assert set(whole_page(service)) == set(FILES), "a file that nothing loads has no place here"


def test_files_come_compressed_with_a_tag_and_are_not_sent_twice(service: Service) -> None:
    first = service.http.get("/static/js/main.js")
    assert first.headers["content-encoding"] == "gzip"
    assert first.headers["cache-control"] == "no-cache"
    plain = service.http.get("/static/js/main.js", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == first.content
    assert plain.headers["etag"] != first.headers["etag"]
    again = service.http.get("/static/js/main.js", headers={"if-none-match": f'"x", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    other = service.http.get("/static/js/main.js", headers={"if-none-match": '"x"'})
    assert other.status_code == 200


def test_the_page_lets_nothing_run_but_its_own_files(service: Service) -> None:
    policy = dict(
        part.strip().partition(" ")[::2] for part in service.http.get("/").headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert (policy["script-src"], policy["style-src"], policy["connect-src"]) == ("'self'",) * 3
    assert policy["require-trusted-types-for"] == "'script'"
    assert policy["frame-ancestors"] == "'none'"


def test_nothing_of_the_page_is_elsewhere_and_no_text_becomes_html(service: Service) -> None:
    for name, content in whole_page(service).items():
        if name.startswith("vendor/"):
            continue
        addresses = set(re.findall(r"https?://[^\s\"'`]+", content)) - {"http://www.w3.org/2000/svg"}
        assert not addresses, name
        for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "unsafeHTML", "eval("):
            assert sink not in content, name


@pytest.mark.parametrize(
    "path",
    ["/static/nothing.js", "/static/../page.py", "/static/%2e%2e/__init__.py", "/static/__init__.py", "/static/"],
)
def test_what_the_page_does_not_have_is_a_problem(service: Service, path: str) -> None:
    answer = service.http.get(path)
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


def test_an_icon_is_there_for_a_picture_opened_by_itself(service: Service) -> None:
    assert service.http.get("/favicon.ico").headers["content-type"] == "image/svg+xml"

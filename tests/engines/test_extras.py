"""Without the second engine's packages: every way in says so, and how to get them; everything else goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from imagegen.app import App
from imagegen.cli.models import models
from imagegen.doctor import model as drawing
from imagegen.doctor.finding import Level
from imagegen.http import serialize
from imagegen.http.context import usable_names
from imagegen.models import packages
from imagegen.models.catalog import Catalog
from imagegen.models.entry_files import CatalogError
from imagegen.models.synthetic import make as synthetic
from imagegen.requests import GenerateRequest
from imagegen.schemas import Refused
from imagegen.settings import Settings

LACKING = "lacking_package_of_a_test"
SENTENCE = (
    f"Python packages {LACKING} is not installed. Install it where the service is: make glm in a clone, else "
    "pip install 'imagegen[glm]' in the Python environment that the service runs in."
)


@pytest.fixture(autouse=True)
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a machine without the extra: replace torch by a package that does not exist."""
    monkeypatch.setitem(packages.PACKAGES, "glm", ("json", LACKING))


def test_what_is_lacking_is_found_without_importing_it() -> None:
    assert packages.lacking("glm") == (LACKING,)
    assert packages.lacking("sdcpp") == ()


def test_a_job_is_refused_with_the_sentence_and_other_models_draw(home: Path, sd_server: Path) -> None:
    async def scenario() -> None:
        app = App(Settings(home=home, sd_server=sd_server, threads=1, model="glm-tiny"))
        await app.start()
        try:
            with pytest.raises(Refused) as raised:
                await app.admission.admit(GenerateRequest(prompt="a red circle"))
            assert (raised.value.status, raised.value.code) == (422, "model_missing")
            assert SENTENCE in raised.value.detail
            assert [w.code for w in app.model_files.troubles() if SENTENCE in w.detail] == ["model_missing"]
            entry = app.catalog.get("glm-tiny")
            assert serialize.model(app, entry).installed is False
            assert f"Python package {LACKING}" in serialize.model(app, entry).missing
            assert not set(usable_names(app)) & {"glm-tiny", "glm-image"}
            small = GenerateRequest(prompt="a red circle", model="tiny", width=64, height=64, steps=1)
            job = await app.admission.admit(small)
            while not (await app.jobs.get(job.id)).status.ended:  # noqa: ASYNC110 - with a deadline, below
                await asyncio.sleep(0.05)
            assert (await app.jobs.get(job.id)).status.value == "complete"
        finally:
            await app.stop()

    asyncio.run(asyncio.wait_for(scenario(), 120))


def test_the_command_line_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEGEN_HOME", str(tmp_path))
    shown = CliRunner().invoke(models, ["show", "glm-image"])
    assert SENTENCE in shown.output
    listed = CliRunner().invoke(models, ["list"]).output.splitlines()
    assert all(
        "lacks 1 Python package" in line and "packages" not in line for line in listed if line.startswith("glm-")
    )
    made = CliRunner().invoke(models, ["make", "glm-tiny"])
    assert made.exit_code == 1 and SENTENCE in made.output
    with pytest.raises(CatalogError, match="not installed"):
        synthetic.make("glm-tiny", Settings(home=tmp_path))


def test_the_doctor_says_it_and_fails_only_where_it_matters(tmp_path: Path) -> None:
    catalog = Catalog.load(Settings(home=tmp_path))
    (wanted,) = drawing.packages(catalog.get("glm-image"))
    assert wanted.level is Level.FAIL and SENTENCE in wanted.what
    (told,) = drawing.packages(catalog.get("tiny"))
    assert told.level is Level.OK and LACKING in told.what and "make glm" in told.what

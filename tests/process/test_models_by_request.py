"""A request names its model: one is resident, another takes its place, in the order of the queue."""

from __future__ import annotations

from pathlib import Path

import pytest
from served import gone

from imagegen.models.catalog import Catalog
from imagegen.models.entry_files import CatalogError
from imagegen.settings import Settings


def test_models_take_turns_in_the_queues_order_with_one_resident(serve, home: Path) -> None:
    able = "[capabilities]\ndraw = true\nedit = true\nmax_references = 1\n"
    (home / "models" / "second.toml").write_text(f'base = "tiny"\ntitle = "Second"\n{able}')
    (home / "models" / "hidden.toml").write_text('base = "tiny"\ntitle = "Hidden"\n')
    service = serve(models="tiny, second, flux2-klein-4b", idle_timeout="never")
    first = service.draw(model="tiny")
    before = service.engine_pid
    names = ["second", "tiny", "tiny", "second"]
    jobs = [service.ended(service.submit(model=name)["job_id"]) for name in names[:1]]
    assert gone(before), "the engine of the other model has ended"
    submitted = [service.submit(model=name) for name in names[1:]]
    jobs += [service.ended(job["job_id"]) for job in submitted]
    assert [job["model"] for job in jobs] == names
    assert [job["status"] for job in jobs] == ["complete"] * 4
    starts = [job["started_at"] for job in jobs]
    assert starts == sorted(starts), "first come, first served, whatever the model"
    assert service.status()["engine"]["model"] == "second"
    assert service.log.read_text().count("engine loaded model=") == 4, "two jobs of one model in a row share a load"
    assert service.png(first) != b""

    listed = service.http.get("/v1/models").json()["data"]
    assert [one["id"] for one in listed if "alias_of" not in one] == ["second", "tiny"], (
        "what can draw now; flux2-klein-4b has no files here"
    )
    offered = service.http.get("/api/models").json()["items"]
    assert [model["name"] for model in offered] == ["flux2-klein-4b", "second", "tiny"]
    for route, body in (
        ("/api/generate", {"prompt": "a red circle", "model": "hidden"}),
        ("/v1/images/generations", {"prompt": "a red circle", "model": "hidden"}),
    ):
        refused = service.http.post(route, json=body)
        assert refused.status_code in {404, 422}, refused.text
        assert "hidden" in refused.text and "second" in refused.text

    body = {"prompt": "x", "model": "second", "images": [first["images"][0]["id"]], "mask": first["images"][0]["id"]}
    refused = service.http.post("/api/edit", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "not_supported_by_model")
    assert "second takes no mask" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"models": "tiny,tinny"}, "'tinny' is not in the catalog"),
        ({"models": " , "}, "names no model"),
        ({"models": "qwen-tiny", "model": "tiny"}, "IMAGEGEN_MODEL='tiny' is not among"),
    ],
)
def test_a_wrong_list_of_models_is_told(tmp_path: Path, settings: dict[str, str], told: str) -> None:
    with pytest.raises(CatalogError, match=told):
        Catalog.offered(Settings(home=tmp_path, **settings))


def test_the_default_is_one_of_those_that_may_be_asked_for(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, models="sd-turbo,z-image-turbo")
    assert Catalog.offered(settings).default(settings, has_gpu=True).name == "sd-turbo"

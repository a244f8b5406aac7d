"""Several pictures of one request: numbered in one result, and there one by one while the job runs."""

from __future__ import annotations

import base64

import pytest
from fronts import SMALL, call, run, size_of, text_of, within
from served import until

from mcp_front.results import MAX_RESULT_CHARS

LONG = {"width": 128, "height": 128, "steps": 40, "seed": 7, "n": 4}


def test_several_pictures_are_numbered_in_one_result(service):
    async def story():
        async with within(service.url) as client:
            return await call(client, "generate_image", prompt="two red balls", n=2, **SMALL)

    result = run(story())
    kinds = [part.text if part.type == "text" else part.type for part in result.content[1:]]
    assert kinds == ["Picture 1:", "image", "Picture 2:", "image", "resource_link", "resource_link"]
    lines = text_of(result).splitlines()
    assert lines[0].startswith("Drew 2 pictures: 64 x 64 px, seed 7") and "Picture 2 (seed 8):" in lines
    assert "Ask by its number which picture the user wants" in text_of(result)
    assert size_of(result) <= MAX_RESULT_CHARS


def test_finished_pictures_are_there_while_the_others_are_drawn(service):
    job_id = service.submit("four red balls", **LONG)["job_id"]
    until(lambda: service.job(job_id)["images"], "the first picture is finished")
    first = service.job(job_id)["images"][0]["id"]

    async def story():
        async with within(service.url, ui=True) as client:
            fetched = await call(client, "get_job_result", job_id=job_id)
            followed = await call(client, "read_job", prompt="four red balls")
            cancelled = await call(client, "cancel_job", job_id=job_id)
            status = await call(client, "get_job_status", job_id=job_id)
            ended = await call(client, "get_job_result", job_id=job_id)
            nothing = await call(client, "read_job", prompt="four red balls")
            return fetched, followed, cancelled, status, ended, nothing

    with service.engine_held(job_id):
        fetched, followed, cancelled, status, ended, nothing = run(story())
    assert "of 4 pictures" in text_of(fetched).splitlines()[0] and "the job goes on: " in text_of(fetched)
    assert f'Call get_job_status(job_id="{job_id}")' in text_of(fetched)
    assert fetched.structured_content["images"][0]["image_id"] == first
    assert (fetched.structured_content["status"], followed.structured_content["status"]) == ("running", "running")
    assert followed.structured_content["job_id"] == job_id and followed.structured_content["n"] == 4
    assert followed.structured_content["images"][0]["image_id"] == first
    for told in (cancelled, status):
        assert f"Finished so far: picture 1 is {first}" in text_of(told), text_of(told)
    assert status.is_error and not ended.is_error
    assert "so the other pictures were not drawn" in text_of(ended).splitlines()[0]
    assert ended.structured_content["images"][0]["image_id"] == first
    assert nothing.structured_content["job_id"] is None, "it has ended"


def test_the_view_varies_a_picture_with_the_same_request(service):
    drawn = service.draw("an umber owl", **SMALL)

    async def story():
        async with within(service.url, ui=True) as client:
            return await call(client, "vary_image", image_id=drawn["images"][0]["id"], n=1)

    facts = run(story()).structured_content
    varied = service.ended(facts["job_id"])
    assert (varied["prompt"], varied["status"], len(varied["images"])) == ("an umber owl", "complete", 1)
    assert varied["params"]["seed"] != 7


@pytest.mark.parametrize("data", ["%%%", base64.b64encode(b"secret words").decode()])
def test_a_mask_that_is_no_picture_is_not_stored(service, data):
    before = set((service.home / "images").iterdir())

    async def story():
        async with within(service.url) as client:
            return await call(client, "upload_mask", data=data)

    result = run(story())
    assert result.is_error and text_of(result) == "Nothing was stored: data is not a picture in base64."
    assert set((service.home / "images").iterdir()) == before

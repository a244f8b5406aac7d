"""Before a picture is drawn that would not show what was asked for, the agent is told and asks the user."""

from __future__ import annotations

import dataclasses

import pytest
from fronts import SMALL, call, job_id_of, run, text_of, within

from imagegen_client.answers import parsed
from mcp_front.answers import Job, Said
from mcp_front.client import connected
from mcp_front.results import Results
from mcp_front.settings import Settings


def newest(service):
    return service.http.get("/api/jobs?limit=1").json()["items"][:1]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("generate_image", {"prompt": 'an oil painting of a giraffe that says "hi"'}),
        ("submit_async_job", {"prompt": 'an oil painting of a giraffe that says "hi"'}),
        ("edit_image", {"prompt": 'add a giraffe in oil painting style that says "hi"', "images": ["{id}"]}),
    ],
)
def test_what_the_model_cannot_draw_is_asked_about_first(service, tool, arguments):
    picture = service.draw()["images"][0]["id"]
    arguments |= {"images": [picture]} if "images" in arguments else {}
    before = newest(service)

    async def story():
        async with within(service.url, ui=True) as client:
            asked = await call(client, tool, model="sketch", **arguments)
            unchanged = newest(service)
            wait = {} if tool == "submit_async_job" else {"wait": False}
            goes_on = await call(client, tool, model="sketch", anyway=True, **wait, **arguments)
            job_id = job_id_of(goes_on)
            await call(client, "cancel_job", job_id=job_id)
        return asked, unchanged, goes_on

    asked, unchanged, goes_on = run(story())
    assert unchanged == before and not asked.is_error
    first, *notes = text_of(asked).splitlines()
    assert first == "Nothing was drawn yet: the picture would not show what was asked for."
    assert "giraffe" in notes[0] or "names" in notes[0]
    assert "It knows: circle" in notes[0] and "clip-art" in notes[1] and "scribbles" in notes[2]
    assert "ask whether to go on" in notes[3] and "anyway=true" in notes[3]
    facts = asked.structured_content
    assert (facts["status"], facts["job_id"], facts["model"]) == ("not_drawn", None, "sketch")
    assert job_id_of(goes_on) == newest(service)[0]["job_id"]


def test_a_picture_that_shows_something_else_is_said_in_the_first_line(service):
    drawn = service.draw(prompt="a giraffe", **SMALL)
    known = [Said(code="unknown_subject", detail="sketch knows no giraffe."), Said(code="other", detail="Rounded.")]
    job = dataclasses.replace(parsed(Job, drawn, "job"), warnings=known)

    async def story():
        async with connected(Settings(url=service.url)) as client:
            return await Results(client, Settings(url=service.url), saves=False).finished(job, structured=True)

    result = run(story())
    first, second, *rest = text_of(result).splitlines()
    assert first == "sketch knows no giraffe. Tell the user so." and second.startswith("Drew 1 picture")
    assert [line for line in rest if line.startswith("Note: ")] == ["Note: Rounded."]
    assert result.structured_content["says"] == "sketch knows no giraffe."

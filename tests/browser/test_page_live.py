"""A picture forms on the page, and typing draws drafts: in a browser against the shared service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from served import Service, until

LIVE = "[role=switch]"
DRAFT = "[data-draft]"
SMALL = {"size": "64x64", "steps": "2"}
LONG = {"size": "512x512", "steps": "100"}


def opened(open_page, service: Service, live: bool = False, **draft: Any) -> Any:
    """The page with a draft of the form, and Live as it is to be."""
    page = open_page(service.url).page
    kept = {"draft": SMALL | draft, "prefs": {"live": {"tiny": live}}}
    page.evaluate(
        "kept => { for (const name in kept) localStorage['imagegen.' + name] = JSON.stringify(kept[name]); }", kept
    )
    page.evaluate("draft => { sessionStorage['imagegen.draft'] = JSON.stringify(draft); }", kept["draft"])
    page.reload()
    page.wait_for_selector(".dot:not(.offline)")
    page.wait_for_selector(LIVE)
    return page


@contextmanager
def submitted(page: Any) -> Iterator[list[dict[str, Any]]]:
    """The requests for pictures that the page sends meanwhile, and the jobs that they became."""
    seen: list[dict[str, Any]] = []

    def note(answer: Any) -> None:
        if answer.request.method == "POST" and answer.url.endswith("/api/generate") and answer.status == 202:
            seen.append(json.loads(answer.request.post_data) | {"job": answer.json()["job_id"]})

    page.on("response", note)
    yield seen
    page.remove_listener("response", note)


def typed(page: Any, text: str) -> None:
    page.locator("#prompt").press_sequentially(text)


def waited(page: Any, happened: Any, what: str) -> None:
    """As `until`, while the browser's own events arrive."""
    until(lambda: page.wait_for_timeout(20) or happened(), what)


def tiles(page: Any) -> int:
    return int(page.locator("[data-tile]").count())


def test_a_picture_forms_in_the_place_of_the_one_to_come(service: Service, open_page) -> None:
    page = opened(open_page, service, **LONG)
    page.fill("#prompt", "a picture that forms")
    page.click(".compose .primary")
    page.wait_for_selector(".result [data-forming]")
    size = "image => [image.naturalWidth, image.naturalHeight]"
    assert page.locator(".result [data-forming]").last.evaluate(size) == [512, 512]
    label = page.locator(".result .forming").get_attribute("aria-label")
    assert "of 100: a picture that forms" in label
    page.wait_for_selector("#live .forming-thumb")
    first = int(page.locator(".result [data-forming]").last.get_attribute("data-forming"))
    waited(
        page,
        lambda: int(page.locator(".result [data-forming]").last.get_attribute("data-forming")) > first,
        "it goes on",
    )
    page.locator("#live").get_by_role("button", name="Cancel").click()
    page.wait_for_selector("[data-forming]", state="detached")


def test_typing_draws_drafts_with_one_seed_and_enter_keeps_the_last(service: Service, open_page) -> None:
    page = opened(open_page, service, live=True)
    before = tiles(page)
    with submitted(page) as sent:
        typed(page, "a red")
        waited(page, lambda: len(sent) == 1, "the first draft is sent")
        typed(page, " boat")
        waited(page, lambda: len(sent) == 2, "the second one replaces it")
    assert [one["prompt"] for one in sent] == ["a red", "a red boat"]
    assert [(one["draft"], one["preview"]) for one in sent] == [(True, "auto")] * 2
    assert sent[0]["seed"] == sent[1]["seed"]
    page.wait_for_selector(f'[data-draft="{sent[1]["job"]}"] img[alt="a red boat"]')
    assert tiles(page) == before, "a draft is not in the gallery"
    page.keyboard.press("Enter")
    page.wait_for_selector(".toast:has-text('The picture is kept')")
    page.wait_for_selector(DRAFT, state="detached")
    kept = service.job(sent[1]["job"])
    assert (kept["draft"], kept["status"]) == (False, "complete")
    assert page.locator("[data-picture]").get_attribute("data-picture") == kept["images"][0]["id"]
    assert tiles(page) == before + 1
    assert page.input_value("#prompt") == "a red boat", "Enter is no new line"
    page.keyboard.press("Shift+Enter")
    assert page.input_value("#prompt") == "a red boat\n"


def test_another_job_cancels_a_draft_which_is_drawn_again_after_it(service: Service, open_page) -> None:
    page = opened(open_page, service, live=True, **LONG)
    with submitted(page) as sent:
        typed(page, "a bell")
        waited(page, lambda: len(sent) == 1, "the draft is sent")
        job = service.submit()
        waited(page, lambda: len(sent) == 2, "it is sent again")
    assert service.job(sent[0]["job"])["status"] == "cancelled"
    assert service.job(job["job_id"])["status"] == "complete", "the other one came first"
    page.locator("#prompt").fill("")
    until(lambda: service.job(sent[1]["job"])["status"] == "cancelled", "an empty prompt ends it")


def test_a_hidden_tab_ends_its_draft_and_without_live_none_is_sent(service: Service, open_page) -> None:
    page = opened(open_page, service, live=True, **LONG)
    with submitted(page) as sent:
        typed(page, "a bell")
        waited(page, lambda: len(sent) == 1, "the draft is sent")
        page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true, configurable: true })")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        until(lambda: service.job(sent[0]["job"])["status"] == "cancelled", "it is cancelled")
        page.evaluate("delete document.hidden")
        page.uncheck(LIVE)
        typed(page, " tower")
        page.locator("#prompt").press("Control+Enter")
        waited(page, lambda: len(sent) == 2, "the picture is asked for")
    assert "draft" not in sent[1]
    assert sent[1]["prompt"] == "a bell tower"
    service.http.delete(f"/api/jobs/{sent[1]['job']}")


@pytest.mark.parametrize(("picture_s", "live"), [(None, False), (3.9, True), (4.0, False), (35.0, False)])
def test_live_is_on_by_itself_for_a_quick_model(
    service: Service, open_page, picture_s: float | None, live: bool
) -> None:
    """The service's answer is its own but for the seconds a picture, which depend on this machine."""
    page = open_page(service.url).page

    def answer(route: Any) -> None:
        models = route.fetch().json()
        route.fulfill(json=models | {"items": [one | {"picture_s": picture_s} for one in models["items"]]})

    page.route("**/api/models", answer)
    page.reload()
    page.wait_for_selector(LIVE)
    assert page.locator(LIVE).is_checked() is live


def test_a_model_that_has_drawn_says_how_long_a_picture_takes(service: Service) -> None:
    service.draw()
    models = {one["name"]: one["picture_s"] for one in service.http.get("/api/models").json()["items"]}
    assert models["tiny"] > 0


def test_the_things_that_a_small_model_knows_are_chosen_by_keyboard(service: Service, open_page, require) -> None:
    found_axe = find_spec("axe_playwright_python")
    require("axe is not installed (requirements/dev.txt has it)", found_axe is not None)
    page = open_page(service.url, bypass_csp=True, reduced_motion="reduce").page
    page.evaluate("sessionStorage['imagegen.draft'] = JSON.stringify({ model: 'sketch' })")
    page.reload()
    chips = page.locator(".things button")
    chips.first.wait_for()
    known = {one["name"]: one["knows"] for one in service.http.get("/api/models").json()["items"]}
    assert chips.all_inner_texts() == known["sketch"]
    assert known["tiny"] is None
    page.evaluate((Path(str(found_axe.origin)).parent / "axe.min.js").read_text())
    report = page.evaluate("() => axe.run('.compose', {resultTypes: ['violations']})")
    assert [found["id"] for found in report["violations"] if found["impact"] in {"serious", "critical"}] == []
    assert page.locator(".things [tabindex='0']").count() == 1
    chips.first.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    until(lambda: page.input_value("#prompt") == f"a {known['sketch'][1]}", "it is in the prompt")
    assert page.locator(".things").count() == 0
    until(lambda: page.evaluate("document.activeElement.id") == "prompt", "the focus is where one types")


@pytest.mark.parametrize("device", ["phone", "desktop"])
def test_chips_and_switch_fit_into_the_window(service: Service, open_page, device: str) -> None:
    page = open_page(service.url, device=device).page
    page.evaluate("sessionStorage['imagegen.draft'] = JSON.stringify({ model: 'sketch' })")
    page.reload()
    page.wait_for_selector(".things")
    overflow = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0

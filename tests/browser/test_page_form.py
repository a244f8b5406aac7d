"""What the form does with wrong values, open gaps, Clear, tabs, and a row that leaves the list of jobs."""

from __future__ import annotations

from typing import Any

import pytest
from served import Service, until

FOCUS = "document.activeElement.id"
ALERT = ".compose [role=alert]"
DRAFT = "draft => sessionStorage.setItem('imagegen.draft', JSON.stringify(draft))"


def started(page: Any, **draft: Any) -> None:
    """The page with `draft` in its form, and with the service's models and templates."""
    page.evaluate(DRAFT, draft)
    page.reload()
    page.wait_for_selector("[aria-label=Style] >> text=Whiteboard", state="attached")


def jobs(service: Service) -> list[str]:
    return [job["job_id"] for job in service.http.get("/api/jobs").json()["items"]]


@pytest.mark.parametrize("send", ["click", "Control+Enter"])
@pytest.mark.parametrize(
    ("field", "draft", "says"),
    [
        ("width", {"size": "4x64"}, "Width is 4. The least is 64."),
        ("height", {"size": "64x9984"}, "Height is 9984. The most is 512."),
        ("width", {"size": "65x64"}, "Width is 65. It has to be a multiple of"),
        ("seed", {"seed": "-1", "locked": True}, "Seed is -1. The least is 0."),
        ("steps", {"steps": "2.5"}, "Steps is 2.5. It has to be a multiple of 1."),
    ],
)
def test_a_wrong_value_in_the_folded_section_is_shown(
    service: Service, open_page, send: str, field: str, draft: dict[str, Any], says: str
) -> None:
    page = open_page(service.url).page
    started(page, prompt="a bell", **draft)
    before = jobs(service)
    assert not page.locator(f"#{field}").is_visible()
    page.focus("#prompt")
    if send == "click":
        page.click(".compose .primary")
    else:
        page.keyboard.press(send)
    page.wait_for_selector(f"#{field}", state="visible")
    until(lambda: page.evaluate(FOCUS) == field, "the field has the focus")
    assert says in page.locator(ALERT).inner_text()
    assert jobs(service) == before


def test_a_side_that_is_typed_is_sent_without_leaving_its_field(service: Service, open_page) -> None:
    page = open_page(service.url).page
    started(page, prompt="a bell", size="64x64", steps="1")
    page.click("summary:has-text('More')")
    page.fill("#width", "")
    page.locator("#width").press_sequentially("128")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("[data-picture][width='128'][height='64']")


def test_an_open_gap_is_pointed_at_and_not_sent(service: Service, open_page) -> None:
    page = open_page(service.url).page
    started(page, size="64x64", steps="1")
    page.select_option("[aria-label=Style]", "whiteboard_diagram")
    until(lambda: "{title}" in page.input_value("#prompt"), "the style is in the form")
    before = set(jobs(service))
    page.focus("#negative")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(f"{ALERT} >> text=Replace {{title}} in the prompt")
    selected = "field => field.value.slice(field.selectionStart, field.selectionEnd)"
    until(lambda: page.locator("#prompt").evaluate(selected) == "{title}", "the gap is selected")
    assert set(jobs(service)) == before
    page.click("text=Draw it as it is")
    until(lambda: len(set(jobs(service)) - before) == 1, "braces that are meant are sent")


@pytest.mark.parametrize(("model", "size"), [("sketch", ["128", "128"]), ("", ["", ""])])
def test_a_style_takes_a_size_that_the_chosen_model_draws(
    service: Service, open_page, model: str, size: list[str]
) -> None:
    page = open_page(service.url).page
    started(page, model=model)
    page.click("summary:has-text('More')")
    page.select_option("[aria-label=Style]", "whiteboard_diagram")
    until(lambda: "{title}" in page.input_value("#prompt"), "the style is in the form")
    until(lambda: [page.input_value(f"#{side}") for side in ("width", "height")] == size, "so is its size")


def test_clear_is_undone(service: Service, open_page) -> None:
    page = open_page(service.url).page
    started(page, prompt="a long thought", negative="text", steps="3")
    page.click("text=Clear")
    until(lambda: page.input_value("#prompt") == "", "the form is empty")
    page.reload()
    page.click("text=Undo Clear")
    until(lambda: page.input_value("#prompt") == "a long thought", "the prompt is back")
    assert (page.input_value("#negative"), page.input_value("#steps")) == ("text", "3")
    page.wait_for_selector("text=Undo Clear", state="detached")


def test_two_tabs_keep_their_own_drafts(service: Service, open_page) -> None:
    first = open_page(service.url).page
    second = first.context.new_page()
    second.goto(service.url)
    first.fill("#prompt", "of the first tab")
    second.fill("#prompt", "of the second tab")
    for page, prompt in ((first, "of the first tab"), (second, "of the second tab")):
        page.reload()
        page.wait_for_selector("#prompt")
        assert page.input_value("#prompt") == prompt


CLICK_AT_ONCE = """gone => {
  const list = document.querySelector("#live ul");
  new MutationObserver((_, observer) => {
    if (list.querySelector(`[data-job="${gone}"]`)) return;
    observer.disconnect();
    for (const cross of list.querySelectorAll("button")) cross.click();
    window.clickedAtOnce = true;
  }).observe(list, { childList: true });
}"""


def test_the_next_jobs_cross_is_not_hit_and_the_focus_stays_near(service: Service, open_page) -> None:
    page = open_page(service.url).page
    page.wait_for_selector(".dot:not(.offline)")
    long = service.submit("a long one", width=256, height=256, steps=100, n=4)
    first, second = (service.submit(f"waiting {number}")["job_id"] for number in (1, 2))
    page.wait_for_selector(f'[data-job="{second}"]')
    page.evaluate(CLICK_AT_ONCE, first)
    page.locator(f'[data-job="{first}"] button').focus()
    page.keyboard.press("Enter")
    until(lambda: page.evaluate("window.clickedAtOnce"), "every cross was clicked as soon as the row was gone")
    row = "document.activeElement.closest('[data-job]')?.dataset.job"
    until(lambda: page.evaluate(row) == second, "the row that took its place has the focus")
    assert [service.job(job)["status"] for job in (long["job_id"], second)] == ["running", "queued"]
    for job in (second, long["job_id"]):
        service.http.delete(f"/api/jobs/{job}")
    until(lambda: page.evaluate(FOCUS) == "result-title", "no row is left: the focus is at the result")
    assert service.job(first)["status"] == "cancelled"

"""Two pictures with a divider between them, on the page and in full screen; and the shortcuts that lead there."""

from __future__ import annotations

from typing import Any

import pytest
from served import Service, until

FOCUS = "document.activeElement.id || document.activeElement.type"
TABLE = "import('./static/js/shortcuts.js').then(({SHORTCUTS}) => SHORTCUTS)"
DIVIDED = ".result .divided"


@pytest.fixture(scope="module")
def drawn(service: Service) -> list[dict[str, Any]]:
    """A picture, and two edits of it."""
    drawing = service.draw("a red boat")
    source, jobs = drawing["images"][0]["id"], [drawing["job_id"]]
    for prompt in ("make it blue", "make it green"):
        edit = {"prompt": prompt, "images": [source], "steps": 1}
        jobs.append(service.http.post("/api/edit", json=edit).json()["job_id"])
    return [service.ended(job) for job in jobs]


def showing(page: Any, job: dict[str, Any], **prefs: Any) -> None:
    shown = {"shown": {"job": job["job_id"], "index": 0}, "prefs": prefs}
    page.evaluate("kept => { for (const n in kept) localStorage['imagegen.' + n] = JSON.stringify(kept[n]); }", shown)
    page.reload()
    page.wait_for_selector(f'.result [data-picture="{job["images"][0]["id"]}"]')


def divider(page: Any, where: str) -> float:
    """The divider's place from the left, in per cent."""
    return float(page.locator(where).evaluate("one => parseFloat(getComputedStyle(one).getPropertyValue('--at'))"))


def test_an_edit_is_shown_over_its_source_by_pointer_and_keys(service: Service, open_page, drawn) -> None:
    page = open_page(service.url).page
    showing(page, drawn[1])
    page.get_by_label("Slider").check()
    page.wait_for_selector(DIVIDED)
    assert drawn[0]["images"][0]["id"] in page.locator(f"{DIVIDED} .before").get_attribute("src")
    box = page.locator(DIVIDED).bounding_box()
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + 20)
    until(lambda: abs(divider(page, DIVIDED) - 25) < 1, "the divider is where the click was")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("PageUp")
    until(lambda: abs(divider(page, DIVIDED) - 37) < 1, "keys move it")
    clip = page.locator(f"{DIVIDED} .after").evaluate("image => getComputedStyle(image).clipPath")
    assert clip.startswith("inset(0px 0px 0px 3"), "the left part shows the source"
    page.reload()
    page.wait_for_selector(DIVIDED)
    page.get_by_label("Side by side").check()
    page.wait_for_selector(".stage.pair")


def test_any_two_pictures_are_compared_in_full_screen(service: Service, open_page, drawn) -> None:
    page = open_page(service.url).page
    source, blue, green = (job["images"][0]["id"] for job in drawn)
    showing(page, drawn[1])
    page.keyboard.press("f")
    page.wait_for_selector("#viewer[open]")
    page.keyboard.press("c")
    page.wait_for_selector("#compare[open]")
    assert page.evaluate(FOCUS) == "range"

    def pair() -> list[str]:
        sources = page.locator("#compare .divided img").evaluate_all("images => images.map(image => image.src)")
        return [next((one for one in (source, blue, green) if one in src), "another's") for src in sources]

    assert pair() == [source, blue], "an edit is compared with its source"
    page.keyboard.press("Home")
    until(lambda: divider(page, "#compare .divided") == 0, "all of it is the edit")
    page.keyboard.press("x")
    until(lambda: pair() == [blue, source], "they are exchanged")
    page.keyboard.press("x")
    page.locator("#compare [name=compared]:checked").focus()
    options = page.locator("#compare [name=compared]").count()
    for _ in range(options):
        if pair() == [green, blue]:
            break
        page.keyboard.press("ArrowRight")
    assert pair() == [green, blue], "any other picture is chosen with the arrow keys"
    page.keyboard.press("Escape")
    page.wait_for_selector("#compare", state="hidden")
    assert page.locator("#viewer").is_visible()
    page.keyboard.press("Escape")
    until(lambda: page.evaluate("document.activeElement.dataset.tile") == blue, "the picture shown last has the focus")
    page.locator(f"[data-tile='{green}']").focus()
    page.keyboard.press("c")
    page.wait_for_selector(f"#compare .after[src*='{green}']")


def test_the_list_has_every_shortcut_and_switches_off_single_keys(service: Service, open_page, drawn) -> None:
    page = open_page(service.url).page
    showing(page, drawn[0])
    page.keyboard.press("?")
    page.wait_for_selector("#shortcuts[open] dd")
    table = page.evaluate(TABLE)
    assert page.locator("#shortcuts dd").all_inner_texts() == [row["does"] for rows in table.values() for row in rows]
    page.get_by_label("Single keys work outside text fields").uncheck()
    page.keyboard.press("Escape")
    page.wait_for_selector("#shortcuts dd", state="detached")
    page.keyboard.press("p")
    page.keyboard.press("c")
    page.keyboard.press("?")
    page.wait_for_selector("#shortcuts[open]")
    assert page.evaluate(FOCUS) != "prompt" and page.locator("#compare").count() == 0
    page.get_by_label("Single keys work outside text fields").check()
    page.keyboard.press("Escape")
    page.wait_for_selector("#shortcuts dd", state="detached")
    page.keyboard.press("p")
    until(lambda: page.evaluate(FOCUS) == "prompt", "the prompt has the focus")


def test_no_shortcut_takes_a_key_that_writes_text_or_is_the_browsers(service: Service, open_page, drawn) -> None:
    page = open_page(service.url).page
    showing(page, drawn[0])
    before = service.http.get("/api/jobs", params={"limit": 1}).json()["items"][0]["job_id"]
    single = [key for rows in page.evaluate(TABLE).values() for row in rows for key in row["keys"] if len(key) == 1]
    assert len(single) > 20
    for field in ("#prompt", "#negative"):
        page.fill(field, "")
        page.locator(field).press_sequentially("".join(single).lower())
        assert page.input_value(field) == "".join(single).lower()
    page.select_option("[aria-label=Style]", "")
    page.locator("[aria-label=Style]").press("c")
    page.locator("h1").click()
    for modifier in ("Control", "Alt", "Meta"):
        taken = page.evaluate(
            """([modifier, keys]) => keys.filter((key) => {
                const init = { key, bubbles: true, cancelable: true, [modifier]: true };
                return !document.body.dispatchEvent(new KeyboardEvent("keydown", init));
            })""",
            [{"Control": "ctrlKey", "Alt": "altKey", "Meta": "metaKey"}[modifier], [key.lower() for key in single]],
        )
        assert taken == [], modifier
    assert page.locator("dialog[open]").count() == 0
    assert service.http.get("/api/jobs", params={"limit": 1}).json()["items"][0]["job_id"] == before

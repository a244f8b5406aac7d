"""The page's gallery: stars, boards and notes, search, Delete with Undo, several pictures at once, earlier prompts."""

from __future__ import annotations

import asyncio
import io
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from served import Service, until
from state_folder import Clock, opened

PROMPTS = ("a red fox", "a blue cup\nwith a long handle", "a green door")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Path:
    home = tmp_path_factory.mktemp("gallery")
    (home / "models").mkdir()
    (home / "models" / "tiny").symlink_to(models_dir / "tiny", target_is_directory=True)
    return home


@pytest.fixture(scope="module")
def shown(home: Path, sd_server: Path) -> Iterator[Service]:
    """A service with a job of two pictures for each prompt, which were drawn before it started."""

    async def draw() -> None:
        clock = Clock()
        clock.now = time.time() - 10
        async with opened(home, clock) as state:
            for prompt in PROMPTS:
                clock.now += 1
                await state.drawn(n=2, prompt=prompt)

    with ThreadPoolExecutor(1) as other:  # this thread's event loop is Playwright's
        other.submit(lambda: asyncio.run(draw())).result()
    service = Service(home, sd_server, {})
    service.start()
    yield service
    service.end()


@pytest.fixture
def page(shown: Service, open_page: Callable[..., Any]) -> Any:
    page = open_page(shown.url).page
    page.wait_for_selector("[data-tile]")
    return page


def items(service: Service, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.http.get("/api/images", params=query).json()["items"]
    return found


def tiles(page: Any, count: int) -> None:
    until(lambda: page.locator("[data-tile]").count() == count, f"{count} pictures are shown")


def test_a_picture_is_kept_on_a_board_found_and_released_by_keyboard(shown: Service, page: Any) -> None:
    page.locator("[data-tile][tabindex='0']").focus()
    page.keyboard.press("Enter")
    viewer = page.locator("#viewer")
    viewer.get_by_role("button", name="Keep", exact=True).press("Enter")
    viewer.get_by_label("Board").fill("Doors")
    viewer.get_by_label("Note").fill("for the garden")
    viewer.get_by_label("Note").press("Tab")
    until(lambda: bool(items(shown, q="garden", board="Doors")), "the note and the board are kept")
    [kept] = items(shown, q="garden")
    page.keyboard.press("Escape")
    viewer.wait_for(state="hidden")
    assert "kept" in page.locator(f"[data-tile='{kept['id']}']").get_attribute("aria-label")

    page.get_by_label("Board", exact=True).select_option("Doors")
    tiles(page, 1)
    page.get_by_label("Name of the board").fill("Gates")
    page.get_by_role("button", name="Rename").press("Enter")
    until(lambda: bool(items(shown, board="Gates")), "the board has its new name")
    page.get_by_role("button", name="Show all").press("Enter")
    tiles(page, 6)

    page.get_by_label("Words of the prompt or note").fill("gard")
    tiles(page, 1)
    page.keyboard.press("Tab")
    page.locator("[data-tile]").press("Enter")
    viewer.get_by_role("button", name="Keep", exact=True).press("Enter")
    until(lambda: not items(shown, kept="1"), "it is released")
    page.keyboard.press("Escape")


def test_words_and_filters_find_pictures(page: Any) -> None:
    page.get_by_label("Words of the prompt or note").fill('"long CUP')
    tiles(page, 2)
    page.wait_for_selector("text=2 pictures")
    page.get_by_label("Kind").select_option("edit")
    page.wait_for_selector("text=No picture found")
    page.get_by_label("Kind").select_option("generate")
    page.get_by_label("Date").select_option("1")
    page.get_by_label("Size").select_option("small")
    tiles(page, 2)
    page.get_by_label("Size").select_option("large")
    tiles(page, 0)
    page.get_by_role("button", name="Show all").click()
    tiles(page, 6)


def test_a_deleted_picture_comes_back_by_undo_and_else_is_gone(shown: Service, page: Any) -> None:
    page.locator("[data-tile]").first.click()
    page.locator("#viewer").get_by_role("button", name="Delete").click()
    tiles(page, 5)
    undo = page.get_by_role("button", name="Undo", exact=True)
    until(lambda: undo.evaluate("one => one === document.activeElement"), "Undo has the focus")
    undo.press("Enter")
    tiles(page, 6)
    assert len(items(shown)) == 6, "nothing was sent"

    first = page.locator("[data-tile]").first
    image_id = first.get_attribute("data-tile")
    first.click()
    page.locator("#viewer").get_by_role("button", name="Delete").click()
    tiles(page, 5)
    page.goto("about:blank")  # the page is closed before the time for Undo is over
    until(lambda: image_id not in [one["id"] for one in items(shown)], "it is deleted")
    assert shown.http.get(f"/images/{image_id}.png").status_code == 410


def test_several_pictures_are_packed_moved_and_deleted(shown: Service, page: Any) -> None:
    before = [one["id"] for one in items(shown, q="red fox")]
    page.get_by_label("Words of the prompt or note").fill("red fox")
    tiles(page, 2)
    page.get_by_role("button", name="Select", exact=True).press("Enter")
    page.locator("[data-tile][tabindex='0']").press("Space")
    page.wait_for_selector("text=1 selected")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.wait_for_selector("text=2 selected")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as ZIP").click()
    with zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())) as archive:
        assert len(archive.namelist()) == 2 and archive.testzip() is None
    page.get_by_label("Board to put them on").fill("Foxes")
    page.get_by_role("button", name="Put on board").press("Enter")
    until(lambda: len(items(shown, board="Foxes")) == 2, "both are on the board")
    page.get_by_role("button", name="Delete", exact=True).press("Enter")
    tiles(page, 0)
    page.wait_for_selector("text=2 pictures are deleted.")
    page.goto("about:blank")
    until(lambda: not items(shown, board="Foxes"), "both are deleted, kept or not")
    assert all(shown.http.get(f"/images/{one}.png").status_code == 410 for one in before)


def test_earlier_prompts_come_by_the_arrow_up_in_the_first_line(shown: Service, page: Any) -> None:
    field = page.locator("#prompt")
    field.fill("mine\nin two lines")
    field.press("ArrowUp")  # to the first line
    assert field.input_value() == "mine\nin two lines"
    known = [prompt for prompt in reversed(PROMPTS) if prompt in {one["prompt"] for one in items(shown)}]
    for prompt in known:
        field.press("ArrowUp")
        until(lambda prompt=prompt: field.input_value() == prompt, f"{prompt} is shown")
    field.press("ArrowUp")
    assert field.input_value() == known[-1], "there is no earlier one"
    for _ in range(20):
        field.press("ArrowDown")
    until(lambda: field.input_value() == "mine\nin two lines", "the own text is there again")


@pytest.mark.parametrize(("device", "scheme"), [("phone", "dark"), ("desktop", "light")])
def test_axe_finds_nothing_in_the_gallery(shown: Service, open_page, require, device: str, scheme: str) -> None:
    found_axe = find_spec("axe_playwright_python")
    require("axe is not installed (requirements/dev.txt has it)", found_axe is not None)
    script = (Path(str(found_axe.origin)).parent / "axe.min.js").read_text()
    image = items(shown)[0]
    assert shown.http.post(f"/api/images/{image['id']}/keep", json={"board": "Axes", "note": "x"}).is_success
    page = open_page(shown.url, device=device, scheme=scheme, bypass_csp=True, reduced_motion="reduce").page
    page.wait_for_selector("[data-tile]")
    page.evaluate(script)

    def check(view: str) -> None:
        report = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        found = [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in report["violations"]]
        assert found == [], view
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, view

    check("the gallery")
    page.get_by_label("Board", exact=True).select_option("Axes")
    tiles(page, 1)
    page.get_by_role("button", name="Select", exact=True).click()
    check("a board, and selected pictures")
    page.get_by_role("button", name="Select", exact=True).click()
    page.locator("[data-tile]").click()
    page.locator("#viewer").get_by_label("Note").wait_for()
    check("a kept picture in full screen")
    page.locator("#viewer").get_by_role("button", name="Delete").click()
    page.wait_for_selector("[data-undo]")
    check("Undo")
    page.get_by_role("button", name="Undo", exact=True).click()
    page.wait_for_selector("[data-undo]", state="detached")

"""What the page keeps and whom it serves: a killed service, a token, two hundred pictures, everybody's eyes."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from served import Service, until
from state_folder import Clock, opened

from imagegen.images.references import decode_reference

JOBS, PICTURES_A_JOB = 50, 4
PICTURES = JOBS * PICTURES_A_JOB
TOKEN = "a-token-of-anna-0"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, sd_server: Path) -> Iterator[Service]:
    """A service with two hundred pictures that were drawn before it started."""
    home = tmp_path_factory.mktemp("full")
    (home / "models").mkdir()
    (home / "models" / "tiny").symlink_to(models_dir / "tiny", target_is_directory=True)
    (home / "images").mkdir()
    with ThreadPoolExecutor(1) as other:  # this thread's event loop is Playwright's
        other.submit(lambda: asyncio.run(draw_many(home))).result()
    service = Service(home, sd_server, {})
    service.start()
    yield service
    service.end()


async def draw_many(home: Path) -> None:
    clock = Clock()
    clock.now = time.time() - JOBS
    async with opened(home, clock) as state:
        for number in range(JOBS):
            clock.now += 1
            started = await state.started(prompt=f"job number {number}")
            images = []
            for index in range(PICTURES_A_JOB):
                file = io.BytesIO()
                Image.new("RGB", (64, 64), (5 * number, 255 - 5 * number, 60 * index)).save(file, "PNG")
                picture = decode_reference(file.getvalue(), 10_000)
                sizes = {"width": 64, "height": 64, "sha256": picture.sha256, "seed": number, "index": index}
                images.append(await state.images.write(picture.png, **sizes))
            assert await state.jobs.complete(started, images)


def focused_tile(page: Any) -> int:
    """Which of the gallery's pictures has the focus, from 0; -1 if none has."""
    return int(page.evaluate("[...document.querySelectorAll('[data-tile]')].indexOf(document.activeElement)"))


def test_two_hundred_pictures_are_walked_through_by_keyboard(full: Service, open_page) -> None:
    page = open_page(full.url).page
    page.wait_for_selector("[data-tile]")
    assert page.locator("[data-tile]").count() == PICTURES
    page.locator("[data-tile][tabindex='0']").focus()
    for key, place in {"ArrowRight": 1, "End": PICTURES - 1, "ArrowLeft": PICTURES - 2, "Home": 0}.items():
        page.keyboard.press(key)
        assert focused_tile(page) == place
    page.keyboard.press("ArrowDown")
    assert 1 < focused_tile(page) < PICTURES / 2
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    viewer = page.locator("#viewer")
    viewer.wait_for()
    for _ in range(PICTURES_A_JOB + 1):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    until(lambda: f"{PICTURES_A_JOB + 1} of {PICTURES}" in viewer.inner_text(), "the second job's picture is shown")
    assert f"job number {JOBS - 2}" in viewer.inner_text()
    page.keyboard.press("Escape")
    viewer.wait_for(state="hidden")
    until(lambda: focused_tile(page) == PICTURES_A_JOB, "the focus is on the picture that was shown last")


STATES = {
    "the form": "summary:has-text('More')",
    "the policy": "summary:has-text('Excluded by policy')",
    "the model's panel": ".chip",
    "the list of models": "text=All models…",
    "the shortcuts": "?",
    "a picture in full screen": "[data-tile]",
    "two pictures": "#viewer .action:has-text('Compare')",
    "a mask": "#viewer .action:has-text('Paint a mask')",
}
CLOSED = {"the list of models", "the shortcuts", "two pictures"}


OVERFLOWS = """() => [document.documentElement, ...document.querySelectorAll("dialog[open], dialog[open] .side")]
  .filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.id || one.className || one.tagName)"""


@pytest.mark.parametrize(("device", "scheme"), [("phone", "dark"), ("desktop", "light")])
def test_axe_finds_nothing(full: Service, open_page, require, device: str, scheme: str) -> None:
    found_axe = find_spec("axe_playwright_python")
    require("axe is not installed (requirements/dev.txt has it)", found_axe is not None)
    script = (Path(str(found_axe.origin)).parent / "axe.min.js").read_text()
    # axe makes elements of its own, which the page's policy forbids.
    page = open_page(full.url, device=device, scheme=scheme, bypass_csp=True, reduced_motion="reduce").page
    if device == "phone":
        page.set_viewport_size({"width": 320, "height": 568})
    page.wait_for_selector("[data-tile]")
    page.evaluate(script)
    for state, opener in {"the page": None, **STATES, "forced colours": None}.items():
        if opener == "?":
            page.keyboard.press("?")
            page.wait_for_selector("#shortcuts[open]")
        elif opener:
            page.locator(opener).first.click()
        if state == "forced colours":
            page.emulate_media(forced_colors="active")
        assert page.evaluate(OVERFLOWS) == [], state
        report = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        found = [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in report["violations"]]
        assert found == [], state
        if state in CLOSED:
            page.keyboard.press("Escape")


QUICK = """() => {
    const steps = document.querySelector("#steps");
    steps.value = "2";
    steps.dispatchEvent(new Event("input", { bubbles: true }));
}"""
"""What comes next takes two steps."""


def test_a_service_killed_mid_picture_is_waited_for_and_its_picture_shown(serve, open_page) -> None:
    service = serve()
    watched = open_page(service.url)
    watched.expected = ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET"]
    page = watched.page
    draft = '{"size": "256x256", "steps": "50"}'
    page.evaluate("draft => sessionStorage.setItem('imagegen.draft', draft)", draft)
    page.reload()
    page.fill("#prompt", "a lighthouse that outlives its service")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("text=/step \\d+\\/50/i")
    service.kill()
    page.wait_for_selector("text=The connection is lost")
    page.evaluate(QUICK)
    page.fill("#prompt", "and one that is asked for meanwhile")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("text=Not sent yet")
    page.fill("#prompt", "and a second one")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("text=2 requests are sent as soon as it does")
    service.restart()
    page.wait_for_selector("text=The connection is lost", state="detached")
    page.wait_for_selector("[data-picture]")
    until(lambda: page.locator("[data-tile]").count() == 3, "every picture is there")
    page.wait_for_selector(".compose [role=alert]", state="detached")
    prompts = [job["prompt"] for job in service.http.get("/api/jobs").json()["items"]]
    assert prompts == [
        "and a second one",
        "and one that is asked for meanwhile",
        "a lighthouse that outlives its service",
    ]


def test_a_token_is_asked_for_once_and_is_in_no_address_and_no_storage(serve, open_page) -> None:
    service = serve(tokens=f"anna:{TOKEN}")
    watched = open_page(service.url, device="phone")
    watched.expected = ["status of 401"]
    page = watched.page
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.fill("#token-field", "not-a-token-at-all")
    page.keyboard.press("Enter")
    refused = service.http.get("/api/jobs").json()["detail"]
    until(lambda: refused in page.locator("#token-problem").inner_text(), "the refusal is shown in its words")
    page.fill("#token-field", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector("#token", state="hidden")
    page.wait_for_selector(".dot.cold")
    page.reload()
    page.wait_for_selector(".dot.cold")
    assert not page.locator("#token").is_visible()
    assert addresses
    assert not [address for address in addresses if TOKEN in address]
    assert TOKEN not in page.evaluate("JSON.stringify(localStorage) + document.cookie")
    page.click(".chip")
    page.click("text=Sign out")
    page.wait_for_selector("#token-field")

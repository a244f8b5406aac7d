"""Makes the pictures of the documentation anew, from a running service: `make pictures`.

    python docs/pictures.py [--url http://127.0.0.1:8765] [sheet page edit paint compare phone forming]

sheet: sketch.webp, what the built-in model draws; the others: the page in Chromium. Seeds are fixed
and nothing is picked. Needs Chromium (`apt-get install chromium`) and Playwright, which requirements/dev.txt has.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser, Page, TimeoutError, sync_playwright

HERE = Path(__file__).parent
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
DEADLINE_MS = 600_000
GAP_PX = 20
SEED = 1

SHEET = (
    ("a red circle", "a clipart icon of a coffee cup", "two blue boxes joined by an arrow",
     "a green tree on a black background"),
    ("a yellow house on a light blue background", "a blue car", "an orange fish", "a pink flower"),
    ("a purple star", "three green stars", "a red heart and a blue square", "a yellow moon on a black background"),
    ("a smiley face", "an envelope", "a red balloon on a gray background", "a purple elephant"),
)  # fmt: skip
"""What the contact sheet shows, row by row: one picture each, with the model's own numbers."""
PICTURE, EDIT = "a yellow house on a light blue background", "make it red"
STROKE = ((0.3, 0.62), (0.7, 0.62), (0.7, 0.74), (0.3, 0.74))
"""Where the mask is painted, as shares of the picture's sides: the walls."""
FORMS, FORMS_AFTER = "a purple star", (1, 3, 5, 7)
RUNNING, WAITING = "a green tree", "three purple stars"


class Service:
    """The running service, as far as this needs it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def submit(self, prompt: str, **fields: Any) -> dict[str, Any]:
        route = "/api/edit" if "images" in fields else "/api/generate"
        answer = self._http.post(route, json={"prompt": prompt, "seed": SEED} | fields)
        answer.raise_for_status()
        return dict(answer.json())

    def draw(self, prompt: str, **fields: Any) -> dict[str, Any]:
        """The job of a finished picture."""
        job = self.submit(prompt, **fields)
        while job["status"] in {"queued", "running"}:
            job = self._http.get(f"/api/jobs/{job['job_id']}", params={"wait": 50}).json()
        if job["status"] != "complete":
            sys.exit(f"{prompt!r}: {job['error']['detail']}")
        return job

    def cancel(self, job: dict[str, Any]) -> None:
        self._http.delete(f"/api/jobs/{job['job_id']}")

    def picture(self, job: dict[str, Any]) -> Image.Image:
        png = self._http.get(f"/images/{job['images'][0]['id']}.png").content
        return Image.open(io.BytesIO(png)).convert("RGB")


def sheet(service: Service, _browser: Browser) -> None:
    """sketch.webp: every prompt of SHEET with its picture."""
    rows = [[(prompt, service.picture(service.draw(prompt))) for prompt in row] for row in SHEET]
    laid_out(rows).save(HERE / "sketch.webp", quality=80, method=6)


def laid_out(rows: list[list[tuple[str, Image.Image]]]) -> Image.Image:
    """Pictures of one size, each above its prompt."""
    side = rows[0][0][1].width
    cell_w, cell_h = max(side, 300) + GAP_PX, side + 2 * GAP_PX
    whole = Image.new("RGB", (len(rows[0]) * cell_w, len(rows) * cell_h), "white")
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(14)
    for row, cells in enumerate(rows):
        for column, (prompt, picture) in enumerate(cells):
            centre = column * cell_w + cell_w // 2
            whole.paste(picture, (centre - side // 2, row * cell_h))
            draw.text((centre, row * cell_h + side + 4), prompt, "black", font, anchor="ma")
    return whole


@contextmanager
def opened(
    browser: Browser, service: Service, job: dict[str, Any], scheme: str, device: dict[str, Any], typed: str = ""
) -> Iterator[Page]:
    """The page in a profile of its own, connected, with the job's picture in it."""
    context = browser.new_context(color_scheme=scheme, **device)  # type: ignore[arg-type]
    context.set_default_timeout(DEADLINE_MS)
    page = context.new_page()
    page.goto(service.url)
    for name, kept in (("shown", {"job": job["job_id"], "index": 0}), ("draft", {"seed": str(SEED), "locked": True})):
        page.evaluate("([name, kept]) => localStorage.setItem('imagegen.' + name, JSON.stringify(kept))", [name, kept])
    page.reload()
    page.wait_for_selector(".dot:not(.offline)")
    loaded(page, f'[data-picture="{job["images"][0]["id"]}"]')
    if typed:
        page.fill("#prompt", typed)
    yield page
    context.close()


def loaded(page: Page, selector: str) -> None:
    """Wait until all pictures that it finds are there."""
    page.wait_for_selector(selector)
    whole = "selector => [...document.querySelectorAll(selector)].every(image => image.naturalWidth > 0)"
    page.wait_for_function(whole, arg=selector)


def saved(page: Page, name: str) -> Image.Image:
    """A screenshot; written to `name` here, if there is one."""
    page.evaluate("document.activeElement?.blur(); scrollTo(0, 0)")
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    if name.endswith(".png"):
        shot.quantize(256, dither=Image.Dither.NONE).save(HERE / name, optimize=True)
    elif name:
        shot.save(HERE / name, quality=85, method=6)
    return shot


def page(service: Service, browser: Browser) -> None:
    """web-desktop-light.png: a picture, a job that is being drawn and one that waits."""
    job = service.draw(PICTURE)
    with opened(browser, service, job, "light", DESKTOP, RUNNING) as view:
        jobs = [service.submit(RUNNING, steps=16), service.submit(WAITING)]
        view.wait_for_selector(f"[data-job='{jobs[0]['job_id']}'] >> text=/step ([6-9]|1[0-4])\\/16/")
        saved(view, "web-desktop-light.png")
        for one in jobs:
            service.cancel(one)


def edit(service: Service, browser: Browser) -> None:
    """web-desktop-dark-edit.webp: an edit beside its source."""
    source = service.draw(PICTURE)
    with opened(browser, service, source, "dark", DESKTOP) as view:
        view.click(".result >> text=Edit this")
        view.fill("#prompt", EDIT)
        view.click(".compose .primary")
        view.wait_for_selector(".stage.pair [data-picture]")
        view.wait_for_selector("#live", state="hidden")
        loaded(view, ".stage img")
        view.wait_for_selector(".toast.shown", state="hidden")
        saved(view, "web-desktop-dark-edit.webp")


def paint(service: Service, browser: Browser) -> None:
    """web-mask.webp: a mask that is being painted."""
    with opened(browser, service, service.draw(PICTURE), "light", DESKTOP) as view:
        view.click(".result >> text=Paint a mask")
        view.wait_for_selector("#painter [role=status]")
        box = view.locator("#painter canvas").bounding_box()
        assert box is not None
        side = min(box["width"], box["height"])
        left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
        places = [(left + x * side, top + y * side) for x, y in STROKE]
        view.mouse.move(*places[0])
        view.mouse.down()
        for place in places[1:]:
            view.mouse.move(*place, steps=8)
        view.mouse.up()
        view.wait_for_selector("#painter [role=status]:has-text('% of the picture')")
        saved(view, "web-mask.webp")


def compare(service: Service, browser: Browser) -> None:
    """web-compare.webp: an edit over its source, in full screen."""
    source = service.draw(PICTURE)
    with opened(browser, service, service.draw(EDIT, images=[source["images"][0]["id"]]), "dark", DESKTOP) as view:
        view.keyboard.press("c")
        loaded(view, "#compare .divided img")
        saved(view, "web-compare.webp")


def phone(service: Service, browser: Browser) -> None:
    """web-phone-dark.webp: the form, a picture in full screen, the model's panel."""
    job = service.draw(PICTURE)
    shots = []
    with opened(browser, service, job, "dark", PHONE, RUNNING) as view:
        shots.append(saved(view, ""))
        view.click("[data-picture]")
        loaded(view, "#viewer .canvas img")
        shots.append(saved(view, ""))
        view.keyboard.press("Escape")
        view.click(".chip")
        view.wait_for_selector("#model-panel:popover-open")
        shots.append(saved(view, ""))
    whole = Image.new("RGB", (sum(s.width for s in shots) + 2 * GAP_PX, shots[0].height), "gray")
    left = 0
    for shot in shots:
        whole.paste(shot, (left, 0))
        left += shot.width + GAP_PX
    whole.save(HERE / "web-phone-dark.webp", quality=85, method=6)


def forming(service: Service, browser: Browser) -> None:
    """web-forming.webp: the result's place on the page while a picture forms, and the picture. web-forming-page.webp:
    the page meanwhile, animated.

    The engine is not slowed down: a step that is over before it was seen is missing.
    """
    service.draw(PICTURE)  # loads the model
    context = browser.new_context(color_scheme="light", reduced_motion="reduce", **DESKTOP)
    context.set_default_timeout(DEADLINE_MS)
    view = context.new_page()
    view.goto(service.url)
    kept = {"draft": {"seed": str(SEED), "locked": True, "prompt": FORMS}, "prefs": {"live": {"sketch": False}}}
    view.evaluate("kept => { for (const n in kept) localStorage['imagegen.' + n] = JSON.stringify(kept[n]); }", kept)
    view.reload()
    view.wait_for_selector(".dot:not(.offline)")
    view.click(".compose .primary")
    shots, pages = [], [page_shot(view)]
    for step in FORMS_AFTER:
        try:
            view.wait_for_selector(f'.result [data-forming="{step}"]', timeout=30_000)
            shots.append(stage(view))
            pages.append(page_shot(view))
        except TimeoutError:
            print(f"the preview after step {step} was not seen")
    loaded(view, f'.result [data-picture][alt="{FORMS}"]')
    view.wait_for_selector("#live", state="hidden")
    shots.append(stage(view))
    pages.append(page_shot(view))
    context.close()
    times_ms = [700] * (len(pages) - 1) + [2500]
    animated = {"save_all": True, "append_images": pages[1:], "duration": times_ms, "loop": 0}
    pages[0].save(HERE / "web-forming-page.webp", quality=70, method=6, **animated)
    side = 240
    whole = Image.new("RGB", (len(shots) * (side + GAP_PX) - GAP_PX, side), "white")
    for place, shot in enumerate(shots):
        whole.paste(shot.resize((side, side), Image.Resampling.LANCZOS), (place * (side + GAP_PX), 0))
    whole.save(HERE / "web-forming.webp", quality=85, method=6)


def page_shot(view: Page) -> Image.Image:
    """The whole window, smaller."""
    return Image.open(io.BytesIO(view.screenshot())).convert("RGB").resize((960, 600), Image.Resampling.LANCZOS)


def stage(view: Page) -> Image.Image:
    """What the page shows at the place of the picture."""
    return Image.open(io.BytesIO(view.locator(".result .picture img").last.screenshot())).convert("RGB")


MAKERS = {
    "sheet": sheet,
    "page": page,
    "edit": edit,
    "paint": paint,
    "compare": compare,
    "phone": phone,
    "forming": forming,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"{', '.join(MAKERS)}; default: all")
    parser.add_argument("--url", default="http://127.0.0.1:8765", help="where the service runs")
    given = parser.parse_args()
    if unknown := set(given.what) - set(MAKERS):
        parser.error(f"{', '.join(unknown)}: choose from {', '.join(MAKERS)}")
    binary = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if binary is None:
        sys.exit("Chromium is not installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--disable-gpu", "--no-first-run"])
        for name in given.what or MAKERS:
            MAKERS[name](Service(given.url), browser)
            print(name)
        browser.close()


if __name__ == "__main__":
    main()

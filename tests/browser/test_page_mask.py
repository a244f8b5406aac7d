"""The mask painter: what is painted by mouse, touch, pen and keyboard arrives in the request, and is kept meanwhile."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served import Service, until

SIDE_PX = 64
FOCUS = "(document.activeElement.closest('label') ?? document.activeElement).innerText.trim()"
SHARE = "#painter [role=status]"
FORM = ".painting .hint"


def stored(service: Service, colour: str = "teal", size: tuple[int, int] = (SIDE_PX, SIDE_PX)) -> dict[str, Any]:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    answer = service.http.post("/api/images", content=file.getvalue(), headers={"content-type": "image/png"})
    return dict(answer.json())


def editing(page: Any, *pictures: dict[str, Any], **draft: Any) -> None:
    """The page with these source pictures in its form."""
    references = [{name: picture[name] for name in ("id", "width", "height")} for picture in pictures]
    kept = {"prompt": "make it blue", "steps": "2", "references": references} | draft
    page.evaluate("draft => sessionStorage.setItem('imagegen.draft', JSON.stringify(draft))", kept)
    page.reload()
    page.wait_for_selector(".thumb img")


def painter(page: Any) -> Sheet:
    page.click("[data-mask]")
    page.wait_for_selector(f"{SHARE}:has-text('.')")
    return Sheet(page)


class Sheet:
    """The open painter: points are in pixels of a picture of SIDE_PX, all of which is shown."""

    def __init__(self, page: Any) -> None:
        self.page = page
        box = page.locator("#painter canvas").bounding_box()
        self.scale = min(box["width"], box["height"]) * 0.96 / SIDE_PX
        self.left = box["x"] + (box["width"] - self.scale * SIDE_PX) / 2
        self.top = box["y"] + (box["height"] - self.scale * SIDE_PX) / 2

    def at(self, x: float, y: float) -> tuple[float, float]:
        return self.left + x * self.scale, self.top + y * self.scale

    def drag(self, *points: tuple[float, float], button: str = "left") -> None:
        first, *others = points
        self.page.mouse.move(*self.at(*first))
        self.page.mouse.down(button=button)
        for point in others:
            self.page.mouse.move(*self.at(*point), steps=4)
        self.page.mouse.up(button=button)

    def says(self, share: str) -> None:
        self.page.wait_for_selector(f"{SHARE}:text-is('{share}')")


def levels_of(service: Service, mask: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(service.http.get(f"/images/{mask}.png").content)).convert("L"))


REPEATS = """async job => {
  const { againRequest, draftOf } = await import("./static/js/draft.js");
  return [againRequest(job, 1).body.mask, draftOf(job, 1).mask.id, draftOf(job, 1).mask.of];
}"""


def test_what_the_mouse_paints_is_white_in_the_mask_of_the_request(service: Service, open_page) -> None:
    page = open_page(service.url).page
    editing(page, stored(service))
    sheet = painter(page)
    sheet.drag((16, 16), (48, 16))  # a brush of 8 pixels
    sheet.drag((48, 16), (48, 17), button="right")  # which erases
    page.keyboard.press("r")
    sheet.drag((20, 40), (30, 60))
    sheet.page.mouse.move(*sheet.at(5, 5))
    page.keyboard.press("b")
    for turn, size in ((-100, 9), (-100, 10), (100, 9)):
        page.mouse.wheel(0, turn)
        page.wait_for_selector(f"output[for=painter-size]:text-is('{size} px')")
    page.keyboard.press("]")
    page.wait_for_selector("output[for=painter-size]:text-is('10 px')")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#painter", state="hidden")
    page.wait_for_selector(f"{FORM}:has-text('of the picture may change.')")
    page.click(".compose .primary")
    page.wait_for_selector(".stage.pair [data-picture]")
    job = service.http.get("/api/jobs", params={"limit": 1}).json()["items"][0]
    assert page.evaluate(REPEATS, job) == [job["mask"], job["mask"], job["references"][0]]
    mask = levels_of(service, job["mask"])
    assert mask.shape == (SIDE_PX, SIDE_PX)
    assert (mask[14:18, 16:42] == 255).all(), "the stroke"
    assert (mask[14:18, 46:50] == 0).all(), "what was erased"
    assert (mask[40:60, 20:30] == 255).all(), "the rectangle"
    assert (mask[24:38] == 0).all() and (mask[:, 54:] == 0).all(), "nothing else"


def test_a_mask_belongs_to_its_picture_and_survives_a_reload(service: Service, open_page) -> None:
    page = open_page(service.url).page
    first, second = stored(service), stored(service, "orange")
    editing(page, first)
    sheet = painter(page)
    page.keyboard.press("r")
    sheet.drag((0, 0), (32, 64))
    sheet.says("50 % of the picture may change.")
    until(lambda: page.evaluate("sessionStorage['imagegen.painting'] ?? ''") != "", "what is painted is kept")
    page.reload()
    sheet = painter(page)
    sheet.says("50 % of the picture may change.")
    page.click("text=Use mask")
    page.wait_for_selector(f"{FORM}:text-is('50 % of the picture may change.')")
    page.reload()
    page.wait_for_selector(f"{FORM}:text-is('50 % of the picture may change.')")
    draft = json.loads(page.evaluate("sessionStorage['imagegen.draft']"))
    request = "async draft => (await import('./static/js/draft.js')).toRequest(draft).body.mask ?? null"
    assert page.evaluate(request, draft | {"n": 1, "negative": ""}) == draft["mask"]["id"]
    others = draft | {"references": [second, first]}
    assert page.evaluate(request, others | {"n": 1, "negative": ""}) is None, "the mask is of another picture"
    editing(page, first, mask=draft["mask"], model="glm-image")
    page.wait_for_selector(".compose >> text=glm-image cannot use the mask, so it is left out.")
    usable = "async draft => (await import('./static/js/usable.js')).withUsable(draft).mask"
    assert page.evaluate(usable, draft) is None
    editing(page, first, mask=draft["mask"])
    painter(page).says("50 % of the picture may change.")
    page.click("text=Remove mask")
    page.wait_for_selector(f"{FORM}:text-is('All of the picture may change.')")


def tabbed_to(page: Any, text: str) -> None:
    for _ in range(40):
        if page.evaluate(FOCUS) == text:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {text!r}")


def test_a_rectangle_is_painted_with_the_keyboard_alone(service: Service, open_page) -> None:
    page = open_page(service.url).page
    editing(page, stored(service, size=(80, 40)))
    page.locator("[data-mask]").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{SHARE}:text-is('Nothing is painted yet.')")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#painter [role=alert]:has-text('Paint something first')")
    tabbed_to(page, "Rectangle by numbers")
    page.keyboard.press("Enter")
    for number in (8, 4, 40, 20):
        page.keyboard.press("Tab")
        page.keyboard.press("Control+a")
        page.keyboard.type(str(number))
    tabbed_to(page, "Paint it")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{SHARE}:text-is('25 % of the picture may change.')")
    page.keyboard.press("i")
    page.wait_for_selector(f"{SHARE}:text-is('75 % of the picture may change.')")
    page.keyboard.press("Control+z")
    tabbed_to(page, "Use mask\nCtrl ↵")
    page.keyboard.press("Enter")
    page.wait_for_selector("#painter", state="hidden")
    assert page.evaluate(FOCUS) == "Change mask", "the focus is back"
    mask = levels_of(service, json.loads(page.evaluate("sessionStorage['imagegen.draft']"))["mask"]["id"])
    assert mask.shape == (40, 80)
    assert (mask[4:24, 8:48] == 255).all() and (mask == 255).sum() == 20 * 40 and (mask[mask != 255] == 0).all()


def test_a_finger_paints_and_two_fingers_zoom(service: Service, open_page) -> None:
    page = open_page(service.url, device="phone").page
    editing(page, stored(service))
    sheet = painter(page)
    touch = page.context.new_cdp_session(page)

    def fingers(kind: str, *points: tuple[float, float]) -> None:
        places = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    fingers("touchStart", sheet.at(10, 10))
    fingers("touchMove", sheet.at(50, 10))
    fingers("touchEnd")
    page.wait_for_selector(f"{SHARE}:has-text('9 % of the picture')")
    painted = page.locator(SHARE).inner_text()
    zoom = "document.querySelector('#painter .zoom output').innerText"
    before = page.evaluate(zoom)
    fingers("touchStart", sheet.at(10, 40))
    fingers("touchStart", sheet.at(10, 40), sheet.at(30, 40))
    fingers("touchMove", sheet.at(5, 40), sheet.at(45, 40))
    fingers("touchEnd")
    until(lambda: int(page.evaluate(zoom)[:-2]) == pytest.approx(2 * int(before[:-2]), abs=2), "it is twice as large")
    assert page.locator(SHARE).inner_text() == painted, "zooming paints nothing"


STEPS = """async () => {
  const { Mask } = await import("./static/js/painter/mask.js");
  const mask = new Mask(40, 30);
  const seen = {};
  const see = (name) => (seen[name] = [...mask.levels]);
  const change = (work) => { mask.begin(); work(); mask.end(); };
  see("empty");
  change(() => mask.line({ x: 5, y: 5 }, { x: 30, y: 20 }, 4, false));
  see("line");
  change(() => mask.rectangle(-5, 10, 25, 100, false));
  see("rectangle");
  change(() => mask.invert());
  see("inverted");
  change(() => mask.rectangle(0, 0, 40, 30, true));
  see("erased");
  for (const name of ["inverted", "rectangle", "line", "empty"]) { mask.undo(); see("undone to " + name); }
  seen.ends = [mask.canUndo, mask.canRedo];
  for (const name of ["line", "rectangle", "inverted", "erased"]) { mask.redo(); see("redone to " + name); }
  mask.undo();
  mask.begin(); mask.clear(); mask.abort();
  see("aborted");
  seen.redoable = mask.canRedo;
  mask.undo();
  seen.soft = [...mask.feathered(4)];
  seen.outline = [];
  mask.outline((...line) => seen.outline.push(line));
  return seen;
}"""


def test_every_change_of_a_mask_is_undone_and_redone_exactly(service: Service, open_page) -> None:
    seen = open_page(service.url).page.evaluate(STEPS)
    levels = {name: np.array(value).reshape(30, 40) for name, value in seen.items() if np.size(value) == 1200}
    assert levels["line"][5, 5] == levels["line"][20, 29] == 255 and levels["line"][25, 5] == 0
    assert set(np.unique(levels["line"])) > {0, 255}, "the brush has a smooth rim"
    assert (levels["rectangle"][10:, :20] == 255).all()
    assert (levels["inverted"] == 255 - levels["rectangle"]).all()
    assert not levels["erased"].any() and not levels["empty"].any()
    for name in ("empty", "line", "rectangle", "inverted"):
        assert (levels[f"undone to {name}"] == levels[name]).all(), name
    for name in ("line", "rectangle", "inverted", "erased"):
        assert (levels[f"redone to {name}"] == levels[name]).all(), name
    assert (levels["aborted"] == levels["inverted"]).all()
    assert (seen["ends"], seen["redoable"]) == ([False, True], True)
    soft = levels["soft"].astype(int)
    assert soft[29, :12].min() == 255 and soft[29, 34:].max() == 0
    assert 100 < soft[29, 19] < 155, "half at the border"
    inside = np.pad(levels["rectangle"] >= 128, 1)
    border = np.abs(np.diff(inside.astype(int), axis=0)).sum() + np.abs(np.diff(inside.astype(int), axis=1)).sum()
    assert sum(abs(x - to_x) + abs(y - to_y) for x, y, to_x, to_y in seen["outline"]) == border

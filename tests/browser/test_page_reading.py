"""What a picture's file says, on the page: who signed it, and settings that the form takes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from pictures import quarters, saved
from served import Service, until

DIALOG = "#reading"


def test_a_files_origin_is_shown_and_its_settings_are_taken(service: Service, open_page, tmp_path: Path) -> None:
    signed = service.png(service.draw("a signed bell", seed=77, steps=3, negative="hats"))
    at = signed.index(b"IDAT") + 30
    files = {
        "good.png": signed,
        "changed.png": signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :],
        "bare.png": saved(quarters(), "PNG"),
        "text.png": b"no picture",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    watched = open_page(service.url)
    watched.expected = ["status of 422"]
    page = watched.page

    def opened() -> None:
        page.get_by_role("button", name="Read a picture's file").click()
        page.wait_for_selector(f"{DIALOG}[open]")

    def says(name: str, *words: str) -> None:
        page.set_input_files(f"{DIALOG} input[type=file]", tmp_path / name)
        for one in words:
            page.locator(DIALOG).get_by_text(one).first.wait_for()

    opened()
    says("changed.png", "Changed: the file is not the one that was signed.", "assertion.dataHash.mismatch")
    says("bare.png", "No manifest: nobody says where this file comes from.")
    says("text.png", "This file is none of PNG")
    says("good.png", "Intact: the file has not been changed", "this service", "made by AI", "a signed bell", "hats")
    script = Path(str(find_spec("axe_playwright_python").origin)).parent / "axe.min.js"  # type: ignore[union-attr]
    page.evaluate(script.read_text())
    found = page.evaluate("() => axe.run(document.querySelector('#reading'), {resultTypes: ['violations']})")
    assert [one["id"] for one in found["violations"]] == []
    page.set_viewport_size({"width": 320, "height": 700})
    wider = "document.querySelector('#reading').scrollWidth - document.querySelector('#reading').clientWidth"
    assert page.evaluate(wider) == 0, "it fits a small phone"
    page.get_by_role("button", name="Only the seed").click()
    until(lambda: page.locator("#seed").input_value() == "77", "the form has the seed")
    assert page.locator("#prompt").input_value() == ""
    opened()
    says("good.png", "a signed bell")
    page.get_by_role("button", name="Reuse settings").click()
    until(lambda: page.locator("#prompt").input_value() == "a signed bell", "the form has the prompt")
    assert page.evaluate("document.activeElement.id") == "prompt"
    kept = page.evaluate("JSON.parse(sessionStorage.getItem('imagegen.draft'))")
    assert {name: kept[name] for name in ("negative", "steps", "seed", "size", "model")} == {
        "negative": "hats", "steps": "3", "seed": "77", "size": "64x64", "model": "tiny",
    }  # fmt: skip

"""Drawing, editing and looking on the page, in a browser against the real service with the tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from served import Service, until

HOSTILE = '<img src=x onerror="alert(1)"><script>alert(2)</script> {"a": 1} a lighthouse'
SMALL = {"size": "64x64", "steps": "2"}
DONE = "[data-picture]"


def write(page: Any, prompt: str, **draft: Any) -> None:
    """A draft as if it had been typed: the form's own fields stay the test's subject where they matter."""
    page.evaluate("draft => sessionStorage.setItem('imagegen.draft', JSON.stringify(draft))", SMALL | draft)
    page.reload()
    page.fill("#prompt", prompt)


def draw(page: Any, prompt: str, **draft: Any) -> str:
    """Draw with Ctrl+Enter; the id of the picture that is shown then."""
    shown = page.locator(DONE)
    before = shown.get_attribute("data-picture") if shown.count() else ""
    write(page, prompt, **draft)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(f'[data-picture]:not([data-picture="{before}"])')
    return str(page.locator(DONE).get_attribute("data-picture"))


def test_a_hostile_prompt_is_drawn_shown_as_text_and_kept_over_a_reload(service: Service, open_page) -> None:
    page = open_page(service.url).page
    picture = draw(page, HOSTILE)
    until(lambda: page.locator(DONE).evaluate("image => image.naturalWidth") == 64, "the picture is there")
    assert page.locator(".result .said").inner_text() == HOSTILE
    assert page.locator('img[src="x"]').count() == 0
    assert "noise" in page.locator(".notice.calm").inner_text()
    page.fill("#prompt", "a draft that is not sent")
    page.reload()
    page.wait_for_selector(DONE)
    assert page.locator(DONE).get_attribute("data-picture") == picture
    assert page.input_value("#prompt") == "a draft that is not sent"


def test_a_style_fills_the_text_selects_its_gap_and_gives_the_old_back(service: Service, open_page) -> None:
    page = open_page(service.url, device="phone").page
    page.fill("#prompt", "my own words")
    page.select_option("[aria-label=Style]", "whiteboard_diagram")
    selected = "field => field.value.slice(field.selectionStart, field.selectionEnd)"
    until(lambda: page.locator("#prompt").evaluate(selected) == "{title}", "the first gap is selected")
    page.keyboard.insert_text("Life of a Job")
    assert '"Life of a Job"' in page.input_value("#prompt")
    until(lambda: page.locator(".gaps .tag").all_inner_texts() == ["labels"], "one gap is left")
    page.click(".gaps .tag")
    assert page.locator("#prompt").evaluate(selected) == "{labels}"
    page.click("text=Bring back my text")
    until(lambda: page.input_value("#prompt") == "my own words", "the old text is back")


def test_a_style_suggests_a_size_that_the_model_draws(serve, home: Path, open_page) -> None:
    for name, most in (("small", 512), ("large", 1024)):
        side = f"{{ value = 128, min = 64, max = {most} }}"
        text = f'base = "tiny"\ntitle = "{name}"\nnoise = false\n[defaults]\nwidth = {side}\nheight = {side}\n'
        (home / "models" / f"{name}.toml").write_text(text)
    page = open_page(serve(model="small").url).page
    kept = "JSON.parse(localStorage.getItem('imagegen.draft'))"
    for name, size in (("small", "512x320"), ("large", "1024x640")):
        page.evaluate("model => sessionStorage.setItem('imagegen.draft', JSON.stringify({model}))", name)
        page.reload()
        page.wait_for_selector("[aria-label=Style] >> text=Whiteboard", state="attached")
        page.select_option("[aria-label=Style]", "whiteboard_diagram")
        until(lambda: "{title}" in page.input_value("#prompt"), "the style is in the form")
        until(lambda: page.evaluate(kept).get("size") == size, f"{name} has the style's size {size}")  # noqa: B023


def test_the_sizes_to_choose_from_are_within_the_models_range(serve, home: Path, open_page) -> None:
    sides = {
        "narrow": "width = { value = 192, min = 120, max = 200 }\nheight = { value = 192, min = 120, max = 200 }",
        "open": "width = { value = 192 }\nheight = { value = 192 }",
    }
    for name, defaults in sides.items():
        text = f'base = "tiny"\ntitle = "{name}"\nnoise = false\n[defaults]\n{defaults}\n'
        (home / "models" / f"{name}.toml").write_text(text)
    page = open_page(serve(model="narrow").url).page
    offered = "inputs => inputs.map(input => input.value)"
    for name, sizes in (
        ("narrow", ["192x192", "192x128", "128x192"]),
        ("open", ["192x192", "192x128", "128x192", "192x112", "112x192"]),
    ):
        page.evaluate("model => sessionStorage.setItem('imagegen.draft', JSON.stringify({model}))", name)
        page.reload()
        page.wait_for_selector("[name=size]", state="attached")
        assert page.locator("[name=size]").evaluate_all(offered) == sizes, name


def test_the_page_says_what_is_excluded_and_where_numbers_come_from(service: Service, open_page) -> None:
    page = open_page(service.url).page
    policy = service.http.get("/api/policy").json()
    page.click("summary:has-text('Excluded by policy')")
    shown = page.locator("details:has-text('Excluded by policy')").inner_text()
    for text in (policy["baseline_negative"], policy["directive"], policy["effect"]):
        assert text in shown
    page.click("summary:has-text('More')")
    page.click("summary:has-text('Where these numbers come from')")
    tiny = next(model for model in service.http.get("/api/models").json()["items"] if model["name"] == "tiny")
    assert tiny["defaults"]["steps"]["source"] in page.locator(".sources").inner_text()
    page.fill("#steps", "99")
    page.wait_for_selector("#steps-hint:has-text('Outside 1 to 8')")


def test_a_refusal_is_shown_as_told_and_a_dead_setting_explained(service: Service, open_page) -> None:
    watched = open_page(service.url)
    watched.expected = ["status of 422"]
    page = watched.page
    page.fill("#negative", "text")
    page.wait_for_selector("#negative-note:has-text('the model ignores this')")
    write(page, "a bell", steps="400")
    page.click(".compose .primary")
    refused = service.http.post("/api/generate", json={"prompt": "a bell", "steps": 400}).json()
    page.wait_for_selector(".compose [role=alert]")
    assert refused["detail"] in page.locator(".compose [role=alert]").inner_text()
    page.keyboard.press("Escape")
    page.wait_for_selector(".compose [role=alert]", state="detached")


def test_seed_and_settings_come_back_from_a_picture(service: Service, open_page) -> None:
    page = open_page(service.url).page
    draw(page, "a red boat", seed="7", locked=True)
    page.fill("#prompt", "something else")
    page.click(".result >> text=Same settings")
    until(lambda: page.input_value("#prompt") == "a red boat", "the form is filled again")
    kept = json.loads(page.evaluate("localStorage.getItem('imagegen.draft')"))
    assert (kept["seed"], kept["locked"], kept["size"], kept["steps"]) == ("7", True, "64x64", "2")
    before = page.locator(DONE).get_attribute("data-picture")
    page.click(".result >> text=New seed")
    page.wait_for_selector(f'[data-picture]:not([data-picture="{before}"])')
    newest = service.http.get("/api/jobs", params={"limit": 1}).json()["items"][0]
    assert (newest["prompt"], newest["params"]["steps"]) == ("a red boat", 2)
    assert newest["params"]["seed"] != 7


def test_a_picture_its_address_and_its_settings_are_copied(service: Service, open_page) -> None:
    page = open_page(service.url, permissions=["clipboard-read", "clipboard-write"]).page
    picture = draw(page, "a red boat")
    page.click(".result >> text=Copy URL")
    page.wait_for_selector(".toast:has-text('It works until')")
    clipboard = "() => navigator.clipboard.readText()"
    assert page.evaluate(clipboard) == f"{service.url}/images/{picture}.png"
    page.evaluate("() => Object.defineProperty(navigator.clipboard, 'writeText', {value: () => Promise.reject()})")
    page.click(".result >> text=Copy settings")
    page.wait_for_selector(".toast:has-text('settings are on the clipboard')")
    settings = json.loads(page.evaluate(clipboard))
    assert (settings["prompt"], settings["model"], settings["width"], settings["steps"]) == (
        "a red boat",
        "tiny",
        64,
        2,
    )
    page.click(".result >> text=Copy image")
    page.wait_for_selector(".toast:has-text('picture is on the clipboard')")
    types = page.evaluate("() => navigator.clipboard.read().then(items => items[0].types)")
    assert "image/png" in types


def test_a_picture_of_ones_own_is_edited_and_shown_beside_its_source(
    service: Service, open_page, tmp_path: Path
) -> None:
    file = tmp_path / "mine.png"
    Image.new("RGB", (80, 64), "teal").save(file)
    page = open_page(service.url).page
    write(page, "make it blue")
    page.set_input_files("input[type=file]", file)
    page.wait_for_selector(".thumb:not(.waiting) img")
    page.click(".compose .primary")
    page.wait_for_selector(".stage.pair [data-picture]")
    newest = service.http.get("/api/jobs", params={"limit": 1}).json()["items"][0]
    assert newest["kind"] == "edit"
    source = page.locator(".sources-of img").get_attribute("src")
    assert source is not None
    assert newest["references"][0] in source
    page.click(".result >> text=Edit this")
    page.wait_for_selector(f'.thumb img[src*="{newest["images"][0]["id"]}"]')


def test_several_jobs_are_in_line_and_one_is_cancelled(service: Service, open_page) -> None:
    page = open_page(service.url).page
    page.wait_for_selector(".dot:not(.offline)")
    long = service.submit("a long one", width=256, height=256, steps=100, n=4)
    waiting = service.submit("a waiting one")
    row = page.locator(f'[data-job="{waiting["job_id"]}"]')
    row.wait_for()
    until(lambda: "1 job ahead" in row.inner_text(), "its place in the line is shown")
    running = page.locator(f'[data-job="{long["job_id"]}"]')
    running.locator("text=/step \\d+\\/100/i").wait_for()
    running.get_by_role("button", name="Cancel").click()
    until(lambda: service.job(long["job_id"])["status"] == "cancelled", "the long one is cancelled")
    running.wait_for(state="detached")
    service.ended(waiting["job_id"])
    page.wait_for_selector("#live", state="hidden")


def test_typing_loads_the_model_only_where_that_is_switched_on(serve, open_page) -> None:
    service = serve(idle_timeout="never")
    page = open_page(service.url).page
    page.wait_for_selector("text=The model is not loaded")
    page.locator("#prompt").press_sequentially("a boat")
    page.click(".chip")
    page.check("text=Load the model as soon as I type")
    assert service.status()["engine"]["state"] == "cold"
    page.keyboard.press("Escape")
    page.locator("#prompt").press_sequentially(" at sea")
    page.wait_for_selector(".dot.ready")
    assert service.status()["engine"]["state"] == "ready"
    page.click(".chip")
    assert "Stays loaded" in page.locator("#model-panel").inner_text()
    page.click("#model-panel >> text=Unload")
    page.wait_for_selector(".dot.cold")
    assert service.status()["engine"]["pid"] is None


def test_speed_is_offered_where_the_model_has_it(service: Service, open_page) -> None:
    page = open_page(service.url).page
    page.click("summary:has-text('More')")
    assert page.locator("#speed option[value=fast]").is_disabled()
    assert "made for 4 steps" in page.locator("#speed-hint").inner_text()
    page.select_option("#model", "qwen-tiny")
    page.select_option("#speed", "fast")
    assert "from 6 steps on" in page.locator("#speed-hint").inner_text()
    kept = json.loads(page.evaluate("localStorage.getItem('imagegen.draft')"))
    assert (kept["model"], kept["speed"]) == ("qwen-tiny", "fast")
    page.select_option("#model", "tiny")
    assert page.input_value("#speed") == "", "what the model cannot do is not asked of it"


def test_a_transparent_background_is_a_checkbox_and_shown_on_chequers(service: Service, open_page) -> None:
    page = open_page(service.url).page
    write(page, "an icon of a bell")
    page.check("#transparent")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".result .warning:has-text('background was kept')")  # the tiny model draws noise
    job = service.http.get("/api/jobs", params={"limit": 1}).json()["items"][0]
    assert job["params"]["background"] == "transparent"
    ground = "async (code) => (await import('./static/js/words.js')).ground({warnings: [{code}]})"
    assert (page.evaluate(ground, "reference_reduced"), page.evaluate(ground, "background_removed")) == (
        "",
        "chequered",
    )
    picture = page.locator(DONE)
    picture.evaluate("image => image.classList.add('chequered')")
    assert "conic-gradient" in picture.evaluate("image => getComputedStyle(image).backgroundImage")


def test_variations_of_a_picture_are_four_with_other_seeds(service: Service, open_page) -> None:
    page = open_page(service.url).page
    picture = draw(page, "a bell")
    page.click(".result .action:has-text('Variations')")
    page.wait_for_selector(".strip button >> nth=3")
    job = service.http.get("/api/jobs", params={"limit": 1}).json()["items"][0]
    assert (job["prompt"], job["params"]["n"], job["params"]["seed_given"]) == ("a bell", 4, False)
    assert picture not in [image["id"] for image in job["images"]]


@pytest.mark.parametrize("device", ["phone", "desktop"])
def test_nothing_is_wider_than_the_window(service: Service, open_page, device: str) -> None:
    page = open_page(service.url, device=device).page
    draw(page, "W" * 400)
    for opened in ("summary:has-text('More')", "summary:has-text('Excluded by policy')"):
        page.click(opened)
    overflow = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0


def test_a_picture_is_enlarged_by_the_keyboard_and_shown(service: Service, open_page) -> None:
    page = open_page(service.url).page
    picture = draw(page, "a small lighthouse")
    page.get_by_role("button", name="Upscale ×4").press("Enter")
    page.wait_for_selector(f'[data-picture]:not([data-picture="{picture}"])')
    until(lambda: page.locator(DONE).evaluate("image => image.naturalWidth") == 256, "the copy is there")
    assert page.locator(".result .said").inner_text() == "a small lighthouse"
    facts = page.locator(".result .facts").inner_text()
    assert "× 4" in facts and "interpolation (Lanczos)" in facts and "256 × 256" in facts
    assert "adds no detail" in page.locator(".result .warning").inner_text()
    assert page.get_by_role("button", name="New seed").count() == 0
    page.get_by_role("button", name="Upscale ×4").click()
    until(lambda: page.locator(DONE).evaluate("image => image.naturalWidth") == 1024, "the copy of the copy is there")

"""`imagegen compare` on the real engine: a picture for each model and prompt, and the seconds of each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner
from PIL import Image
from served import ROOT, Service

from imagegen.cli.client import ServiceError
from imagegen.cli.compare import compare


def test_two_models_and_two_prompts_make_a_sheet_and_a_table(service: Service, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("# not a prompt\na red circle\n\na green tree\n")
    target = tmp_path / "out" / "sheet.png"
    small = ["-W", "64", "-H", "64", "--steps", "1"]
    command = [sys.executable, "-m", "imagegen.cli", "compare", "--models", "tiny,no-such-model", *small]
    ran = subprocess.run(
        [*command, "--prompts", prompts, "-o", target, "--url", service.url], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 1, "two of four failed"
    assert "2 of 4 pictures failed: There is no model 'no-such-model'" in ran.stderr
    rows = {line[:28].strip(): line[28:].split() for line in ran.stdout.splitlines()}
    for prompt in ("a red circle", "a green tree"):
        seconds, unit, other = rows[prompt]
        assert float(seconds) > 0 and (unit, other) == ("s", "failed")
    page = Image.open(target).convert("RGB")

    def colours(left: int) -> int:
        return len(page.crop((left, 36, left + 256, 292)).getcolors(256 * 256))

    left = 228  # of the first model's column
    assert colours(left) > 500, "the picture is on the sheet"
    assert colours(left + 264) < 300, "a sentence is on the other"


def test_the_six_prompts_come_with_the_package_and_each_model_is_asked_all(monkeypatch, tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    def refuse(_service: object, _method: str, _path: str, json: dict[str, str]) -> None:
        asked.append((json["model"], json["prompt"]))
        raise ServiceError("not here")

    monkeypatch.setattr("imagegen.cli.client.Service.json", refuse)
    CliRunner().invoke(compare, ["--models", "a,b", "-o", str(tmp_path / "sheet.png"), "--url", "http://127.0.0.1:9"])
    assert [model for model, _ in asked] == 6 * ["a"] + 6 * ["b"]
    prompts = [prompt for _, prompt in asked[:6]]
    assert prompts == [prompt for _, prompt in asked[6:]]
    assert any("DANGER HIGH VOLTAGE" in prompt for prompt in prompts)
    assert any("LIVE JAZZ TONIGHT 8PM" in prompt for prompt in prompts)
    assert (tmp_path / "sheet.png").exists()

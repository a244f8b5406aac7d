"""`imagegen compare`: a picture for each model and prompt, the seconds of each, and nothing drawn for nothing."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from served import DEADLINE_S, ROOT, Service, free_port, until

from imagegen.cli.client import ServiceError, Unreachable
from imagegen.cli.compare import compare

# ---- on the real engine -----------------------------------------------------------------------


def command(service: Service, *arguments: object) -> subprocess.Popen[str]:
    words = [str(word) for word in ("compare", *arguments, "--url", service.url)]
    return subprocess.Popen(
        [sys.executable, "-m", "imagegen.cli", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def jobs(service: Service) -> list[dict[str, Any]]:
    return service.http.get("/api/jobs").json()["items"]


def test_two_models_and_two_prompts_make_a_sheet_and_a_table(serve: Any, home: Path, tmp_path: Path) -> None:
    able = "[capabilities]\ndraw = false\nedit = true\nmax_references = 1\n"
    (home / "models" / "edits.toml").write_text(f'base = "tiny"\n{able}')
    service = serve()
    prompts, target = tmp_path / "prompts.txt", tmp_path / "out" / "sheet.png"
    prompts.write_bytes(b"\xef\xbb\xbf# not a prompt\r\na red circle\r\n\r\na green tree\r\n")  # as Windows saves it
    small = ("-W", 72, "-H", 64, "--steps", 1)
    running = command(service, "--models", "tiny,edits", "--prompts", prompts, "-o", target, *small)
    out, err = running.communicate(timeout=DEADLINE_S)
    assert running.returncode == 1, "two of four failed"
    assert "2 of 4 pictures failed: edits only edits pictures" in err
    assert err.count("72x64 became 80x64") == 1, "what every job warns of is said once"
    rows = {line[:28].strip(): line[28:].split() for line in out.splitlines()}
    for prompt in ("a red circle", "a green tree"):
        seconds, unit, other = rows[prompt]
        assert float(seconds) > 0 and (unit, other) == ("s", "failed")
    assert not any("not a prompt" in row for row in rows)
    page = Image.open(target).convert("RGB")

    def colours(left: int) -> int:
        return len(page.crop((left, 36, left + 256, 292)).getcolors(256 * 256))

    left = 228  # of the first model's column
    assert colours(left) > 500, "the picture is on the sheet"
    assert colours(left + 264) < 300, "a sentence is on the other"


def test_ctrl_c_cancels_the_running_job(service: Service, tmp_path: Path) -> None:
    prompts, target = tmp_path / "prompts.txt", tmp_path / "sheet.png"
    prompts.write_text("the first of two\nthe second of two\n")
    long = ("-W", 64, "-H", 64, "--steps", 100)
    running = command(service, "--models", "tiny", "--prompts", prompts, "-o", target, *long)
    until(lambda: any(job["prompt"] == "the first of two" for job in jobs(service)), "it is asked for")
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=DEADLINE_S)
    assert running.returncode == 130 and "interrupted" in err and "Traceback" not in err
    assert out == "" and not target.exists(), "nothing was drawn yet"
    until(lambda: jobs(service)[0]["status"] == "cancelled", "nobody waits for it any more")
    assert jobs(service)[0]["prompt"] == "the first of two", "and no other was asked for"


def test_no_service_ends_it_at_once(tmp_path: Path) -> None:
    target = tmp_path / "sheet.png"
    url = f"http://127.0.0.1:{free_port()}"
    ran = CliRunner().invoke(compare, ["--models", "a,b", "-o", str(target), "--url", url])
    assert ran.exit_code == 1 and "no service answers" in str(ran.exception)
    assert ran.output == "" and not target.exists()


# ---- against a service that is told what to answer --------------------------------------------

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def complete(_request: dict[str, Any]) -> dict[str, Any]:
    at = "2026-01-01T00:00:0{}+00:00"
    image = {"id": "0", "width": 8, "height": 8, "bytes": 1, "sha256": ""}
    job = {"job_id": "1", "status": "complete", "warnings": [], "images": [image]}
    return job | {"started_at": at.format(0), "finished_at": at.format(2)}


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Result, list[tuple[str, str]]]]:
    """`compared(answer, *words)`: the outcome on a service that has the models a and b, and what it was asked for."""
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "PNG")

    def run(answer: Answer, *words: object) -> tuple[Result, list[tuple[str, str]]]:
        asked: list[tuple[str, str]] = []

        def json(_self: object, method: str, _path: str, json: dict[str, Any] | None = None) -> dict[str, Any]:
            if method == "GET":
                return {"items": [{"name": "a"}, {"name": "b"}]}
            assert json is not None
            asked.append((json["model"], json["prompt"]))
            return answer(json)

        monkeypatch.setattr("imagegen.cli.client.Service.json", json)
        monkeypatch.setattr(
            "imagegen.cli.client.Service.call", lambda *_words, **_how: type("_", (), {"content": picture.getvalue()})
        )
        return CliRunner().invoke(compare, [*map(str, words), "--url", "http://127.0.0.1:9"]), asked

    return run


def refuse(_request: dict[str, Any]) -> dict[str, Any]:
    raise ServiceError("not here")


def test_the_six_prompts_come_with_the_package_and_each_model_is_asked_all(compared: Any, tmp_path: Path) -> None:
    _, asked = compared(refuse, "--models", "a,b", "-o", tmp_path / "sheet.png")
    assert [model for model, _ in asked] == 6 * ["a"] + 6 * ["b"]
    prompts = [prompt for _, prompt in asked[:6]]
    assert prompts == [prompt for _, prompt in asked[6:]]
    assert any("DANGER HIGH VOLTAGE" in prompt for prompt in prompts)
    assert any("LIVE JAZZ TONIGHT 8PM" in prompt for prompt in prompts)
    assert (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(
    ("models", "target", "told"),
    [
        ("a,c", "sheet.png", "There is no model c. The service has: a, b."),
        (" , ", "sheet.png", "--models names none."),
        ("a", "sheet.xyz", "'.xyz' cannot be written"),
        ("a", "file/sheet.png", "is not a folder"),
        ("a", "-", "writes its table to standard output"),
    ],
    ids=["unknown model", "no model", "odd suffix", "no folder", "standard output"],
)
def test_what_would_throw_the_pictures_away_is_found_before_they_are_drawn(
    compared: Any, tmp_path: Path, models: str, target: str, told: str
) -> None:
    (tmp_path / "file").touch()
    ran, asked = compared(complete, "--models", models, "-o", target if target == "-" else tmp_path / target)
    assert ran.exit_code != 0 and told in ran.output + str(ran.exception)
    assert asked == []


def test_the_table_is_there_even_if_the_sheet_cannot_be_saved(
    compared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    ran, _ = compared(complete, "--models", "a", "-o", tmp_path / "sheet.png")
    assert ran.exit_code == 1 and "No space left" in str(ran.exception)
    assert ran.output.count("2.0 s") == 7, "six pictures and their median"


@pytest.mark.parametrize("end", [KeyboardInterrupt, Unreachable])
def test_what_is_drawn_is_kept_whatever_ends_it(compared: Any, tmp_path: Path, end: type[BaseException]) -> None:
    answered = 0

    def two_then_none(request: dict[str, Any]) -> dict[str, Any]:
        nonlocal answered
        answered += 1
        if answered > 2:
            raise end("gone")
        return complete(request)

    ran, asked = compared(two_then_none, "--models", "a,b", "-o", tmp_path / "sheet.png")
    assert ran.exit_code == 1 and len(asked) == 3
    rows = ran.output.splitlines()
    assert [row.split()[-1] for row in rows[1:7]] == 6 * ["-"]
    assert [("2.0 s" in row) for row in rows[1:7]] == [True, True, False, False, False, False]
    assert (tmp_path / "sheet.png").exists()

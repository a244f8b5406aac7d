"""`imagegen batch` on the running service: what it draws, and what a run that was killed or interrupted leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine, Ran
from PIL import Image
from served import ROOT, Service, until

SMALL = ("-W", "64", "-H", "64", "--steps", "2")
LONG = {"prompt": "a long one", "width": 256, "height": 256, "steps": 100, "n": 4}


Batch = Callable[..., Ran]


def command(service: Service, *words: str) -> dict[str, Any]:
    return {
        "args": [sys.executable, "-m", "imagegen.cli", "batch", *words, *SMALL, "--url", service.url],
        "env": {**os.environ, "PYTHONPATH": str(ROOT)},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


@pytest.fixture
def batch(imagegen: CommandLine, service: Service) -> Callable[..., Ran]:
    return lambda *words: imagegen("batch", *words, *SMALL, "--url", service.url)


def jobs(service: Service, mark: str) -> list[dict[str, Any]]:
    """The jobs whose prompts have the mark, the oldest first."""
    items = service.http.get("/api/jobs", params={"limit": 200}).json()["items"]
    return [one for one in reversed(items) if mark in one["prompt"]]


def records(state: Path, kind: str) -> list[Any]:
    lines = state.read_text().splitlines() if state.exists() else []
    return [record[kind] for record in map(json.loads, lines) if kind in record]


def pictures(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".batch")


def test_every_request_is_drawn_once(service: Service, tmp_path: Path, batch: Batch) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    (tmp_path / "cards.csv").write_text(
        "prompt,seed,n,images,steps\nbatch one,1,,,\nbatch two,5,2,,3\nbatch three,9,,red.png,\n"
    )
    words = ("cards.csv", "--out", "new/{n:02}-{slug}-{seed}.webp", "--json")
    ran = batch(*words)
    assert ran.code == 0, ran.err
    names = ["01-batch-one-1.webp", "02-batch-two-5.webp", "02-batch-two-6.webp", "03-batch-three-9.webp"]
    assert pictures(tmp_path / "new") == names
    assert Image.open(tmp_path / "new" / names[0]).size == (64, 64)
    told = ran.document
    assert (told["total"], told["done"], told["failed"]) == (3, 3, 0)
    assert [item["files"] for item in told["items"]][1] == [f"new/{name}" for name in names[1:3]]
    made = jobs(service, "batch ")
    assert [job["job_id"] for job in made] == [item["job_id"] for item in told["items"]]
    assert [(job["kind"], job["params"]["steps"]) for job in made] == [("generate", 2), ("generate", 3), ("edit", 2)]
    with (tmp_path / "cards.csv").open("a") as file:
        file.write("batch four,2,,,\n")
    again = batch(*words).document
    assert again["items"][:3] == told["items"], "a request that is added is drawn alone"
    assert (len(jobs(service, "batch ")), len(pictures(tmp_path / "new"))) == (4, 5)


def test_a_run_that_was_killed_is_resumed(service: Service, tmp_path: Path, batch: Batch) -> None:
    lines = [LONG | {"n": 1, "width": 128, "height": 128, "steps": 30}, {"prompt": "killed b"}, {"prompt": "killed c"}]
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({**line, "seed": 3}) for line in lines))
    words = ("p.jsonl", "--out", "out/{n}-{slug}.png")
    state = tmp_path / "out" / "p.jsonl.batch"
    first = subprocess.Popen(cwd=tmp_path, **command(service, *words))
    until(lambda: len(records(state, "job")) == 3, "every request has a job")
    first.kill()
    first.communicate()
    kept = [line for line in state.read_text().splitlines(keepends=True) if "done" not in line]
    state.write_text("".join(kept[:3]))  # as if it had been killed before the last job was written down
    for _ in range(2):
        ran = batch(*words)
        assert ran.code == 0, ran.err
        assert pictures(tmp_path / "out") == ["1-a-long-one.png", "2-killed-b.png", "3-killed-c.png"]
        assert len(jobs(service, "killed ")) == 2
        without_end = [line for line in state.read_text().splitlines(keepends=True) if "done" not in line]
        state.write_text("".join(without_end))  # as if it had been killed before it noted that the files are there
    assert len([job for job in jobs(service, LONG["prompt"]) if job["params"]["seed"] == 3]) == 1


def test_an_interrupt_cancels_the_jobs_and_leaves_no_picture(service: Service, tmp_path: Path, batch: Batch) -> None:
    lines = [LONG, *({"prompt": f"stopped {number}"} for number in range(5))]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    state = tmp_path / "p.jsonl.batch"
    run = subprocess.Popen(cwd=tmp_path, **command(service, "p.jsonl", "--json"))
    until(lambda: len(records(state, "job")) == 4, "four jobs wait or run")
    made = records(state, "job")
    service.until_drawing(made[0])
    run.send_signal(signal.SIGINT)
    printed, said = run.communicate(timeout=120)
    assert run.returncode == 130, said
    assert json.loads(printed)["error"]["code"] == "interrupted"
    assert {service.ended(job_id)["status"] for job_id in made} == {"cancelled"}
    assert len(jobs(service, "stopped ")) == 3, "the others were not submitted"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.jsonl", "p.jsonl.batch"]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines[1:])))
    again = batch("p.jsonl")
    assert again.code == 0, again.err
    assert len(list(tmp_path.glob("*.png"))) == 5


BAD: list[tuple[str, tuple[str, ...], int, str]] = [
    ('"a cat"\n{"prompt": "a", "model": "dall-e-3"}\n', (), 3, "Line 2: There is no model 'dall-e-3'"),
    ('"a cat"\n{"prompt": "a", "promt": "b"}\n', (), 3, "Line 2: 'promt' is not a field"),
    ('"a cat"\n{"prompt": "a", "steps": "x"}\n', (), 3, "Line 2: steps must be a whole number"),
    ('"a cat"\n{"prompt": "a", "images": ["none.png"]}\n', (), 1, "line 2: 'none.png' cannot be read"),
    ('"a cat"\n{"prompt": 1}\n', (), 2, "Line 2: it has no prompt."),
    ('"a cat"\n', ("--out", "out/{who}.png"), 2, "{who} is no field"),
    ('"a cat"\n', ("--out", "p.jsonl/{n}.png"), 2, "'p.jsonl' is not a folder"),
]


@pytest.mark.parametrize(("text", "words", "code", "said"), BAD, ids=[one[3] for one in BAD])
def test_a_bad_line_is_said_and_nothing_is_drawn(
    service: Service, tmp_path: Path, batch: Batch, text: str, words: tuple[str, ...], code: int, said: str
) -> None:
    before = service.http.get("/api/jobs", params={"limit": 1}).json()["items"]
    (tmp_path / "p.jsonl").write_text(text)
    ran = batch("p.jsonl", *(words or ("--out", "out/{n}.png")), "--json")
    assert (ran.code, said in ran.err) == (code, True), ran.err
    assert ran.document["error"]["exit_code"] == code
    assert service.http.get("/api/jobs", params={"limit": 1}).json()["items"] == before
    assert [path.name for path in tmp_path.iterdir()] == ["p.jsonl"]


def test_what_failed_or_is_lost_is_drawn_by_the_next_run(service: Service, tmp_path: Path, batch: Batch) -> None:
    lines = [LONG | {"n": 1, "width": 128, "height": 128, "steps": 30}, {"prompt": "lost b"}, {"prompt": "lost c"}]
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({**line, "seed": 4}) for line in lines))
    words = ("p.jsonl", "--json", "--out", "{slug}.png")
    state = tmp_path / "p.jsonl.batch"
    run = subprocess.Popen(cwd=tmp_path, **command(service, *words))
    until(lambda: len(records(state, "job")) == 3, "every request has a job")
    made = records(state, "job")
    assert service.http.delete(f"/api/jobs/{made[1]}").json()["status"] == "cancelled"
    printed, said = run.communicate(timeout=120)
    assert (run.returncode, "1 of 3 requests failed" in said) == (1, True), said
    told = json.loads(printed)
    assert (told["done"], told["failed"], told["items"][1]["error"]["code"]) == (2, 1, "cancelled")
    assert pictures(tmp_path) == ["a-long-one.png", "lost-c.png", "p.jsonl"]
    lost = [line.replace(made[2], "0" * 32) for line in state.read_text().splitlines(keepends=True)]
    key = next(json.loads(line)["key"] for line in lost if "0" * 32 in line)
    state.write_text("".join(line for line in lost if key not in line or '"job"' in line))
    told = batch(*words).document
    assert (told["done"], told["failed"]) == (3, 0)
    assert [item["job_id"] == made[number] for number, item in enumerate(told["items"])] == [True, False, False]
    assert told["items"][2]["files"] == ["lost-c-2.png"], "a file that the state does not know is not overwritten"

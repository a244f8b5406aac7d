"""How well the built-in model draws: held-out captions through the service, on the real engine, judged by a classifier.

    python benchmarks/sketch.py --torch PYTHON [--cases 300] [--edits 80] [--size PX] [--out DIR] [--json]

PYTHON is one with training/requirements.txt installed: the judge (training/judge.py) needs torch, the service does not.
The judge is trained on the procedural data alone, a fixed number of steps, and kept in DIR. Captions that occur in the
training set are not taken (sketch_cases.py); edits are worded as in training. Prints, as shares of what was asked:
objects, colours and counts, pairs (both things and colours in their places), arrows between boxes (training/rules.py),
each kind by itself, each sort of edit by itself; whether a seed repeats, and seconds a picture at one and two threads.
Leaves the pictures and contact sheets in DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "training")]

import contact  # noqa: E402
from served import Service  # noqa: E402
from sketch_cases import Case, cases, edits  # noqa: E402
from sketch_scores import Sight, scored  # noqa: E402

from imagegen import engine_build  # noqa: E402
from imagegen.models.synthetic import make as synthetic  # noqa: E402
from imagegen.settings import Settings  # noqa: E402

STRANGE = [
    "A purple zebra with an accordion",
    "Zwölf Boxkämpfer jagen Viktor",
    "🦊🚀",
    "((((",
    "x" * 900,
    "the meaning of life",
]
GOALS = {"colour": 0.95, "object": 0.85, "count": 0.70, "edit: recolour": 0.80}
PNG = {"Content-Type": "image/png"}


class Drawing:
    """The service with the model `sketch`, and a folder for its pictures."""

    def __init__(self, service: Service, out: Path, size: dict) -> None:
        self.service, self.out, self.size = service, out, size

    def draw(self, case: Case, name: str) -> Case:
        request = {"prompt": case["prompt"], "seed": case["seed"], "model": "sketch"}
        request |= self.size | ({"images": [case["source"]]} if "source" in case else {})
        answer = self.service.http.post("/api/edit" if "source" in case else "/api/generate", json=request)
        assert answer.status_code == 202, answer.text
        job = self.service.ended(answer.json()["job_id"], timeout=600)
        assert job["status"] == "complete", job
        (self.out / name).write_bytes(self.service.png(job))
        return case | {"file": name, "image": job["images"][0]["id"]}

    def edit(self, case: Case, name: str, ids: dict[str, str]) -> Case:
        """Edit the picture that the case names or contains. A contained picture is also saved as a file."""
        if "upload" in case:
            (self.out / f"before-{name}").write_bytes(case["upload"])
            answer = self.service.http.post("/api/images", content=case["upload"], headers=PNG)
            assert answer.status_code == 201, answer.text
            found = {k: v for k, v in case.items() if k != "upload"}
            return self.draw(found | {"of": f"before-{name}", "source": answer.json()["id"]}, name)
        return self.draw(case | {"source": ids[case["of"]]}, name)


def seconds(home: Path, binary: Path, threads: int, size: dict, n: int = 5) -> float:
    """Median seconds of a picture through the service, with the model loaded."""
    service = Service(home, binary, {"model": "sketch", "threads": threads, "idle_timeout": "never"})
    service.start()
    try:
        took = []
        for i in range(n + 1):
            start = time.monotonic()
            service.draw("a red circle", **({"width": None, "height": None} | size), steps=None, seed=i)
            took.append(time.monotonic() - start)
        return statistics.median(took[1:])
    finally:
        service.end()


def measure(options: argparse.Namespace, out: Path) -> dict:
    settings = Settings()
    binary = engine_build.resolve(settings)
    home = out / "home"
    synthetic.make("sketch", settings.model_copy(update={"home": home}))
    service = Service(home, binary, {"model": "sketch", "threads": 2, "idle_timeout": "never"})
    service.start()
    try:
        size = {"width": options.size, "height": options.size} if options.size else {}
        drawing = Drawing(service, out, size)
        asked, skipped = cases(options.cases)
        drawn = [drawing.draw(case, f"{i:03d}.png") for i, case in enumerate(asked)]
        side = Image.open(out / drawn[0]["file"]).width
        bases, changes = edits(drawn, options.edits, side)
        bases = [drawing.draw(case, case["file"]) for case in bases]
        ids = {case["file"]: case["image"] for case in (*drawn, *bases)}
        edited = [drawing.edit(case, f"edit-{i:03d}.png", ids) for i, case in enumerate(changes)]
        again = drawing.draw({k: drawn[0][k] for k in ("prompt", "seed")}, "again.png")
        for i, text in enumerate(STRANGE):
            drawing.draw({"prompt": text, "seed": 7}, f"strange-{i}.png")
    finally:
        service.end()
    sight = Sight(out, drawn, edited)
    judging = [options.torch, str(ROOT / "training" / "judge.py"), str(out), "--verdicts"]
    judging += ["--steps", str(options.judge_steps)] if options.judge_steps else []
    subprocess.run(judging, check=True, stdout=sys.stderr, env=os.environ | {"OMP_WAIT_POLICY": "passive"})
    sight.judged()
    result = scored(drawn, edited, sight)
    result["captions skipped, which training saw"] = skipped
    result["the same seed repeats"] = (out / drawn[0]["file"]).read_bytes() == (out / again["file"]).read_bytes()
    result["strange prompts drawn"] = len(STRANGE)
    result["judge, on clean pictures"] = sight.accuracy
    result["seconds"] = {threads: round(seconds(home, binary, threads, size), 2) for threads in (1, 2)}
    contact.sheet(out, drawn[:64], out / "drawn.png")
    before_and_after = [case for edit in edited[:24] for case in ({"file": edit["of"], "prompt": "before"}, edit)]
    contact.sheet(out, before_and_after, out / "edited.png")
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", default=str(ROOT / "training" / ".venv" / "bin" / "python"), metavar="PYTHON")
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--edits", type=int, default=80)
    parser.add_argument("--size", type=int, help="pixels a side; default: the model's own")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--judge-steps", type=int, help="fewer, for a try: such a judge sees badly")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    out = (options.out or Path(tempfile.mkdtemp(prefix="sketch-"))).absolute()
    out.mkdir(parents=True, exist_ok=True)
    result = measure(options, out)
    missed = [name for name, least in GOALS.items() if result[name] is None or result[name] < least]
    if options.json:
        print(json.dumps(result | {"missed": missed}))
    else:
        for name, value in result.items():
            if isinstance(value, dict):
                print(f"{name}:", *(f"{key}: {of}" for key, of in value.items()), sep="\n  ")
            elif isinstance(value, list):
                print(f"{name}:", *value, sep="\n  ")
            else:
                goal = f" (at least {GOALS[name]})" if name in GOALS else ""
                print(f"{name}: {'not asked' if value is None else value}{goal}")
        print(f"pictures in {out}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

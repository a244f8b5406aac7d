"""How well the built-in model draws: held-out captions through the service, on the real engine, judged by a classifier.

    python benchmarks/sketch.py --torch PYTHON [--cases 200] [--edits 50] [--size PX] [--out DIR] [--json]

PYTHON is one with training/requirements.txt installed: the judge (training/judge.py) needs torch, the service does not.
The judge is trained on the procedural data alone, once, and kept in the folder. Prints the share of captions whose
object, colour and count the picture has, of recolourings that took and kept their shape, whether a seed repeats, and
seconds a picture at one and two threads; leaves the pictures and contact sheets in DIR.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "training")]

import captions  # noqa: E402
import contact  # noqa: E402
import scenes  # noqa: E402
from served import Service  # noqa: E402

from imagegen import engine  # noqa: E402
from imagegen.models import synthetic  # noqa: E402
from imagegen.settings import Settings  # noqa: E402

HELD_OUT = 990_017
"""Seed of the captions: training draws its scenes from other seeds."""
STRANGE = [
    "A purple zebra with an accordion",
    "Zwölf Boxkämpfer jagen Viktor",
    "🦊🚀",
    "((((",
    "x" * 900,
    "the meaning of life",
]
BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
GOALS = {"colour": 0.95, "object": 0.85, "count": 0.70, "recoloured": 0.80}


def cases(n: int) -> list[dict]:
    """Captions with what their pictures must show: seven of ten single things, three of ten rows of one kind."""
    rng = random.Random(HELD_OUT)
    found = []
    for i in range(n):
        scene = scenes.counted(rng) if i % 10 >= 7 else scenes.single(rng)
        first = scene.items[0]
        text = captions.describe(rng, scene).removesuffix(captions.DIRECTIVE)  # the service adds its own
        truth = {"kind": first.kind, "colour": first.colour, "count": len(scene.items), "background": scene.background}
        found.append({"prompt": text, "form": scene.form, "seed": 1000 + i, **truth})
    return found


def edits(drawn: list[dict], n: int) -> list[dict]:
    """Recolourings of pictures that the model drew."""
    rng = random.Random(HELD_OUT + 1)
    found = []
    for case in [c for c in drawn if c["form"] == "single"][:n]:
        colour = rng.choice([c for c in BRIGHT if c != case["colour"]])
        asked = {"prompt": f"make it {colour}", "of": case["file"], "colour": colour}
        found.append({k: case[k] for k in ("image", "seed", "kind", "count", "background")} | asked)
    return found


class Drawing:
    """The service with the model `sketch`, and a folder for what it draws."""

    def __init__(self, service: Service, out: Path, size: dict) -> None:
        self.service, self.out, self.size = service, out, size

    def draw(self, case: dict, name: str) -> dict:
        request = {"prompt": case["prompt"], "seed": case["seed"], "model": "sketch"}
        request |= self.size | ({"images": [case["image"]]} if "image" in case else {})
        answer = self.service.http.post("/api/edit" if "image" in case else "/api/generate", json=request)
        assert answer.status_code == 202, answer.text
        job = self.service.ended(answer.json()["job_id"], timeout=120)
        assert job["status"] == "complete", job
        (self.out / name).write_bytes(self.service.png(job))
        return case | {"file": name, "image": job["images"][0]["id"], "warnings": [w["code"] for w in job["warnings"]]}


def seconds(home: Path, binary: Path, threads: int, size: dict, n: int = 5) -> float:
    """Median seconds of a picture, model loaded, through the service."""
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
    binary = engine.resolve(settings)
    home = out / "home"
    synthetic.make("sketch", settings.model_copy(update={"home": home}))
    service = Service(home, binary, {"model": "sketch", "threads": 2, "idle_timeout": "never"})
    service.start()
    try:
        size = {"width": options.size, "height": options.size} if options.size else {}
        drawing = Drawing(service, out, size)
        drawn = [drawing.draw(case, f"{i:03d}.png") for i, case in enumerate(cases(options.cases))]
        edited = [drawing.draw(case, f"edit-{i:03d}.png") for i, case in enumerate(edits(drawn, options.edits))]
        again = drawing.draw({k: drawn[0][k] for k in ("prompt", "seed")}, "again.png")
        for i, text in enumerate(STRANGE):
            drawing.draw({"prompt": text, "seed": 7}, f"strange-{i}.png")
    finally:
        service.end()
    (out / "pictures.json").write_text(json.dumps({"drawn": drawn, "edited": edited}))
    judging = [options.torch, str(ROOT / "training" / "judge.py"), str(out.parent / "judge.pt"), "--verdicts", str(out)]
    subprocess.run(judging, check=True)
    verdicts = json.loads((out / "verdicts.json").read_text())
    result = scored(drawn, edited, verdicts, out)
    result["the same seed repeats"] = (out / drawn[0]["file"]).read_bytes() == (out / again["file"]).read_bytes()
    result["strange prompts drawn"] = len(STRANGE)
    result["judge"] = verdicts["accuracy"]
    result["seconds"] = {threads: round(seconds(home, binary, threads, size), 2) for threads in (1, 2)}
    contact.sheet(out, drawn[:64], out / "drawn.png")
    before_and_after = [case for edit in edited[:24] for case in ({"file": edit["of"], "prompt": "before"}, edit)]
    contact.sheet(out, before_and_after, out / "edited.png")
    return result


def scored(drawn: list[dict], edited: list[dict], verdicts: dict, out: Path) -> dict:
    """Shares of right pictures; a count is judged on rows, an object on single things and rows alike."""
    seen = verdicts["pictures"]

    def share(found: list[dict], *names: str) -> float:
        right = [all(seen[c["file"]][name] == c[name] for name in names) for c in found]
        return round(sum(right) / len(right), 3)

    rows = [c for c in drawn if c["form"] == "counted"]
    kept = [seen[c["file"]]["colour"] == c["colour"] and _same_shape(out, c) for c in edited]
    wrong = [f"{c['prompt'][:60]}: {seen[c['file']]}" for c in drawn if seen[c["file"]]["kind"] != c["kind"]]
    return {
        "object": share(drawn, "kind"), "colour": share(drawn, "colour"), "count": share(rows, "count"),
        "background": share(drawn, "background"), "recoloured": round(sum(kept) / max(1, len(kept)), 3),
        "wrong": wrong,
    }  # fmt: skip


def _same_shape(out: Path, case: dict, least: float = 0.75) -> bool:
    """Whether what is not background covers the same place before and after: intersection over union."""

    def covered(name: str) -> np.ndarray:
        pixels = np.asarray(Image.open(io.BytesIO((out / name).read_bytes())).convert("RGB"), np.int16)
        corner = np.median(np.concatenate([pixels[:4, :4].reshape(-1, 3), pixels[-4:, -4:].reshape(-1, 3)]), axis=0)
        return np.abs(pixels - corner).max(-1) > 40

    before, after = covered(case["of"]), covered(case["file"])
    return bool((before & after).sum() >= least * (before | after).sum())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", default=str(ROOT / "training" / ".venv" / "bin" / "python"), metavar="PYTHON")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--edits", type=int, default=50)
    parser.add_argument("--size", type=int, help="pixels a side; default: the model's own")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    out = (options.out or Path(tempfile.mkdtemp(prefix="sketch-"))).absolute()
    out.mkdir(parents=True, exist_ok=True)
    result = measure(options, out)
    missed = [name for name, least in GOALS.items() if result[name] < least]
    if options.json:
        print(json.dumps(result | {"missed": missed}))
    else:
        for name, value in result.items():
            if name != "wrong":
                print(f"{name}: {value}" + (f" (at least {GOALS[name]})" if name in GOALS else ""))
        print("objects that were not recognised:", *result["wrong"], sep="\n  ")
        print(f"pictures in {out}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

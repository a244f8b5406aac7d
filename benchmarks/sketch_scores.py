"""The scores of benchmarks/sketch.py: shares of correct pictures, by the judge and by rules on pixels."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import rules
from objects import DIAGRAMS, KINDS
from PIL import Image
from sketch_cases import VERBS, Case

GREW = 1.3
"""A thing became bigger if the area that is not background grew at least by this factor."""
OTHER = {"left": "right", "right": "left", "upper": "lower", "lower": "upper"}
SIDES = {"pair": ("left", "right"), "pair-above": ("upper", "lower")}


class Sight:
    """The pictures of a folder with the judge's verdicts, which it gives for all pictures at once."""

    def __init__(self, folder: Path, drawn: list[Case], edited: list[Case]) -> None:
        self.folder = folder
        self.files = [case["file"] for case in (*drawn, *edited)] + [case["of"] for case in edited]
        self.parts = [(c["file"], which) for c in drawn if c["form"] in SIDES for which in SIDES[c["form"]]]
        for case in edited:
            if case["verb"] == "add":
                self.parts.append((case["file"], "corner"))
            if case["verb"] == "remove of a pair":
                self.parts.append((case["file"], OTHER[case["place"]]))
            if case["verb"] in ("add", "remove"):
                Image.fromarray(rules.without_corner(self.picture(case["file"]))).save(folder / f"rest-{case['file']}")
                self.files.append(f"rest-{case['file']}")
        boxes = [
            (name, *(rules.CORNER if which == "corner" else (*rules.HALVES[which], 0.5))) for name, which in self.parts
        ]
        (folder / "pictures.json").write_text(json.dumps({"files": self.files, "parts": boxes}))

    def judged(self) -> None:
        """Read the judge's verdicts."""
        verdicts = json.loads((self.folder / "verdicts.json").read_text())
        self.accuracy: dict[str, Any] = verdicts["accuracy"]
        self._seen = dict(zip(self.files, verdicts["files"], strict=True))
        self._seen_parts = dict(zip(self.parts, verdicts["parts"], strict=True))

    def picture(self, name: str) -> np.ndarray:
        return np.asarray(Image.open(self.folder / name).convert("RGB"))

    def of(self, name: str, which: str | None = None) -> dict[str, Any]:
        """The judge's verdict on a file or on a part of it: kind, colour, count, background."""
        return self._seen[name] if which is None else self._seen_parts[name, which]


def scored(drawn: list[Case], edited: list[Case], sight: Sight) -> dict[str, Any]:
    """The shares of correct pictures, None without cases; and the things that were not recognised."""
    plain = [c for c in drawn if c["form"] in ("single", "counted")]
    single = [c for c in drawn if c["form"] == "single"]

    def share(found: Iterable[Case], name: str) -> float | None:
        return _share(sight.of(c["file"])[name] == c[name] for c in found)

    kinds = {}
    for kind in KINDS:
        right = [sight.of(c["file"])["kind"] == kind for c in single if c["kind"] == kind]
        kinds[kind] = f"{sum(right)} of {len(right)}"
    pairs = [c for c in drawn if c["form"] in SIDES]
    result: dict[str, Any] = {
        "object": share(plain, "kind"),
        "colour": share(plain, "colour"),
        "count": share([c for c in drawn if c["form"] == "counted"], "count"),
        "background": share(plain, "background"),
        "pairs, both things in their places": _share(_pair(c, sight, ("kind",)) for c in pairs),
        "pairs, both things in their colours and places": _share(_pair(c, sight, ("kind", "colour")) for c in pairs),
        "arrows between boxes": _share(
            rules.arrows_join(sight.picture(c["file"]), 2 + DIAGRAMS.index(c["kind"]))
            for c in single
            if c["kind"] in DIAGRAMS
        ),
    }
    for verb in dict.fromkeys(VERBS):
        result[f"edit: {verb}"] = _share(edit_took(c, sight) for c in edited if c["verb"] == verb)
    result["single things, of each kind"] = kinds
    wrong = [c for c in plain if sight.of(c["file"])["kind"] != c["kind"]]
    result["not recognised"] = [f"{c['file']} {c['prompt'][:60]}: {sight.of(c['file'])['kind']}" for c in wrong]
    result["edits that did not take"] = [
        f"{c['file']} of {c['of']}: {c['prompt']}" for c in edited if not edit_took(c, sight)
    ]
    return result


def _share(right: Iterable[bool]) -> float | None:
    found = list(right)
    return round(sum(found) / len(found), 3) if found else None


def _pair(case: Case, sight: Sight, names: tuple[str, ...]) -> bool:
    """`things`: (kind, colour) of the left or upper thing, then of the other."""
    for which, (kind, colour) in zip(SIDES[case["form"]], case["things"], strict=True):
        seen, wanted = sight.of(case["file"], which), {"kind": kind, "colour": colour}
        if any(seen[name] != wanted[name] for name in names):
            return False
    return True


def edit_took(case: Case, sight: Sight) -> bool:
    """Whether the edit succeeded, and the judge sees the same kind of thing as before."""
    name, verb = case["file"], case["verb"]
    before, after = sight.picture(case["of"]), sight.picture(name)
    kind = sight.of(case["of"])["kind"]
    if verb == "recolour":
        return sight.of(name)["colour"] == case["to"] and rules.same_shape(before, after)
    if verb == "background":
        return rules.background(after) == case["to"] and sight.of(name)["kind"] == kind
    if verb == "add":
        added = sight.of(name, "corner")
        there = (added["kind"], added["colour"]) == (case["added"], case["shade"])
        return there and sight.of(f"rest-{name}")["kind"] == kind
    if verb == "remove":
        gone = rules.is_empty(rules.square(rules.covered(after), *rules.CORNER))
        return gone and sight.of(f"rest-{name}")["kind"] == case["kind"]
    if verb == "remove of a pair":
        gone = rules.is_empty(rules.half(rules.covered(after), case["place"]))
        return gone and sight.of(name, OTHER[case["place"]])["kind"] == case["kind"]
    grew = rules.covered(after).sum() / max(1, rules.covered(before).sum())
    return (grew > GREW if verb == "bigger" else grew < 1 / GREW) and sight.of(name)["kind"] == kind

"""The cases of benchmarks/sketch.py: held-out captions and edits, with the expected results."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import captions
import parts
import scenes
from objects import BACKGROUNDS, COUNTABLE, DIAGRAMS, KINDS
from PIL import Image

HELD_OUT = 990_017
"""Seed of the captions. Training uses other seeds for its scenes."""
FORMS = "srspssrspssrsspsssrs"
"""Of 20 captions 13 are of single things, 4 of rows, 3 of pairs. So 300 captions have 5 of each of 39 kinds."""
VERBS = ("recolour", "background", "add", "remove", "remove of a pair", "bigger", "smaller", "recolour")
CIRCLES = tuple(noun for nouns in KINDS["circle"].nouns for noun in nouns)
"""Training also uses unknown words for a circle ("a robot"). A caption with such a word cannot be judged."""
BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
Case = dict[str, Any]


@dataclass
class HeldOut:
    """Draws captions that training with the default parts did not see."""

    rng: random.Random = field(default_factory=lambda: random.Random(HELD_OUT))
    seen: set[str] = field(default_factory=parts.seen)
    skipped: int = 0
    """The number of generated captions that were skipped because the training set has them."""

    def of(self, scene: Callable[[], scenes.Scene]) -> tuple[scenes.Scene, str]:
        while True:
            found = scene()
            text = captions.describe(self.rng, found).removesuffix(captions.DIRECTIVE)  # the service adds its own
            if parts.plain(text) in self.seen:
                self.skipped += 1
            elif found.items[0].kind != "circle" or any(noun in text.lower() for noun in CIRCLES):
                return found, text

    def single(self, kind: str) -> scenes.Scene:
        """A scene with one thing of this kind."""
        while (scene := scenes.single(self.rng)).items[0].kind != kind:
            pass
        return scene


def cases(n: int) -> tuple[list[Case], int]:
    """n captions with the expected content, single things rotating through the kinds; and the number skipped."""
    held_out, kinds = HeldOut(), list(KINDS)
    found: list[Case] = []
    singles = 0
    for i in range(n):
        form = FORMS[i % len(FORMS)]
        if form == "s":
            kind = kinds[singles % len(kinds)]
            singles += 1
            scene, text = held_out.of(lambda kind=kind: held_out.single(kind))
        else:
            scene, text = held_out.of(lambda form=form: (scenes.counted if form == "r" else scenes.pair)(held_out.rng))
        things = [(item.kind, item.colour) for item in scene.items]
        truth = {"kind": things[0][0], "colour": things[0][1], "count": len(things), "background": scene.background}
        found.append({"prompt": text, "form": scene.form, "seed": 1000 + i, "things": things} | truth)
    return found, held_out.skipped


def edits(drawn: list[Case], n: int, size: int) -> tuple[list[Case], list[Case]]:
    """The source pictures to draw first, and n edits that rotate through the verbs.

    Edits of colour and background start from single things of `drawn`; smaller from a thing drawn for it, bigger and
    add from a small one. Removals start from a picture of size by size pixels drawn by code, so that the thing to
    remove exists.
    """
    rng = random.Random(HELD_OUT + 1)
    single = [case for case in drawn if case["form"] == "single" and case["kind"] not in DIAGRAMS]
    bases: list[Case] = []
    found: list[Case] = []
    for i in range(n):
        verb = VERBS[i % len(VERBS)]
        case: Case = {"verb": verb, "seed": 2000 + i}
        if verb in ("recolour", "background"):
            base = single[i % len(single)]
            shades = BRIGHT if verb == "recolour" else tuple(BACKGROUNDS)
            to = rng.choice([c for c in shades if c != base["colour" if verb == "recolour" else "background"]])
            case |= {"of": base["file"], "to": to}
            case["prompt"] = f"make it {to}" if verb == "recolour" else f"make the background {to}"
        elif verb.startswith("remove"):
            case |= _removal(rng, verb, size)
        else:
            kind, colour = rng.choice(COUNTABLE), rng.choice(BRIGHT)
            small = "" if verb == "smaller" else "small "
            base = {"prompt": f"a {small}{colour} {KINDS[kind].nouns[0][0]}", "file": f"base-{i:03d}.png"}
            bases.append(base | {"seed": 3000 + i})
            case |= {"of": base["file"], "prompt": f"make it {verb}"}
            if verb == "add":
                other = rng.choice([k for k in COUNTABLE if k != kind])
                shade = rng.choice([c for c in BRIGHT if c != colour])
                case |= {"prompt": f"add a small {shade} {KINDS[other].nouns[0][0]}", "added": other, "shade": shade}
        found.append(case)
    return bases, found


def _removal(rng: random.Random, verb: str, size: int) -> Case:
    """Remove the small thing in the corner, or one of a pair. `place`: where it is, as in rules.HALVES."""
    while True:
        change = scenes.edit(rng)
        pair = change.before.form.startswith("pair")
        if change.verb == "remove" and pair == (verb == "remove of a pair"):
            break
    kept, extra = change.before.items
    place = "corner"
    if pair:
        sides = ("left", "right") if change.before.form == "pair" else ("upper", "lower")
        place = sides[extra.x - kept.x + extra.y - kept.y > 0]
    png = io.BytesIO()
    Image.fromarray(scenes.draw(change.before, size)).save(png, "PNG")
    return {
        "prompt": f"remove the {KINDS[extra.kind].nouns[0][0]}",
        "upload": png.getvalue(),
        "kind": kept.kind,
        "place": place,
    }

"""What people and agents call a scene: captions and edit instructions in varied words, the templates among them."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path

from objects import BACKGROUNDS, COLOURS, DIAGRAMS, KINDS, WRITTEN
from scenes import Edit, Item, Scene

PRESETS = Path(__file__).resolve().parent.parent / "imagegen" / "prompts" / "presets"
DIRECTIVE = (
    "\n\nAny text in the picture is made of real words, spelled correctly, in the language that this prompt uses "
    "or names and otherwise in English, and it makes sense in the scene. "
    "Where no text is asked for, add none: no words, letters or numbers."
)
"""What the service appends to every prompt (imagegen/prompts/guardrails.py): half of the captions carry it."""

OPENINGS = (
    "a clipart icon of ", "an icon of ", "a simple drawing of ", "a picture of ", "clip art of ", "a clipart of ",
    "a flat icon of ", "draw ", "please draw ", "an illustration of ", "a minimalist vector illustration of ",
    "simple clip-art: ", "generate an image of ", "a cute flat design of ", "I want a picture of ",
    "create a logo with ",
)  # fmt: skip
ENDINGS = (
    ", flat colours", ", clip art", ", simple clip-art style", " in flat vector style", ", thick outline",
    ", centered", ", minimal", " as an icon",
)  # fmt: skip
NUMBERS = {2: ("two", "2", "a pair of"), 3: ("three", "3"), 4: ("four", "4")}
ARROWS = (" joined by an arrow", " connected by an arrow", " with an arrow between them", " linked by an arrow")
ARROWS_3 = (" joined by arrows", " connected by arrows", " in a row, joined by arrows", " with arrows between them")
PAIRS = {
    "pair": (
        "{a} and {b}", "{a} and {b}", "{a} next to {b}", "{a} to the left of {b}", "{a} left of {b}",
        "!{b} to the right of {a}",
    ),
    "pair-above": ("{a} above {b}", "{a} on top of {b}", "{a} over {b}", "!{b} below {a}", "!{b} under {a}"),
}  # fmt: skip
"""A phrase with "!" names the second thing first."""
SHADES = {
    "gray": ("gray", "grey"),
    "light blue": ("light blue", "pale blue"),
    "light yellow": ("light yellow", "pale yellow"),
    "light green": ("light green", "pale green"),
}
UNKNOWN = ("thing", "object", "zebra", "robot", "castle", "guitar", "elephant", "laptop", "banana", "something")
"""Words that the model does not hear: what it does not know it draws as a circle, in the colour that it does know."""


def article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _colour(rng: random.Random, name: str) -> str:
    return rng.choice(SHADES.get(name, (name,)))


def _named(rng: random.Random, item: Item, scene: Scene) -> str:
    """ "a red circle": the thing with its article; its colour is left out now and then where it is the usual one."""
    kind = KINDS[item.kind]
    noun = rng.choice(kind.nouns)[0]
    if item.kind == "circle" and scene.form == "single" and rng.random() < 0.3:
        noun = rng.choice(UNKNOWN)
    if item.kind in DIAGRAMS:
        count, thing = noun.split()
        arrows = ARROWS if item.kind == "boxes" else ARROWS_3
        bare = item.colour == kind.colour and rng.random() < 0.4
        return f"{count} {thing if bare else _colour(rng, item.colour) + ' ' + thing}{rng.choice(arrows)}"
    words = [noun]
    if not (item.colour == kind.colour and scene.form == "single" and rng.random() < 0.5):
        words.insert(0, _colour(rng, item.colour))
    if scene.form == "single" and item.r < 0.22:
        words.insert(0, rng.choice(["small", "tiny", "little"]))
    elif scene.form == "single" and item.r > 0.44:
        words.insert(0, rng.choice(["big", "large", "huge"]))
    phrase = article(" ".join(words))
    if item.kind in WRITTEN:
        mark = rng.choice(['"{}"', "'{}'", "{}", '"{}"'])
        says = rng.choice([" that says ", " saying ", " with the word ", " reading ", " with the text "])
        phrase += says + mark.format(rng.choice([item.text, item.text, item.text.capitalize()]))
    return phrase


def _things(rng: random.Random, scene: Scene) -> str:
    if scene.form == "counted":
        item = scene.items[0]
        plural = rng.choice(KINDS[item.kind].nouns)[1]
        return f"{rng.choice(NUMBERS[len(scene.items)])} {_colour(rng, item.colour)} {plural}"
    if scene.form in PAIRS:
        a, b = (article(f"{_colour(rng, i.colour)} {rng.choice(KINDS[i.kind].nouns)[0]}") for i in scene.items)
        return rng.choice(PAIRS[scene.form]).lstrip("!").format(a=a, b=b)
    return _named(rng, scene.items[0], scene)


def _template(rng: random.Random, things: str, scene: Scene) -> str:
    preset = tomllib.loads((PRESETS / "flat_clipart_icon.toml").read_text())["prompt"]
    colours = f"{_colour(rng, scene.items[0].colour)}" if rng.random() < 0.5 else "three harmonious colours"
    return preset.format(subject=things, colors=colours, background=_colour(rng, scene.background))


def _dress(rng: random.Random, text: str) -> str:
    if rng.random() < 0.3:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.2:
        text += "."
    return text + (DIRECTIVE if rng.random() < 0.5 else "")


def describe(rng: random.Random, scene: Scene) -> str:
    """A caption of the scene. An unnamed background is white."""
    things = _things(rng, scene)
    if scene.form == "single" and rng.random() < 0.1:
        return _dress(rng, _template(rng, things, scene))
    text = (rng.choice(OPENINGS) if rng.random() < 0.55 else "") + things
    if rng.random() < 0.1 and text.startswith(("a ", "an ")):
        text = text.split(" ", 1)[1]
    if scene.background != "white" or rng.random() < 0.25:
        shade = _colour(rng, scene.background)
        text += rng.choice(
            [f" on {article(shade)} background", f", {shade} background", f" on {shade} background", f" on {shade}"]
        )
    if rng.random() < 0.25:
        text += rng.choice(ENDINGS)
    return _dress(rng, text)


def instruct(rng: random.Random, change: Edit) -> str:
    """The edit, as one would ask for it."""
    before, after = change.before.items[0], change.after.items[0]
    thing = "it" if rng.random() < 0.35 else "the " + rng.choice(KINDS[before.kind].nouns)[0]
    if before.kind in DIAGRAMS:
        thing = rng.choice(["it", "the boxes", "them"])
    elif change.before.form == "counted":
        thing = rng.choice(["them", "the " + rng.choice(KINDS[before.kind].nouns)[1]])
    if change.verb == "recolour":
        colour = _colour(rng, after.colour)
        text = rng.choice(
            [f"make {thing} {colour}", f"make {thing} {colour}", f"change the color to {colour}",
             f"turn {thing} {colour}", f"recolor {thing} to {colour}", f"paint {thing} {colour}",
             f"change the colour of {thing} to {colour}"]
        )  # fmt: skip
    elif change.verb == "background":
        shade = _colour(rng, change.after.background)
        text = rng.choice(
            [f"make the background {shade}", f"change the background to {shade}", f"on {article(shade)} background",
             f"put it on {article(shade)} background", f"use {article(shade)} background", f"{shade} background"]
        )  # fmt: skip
    elif change.verb in ("add", "remove"):
        extra = (change.after if change.verb == "add" else change.before).items[1]
        noun = rng.choice(KINDS[extra.kind].nouns)[0]
        coloured = f"{_colour(rng, extra.colour)} {noun}"
        text = (
            rng.choice(
                [f"add {article(coloured)}", f"put {article(coloured)} in the corner", f"add a small {coloured}"]
            )
            if change.verb == "add"
            else rng.choice(
                [f"remove the {noun}", f"remove the {coloured}", f"delete the {noun}", f"take away the {noun}"]
            )
        )
    else:
        text = rng.choice(
            [f"make {thing} {change.verb}", f"make {thing} {'larger' if change.verb == 'bigger' else 'smaller'}"]
        )
    return _dress(rng, text)


SAYINGS = """
grey pale background two three four pair 2 3 4 small tiny little big large huge left right above below under over top
next joined connected linked arrows arrow boxes between says saying word reading make change turn recolor paint add
remove delete away put corner bigger larger smaller color colour
"""
CONTENT = sorted(
    {word for kind in KINDS.values() for pair in kind.nouns for noun in pair for word in noun.split() if word != "of"}
    | {word for name in (*COLOURS, *BACKGROUNDS) for word in name.split()}
    | set(SAYINGS.split())
)
"""The words that carry meaning. The transformer hears only these and WORDS as they are written on a sign: to it all
others are as silent as padding. "of", "no" and "text" are not among them: the directive is full of such."""

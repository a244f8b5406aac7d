"""The engine's PNG becomes ours: whole or refused, labelled, and not a pixel changed."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from imagegen.images.png import (
    AI_COMMENT,
    AI_SOURCE_TYPE,
    BrokenPng,
    finish_png,
    printable,
    size_of,
    with_text_of,
    xmp_packet,
)

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
XMP = "{http://ns.adobe.com/xap/1.0/}"


def noise(width: int = 24, height: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8))


def engine_png(image: Image.Image | None = None) -> bytes:
    """As sd-server writes it: with a text of its own that holds the prompt."""
    info = PngInfo()
    info.add_text("parameters", "a secret prompt\nSteps: 4, Seed: 1")
    info.add_itxt("workflow", "sécret too", zip=True)
    info.add_text("packed", "secret again", zip=True)
    file = io.BytesIO()
    (image or noise()).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png), formats=["PNG"])
    image.load()
    return image


def description(xmp: str | bytes) -> ElementTree.Element:
    """The one rdf:Description of an XMP packet, parsed as XML."""
    text = xmp.decode() if isinstance(xmp, bytes) else xmp
    found = ElementTree.fromstring(text).find(f".//{RDF}Description")
    assert found is not None
    return found


def test_the_pixels_stay_and_the_text_is_ours():
    metadata = {"Software": "imagegen 0.1.0", "model": "qwen-image", "seed": "42", "prompt": "a cat"}
    finished = finish_png(engine_png(), metadata)
    image = opened(finished.data)
    assert np.array_equal(np.asarray(image), np.asarray(noise()))
    assert (finished.width, finished.height) == (24, 16) == size_of(finished.data)
    assert finished.sha256 == hashlib.sha256(finished.data).hexdigest()
    texts = dict(image.text)
    xmp = description(texts.pop("XML:com.adobe.xmp"))
    assert texts == {**metadata, "Comment": AI_COMMENT}
    assert xmp.attrib[f"{IPTC}DigitalSourceType"] == AI_SOURCE_TYPE
    assert xmp.attrib[f"{IPTC}AISystemUsed"] == "qwen-image"
    assert xmp.attrib[f"{XMP}CreatorTool"] == "imagegen 0.1.0"
    assert b"secret" not in finished.data


def test_the_compressed_pixels_are_the_engines_own_bytes():
    """No re-encoding: everything from the first IDAT on is what the engine sent."""
    png = engine_png()
    assert finish_png(png, {"seed": "1"}).data.endswith(png[png.index(b"IDAT") - 4 :])


def test_without_metadata_the_file_says_nothing():
    finished = finish_png(engine_png(), None)
    assert opened(finished.data).text == {}
    assert b"secret" not in finished.data
    assert b"AI-generated" not in finished.data


def test_with_empty_metadata_it_still_says_that_it_is_generated():
    texts = opened(finish_png(engine_png(), {}).data).text
    assert set(texts) == {"Comment", "XML:com.adobe.xmp"}
    assert set(description(texts["XML:com.adobe.xmp"]).attrib) == {
        f"{RDF}about",
        f"{IPTC}DigitalSourceType",
    }


def test_the_text_comes_before_the_pixels_so_that_a_reader_need_not_decode():
    finished = finish_png(engine_png(), {"prompt": "a cat"}).data
    with Image.open(io.BytesIO(finished)) as image:  # only the header is read
        assert image.info["prompt"] == "a cat"
        assert AI_SOURCE_TYPE.encode() in image.info["xmp"]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("ein Bär, schräg", "ein Bär, schräg"),
        ("猫が三匹 🐈", "猫が三匹 🐈"),
        ("שלום\u200f עולם", "שלום\u200f עולם"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("dos\r\nand mac\rends", "dos\nand mac\nends"),
        ("nul\0 bell\x07 escape\x1b[31m del\x7f c1\x9b", "nul\ufffd bell\ufffd escape\ufffd[31m del\ufffd c1\ufffd"),
        ("lone \ud800 surrogate", "lone \ufffd surrogate"),
        ("<x:xmpmeta> & \"quotes\" 'too' ]]>", "<x:xmpmeta> & \"quotes\" 'too' ]]>"),
        ("", ""),
        ("x" * 12_000, "x" * 12_000),
        ("猫" * 12_000, "猫" * 12_000),
    ],
)
def test_any_prompt_can_be_said_and_read_back(text, read):
    finished = finish_png(engine_png(), {"prompt": text, "model": text, "Software": text})
    texts = opened(finished.data).text
    assert texts["prompt"] == read
    xmp = description(texts["XML:com.adobe.xmp"])
    if text:  # XML turns newlines and tabs in attributes into spaces
        assert xmp.attrib[f"{IPTC}AISystemUsed"] == read.replace("\n", " ").replace("\t", " ")


@given(st.text(st.characters(), max_size=40), st.text(st.characters(), max_size=40))
def test_xmp_is_well_formed_whatever_the_names(software, model):
    found = description(xmp_packet(software, model))
    assert found.attrib[f"{IPTC}DigitalSourceType"] == AI_SOURCE_TYPE
    assert found.attrib.get(f"{XMP}CreatorTool", "") == printable(software).replace("\n", " ").replace("\t", " ")


@settings(deadline=None)
@given(st.text(st.characters(), max_size=60))
def test_printable_text_survives_a_round_trip(text):
    clean = printable(text)
    assert printable(clean) == clean
    assert opened(finish_png(engine_png(), {"prompt": text}).data).text["prompt"] == clean


@pytest.mark.parametrize("keyword", ["", " lead", "trail ", "two  spaces", "x" * 80, "naïve\0", "猫", "Comment"])
def test_an_impossible_keyword_is_a_mistake_of_the_caller(keyword):
    with pytest.raises(ValueError, match="keyword"):
        finish_png(engine_png(), {keyword: "x"})


# ---- files that are not whole -----------------------------------------------------------------------------


def test_a_png_cut_anywhere_is_refused():
    png = engine_png(noise(6, 4))
    for length in range(len(png)):
        with pytest.raises(BrokenPng):
            finish_png(png[:length], {})


def test_a_png_with_any_byte_changed_is_refused():
    png = engine_png(noise(6, 4))
    for at in range(len(png)):
        with pytest.raises(BrokenPng):
            finish_png(png[:at] + bytes([png[at] ^ 0x10]) + png[at + 1 :], {})


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def header(depth: int = 8, colour_type: int = 2, interlaced: int = 0, width: int = 4) -> bytes:
    """The beginning of a PNG, 4 pixels high."""
    ihdr = struct.pack(">IIBBBBB", width, 4, depth, colour_type, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr)


HEADER = header()
ROWS = chunk(b"IDAT", zlib.compress(bytes(13 * 4)))
END = chunk(b"IEND", b"")


def test_the_parts_of_the_broken_files_below_make_a_whole_one():
    assert finish_png(HEADER + ROWS + END, None).data == HEADER + ROWS + END


@pytest.mark.parametrize(
    ("what", "png"),
    [
        ("no pixels", HEADER + END),
        ("pixels that are not compressed", HEADER + chunk(b"IDAT", b"not zlib") + END),
        ("too few rows", HEADER + chunk(b"IDAT", zlib.compress(bytes(13 * 3))) + END),
        ("too many rows", HEADER + chunk(b"IDAT", zlib.compress(bytes(13 * 5))) + END),
        ("a bomb", HEADER + chunk(b"IDAT", zlib.compress(bytes(10_000_000))) + END),
        ("no checksum of its pixels", HEADER + chunk(b"IDAT", zlib.compress(bytes(13 * 4))[:-4]) + END),
        ("an unknown row filter", HEADER + chunk(b"IDAT", zlib.compress(b"\5" + bytes(51))) + END),
        ("a palette", header(8, 3) + chunk(b"IDAT", zlib.compress(bytes(5 * 4))) + END),
        ("one bit a pixel", header(1, 0) + chunk(b"IDAT", zlib.compress(bytes(2 * 4))) + END),
        ("interlaced", header(8, 2, 1) + chunk(b"IDAT", zlib.compress(bytes(13 * 4))) + END),
        ("no width", header(width=0) + chunk(b"IDAT", zlib.compress(bytes(4))) + END),
        ("a text of a header's length", HEADER[:8] + chunk(b"tEXt", b"thirteen\0text") + HEADER[8:] + ROWS + END),
        ("a header that is not first", HEADER[:8] + chunk(b"tEXt", b"a\0b") + HEADER[8:] + END),
        ("a header of the wrong length", HEADER[:8] + chunk(b"IHDR", bytes(14)) + END),
        ("no size", HEADER[:8] + chunk(b"IHDR", bytes(13)) + chunk(b"IDAT", zlib.compress(b"")) + END),
        ("a JPEG", b"\xff\xd8\xff\xe0" + bytes(100)),
        ("nothing", b""),
        ("JSON", b'{"error": "out of memory"}'),
    ],
)
def test_a_png_that_is_none_is_refused_with_a_sentence(what, png):
    with pytest.raises(BrokenPng, match=r"^The .*\.$"):
        finish_png(png, {})


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "I;16"])
def test_every_plain_kind_of_png_is_taken(mode):
    image = Image.new(mode, (5, 3), 99)
    finished = finish_png(engine_png(image), {})
    assert opened(finished.data).mode == mode
    assert (finished.width, finished.height) == (5, 3)


def test_what_follows_the_end_is_dropped():
    finished = finish_png(engine_png() + b"<?php secret ?>", None)
    assert finished.data == finish_png(engine_png(), None).data


def test_unknown_chunks_are_dropped_and_those_that_change_colours_stay():
    png = HEADER + chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"prVt", b"secret")
    png += chunk(b"IDAT", zlib.compress(bytes(13 * 4))) + END
    finished = finish_png(png, None).data
    assert b"gAMA" in finished
    assert b"secret" not in finished


def test_text_is_carried_from_one_file_to_another():
    source = finish_png(engine_png(), {"prompt": "猫", "model": "m"}).data
    target = finish_png(engine_png(noise(3, 3)), None).data
    carried = with_text_of(source, target)
    assert opened(carried).text == opened(source).text
    assert np.array_equal(np.asarray(opened(carried)), np.asarray(noise(3, 3)))


@pytest.mark.parametrize("png", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff" + bytes(50)])
def test_the_size_of_no_png_is_an_error(png):
    with pytest.raises(BrokenPng):
        size_of(png)

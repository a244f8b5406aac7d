"""Local references: only picture files leave the machine, and no path can make the front wait."""

import asyncio
import os
import threading

import pytest
from PIL import Image

from mcp_front import references
from mcp_front.paths import BadReference
from mcp_front.references import image_id

SERVICE = "http://127.0.0.1:8765"
ID = "0123456789abcdef0123456789abcdef"


def load(path) -> bytes:
    async def read() -> bytes:
        return await references.load(await references.locate(str(path)))

    return asyncio.run(read())


def refusal(path) -> str:
    with pytest.raises(BadReference) as refused:
        load(path)
    return str(refused.value)


def picture(path, size=(40, 30), mode="RGB", **how):
    Image.effect_noise(size, 60).convert(mode).save(path, **how)
    return path


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "ICO", "JPEG2000", "AVIF"])
def test_a_picture_file_is_sent_as_it_is(tmp_path, kind):
    path = picture(tmp_path / "picture.bin", format=kind)
    assert load(path) == path.read_bytes()


def test_a_text_file_is_not_a_picture_whatever_it_is_called(tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("my password")
    said = refusal(path)
    assert "is not a picture" in said and "nothing of it was sent" in said and "password" not in said
    assert "is not a picture" in refusal("/etc/passwd")


def test_postscript_never_starts_a_program(tmp_path):
    path = tmp_path / "vector.png"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EOF\n")
    assert "is not a picture" in refusal(path)


@pytest.mark.parametrize(
    "content",
    [b"BM is how this text begins, and it goes on", b"RIFF....WAVE", b"\0\0\0\x18ftypmp42", b"%PDF-1.7", b"\0\0\1\0"],
)
def test_what_begins_nearly_as_a_picture_is_not_sent(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert "is not a picture" in refusal(path)


def test_a_huge_file_is_refused_by_its_size(tmp_path):
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(5 * 2**30)  # sparse: takes no space
    assert "5120 MiB" in refusal(path)


def test_what_is_not_a_file_is_refused_at_once(tmp_path):
    assert "is a folder" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    assert "not an ordinary file" in refusal(tmp_path / "pipe.png")
    assert "not an ordinary file" in refusal("/dev/zero")
    (tmp_path / "empty.png").touch()
    assert "is empty" in refusal(tmp_path / "empty.png")
    assert "is empty" in refusal("/proc/self/environ")


def test_a_symlink_loop_is_named(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    assert "leads back to itself" in refusal(tmp_path / "a.png")


def test_a_file_that_becomes_a_pipe_after_the_look_does_not_block(tmp_path, monkeypatch):
    path = picture(tmp_path / "swap.png")
    look = references._refuse_unless_regular

    def swap(where, found):
        look(where, found)
        monkeypatch.setattr(references, "_refuse_unless_regular", look)
        path.unlink()
        os.mkfifo(path)

    monkeypatch.setattr(references, "_refuse_unless_regular", swap)
    answer: list[str] = []
    asking = threading.Thread(target=lambda: answer.append(refusal(path)), daemon=True)
    asking.start()
    asking.join(timeout=10)
    assert answer and "not an ordinary file" in answer[0]


def test_what_is_missing_or_forbidden_is_said(tmp_path):
    assert "There is no file" in refusal(tmp_path / "none.png")
    assert "There is no file" in refusal(picture(tmp_path / "a.png") / "below")
    assert "NUL" in refusal("a\0b.png")
    assert "NUL" in refusal("file:///a%00b.png")
    assert "characters" in refusal("a\ud800b.png")
    assert "unknown user" in refusal("~nobody-has-this-name/a.png")
    assert "another machine" in refusal("file://elsewhere/a.png")
    assert "not an address" in refusal("file://[a.png")


@pytest.mark.parametrize("address", ["https://example.org/cat.png", "http://127.0.0.1:9/images/x.png", "smb://h/x"])
def test_other_addresses_are_not_fetched(address):
    assert image_id(address, SERVICE) is None
    assert "not fetched" in refusal(address)


def test_a_data_url_is_refused_in_words():
    assert "data URL" in refusal("data:image/png;base64,AAAA")


def test_a_file_url_is_a_path(tmp_path):
    path = picture(tmp_path / "with space.png")
    assert load(path.as_uri()) == load(path)


def test_a_file_url_is_decoded_once(tmp_path):
    other = picture(tmp_path / "a b.png", size=(4, 4))
    wanted = picture(tmp_path / "a%20b.png", size=(5, 5))
    assert load(wanted.as_uri()) == wanted.read_bytes() != other.read_bytes()
    assert "%2520" in wanted.as_uri()
    assert load(other.as_uri()) == other.read_bytes()


def test_a_quoted_file_url_and_another_spelling_are_found(tmp_path):
    """What a spelling may differ in is tested in tests/unit/client/test_spelling.py, for the command line too."""
    wanted = picture(tmp_path / "a\u202fb.png", size=(5, 5))
    picture(tmp_path / "other.png", size=(6, 6))
    assert load(tmp_path / "a b.png") == load(f"'file://{tmp_path}/a%20b.png'") == wanted.read_bytes()


def test_a_name_that_exists_is_taken_as_it_is(tmp_path):
    names = ["a b.png", "a\u202fb.png", "a\\ b.png", "'a b.png'"]
    for side, name in enumerate(names, start=3):
        picture(tmp_path / name, size=(side, side), format="PNG")
    for name in names:
        assert load(tmp_path / name) == (tmp_path / name).read_bytes()


def test_what_is_found_by_another_spelling_must_be_a_file_too(tmp_path):
    os.mkfifo(tmp_path / "a\u202fb.png")
    assert "not an ordinary file" in refusal(tmp_path / "a b.png")


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        (ID, ID),
        (f"image://{ID}/full.png", ID),
        (f"{SERVICE}/images/{ID}.png", ID),
        (f"{SERVICE}/images/{ID}.jpg", ID),
        (f"http://elsewhere/images/{ID}.png", None),
        (f"/home/somebody/images/{ID}.png", None),
        ("cat.png", None),
        ("../x", None),
    ],
)
def test_an_id_is_told_from_a_path(reference, found):
    assert image_id(reference, SERVICE) == found

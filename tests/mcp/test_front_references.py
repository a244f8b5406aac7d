"""Local references: only decoded pixels leave the machine, and no path can make the front wait."""

import asyncio
import io
import os
import threading

import pytest
from PIL import Image, PngImagePlugin

from mcp_front import references
from mcp_front.references import BadReference, image_id, load_png

SERVICE = "http://127.0.0.1:8765"
ID = "0123456789abcdef0123456789abcdef"


def load(path) -> bytes:
    return asyncio.run(load_png(str(path)))


def refusal(path) -> str:
    with pytest.raises(BadReference) as refused:
        load(path)
    return str(refused.value)


def picture(path, size=(40, 30), mode="RGB", **how):
    Image.effect_noise(size, 60).convert(mode).save(path, **how)
    return path


@pytest.mark.parametrize("kind", references.FORMATS)
def test_every_format_arrives_as_a_png_of_the_same_pixels(tmp_path, kind):
    path = picture(tmp_path / "picture.bin", format=kind)
    sent = Image.open(io.BytesIO(load(path)))
    assert sent.format == "PNG" and sent.size == (40, 30)
    with Image.open(path) as original:
        assert sent.tobytes() == original.convert(sent.mode).tobytes()


def test_alpha_is_kept(tmp_path):
    path = picture(tmp_path / "a.png", mode="RGBA")
    assert Image.open(io.BytesIO(load(path))).mode == "RGBA"


def test_nothing_but_pixels_is_sent(tmp_path):
    path = tmp_path / "secretive.png"
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "hidden-in-metadata")
    picture(path, pnginfo=notes)
    path.write_bytes(path.read_bytes() + b"hidden-behind-the-picture")
    sent = load(path)
    assert b"hidden" not in sent


def test_the_camera_s_rotation_is_applied_and_its_notes_are_dropped(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    exif[0x010E] = "hidden-description"
    path = tmp_path / "photo.jpg"
    picture(path, size=(40, 20), exif=exif)
    sent = load(path)
    assert Image.open(io.BytesIO(sent)).size == (20, 40)
    assert b"hidden" not in sent


def test_a_large_picture_is_reduced(tmp_path):
    path = picture(tmp_path / "wide.png", size=(4200, 100))
    assert Image.open(io.BytesIO(load(path))).size == (2048, 49)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    assert "40 million" in refusal(path)


def test_a_picture_with_a_side_that_the_service_refuses_is_refused(tmp_path):
    path = picture(tmp_path / "line.png", size=(16_384, 1))
    assert "has a side of 16384 pixels; at most 16383 are taken." in refusal(path)
    assert load(picture(tmp_path / "shorter.png", size=(16_383, 1)))


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


def test_half_a_picture_is_refused(tmp_path):
    path = picture(tmp_path / "half.png", size=(200, 200))
    path.write_bytes(path.read_bytes()[:5000])
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


@pytest.mark.parametrize("address", ["https://example.org/cat.png", "http://127.0.0.1:9/images/x.png", "smb://h/x"])
def test_other_addresses_are_not_fetched(address):
    assert image_id(address, SERVICE) is None
    assert "not fetched" in refusal(address)


def test_a_data_url_is_refused_in_words():
    assert "data URL" in refusal("data:image/png;base64,AAAA")


def test_a_file_url_is_a_path(tmp_path):
    path = picture(tmp_path / "with space.png")
    assert load(path.as_uri()) == load(path)


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

"""Pictures of the client: what is sent for one, and what is written."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from imagegen_client import BadImage, ImageInfo, JobState, Picture
from imagegen_client.pictures import ImageLike, reference

ID = "0123456789abcdef" * 2


def png(mode: str = "RGB", colour: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new(mode, (4, 3), colour).save(out, "PNG")
    return out.getvalue()


def picture(data: bytes | None = None, seed: int | None = 7) -> Picture:
    info = ImageInfo(ID, 4, 3, 1, "c" * 64, seed, f"http://127.0.0.1:8765/images/{ID}.png")
    return Picture(info, JobState("a" * 32, "complete", params={"seed": 6, "steps": 2}), data=data)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (ID, ID),
        (picture(), ID),
        (picture().info, ID),
        (f"http://127.0.0.1:8765/images/{ID}.png", ID),
        (f"https://gpu.lan/prefix/images/{ID}.webp?w=64", ID),
        (b"any bytes", b"any bytes"),
        (bytearray(b"any bytes"), b"any bytes"),
        ("a.png", b"of a.png"),
        (Path("a.png"), b"of a.png"),
        ("'a.png'", b"of a.png"),
    ],
)
def test_what_is_sent_for_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: ImageLike, sent: str | bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(b"of a.png")
    assert reference(given) == sent


def test_a_pillow_image_is_sent_as_it_is() -> None:
    image = Image.new("RGBA", (4, 3), (1, 2, 3, 4))
    sent = reference(image)
    assert isinstance(sent, bytes)
    assert Image.open(io.BytesIO(sent)).convert("RGBA").tobytes() == bytes((1, 2, 3, 4)) * 12


@pytest.mark.parametrize("given", ["missing.png", "https://example.org/cat.png", ".", "a\0b", 7, None])
def test_what_is_no_picture_is_a_sentence(given: ImageLike) -> None:
    with pytest.raises(BadImage) as wrong:
        reference(given)
    assert str(wrong.value).endswith(".")


@pytest.mark.parametrize(
    ("name", "kind"), [("a.png", "PNG"), ("b.jpg", "JPEG"), ("c.JPEG", "JPEG"), ("d.webp", "WEBP"), ("new/e", "PNG")]
)
def test_the_suffix_says_the_format(tmp_path: Path, name: str, kind: str) -> None:
    data = png("RGBA", "#ff000080")
    written = picture(data).save(tmp_path / name)
    assert Image.open(written).format == kind
    assert [file.name for file in written.parent.iterdir()] == [written.name], "and no other file"
    if kind == "PNG":
        assert written.read_bytes() == data


def test_a_transparent_picture_is_white_behind_in_a_jpeg(tmp_path: Path) -> None:
    written = picture(png("RGBA", "#00000000")).save(tmp_path / "a.jpg")
    assert min(Image.open(written).convert("RGB").tobytes()) > 250


def test_another_suffix_is_refused_and_no_folder_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'a\.tiff'"):
        picture(png()).save(tmp_path / "new" / "a.tiff")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_no_half_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OSError):
        picture(png()).save(tmp_path / "a.png")
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_a_file_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    (tmp_path / "a.png").chmod(0o640)
    written = picture(png()).save(tmp_path / "a.png")
    assert (written.read_bytes(), written.stat().st_mode & 0o777) == (png(), 0o640)


def test_a_picture_says_its_own_seed_and_its_jobs_parameters() -> None:
    drawn = picture(png(), seed=7)
    assert drawn.params == {"seed": 7, "steps": 2}
    assert drawn._repr_png_() == drawn.bytes == png()
    assert drawn.pil.size == drawn.size == (4, 3)


def test_bytes_that_were_not_read_are_not_guessed() -> None:
    with pytest.raises(RuntimeError, match=r"await client\.read"):
        _ = picture().bytes

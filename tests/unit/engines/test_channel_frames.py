"""The service's reader of the channel: frames in bytes, messages out. Its layout is docs/engine.md's, The channel."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegen.engines.base import Preview, PreviewMode, PreviewPlan
from imagegen.engines.sdcpp.channel import (
    MAX_PAYLOAD_BYTES,
    ChannelError,
    Decoder,
    EnginePhase,
    Hello,
    Loaded,
    Message,
    Outcome,
    PhaseBegun,
    PictureEnded,
    PreviewMade,
    StepDone,
    TileDone,
    announcement,
    stop_order,
)


def frame(kind: int, payload: bytes) -> bytes:
    return struct.pack("<IB", len(payload), kind) + payload


RGB = bytes(range(18))
EXAMPLES: list[tuple[bytes, Message | None]] = [
    (frame(1, b"\x01\x00"), Hello(1)),
    (frame(2, b"\x07\0\0\0\x02"), PhaseBegun(7, EnginePhase.SAMPLING)),
    (frame(2, b"\x07\0\0\0\x63"), None),  # a phase of a later version
    (frame(3, struct.pack("<IIIf", 7, 2, 4, 0.5)), StepDone(7, 2, 4, 0.5)),
    (frame(4, struct.pack("<IIQf", 1, 3, 2**40, 1.5)), Loaded(1, 3, 2**40, 1.5)),
    (frame(4, struct.pack("<IIQf", 1, 3, 9, 1.5) + b"more"), Loaded(1, 3, 9, 1.5)),  # fields of a later version
    (frame(5, struct.pack("<IIIf", 7, 2, 4, 0.5)), TileDone(7, 2, 4, 0.5)),
    (frame(6, struct.pack("<IIII", 7, 1, 2, 3) + RGB), PreviewMade(7, Preview(1, 2, 3, RGB))),
    (frame(7, b"\x07\0\0\0\x02"), PictureEnded(7, Outcome.STOPPED)),
    (frame(7, b"\x07\0\0\0\x63"), None),
    (frame(99, b"something new"), None),
]


@pytest.mark.parametrize(("data", "message"), EXAMPLES)
def test_each_frame_is_read(data: bytes, message: Message | None) -> None:
    assert Decoder().feed(data) == ([] if message is None else [message])


@given(st.lists(st.sampled_from(EXAMPLES), max_size=8), st.lists(st.integers(1, 60), min_size=1))
def test_frames_are_read_however_they_are_cut(examples: list[tuple[bytes, Message | None]], cuts: list[int]) -> None:
    data = b"".join(one for one, _ in examples)
    decoder, messages = Decoder(), []
    for number in range(len(data)):
        part, data = data[: cuts[number % len(cuts)]], data[cuts[number % len(cuts)] :]
        messages += decoder.feed(part)
    assert messages == [message for _, message in examples if message is not None]
    assert decoder._rest == b""


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<IB", MAX_PAYLOAD_BYTES + 1, 6),
        b"\xff" * 5,
        frame(3, b"short"),
        frame(6, struct.pack("<IIII", 7, 1, 2, 3) + RGB[:-1]),
        frame(6, struct.pack("<IIII", 7, 1, 0, 3)),
        frame(6, struct.pack("<IIII", 7, 1, 513, 1) + bytes(3 * 513)),
    ],
    ids=["too long", "no frame", "too short", "half a preview", "no pixels", "too wide"],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(ChannelError):
        Decoder().feed(data)


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused_and_little_is_kept(data: bytes) -> None:
    decoder = Decoder()
    try:
        decoder.feed(data)
    except ChannelError:
        return
    assert len(decoder._rest) <= len(data)


@pytest.mark.parametrize(
    ("sent", "payload"),
    [
        (announcement(7, None), struct.pack("<IBI", 7, 0, 0)),
        (announcement(7, PreviewPlan(PreviewMode.PROJECTION)), struct.pack("<IBI", 7, 1, 1)),
        (announcement(7, PreviewPlan(PreviewMode.TAE, 3)), struct.pack("<IBI", 7, 2, 3)),
        (announcement(2**32 - 1, PreviewPlan(PreviewMode.VAE, 5)), struct.pack("<IBI", 2**32 - 1, 3, 5)),
    ],
)
def test_an_announcement_names_picture_mode_and_interval(sent: bytes, payload: bytes) -> None:
    assert sent == frame(1, payload)


def test_a_stop_names_its_picture() -> None:
    assert stop_order(7) == frame(2, struct.pack("<I", 7))

"""The parser of the engine's output, on bytes that the real engine printed and on arbitrary bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegen.engines.base import DrawProgress
from imagegen.engines.sdcpp import log as sdcpp_log
from imagegen.engines.sdcpp.log import MAX_LINE_BYTES, LineSplitter, LoadTracker, parse
from imagegen.engines.tracking import Bar, DrawTracker, Mark
from imagegen.schemas import Phase

FULL = "|" + "=" * 50 + "|"
LOADING = (
    b"[INFO ] model.cpp:216  - load models/tiny/dit.gguf using gguf format\n"
    b"\r  |======>                                           | 25/196 - 9.62MB/s\x1b[K\n"
    b"\r  |======>                                           | 25/196 - 9.58MB/s\x1b[K"
    b"\r  |=========>                                        | 38/196 - 1.50GB/s\x1b[K\n"
    b"\r  |==================================================| 196/196 - 22.64MB/s\x1b[K\n"
    b"[INFO ] model.cpp:993  - loading tensors completed, taking 0.60s (process: 0.00s, read: 0.01s)\n"
    b"[INFO ] main.cpp:148  - listening on: 127.0.0.1:19321\n"
)
DRAWING = (
    b"[INFO ] stable-diffusion.cpp:3367 - generate_image 64x64\n"
    b"[INFO ] denoiser.hpp:499  - get_sigmas with discrete scheduler\n"
    b"[INFO ] stable-diffusion.cpp:2814 - sampling using Euler method\n"
    b"\r  |==================================================| 1/1 - 4.10it/s\x1b[K\n"  # a reference, encoded
    b"[INFO ] stable-diffusion.cpp:3168 - get_learned_condition completed, taking 0.35s\n"
    b"[INFO ] stable-diffusion.cpp:3401 - generating image: 1/1 - seed 1\n"
    b"\r  |================>                                 | 1/3 - 25.29it/s\x1b[K"
    b"\r  |=================================>                | 2/3 - 1.25s/it\x1b[K"
    b"\r  |==================================================| 3/3 - 26.08it/s\x1b[K\n"
    b"[INFO ] stable-diffusion.cpp:3432 - sampling completed, taking 0.12s\n"
    b"[INFO ] stable-diffusion.cpp:3450 - generating 1 latent images completed, taking 0.12s\n"
    b"[INFO ] stable-diffusion.cpp:3192 - decoding 1 latents\n"
    b"\r  |============>                                     | 1/4 - 3.88it/s\x1b[K"
    b"\r  |==================================================| 4/4 - 3.88it/s\x1b[K\n"
    b"[INFO ] stable-diffusion.cpp:3212 - decode_first_stage completed, taking 0.26s\n"
    b"[INFO ] stable-diffusion.cpp:3591 - generate_image completed in 0.72s\n"
)


def events(data: bytes) -> list[Bar | Mark]:
    return [event for line in LineSplitter().feed(data) if (event := parse(line)) is not None]


def draw(data: bytes, tracker: DrawTracker | None = None) -> list[DrawProgress]:
    tracker = tracker or DrawTracker(0.0)
    lines = LineSplitter().feed(data)
    return [seen for now, line in enumerate(lines, 1) if (seen := tracker.feed(parse(line), float(now))) is not None]


def test_a_load_is_read() -> None:
    assert events(LOADING) == [
        Bar(25, 196, 9.62 * 1024**2),
        Bar(25, 196, 9.58 * 1024**2),
        Bar(38, 196, 1.5 * 1024**3),
        Bar(196, 196, 22.64 * 1024**2),
        Mark.LISTENING,
    ]


def test_a_load_that_repeats_itself_does_not_move() -> None:
    tracker = LoadTracker()
    assert [bar.done for event in events(LOADING * 2) if (bar := tracker.feed(event, 0.0))] == [25, 38, 196]
    assert tracker.fraction == 1.0


def test_bytes_are_counted_from_the_last_words_before_the_first_bar() -> None:
    tracker, rate = LoadTracker(), 512 * 1024**2
    tracker.feed(None, 10.0)
    tracker.feed(None, 11.0)
    for now, done in ((11.2, 20), (12.0, 60)):
        tracker.feed(Bar(done, 100, rate), now)
        assert tracker.bytes_done == pytest.approx(rate * (now - 11.0))
    tracker.feed(None, 13.0)  # the newline between two files
    tracker.feed(Bar(61, 100, rate / 4), 13.0)
    assert tracker.bytes_done == pytest.approx(rate), "it never runs backwards"


def test_a_picture_is_read_and_only_the_samplers_bars_are_steps() -> None:
    assert draw(DRAWING) == [
        DrawProgress(Phase.SAMPLING),
        *(DrawProgress(Phase.SAMPLING, step, 3, 1.0) for step in (1, 2, 3)),
        DrawProgress(Phase.DECODING, step_s=1.0),
    ]


def test_a_step_is_told_when_its_bar_is_complete() -> None:
    bar = DRAWING.index(b"1/3")
    end = DRAWING.index(b"\x1b[K", bar) + 3
    assert draw(DRAWING[:end])[-1].step == 1
    assert draw(DRAWING[: end - 1])[-1].step is None


def test_the_phases_times_are_measured_between_their_lines() -> None:
    tracker = DrawTracker(0.0)
    draw(DRAWING, tracker)
    times = tracker.times(30.0)
    lines = LineSplitter().feed(DRAWING)
    at = {
        text: next(n for n, line in enumerate(lines, 1) if text in line) for text in ("seed 1", "sampling c", "in 0.")
    }
    assert (times.encode_s, times.sample_s) == (at["seed 1"], at["sampling c"] - at["seed 1"])
    assert (times.decode_s, times.steps, times.total_s) == (at["in 0."] - at["sampling c"], 3, 30.0)
    assert times.longest_gap_s == 30.0 - len(lines)


def test_the_steps_that_a_cache_left_out_are_read_while_it_samples() -> None:
    line = b"[INFO ] sample-cache.cpp:337  - CacheDIT skipped 2/3 steps (3.00x estimated speedup)\n"
    at = DRAWING.index(b"[INFO ] stable-diffusion.cpp", DRAWING.index(b"3/3"))
    for log, skipped in ((DRAWING, 0), (DRAWING[:at] + line + DRAWING[at:], 2), (line + DRAWING, 0)):
        tracker = DrawTracker(0.0)
        draw(log, tracker)
        assert tracker.times(30.0).skipped == skipped


def test_a_log_in_other_words_measures_nothing_but_the_whole() -> None:
    times = DrawTracker(1.0).times(4.0)
    assert (times.encode_s, times.sample_s, times.decode_s, times.steps) == (None, None, None, None)
    assert times.total_s == times.longest_gap_s == 3.0


@given(st.data())
def test_where_the_bytes_are_cut_does_not_matter(data: st.DataObject) -> None:
    everything = LOADING + DRAWING
    cuts = sorted(data.draw(st.lists(st.integers(0, len(everything)), max_size=20)))
    splitter, lines = LineSplitter(), []
    for start, end in zip([0, *cuts], [*cuts, len(everything)], strict=True):
        lines += splitter.feed(everything[start:end])
    assert lines == LineSplitter().feed(everything)
    assert splitter.flush() == []


WEIRD = st.lists(
    st.one_of(
        st.binary(max_size=200),
        st.sampled_from([*LOADING.splitlines(keepends=True), *DRAWING.splitlines(keepends=True)]),
        st.sampled_from([b"\r", b"\n", b"\x1b[K", b"\x1b", b"|" * 60, b"[INFO ] ", b"\xff\xfe", b"\x00"]),
        st.tuples(st.integers(-5, 10**9), st.integers(-5, 10**9), st.sampled_from(["it/s", "s/it", "MB/s"])).map(
            lambda bar: f"\r  {FULL} {bar[0]}/{bar[1]} - 1.00{bar[2]}\x1b[K".encode()
        ),
    ),
    max_size=100,
)


@given(WEIRD)
def test_no_bytes_make_it_fail_or_go_backwards(chunks: list[bytes]) -> None:
    splitter, load, drawn = LineSplitter(), LoadTracker(), DrawTracker(0.0)
    fractions, progress = [], []
    for chunk in chunks:
        for line in splitter.feed(chunk):
            assert line.isprintable() and len(line) <= MAX_LINE_BYTES
            event = parse(line)
            sdcpp_log.blame(sdcpp_log.untagged(line))
            if load.feed(event, 0.0):
                fractions.append(load.fraction)
            if seen := drawn.feed(event, 0.0):
                progress.append(seen)
        assert len(splitter._rest) <= MAX_LINE_BYTES
    assert fractions == sorted(set(fractions)) and all(0 < fraction <= 1 for fraction in fractions)
    order = [Phase.ENCODING, Phase.SAMPLING, Phase.DECODING]
    assert [order.index(seen.phase) for seen in progress] == sorted(order.index(seen.phase) for seen in progress)
    steps = [seen.step for seen in progress if seen.step is not None]
    assert steps == sorted(set(steps))
    assert all(seen.steps is not None and 0 < seen.step <= seen.steps for seen in progress if seen.step is not None)


def test_a_line_without_end_takes_no_memory_and_keeps_its_start() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"[ERROR] so it begins ") == []
    for _ in range(100):
        assert splitter.feed(b"x" * 65_536) == []
        assert len(splitter._rest) <= MAX_LINE_BYTES
    (line,) = splitter.feed(b"\nnext")
    assert line.startswith("[ERROR] so it begins x") and len(line) <= MAX_LINE_BYTES
    assert splitter.flush() == ["next"] and splitter.flush() == []


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (f"{FULL} 3/4 - 1.00it/s", Bar(3, 4, None)),
        (f"{FULL} 4/3 - 1.00it/s", None),
        (f"{FULL} 0/3 - 1.00it/s", None),
        (f"{FULL} -1/3 - 1.00it/s", None),
        (f"{FULL} 1/9999999 - 1.00it/s", None),
        (f"{FULL} 3/4 - nanit/s", None),
        (f"{FULL} 3/4 - 1.00it/s and more", None),
        (f"{FULL} ٣/٤ - 1.00it/s", None),  # digits, but not the engine's
        ("3/4 - 1.00it/s", None),
        ("[ERROR] stable-diffusion.cpp:1696 - diffusion model compute failed", Mark.TROUBLE),
        ("[WARN ] stable-diffusion.cpp:2623 - align up 72x64 to 80x64 (multiple=16)", None),
        ("[INFO ] x.cpp:1 - a sampling completed somewhere else", None),
        ("sampling completed", None),
        ("", None),
    ],
)
def test_one_line_at_a_time(line: str, event: Bar | Mark | None) -> None:
    assert parse(line) == event


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("alloc_buffer: allocating 11.50 MiB on device 0: cudaMalloc failed: something", "out_of_vram"),
        ("CUDA error: out of memory", "out_of_vram"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "out_of_vram"),
        ("ggml_aligned_malloc: insufficient memory (attempted to allocate 135.08 MB)", "out_of_vram"),
        ("qwen_image alloc params backend buffer failed, num_tensors = 1933", "out_of_vram"),
        ("flux alloc compute buffer failed", "out_of_vram"),
        ("file models/dit.gguf not found", "model_missing"),
        ("gguf_init_from_file: failed to open GGUF file 'dit.gguf' (No such file or directory)", "model_missing"),
        ("gguf_init_from_file: failed to open GGUF file 'dit.gguf' (Permission denied)", None),
        ("read tensor data failed: 'dit.gguf'", None),
        ("", None),
    ],
)  # fmt: skip
def test_complaints_are_told_apart(words: str, code: str | None) -> None:
    assert sdcpp_log.blame(words) == code

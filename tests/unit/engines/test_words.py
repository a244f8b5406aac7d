"""An engine's last words: what an error message may repeat of them."""

from __future__ import annotations

from imagegen.engines.sdcpp.log import untagged
from imagegen.engines.words import Words


def test_last_words_name_files_and_not_their_folders() -> None:
    words = Words(untagged)
    words.begin(["sd-server", "--llm", "/home/me/My Models/llm.gguf"])
    for line in (
        "[ERROR] model.cpp:817 - failed to open '/srv/some where/dit.gguf'",
        "[INFO ] model.cpp:216  - load /home/me/My Models/llm.gguf using gguf format",
        "/opt/cuda/lib64/libcublas.so.12: cannot open shared object file",
        "see https://example.org/some/page or and/or",
    ):
        words.complain(line)
    assert words.last() == (
        "failed to open 'dit.gguf' · load llm.gguf using gguf format · "
        "libcublas.so.12: cannot open shared object file · see https://example.org/some/page or and/or"
    )


def test_many_complaints_keep_the_first_and_the_last() -> None:
    words = Words(untagged)
    words.begin([])
    for number in range(1000):
        words.complain(f"[ERROR] x.cpp:1 - complaint {number}")
    assert words.last().split(" · ")[1:] == ["…", *(f"complaint {number}" for number in range(996, 1000))]
    assert len(words.complaints.splitlines()) <= 200


def test_complaints_come_before_lines_and_are_forgiven() -> None:
    words = Words(untagged)
    words.begin([])
    assert words.as_suffix() == ""
    words.add("[INFO ] x.cpp:1 - a line")
    words.complain("[ERROR] x.cpp:1 - a complaint")
    assert words.as_suffix() == " Its last words: a complaint"
    words.forgive()
    assert words.last() == "a line"

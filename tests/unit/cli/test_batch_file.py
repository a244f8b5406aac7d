"""The requests of a batch file, and which line is named if one is bad."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import binary, sampled_from

from imagegen.cli.batch_file import BadLine, format_of, read

READ: list[tuple[str, str, list[tuple[int, dict[str, Any]]]]] = [
    ("text", "\ufeffa cat\r\n\n# a remark\n  a dog  \n", [(1, {"prompt": "a cat"}), (4, {"prompt": "a dog"})]),
    (
        "jsonl",
        '{"prompt": "a cat", "seed": 7, "loras": [{"name": "x"}]}\n\n"a dog"\n',
        [(1, {"prompt": "a cat", "seed": 7, "loras": [{"name": "x"}]}), (3, {"prompt": "a dog"})],
    ),
    (
        "csv",
        'prompt,seed,cfg_scale,images,loras,draft\n"a cat,\nasleep",7,1.5,a.png|b.png,x:0.5|y,TRUE\n\na dog,,2,,,\n',
        [
            (
                2,
                {
                    "prompt": "a cat,\nasleep",
                    "seed": 7,
                    "cfg_scale": 1.5,
                    "images": ["a.png", "b.png"],
                    "loras": [{"name": "x", "strength": 0.5}, {"name": "y"}],
                    "draft": True,
                },
            ),
            (5, {"prompt": "a dog", "cfg_scale": 2}),
        ],
    ),
    ("csv", "prompt;steps\na cat;x\n", [(2, {"prompt": "a cat", "steps": "x"})]),  # the service says what is wrong
    ("csv", "prompt\na cat\n", [(2, {"prompt": "a cat"})]),
]


@pytest.mark.parametrize(("kind", "text", "lines"), READ)
def test_the_requests_of_a_file(kind: str, text: str, lines: list[tuple[int, dict[str, Any]]]) -> None:
    found = read(text.encode(), kind)
    assert [(one.number, one.request) for one in found] == lines
    assert [one.n for one in found] == list(range(1, len(lines) + 1))


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("text", b"", "Line 1: the file has no requests."),
        ("text", b"# nothing\n", "Line 1: the file has no requests."),
        ("text", b"a\nb\n\xff\n", "Line 3: it is not UTF-8 text."),
        ("jsonl", b'"a"\n{"prompt":\n', "Line 2: it is not JSON"),
        ("jsonl", b'{"prompt": "a", "prompt": "b"}', "Line 1: it is not JSON: 'prompt' is there more than once."),
        ("jsonl", b'{"prompt": "a", "seed": NaN}', "Line 1: it is not JSON: NaN is no number of JSON."),
        ("jsonl", b'"a"\n[1]', "Line 2: it is no JSON object"),
        ("jsonl", b'"a"\n{"seed": 1}', "Line 2: it has no prompt."),
        ("jsonl", b'{"prompt": " "}', "Line 1: it has no prompt."),
        ("jsonl", b'{"prompt": "a", "mask": "m.png"}', "Line 1: mask is of an edit: name its pictures, as images."),
        ("jsonl", b"[" * 100_000, "Line 1: it is not JSON"),
        ("csv", b"words\na\n", "Line 1: the first row has the names of the fields, and it does not name the field"),
        ("csv", b"prompt,prompt\na,b\n", "Line 1: the first row has the names of the fields, and it names 'prompt'"),
        ("csv", b"prompt,\na,b\n", "Line 1: the first row has the names of the fields, and one is empty."),
        ("csv", b"prompt,seed\na,1\nb,2,3\n", "Line 3: it has 3 cells, and the first row names 2 fields."),
        ("csv", b'prompt\na\n"b\n', "Line 3: it is not CSV"),
        ("csv", b"prompt,seed\na,1\n,2\n", "Line 3: it has no prompt."),
    ],
)
def test_a_bad_line_is_named_with_its_number(kind: str, data: bytes, said: str) -> None:
    with pytest.raises(BadLine) as wrong:
        read(data, kind)
    assert str(wrong.value).startswith(said)
    assert str(wrong.value).endswith(".")


@given(binary(max_size=200), sampled_from(["text", "csv", "jsonl"]))
def test_any_file_is_read_or_refused(data: bytes, kind: str) -> None:
    try:
        lines = read(data, kind)
    except BadLine:
        return
    assert all(line.request["prompt"].strip() for line in lines)


@pytest.mark.parametrize(
    ("name", "kind"), [("a.csv", "csv"), ("a.JSONL", "jsonl"), ("a.ndjson", "jsonl"), ("a.txt", "text"), ("a", "text")]
)
def test_the_suffix_says_the_format(name: str, kind: str) -> None:
    assert format_of(Path(name)) == kind

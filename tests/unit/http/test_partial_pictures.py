"""Which previews become OpenAI's partial pictures."""

from __future__ import annotations

import pytest

from imagegen.http.openai.partial import is_due
from imagegen.jobs.previews import StoredPreview


def chosen(number: int, steps: int, seen: list[tuple[int, int]]) -> list[int]:
    """The steps of those previews (image, step) that are sent."""
    sent: list[int] = []
    for image, step in seen:
        if is_due(StoredPreview("a", image, step, steps, b""), number, len(sent)):
            sent.append(step)
    return sent


@pytest.mark.parametrize(
    ("number", "steps", "seen", "sent"),
    [
        (0, 8, [(1, step) for step in range(1, 8)], []),
        (1, 8, [(1, step) for step in range(1, 8)], [4]),
        (3, 8, [(1, step) for step in range(1, 8)], [2, 4, 6]),
        (3, 4, [(1, step) for step in range(1, 4)], [1, 2, 3]),
        (3, 2, [(1, 1)], [1]),
        (2, 30, [(1, 3), (1, 17), (1, 29)], [17, 29]),
        (2, 8, [(1, 3), (2, 4), (2, 7)], [3]),
    ],
)
def test_partial_pictures_are_spread_over_the_first_pictures_steps(
    number: int, steps: int, seen: list[tuple[int, int]], sent: list[int]
) -> None:
    assert chosen(number, steps, seen) == sent

"""Progress where there is no terminal: a line every few seconds, with the time that is left."""

from __future__ import annotations

import io

from rich.console import Console

from tunesmith.compose.progress import _line_callback


def lines(*calls: tuple[float, int, int | None]) -> list[str]:
    """What is printed for calls at (seconds, done, total)."""
    output, times = io.StringIO(), iter([0.0, *(seconds for seconds, _, _ in calls)])
    progress = _line_callback(Console(file=output), "sampling", lambda: next(times))
    for _, done, total in calls:
        progress(done, total, f"{done} replies")
    return output.getvalue().splitlines()


def test_a_line_every_five_seconds_has_the_share_and_the_time_that_is_left() -> None:
    assert lines(
        (0, 100, 1000), (3, 150, 1000), (10, 200, 1000), (12, 220, 1000), (30, 400, 1000), (60, 1000, 1000)
    ) == [
        "sampling: 20% 200 replies, 80 s left",
        "sampling: 40% 400 replies, 60 s left",
        "sampling: 100% 1000 replies",
    ]
    assert lines((0, 0, 100), (60, 10, 100)) == ["sampling: 10% 10 replies, 9 min left"]


def test_without_a_total_nothing_is_said_about_the_end() -> None:
    assert lines((0, 0, None), (6, 3, None)) == ["sampling: 3 replies"]

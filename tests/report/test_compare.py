"""The table of two models, and their replies side by side."""

from __future__ import annotations

import io

from rich.console import Console

from tunesmith.evaluate.text_match import Rate
from tunesmith.report.compare import Row, SideBySide, show

ROWS = [Row("exact answers", {"base": Rate(0, 50), "assistant": Rate(46, 50)}, strong=True)]


def printed(samples, rows=ROWS, **options):
    output = io.StringIO()
    show(Console(file=output, width=100, **options), rows, samples, ("base", "assistant"))
    return output.getvalue()


def test_the_table_gives_share_interval_and_number():
    text = printed([])
    assert "92.0%  (81% to 97%, n=50)" in text
    assert text.index("0.0%") < text.index("92.0%")


def test_replies_stand_under_their_instruction_with_a_verdict():
    sample = SideBySide("Where?", "A passage.", {"base": "", "assistant": "Ashby."}, {"base": False, "assistant": True})
    lines = [line.strip() for line in printed([sample]).splitlines()]
    assert lines[-5:-1] == ["Where?", "A passage.", "base: (nothing)  wrong", "assistant: Ashby.  right"]


def test_what_a_model_says_never_reaches_the_terminal_as_an_escape_or_markup():
    nasty = "\x1b[2J\x1b]0;title\x07[red]no[/red]"
    sample = SideBySide(nasty, nasty, {"base": nasty, "assistant": nasty}, {"base": False, "assistant": False})
    text = printed([sample])
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]no[/red]" in text


def test_piped_output_has_no_colour():
    sample = SideBySide("Where?", "", {"base": "x", "assistant": "y"}, {"base": False, "assistant": True})
    assert "\x1b" not in printed([sample])
    assert "\x1b" in printed([sample], force_terminal=True)

"""The table of two models, and their replies side by side."""

from __future__ import annotations

import io

from rich.console import Console

from tunesmith.report.compare import ComparisonRow, ReplyComparison, print_comparison
from tunesmith.report.intervals import Gain, Rate

MODELS = ("base", "assistant")
ROWS = [
    ComparisonRow(
        "exact answers",
        {"base": Rate(0, 50), "assistant": Rate(46, 50)},
        {"assistant": Gain(both=0, gained=46, lost=0, neither=4)},
        strong=True,
    ),
    ComparisonRow(" lists", {"base": Rate(0, 13), "assistant": Rate(6, 13)}, {"assistant": Gain(0, 6, 0, 7)}),
]


def printed(samples, rows=ROWS, width=80, models=MODELS, **options):
    output = io.StringIO()
    print_comparison(Console(file=output, width=width, **options), rows, {"Replies": samples}, models)
    return output.getvalue()


def test_the_table_gives_share_interval_and_number_and_below_them_the_gain():
    lines = [line.split() for line in printed([]).splitlines()]
    assert lines[0] == ["n", *MODELS]
    assert lines[1] == ["exact", "answers", "50", "0.0%", "0..7", "92.0%", "81..97"]
    assert lines[2] == ["+92.0", "79..97"]
    assert lines[3] == ["lists", "13", "0%", "0..23", "46%", "23..71"]
    assert lines[4] == ["+46", "14..71"]


def test_four_models_fit_into_eighty_columns():
    models = ("base", "assistant", "dpo", "ppo")
    rows = [
        ComparisonRow(name, dict.fromkeys(models, Rate(sum(gain[:2]), 253)), dict.fromkeys(models, Gain(*gain)), strong)
        for gain in ((20, 192, 0, 41), (0, 253, 0, 0))
        for name, strong in (("exact answers", True), (" information_extraction", False))
    ]
    table = printed([], rows, models=models).splitlines()[:9]
    assert all(len(line) <= 80 for line in table)
    assert [line.count("%") for line in table] == [0, *[4, 0] * 4]
    assert [line.count("..") for line in table] == [0, *[4] * 8]


def test_models_that_were_asked_differently_often_say_so():
    row = ComparisonRow("exact answers", {"base": Rate(1, 40), "assistant": Rate(46, 50)})
    assert "40 to 50" in printed([], [row])


def test_replies_are_below_their_instruction_with_a_verdict():
    sample = ReplyComparison(
        "Where?", "A passage.", {"base": "", "assistant": "Ashby."}, {"base": False, "assistant": True}
    )
    lines = [line.strip() for line in printed([sample]).splitlines()]
    assert lines[-5:-1] == ["Where?", "A passage.", "base: (no text)  wrong", "assistant: Ashby.  right"]


def test_what_a_model_says_never_reaches_the_terminal_as_an_escape_or_markup():
    nasty = "\x1b[2J\x1b]0;title\x07[red]no[/red]"
    sample = ReplyComparison(nasty, nasty, {"base": nasty, "assistant": nasty}, {"base": False, "assistant": False})
    text = printed([sample])
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]no[/red]" in text


def test_a_heading_without_replies_is_left_out():
    sample = ReplyComparison("Where?", "", {"base": "x"}, {"base": False})
    assert "Replies" in printed([sample])
    assert "Replies" not in printed([])


def test_piped_output_has_no_colour():
    sample = ReplyComparison("Where?", "", {"base": "x", "assistant": "y"}, {"base": False, "assistant": True})
    assert "\x1b" not in printed([sample])
    assert "\x1b" in printed([sample], force_terminal=True)

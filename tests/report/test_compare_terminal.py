"""The numbers of a comparison in the terminal."""

from __future__ import annotations

import random

import pytest

from tests.report.comparisons import compared
from tunesmith.report.compare_statistics import compare_columns, summarize
from tunesmith.report.compare_terminal import comparison_lines


def lines(comparison) -> list[str]:
    return list(comparison_lines(comparison, summarize(comparison), compare_columns(comparison)))


def replies(lengths: tuple[int, int], prompts: int = 60) -> list[dict[tuple[int, str], list[str]]]:
    draw = random.Random(7)
    return [
        {(model, "k50"): ["x" * (length + draw.randint(0, 40))] for model, length in enumerate(lengths)}
        for _ in range(prompts)
    ]


def test_a_difference_names_the_model_that_has_more() -> None:
    text = "\n".join(lines(compared(replies((100, 150)), ended={0: True, 1: True})))
    assert "2 models, 60 prompts, all answered by every model" in text
    assert "B less A, on the same prompts" in text
    assert "B is longer" in text
    assert "ended     60  +0.0 points (+0.0 to +0.0)      no difference shown" in text


def test_no_difference_is_said_plainly() -> None:
    text = "\n".join(lines(compared(replies((100, 100)))))
    assert text.count("  no difference shown") == 1
    assert "B is" not in text


def test_rewards_are_a_column_and_a_difference() -> None:
    rewards = {(0, "k50"): [1.0 + n % 3 for n in range(60)], (1, "k50"): [0.5 + n % 3 for n in range(60)]}
    text = "\n".join(lines(compared(replies((100, 100)), rewards=rewards)))
    assert "B is lower" in text
    assert "-0.50 (-0.50 to -0.50)" in text
    assert "1.50" in text
    assert lines(compared(replies((100, 100)), rewards=rewards))[6].split()[-1] == "reward"


def test_without_scores_there_is_no_column_of_rewards() -> None:
    (header,) = [line for line in lines(compared(replies((100, 100)))) if "loops" in line and "leaks" in line]
    assert header.split() == ["k50", "replies", "ended", "length", "loops", "empty", "leaks"]
    assert len(header) == 80


def test_what_is_not_common_is_said() -> None:
    text = "\n".join(lines(compared([{(0, "k"): ["a"], (1, "k"): ["b"]}] * 3 + [{(0, "k"): ["a"]}])))
    assert "2 models, 4 prompts, 3 of them answered by every model" in text
    assert "too few prompts" in text
    text = "\n".join(lines(compared([{(0, "k"): ["a"]}, {(1, "k"): ["b"]}])))
    assert "no prompt in common" in text


@pytest.mark.parametrize("count", [1, 2, 3, 30])
def test_every_line_fits_into_eighty_columns(count: int) -> None:
    names = [f"a-model-with-a-long-name-{number}-" + "x" * 70 for number in range(count)]
    rewards = {(model, name): [-12345.678] * 12 for model in range(count) for name in ("a" * 50, "k")}
    prompt = {(model, name): ["y" * (3000 * model)] for model in range(count) for name in ("a" * 50, "k")}
    comparison = compared([prompt] * 12, models=names, ended=dict.fromkeys(range(count), True), rewards=rewards)
    found = lines(comparison)
    assert max(map(len, found)) <= 80
    assert not any(line != line.rstrip() for line in found)

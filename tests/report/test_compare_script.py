"""The parts of the page's script that need no browser, run by Node.js where it is installed."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from importlib.resources import files
from typing import Any

import pytest

from tunesmith.report.intervals import Rate

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")

TEXTS = (
    "",
    "one two three",
    "one two four three",
    "  leading space\n\nand a line  ",
    "Ein Satz mit Umlauten: äöü, naïve, 日本語 und ✓.",
    "<b>& \u2028 `code` **bold**",
    "a b c d e f g h i j",
    "j i h g f e d c b a",
    "word " * 3000,
)


NO_STORAGE = "const store = { write: () => false }; const announce = (text) => { globalThis.said = text; };"


def run(expression: str, given: Any = None, data: Any = None, before: str = "") -> Any:
    """The value of an expression in the scope of the script. given: what it can use under this name."""
    script = "".join(
        files("tunesmith.report").joinpath(name).read_text() for name in ("compare_text.js", "compare_votes.js")
    )
    program = f"{before}{script}\nconst data = {json.dumps(data)}, given = {json.dumps(given)};\n"
    done = subprocess.run(
        [str(NODE), "-"],
        input=f"{program}console.log(JSON.stringify({expression}));",
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_the_parts_of_a_difference_are_the_texts_and_equal_parts_are_equal() -> None:
    pairs = [[left, right] for left in TEXTS for right in TEXTS]
    for (left, right), (one, other) in zip(
        pairs, run("given.map((pair) => findDifference(...pair))", pairs), strict=True
    ):
        assert "".join(part["text"] for part in one) == left
        assert "".join(part["text"] for part in other) == right
        kept, kept_too = (
            "".join(part["text"] for part in parts if not part["changed"]).split() for parts in (one, other)
        )
        assert "".join(kept) == "".join(kept_too)
        if left == right:
            assert not any(part["changed"] for part in (*one, *other))


def test_what_differs_is_marked() -> None:
    one, other = run("findDifference(...given)", ["I like red apples best.", "I like sweet apples best."])
    assert [part["text"] for part in one if part["changed"]] == ["red "]
    assert [part["text"] for part in other if part["changed"]] == ["sweet "]
    one, _ = run("findDifference(...given)", ["all of it is new", "not a word remains"])
    assert [part["changed"] for part in one] == [True]


def test_the_distance_of_words_is_between_equal_and_nothing_in_common() -> None:
    pairs = [["a b c", "A, b c"], ["a b", "c d"], ["", ""], ["same words", "same words"]]
    assert run("given.map((pair) => wordDistance(...pair))", pairs) == [pytest.approx(1 / 7), 1, 0, 0]


def test_markdown_is_divided_into_blocks_and_no_character_of_a_paragraph_is_lost() -> None:
    lines = ("# Title", "Some *text*", "and more", "", "- one", "  still one", "  - deeper", "After it", "3. three")
    text = "\n".join([*lines, "```py", "# code", "- no item", "```", "end"])
    assert run("findBlocks(given)", text) == [
        {"kind": "heading", "text": "Title"},
        {"kind": "paragraph", "text": "Some *text*\nand more"},
        {"kind": "item", "text": "one\nstill one", "depth": 0},
        {"kind": "item", "text": "deeper", "depth": 1},
        {"kind": "paragraph", "text": "After it"},
        {"kind": "item", "text": "three", "number": "3", "depth": 0},
        {"kind": "code", "text": "# code\n- no item"},
        {"kind": "paragraph", "text": "end"},
    ]
    assert run("findBlocks(given)", "```\nnever closed") == [{"kind": "code", "text": "never closed"}]


def test_interval_and_sign_test_of_votes_are_those_of_the_reports() -> None:
    cases = [(0, 0), (1, 0), (5, 5), (9, 1), (0, 12), (60, 40), (300, 700)]
    found = run("given.map(([w, l]) => [wilsonInterval(w, w + l), signTest(w, l)])", cases)
    for (wins, losses), (interval, p) in zip(cases, found, strict=True):
        total = wins + losses
        tail = sum(math.comb(total, k) for k in range(min(wins, losses) + 1))
        assert interval == pytest.approx(Rate(wins, total).interval(), abs=1e-9)
        assert p == pytest.approx(min(1.0, 2 * tail / 2**total), rel=1e-9)


def test_a_result_names_a_winner_only_where_the_sign_test_does() -> None:
    counts = [{"wins": wins, "losses": 2, "ties": 1, "bad": 0} for wins in (8, 12)]
    few, many = run('given.map((counts) => describeResult("x", "y", counts))', counts)
    assert few[-2] == "x wins 80 % of the decided votes (95 % interval: 49 % to 94 %)."
    assert few[-1] == "Sign test: p = 0.109. No difference shown."
    assert many[-1] == "Sign test: p = 0.013. x is preferred."
    none = run('describeResult("x", "y", { wins: 0, losses: 0, ties: 3, bad: 0 })')
    assert none[-1] == "There is no decided vote yet."


def test_a_page_without_storage_says_how_votes_are_kept() -> None:
    """As `tunesmith serve` shows it: a sandbox in which every access to the storage fails."""
    said = run('(globalThis.said = "", keepVotes(), globalThis.said)', data={"key": "k"}, before=NO_STORAGE)
    assert "Save votes" in said
    assert "local" not in said, "it may be a page of a server"


def test_the_sides_are_drawn_by_seed_and_prompt_and_do_not_depend_on_the_order_of_the_columns() -> None:
    columns = [{"key": f"{model}/k", "model": model, "configuration": "k"} for model in (0, 1)]
    replies = [{"model": model, "configuration": "k", "sample": n} for model in (0, 1) for n in (0, 1)]
    prompts = [{"key": f"{n:016x}", "replies": replies} for n in range(400)]
    draw = "given[1].map((prompt) => drawSides(prompt, ...given[0]))"
    first = run(draw, [columns, prompts], {"seed": 0})
    assert run(draw, [columns[::-1], prompts], {"seed": 0}) == first
    assert run(draw, [columns, prompts], {"seed": 1}) != first
    assert {side["left"]["model"] + side["right"]["model"] for side in first} == {1}
    lefts = [side["left"]["model"] for side in first]
    assert 160 < sum(lefts) < 240
    samples = [side["left"]["sample"] for side in first]
    assert 160 < sum(samples) < 240

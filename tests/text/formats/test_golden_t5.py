"""FLAN-T5-Dolly against recorded outputs: the codec, the ids of inputs and targets, reading replies, truncation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tunesmith.text.tokenizer.codec import WhiteSpaceMarks, undo_marks
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tokens.truncate import truncate_input_and_replies
from tunesmith.text.tree import Message, Tree

Golden = Callable[[str], dict[str, Any]]
OTHERS = ("adafactor", "adafactor_formula")  # which are not about text
CODEC = WhiteSpaceMarks()


@pytest.fixture(scope="module")
def renderer(real: Callable[..., Renderer]) -> Renderer:
    return real("t5-dolly", "t5")


def variants(expected: dict[str, Any], key: str) -> list[Any]:
    """What the fast tokenizer gave, and the slow one where it differs."""
    return [expected[name] for name in (key, f"{key}_slow") if name in expected]


def as_input(renderer: Renderer, text: str) -> list[int]:
    return renderer.prompt([Message("user", text)])


def as_target(renderer: Renderer, text: str) -> list[int]:
    tree = renderer.render(Tree.path([Message("user", "?"), Message("assistant", text)]))
    found: list[int] = tree.ids[tree.targets()].tolist()
    return found


def compare_codec(renderer: Renderer, case: dict[str, Any]) -> None:
    text, expected = case["input"]["text"], case["expected"]
    assert CODEC.encode(text) == expected["encoded"]
    ids = as_target(renderer, text)
    assert not text.strip() or ids == as_input(renderer, text)
    if renderer.tokenizer.control_in(text):  # the original lets a quoted control token become one, ours does not
        controls = [token for token in ids if not renderer.tokenizer.may_come_from_text(token)]
        assert (controls, ids[-1]) == ([1], 1)
        assert ids not in variants(expected, "ids")
        assert renderer.parse(ids).text == text.replace("<", "")
        return
    assert ids in variants(expected, "ids")
    assert renderer.tokenizer.decode(ids) in variants(expected, "decoded")
    assert renderer.parse(ids).text in variants(expected, "round_trip")


def compare_decode(renderer: Renderer, case: dict[str, Any]) -> None:
    ids, expected = case["input"]["ids"], case["expected"]
    assert renderer.tokenizer.decode(ids) == expected["decoded"]
    parsed = renderer.parse(ids)
    assert (parsed.text, parsed.stopped) == (expected["text"], 1 in ids)
    decoder = renderer.stream()
    assert "".join([*map(decoder.push, ids), decoder.finish()]) == expected["text"]


def compare_post(renderer: Renderer, case: dict[str, Any]) -> None:
    assert undo_marks(case["input"]["decoded"]) == CODEC.decode(case["input"]["decoded"]) == case["expected"]["text"]


def compare_truncate(renderer: Renderer, case: dict[str, Any]) -> None:
    text, limit, expected = case["input"]["encoded"], case["settings"]["max_length"], case["expected"]
    tree = renderer.render(Tree.path([Message("user", text), Message("assistant", text)]))
    assert len(tree.ids) == 2 * expected["full_length"]
    shorter = truncate_input_and_replies(tree, limit, limit, "right")
    assert isinstance(shorter, TokenTree)
    assert shorter.ids.tolist() == expected["ids"] * 2
    assert shorter.ids[shorter.targets()].tolist() == expected["ids"]
    assert shorter.cut == len(tree.ids) - len(shorter.ids)


COMPARE = {"codec": compare_codec, "decode": compare_decode, "post": compare_post, "truncate": compare_truncate}


def test_every_case_is_the_same(golden: Golden, renderer: Renderer) -> None:
    compared: Counter[str] = Counter()
    for case in golden("t5")["cases"]:
        if case["kind"] not in OTHERS:
            COMPARE[case["kind"]](renderer, case)
            compared[case["kind"]] += 1
    assert compared == Counter(codec=81, decode=8, post=5, truncate=3)


def test_two_cases_quote_control_tokens(golden: Golden, renderer: Renderer) -> None:
    texts = [case["input"]["text"] for case in golden("t5")["cases"] if case["kind"] == "codec"]
    assert sum(renderer.tokenizer.control_in(text) is not None for text in texts) == 2


def test_a_case_with_one_wrong_id_is_found(golden: Golden, renderer: Renderer) -> None:
    case = next(
        case for case in golden("t5")["cases"] if case["kind"] == "codec" and "ids_slow" not in case["expected"]
    )
    wrong = {**case, "expected": {**case["expected"], "ids": [*case["expected"]["ids"][:-1], 2]}}
    with pytest.raises(AssertionError):
        compare_codec(renderer, wrong)

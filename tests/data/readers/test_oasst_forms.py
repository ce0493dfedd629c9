"""The same trees as nested messages, threads and rows of single messages; and what is wrong with such rows."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.outcomes import group, read, says, tree_of
from tests.data.readers.test_oasst import SAMPLE, answer, ask, row
from tunesmith.data.readers.reader import Filtered
from tunesmith.errors import DataError

OPEN: dict[str, Any] = {"states": None, "reviewed": False}


def flat(value: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a nested tree in depth-first order, as rows of the hub."""
    found: list[dict[str, Any]] = []
    waiting = [value["prompt"]]
    while waiting:
        content = waiting.pop()
        waiting.extend(reversed(content["replies"]))
        more = {"parent_id": None, "message_tree_id": value["message_tree_id"], "tree_state": value["tree_state"]}
        found.append({**more, **{key: item for key, item in content.items() if key != "replies"}})
    return found


def test_rows_of_messages_are_the_tree_of_the_nested_file() -> None:
    assert read("oasst-messages", group(flat(SAMPLE))) == read("oasst", SAMPLE)
    for options in ({"top_k": 1}, {"top_k": 2, "synthetic": True}, {"keep": "rankings"}, {"keep": "prompts"}):
        assert read("oasst-messages", group(flat(SAMPLE)), **options) == read("oasst", SAMPLE, **options)


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False))
def test_rows_may_stand_in_any_order(shuffled: random.Random) -> None:
    """Siblings keep the order of their rows; nothing else depends on it."""
    rows = flat(SAMPLE)
    shuffled.shuffle(rows)
    assert sorted(says(read("oasst-messages", group(rows)))) == sorted(says(read("oasst", SAMPLE)))


def test_a_line_may_be_the_prompt_itself() -> None:
    root = SAMPLE["prompt"]
    assert read("oasst", {**root, "tree_state": "ready_for_export"}) == read("oasst", SAMPLE)
    assert read("oasst", root, states=None) == read("oasst", SAMPLE)


def test_an_early_export_says_which_options_it_needs() -> None:
    early = {"message_tree_id": "q", "prompt": ask("q", answer("a"))}
    with pytest.raises(DataError, match=r"'tree_state' is missing; set options.states to null \(and options.reviewed"):
        read("oasst", early)
    assert read("oasst", early, states=None) == Filtered("root did not pass its review")
    assert says(read("oasst", early, **OPEN)) == [["text q", "text a"]]


def test_a_thread_is_a_tree_without_branches() -> None:
    thread = [
        {"message_id": "q", "text": "Q", "role": "prompter", "tree_state": "ready_for_export", "review_result": True},
        {"message_id": "a", "parent_id": "q", "text": "A", "role": "assistant"},
        {"message_id": "b", "parent_id": "a", "text": "B", "role": "prompter"},
    ]
    assert says(read("oasst", {"thread_id": "a", "thread": thread})) == [["Q", "A"]]
    with pytest.raises(DataError, match="message 'b' names 'a' as its parent, but is below 'q'"):
        read("oasst", {"thread_id": "a", "thread": [thread[0], thread[2]]})
    with pytest.raises(DataError, match="message 'q' occurs twice"):
        read("oasst", {"thread_id": "a", "thread": [thread[0], thread[0]]})
    for wrong, found in (([], "'thread' is empty"), (None, "'thread' is null"), ([1], r"thread\[0\] is a number")):
        with pytest.raises(DataError, match=found):
            read("oasst", {"thread_id": "a", "thread": wrong}, **OPEN)


def test_labels_of_the_hub_are_columns() -> None:
    rows = flat(row(ask("q", answer("a"))))
    rows[1] |= {"labels": {"name": ["quality", "humor", "spam"], "value": [0.75, 0, None], "count": [3, 3, 0]}}
    rows[1] |= {"emojis": {"name": ["+1"], "count": [2]}}
    assert tree_of(read("oasst-messages", group(rows))).messages[1].labels == {"quality": 0.75, "humor": 0.0}
    rows[1]["labels"] = {"name": ["quality"], "value": []}
    with pytest.raises(DataError, match="the labels of message 'a' have 1 names and 0 values"):
        read("oasst-messages", group(rows))


CHAIN = flat(row(ask("q", answer("a", ask("b", answer("c"))))))


def changed(index: int, **more: Any) -> list[dict[str, Any]]:
    rows = [dict(item) for item in CHAIN]
    rows[index] |= more
    return rows


BAD_GROUPS: dict[str, tuple[list[dict[str, Any]], str, int]] = {
    "no parent": (changed(1, parent_id="z"), "message 'a' answers 'z', which does not exist", 2),
    "a parent that is no text": (changed(1, parent_id=3), "message 'a' answers 3, which does not exist", 2),
    "an id twice": (changed(2, message_id="a"), "message 'a' occurs twice in the tree, first at f.jsonl:2", 3),
    "its own parent": (changed(3, parent_id="c"), "message 'c' answers itself ('c' answers 'c')", 4),
    "a circle": (changed(1, parent_id="c"), "message 'a' answers itself ('a' answers 'c' answers 'b' answers 'a')", 2),
    "a circle without a root": (changed(0, parent_id="c"), "message 'q' answers itself", 1),
    "two roots": (changed(2, parent_id=None), "message 'q' and message 'b' are both roots of one tree", 3),
    "no id": (changed(2, message_id=None), "field 'message_id' is null, not text", 3),
    "no role": (changed(2, role="x"), "message 'b' has the role 'x' ('q' > 'a' > 'b')", 3),
    "no text": (changed(3, text=None), "the text of message 'c' is null, not text ('q' > 'a' > 'b' > 'c')", 4),
    "a rank in words": (changed(3, rank="0"), "the rank of message 'c' is '0' ('q' > 'a' > 'b' > 'c')", 4),
    "no state": ([{"message_id": "q", "text": "x", "role": "prompter"}], "field 'tree_state' is missing", 1),
}


@pytest.mark.parametrize(("rows", "what", "line"), BAD_GROUPS.values(), ids=BAD_GROUPS)
def test_a_fault_is_told_at_its_own_row_with_the_ids_that_lead_there(
    rows: list[dict[str, Any]], what: str, line: int
) -> None:
    with pytest.raises(DataError) as caught:
        read("oasst-messages", group(rows))
    assert what in caught.value.what
    assert caught.value.where == f"f.jsonl:{line}"


def test_ranks_may_tie_and_have_gaps() -> None:
    value = row(ask("q", answer("a", rank=1), answer("b", rank=7), answer("c", rank=1), answer("d")))
    tree = tree_of(read("oasst", value, keep="rankings"))
    assert [(message.text, message.rank) for message in tree.messages[1:]] == [
        ("text a", 1),
        ("text c", 1),
        ("text b", 7),
    ]


def test_an_unranked_reply_stays_where_it_leads_to_ranked_ones() -> None:
    below = ask("r", answer("c", rank=1), answer("d", rank=0))
    value = row(ask("q", answer("a", below), answer("b", rank=0), answer("e")))
    assert says(read("oasst", value, keep="rankings")) == [
        [f"text {name}" for name in thread] for thread in ("qard", "qarc")
    ]


def test_replies_without_a_rank_stand_behind_the_ranked_ones() -> None:
    below = ask("r", answer("c", rank=1), answer("d", rank=0))
    value = row(ask("q", answer("a", below), answer("b", rank=1), answer("e", rank=0)))
    found = says(read("oasst", value, keep="rankings"))
    assert found == [[f"text {name}" for name in thread] for thread in ("qe", "qb", "qard", "qarc")]


def test_a_tree_without_rankings_or_with_a_dropped_root_is_filtered() -> None:
    assert read("oasst", row(ask("q", answer("a", rank=0))), keep="rankings") == Filtered("root not ranked")
    assert says(read("oasst", row(ask("q")), keep="prompts")) == [["text q"]]
    assert read("oasst", row(ask("q", deleted=True)), keep="prompts") == Filtered("root deleted")


def test_a_chain_of_a_hundred_thousand_rows_is_walked_without_recursion() -> None:
    count = 100_000
    rows = [
        {
            "message_id": str(level),
            "parent_id": str(level - 1) if level else None,
            "text": "x",
            "role": "assistant" if level % 2 else "prompter",
        }
        for level in range(count)
    ]
    rows.reverse()
    assert len(tree_of(read("oasst-messages", group(rows), **OPEN)).messages) == count
    rows[-1]["parent_id"] = str(count - 1)  # a circle through all of them
    with pytest.raises(DataError, match="answers itself"):
        read("oasst-messages", group(rows), **OPEN)
    rows[-1]["parent_id"] = None
    rows[0]["text"] = ""
    with pytest.raises(DataError, match=r"'0' > '1' > '..' > '99996'"):
        read("oasst-messages", group(rows), **OPEN)


messages = st.fixed_dictionaries(
    {
        "message_id": st.sampled_from("abcd"),
        "parent_id": st.none() | st.sampled_from("abcd"),
        "role": st.sampled_from(["prompter", "assistant", "robot"]),
        "text": st.sampled_from(["x", "", "y"]),
    },
    optional={"rank": st.sampled_from([None, 0, 1, 1, "0"]), "deleted": st.booleans(), "labels": st.none()},
)


@settings(max_examples=300, deadline=None)
@given(st.lists(messages, min_size=1, max_size=5), st.sampled_from(["threads", "rankings", "prompts"]))
def test_any_group_is_a_tree_or_rejected_or_an_error_at_one_of_its_rows(rows: list[dict[str, Any]], keep: str) -> None:
    outcome, place = None, None
    try:
        outcome = read("oasst-messages", group(rows), keep=keep, **OPEN)
    except DataError as error:
        place = error.where
    if outcome is None:
        assert place in group(rows).places
    elif not isinstance(outcome, Filtered):
        assert {message.text for message in tree_of(outcome).messages} <= {item["text"] for item in rows}

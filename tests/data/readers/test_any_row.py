"""Whatever a row holds, a reader makes a tree of it, turns it away, or raises DataError; nothing else."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.outcomes import group, read, whole_tree_of
from tunesmith.data.readers.reader import Filtered, ReadTree
from tunesmith.data.readers.registry import READERS
from tunesmith.errors import DataError

INNER = (
    *("role", "content", "from", "value", "weight", "name", "text", "score", "rank", "answer", "response"),
    *("pm_score", "annotations", "overall_score", "honesty", "Rating", "replies", "thread", "labels", "lang"),
    *("message_id", "parent_id", "review_result", "deleted", "metadata", "items"),
)
WORDS = (
    *("user", "assistant", "prompter", "human", "gpt", "system", "ready_for_export", "a", "b", "4", "N/A", ""),
    *("\n\nHuman: q\n\nAssistant: a", "\n\nHuman: q\n\nAssistant: b", "\n\nHuman: q\n\nAssistant:", "\n\nHuman: "),
    *(0, 1, True, 2.5, -1, 10**400, None),
)
OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "oasst": tuple({"states": None, "reviewed": False, "keep": keep} for keep in ("threads", "rankings", "prompts")),
    "sharegpt": ({}, {"leading": "cut", "same_role": "merge", "empty": "drop", "unescape": True, "strip": True}),
    "preference": ({}, {"clean": True, "empty": "drop", "on_equal": "drop"}),
    "hh": ({}, {"clean": True}, {"empty": "drop", "on_equal": "drop", "replies": "best"}),
    "ultrafeedback": ({}, {"score": "overall", "replies": "pair", "empty": "drop", "on_equal": "drop"}),
    "nectar": ({}, {"replies": "pair", "empty": "drop", "on_equal": "drop", "ties": "drop"}),
}
OPTIONS["oasst-messages"] = OPTIONS["oasst"]

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
likely = st.recursive(
    st.sampled_from(WORDS) | any_json,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER), inner, max_size=6),
    max_leaves=20,
)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=70, deadline=None)
@given(st.data())
def test_any_row_is_a_tree_or_rejected_or_an_error(name: str, data: st.DataObject) -> None:
    reader = READERS[name]
    keys = st.sampled_from(sorted({*reader.columns, *INNER}))
    columns = st.fixed_dictionaries({}, optional=dict.fromkeys(reader.columns, likely))
    row = {**data.draw(st.dictionaries(keys, likely, max_size=4)), **data.draw(columns)}
    for options in OPTIONS.get(name, ({},)):
        try:
            outcome = read(
                name, row if reader.group is None else group([row, dict(row)][: 1 + len(row) % 2]), **options
            )
        except DataError as error:
            assert error.what  # noqa: PT017 - any of them will do, as long as it says something
            continue
        assert isinstance(outcome, ReadTree | Filtered)
        if isinstance(outcome, ReadTree):
            tree = outcome.tree
            assert all(message.text.strip() for message in tree.messages)
            assert "prompts" in (name, options.get("keep")) or any(m.role == "assistant" for m in tree.messages)


def test_every_reader_has_an_example_row_that_it_reads() -> None:
    """So that the property above is not met by refusing everything."""
    user, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    question = {"message_id": "q", "text": "q", "role": "prompter", "tree_state": "ready_for_export"}
    message = {"message_id": "a", "parent_id": "q", "text": "a", "role": "assistant"}
    human, gpt = {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}
    rated = dict.fromkeys(("helpfulness", "correctness", "coherence", "complexity"), 3)
    examples: dict[str, Any] = {
        "dolly": {"instruction": "q", "response": "a"},
        "alpaca": {"instruction": "q", "output": "a"},
        "prompt-completion": {"prompt": "q", "completion": "a"},
        "text": {"text": "a"},
        "messages": {"messages": [user, answer]},
        "sharegpt": {"conversations": [human, gpt]},
        "oasst": {
            "tree_state": "ready_for_export",
            "prompt": {**question, "replies": [message], "review_result": True},
        },
        "oasst-messages": group([{**question, "review_result": True}, message]),
        "preference": {"chosen": [user, answer], "rejected": [user, {**answer, "content": "b"}]},
        "preference-text": {"prompt": "q", "chosen": "a", "rejected": "b"},
        "preference-sharegpt": {"conversations": [human], "chosen": gpt, "rejected": {**gpt, "value": "b"}},
        "hh": {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
        "shp": {"history": "q", "human_ref_A": "a", "human_ref_B": "b", "labels": 1},
        "ultrafeedback": {
            "instruction": "q",
            "completions": [
                {"response": text, "annotations": {"honesty": {"Rating": rating}}} for text, rating in ("a4", "b3")
            ],
        },
        "nectar": {
            "prompt": "\n\nHuman: q\n\nAssistant: ",
            "answers": [{"answer": "a", "rank": 1}, {"answer": "b", "rank": 2}],
        },
        "stackexchange": {"question": "q", "answers": [{"text": "a", "pm_score": 2}, {"text": "b", "pm_score": 1}]},
        "arena": {
            "conversation_a": [user, {**answer, "content": "b"}],
            "conversation_b": [user, answer],
            "winner": "model_a",
        },
        "alpacafarm": {"instruction": "q", "output_1": "b", "output_2": "a", "preference": 2},
        "prompts": {"messages": [user, answer, {**user, "content": "b"}, answer]},
        "helpsteer": group(
            [{"prompt": "q", "response": "a", **rated}, {"prompt": "q", "response": "b", **rated, "helpfulness": 0}]
        ),
    }
    assert set(examples) == set(READERS)
    for name, value in examples.items():
        texts = [message.text for message in whole_tree_of(read(name, value)).messages]
        assert texts[-1][0] in "ab", name
        assert all("a" <= text[0] <= "q" for text in texts)
    assert set(chain.from_iterable(READERS[name].columns for name in READERS)) >= {"prompt", "chosen", "messages"}

"""Preference pairs: which pairs a tree has, and what is written of a pair is read back as the same pair."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.outcomes import chat, read, tree_of
from tunesmith.apps.preference_pairs import PreferencePair, pair_line, pairs_of
from tunesmith.text.tree import Message, Tree


def test_every_two_replies_of_different_ranks_make_a_pair() -> None:
    replies = [Message("assistant", text, rank=rank) for text, rank in (("b", 1), ("a", 0), ("c", 1), ("d", 2))]
    messages = (Message("user", "Q"), *replies, Message("assistant", "unranked"))
    found = list(pairs_of(Tree(messages, (-1, 0, 0, 0, 0, 0))))
    assert [(pair.chosen.text, pair.rejected.text) for pair in found] == [
        *(("a", worse) for worse in "bcd"),
        ("b", "d"),
        ("c", "d"),
    ]
    assert all(pair.prompt == [Message("user", "Q")] for pair in found)


def test_the_prompt_of_a_deeper_ranking_is_all_that_leads_to_it() -> None:
    def reply(text: str, rank: int) -> Message:
        return Message("assistant", text, rank=rank)

    texts = (Message("user", "Q"), reply("good", 0), Message("user", "More?"), reply("x", 0), reply("y", 1))
    found = list(pairs_of(Tree((*texts, reply("bad", 1)), (-1, 0, 1, 2, 2, 0))))
    assert [[message.text for message in pair.prompt] for pair in found] == [["Q"], ["Q", "good", "More?"]]


spoken = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=6)
scores = st.none() | st.floats(-1e9, 1e9, allow_nan=False)


@st.composite
def drawn_pairs(draw: st.DrawFn) -> PreferencePair:
    texts = draw(st.lists(spoken.filter(str.strip), min_size=1, max_size=3))
    roles = draw(st.sampled_from([("user",), ("system", "user"), ("user", "assistant", "user")]))
    prompt = [Message(role, texts[index % len(texts)]) for index, role in enumerate(roles)]  # type: ignore[arg-type]
    better, worse = draw(spoken.filter(str.strip)), draw(spoken.filter(str.strip))
    high, low = draw(scores), draw(scores)
    if high is None or low is None:
        high = low = None
    else:
        high, low = max(high, low), min(high, low)
    return PreferencePair(
        prompt, Message("assistant", better, rank=0, score=high), Message("assistant", worse, rank=1, score=low)
    )


@settings(max_examples=150, deadline=None)
@given(drawn_pairs())
def test_what_is_written_is_read_back_as_the_same_pair(pair: PreferencePair) -> None:
    if pair.chosen.text == pair.rejected.text:
        return
    line = pair_line(pair, "x")
    assert line.count(b"\n") == 1
    tree = tree_of(read("preference", json.loads(line)))
    (again,) = pairs_of(tree)
    assert [message.text for message in again.prompt] == [message.text for message in pair.prompt]
    assert (again.chosen.text, again.rejected.text) == (pair.chosen.text, pair.rejected.text)
    if pair.chosen.score is None or pair.rejected.score is None:
        assert again.chosen.score is again.rejected.score is None
    else:
        assert again.chosen.score is not None
        assert again.rejected.score is not None
        assert again.chosen.score - again.rejected.score == pair.chosen.score - pair.rejected.score


def test_a_passage_follows_the_text_that_refers_to_it() -> None:
    asked, reply = Message("user", "Sum up.", context="A passage."), Message("assistant", "a", rank=0)
    record = json.loads(pair_line(PreferencePair([asked], reply, Message("assistant", "b", rank=1)), "x"))
    assert record["chosen"] == chat("Sum up.\n\nA passage.", "a")

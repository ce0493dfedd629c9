"""Proof of what is compared: ranks, groups and contents of replies, worked out a second time from the messages."""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose, isnan

from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Tree

SHOWN = 24  # characters on either side of a reply that is quoted


def compared_messages(tree: Tree) -> dict[int, tuple[int, int]]:
    """Message -> (message that it answers, rank) of every reply that another one, of another rank, can be compared with."""
    found: dict[int, tuple[int, int]] = {}
    for asked, numbers in enumerate(tree.children()):
        candidates: dict[int, int] = {}
        for number in numbers:
            reply = tree.messages[number]
            if reply.rank is None or reply.role != "assistant" or reply.trained is False:
                continue
            candidates[number] = reply.rank
        if candidates and min(candidates.values()) != max(candidates.values()):
            found |= {number: (asked, rank) for number, rank in candidates.items()}
    return found


def find_ranking_faults(renderer: Renderer, tree: Tree, tokens: TokenTree) -> str | None:
    """What is wrong with the replies of ``tokens`` as those that ``tree`` compares, or None.

    Every reply must have the rank, the group and the score of its message, and the tokens that are said to be its own must
    read back as what it says, an end token last.
    """
    expected = compared_messages(tree)
    listed = [tuple(row) for row in tokens.replies.tolist()]
    if listed != [(message, *expected[message]) for message in sorted(expected)]:
        return _difference(expected, listed)
    own: dict[int, list[int]] = {message: [] for message in expected}
    for start, end, _, message, _ in tokens.spans.tolist():
        if message not in own:
            return f"message {message} is trained, and is compared with nothing"
        own[message] += tokens.ids[start:end].tolist()
    for place, message in enumerate(sorted(expected)):
        told, score = tree.messages[message], float(tokens.scores[place])
        if not _same_score(told.score, score):
            return f"reply {message} has the score {score:g}, in the data {told.score}"
        if not own[message] or own[message][-1] not in renderer.stop_ids:
            return f"reply {message} does not end with an end token"
        read = renderer.parse(own[message]).text
        if read.strip() not in (told.text.strip(), as_read(renderer, told.text).strip()):
            return f"what is compared as reply {message} reads {_short(read)}, not {_short(told.text)}"
    return None


def _same_score(told: float | None, kept: float) -> bool:
    """Scores are kept with seven digits, NaN where the data give none."""
    return isnan(kept) if told is None else isclose(told, kept, rel_tol=1e-6, abs_tol=1e-30)


def as_read(renderer: Renderer, text: str) -> str:
    """A text as codec and tokenizer give it back: some compose characters, one knows no difference of ``▁`` and a space."""
    tokenizer, codec = renderer.tokenizer, renderer.format.codec
    return codec.decode(tokenizer.decode(tokenizer.encode(codec.encode(text), continuing=True), continuing=True))


def _difference(expected: Mapping[int, tuple[int, int]], listed: list[tuple[int, ...]]) -> str:
    """The first reply of which message, group or rank are not those of the data."""
    rows = {message: (group, rank) for message, group, rank in listed}
    for message in sorted(expected.keys() | rows.keys()):
        if message not in rows:
            return f"reply {message} has a rank beside another one and is not compared"
        if message not in expected:
            return f"message {message} is compared, and has no rank beside another one"
        if rows[message] != expected[message]:
            (group, rank), (asked, right) = rows[message], expected[message]
            return f"reply {message} is compared as rank {rank} among those to {group}; it has rank {right} among those to {asked}"
    return "the replies are not in the order of the messages"


def _short(text: str) -> str:
    return repr(text if len(text) <= 2 * SHOWN else f"{text[:SHOWN]} ... {text[-SHOWN:]}")

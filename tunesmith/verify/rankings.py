"""Verification of rankings: ranks, groups and contents of replies, computed a second time from the messages."""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose, isnan

from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Tree

_QUOTED = 24  # characters that are quoted from each end of a long text


def expected_rankings(tree: Tree) -> dict[int, tuple[int, int]]:
    """Return message -> (the message that it answers, rank) for every reply with a sibling of another rank."""
    found: dict[int, tuple[int, int]] = {}
    for question, numbers in enumerate(tree.children()):
        ranks: dict[int, int] = {}
        for number in numbers:
            reply = tree.messages[number]
            if reply.rank is None or reply.role != "assistant" or reply.trained is False:
                continue
            ranks[number] = reply.rank
        if ranks and min(ranks.values()) != max(ranks.values()):
            found |= {number: (question, rank) for number, rank in ranks.items()}
    return found


def find_ranking_faults(renderer: Renderer, tree: Tree, tokens: TokenTree) -> str | None:
    """Return how the replies of ``tokens`` differ from those that ``tree`` ranks, or None.

    Every reply must have the rank, the group and the score of its message. The target tokens of its message must end
    with an end token and decode to the text of the message.
    """
    expected = expected_rankings(tree)
    listed = [tuple(row) for row in tokens.replies.tolist()]
    if listed != [(message, *expected[message]) for message in sorted(expected)]:
        return _describe_difference(expected, listed)
    own: dict[int, list[int]] = {message: [] for message in expected}
    for start, end, _, message, _ in tokens.spans.tolist():
        if message not in own:
            return f"message {message} is trained, but it is not compared with any reply"
        own[message] += tokens.ids[start:end].tolist()
    for place, message in enumerate(sorted(expected)):
        original, score = tree.messages[message], float(tokens.scores[place])
        if not _same_score(original.score, score):
            return f"reply {message} has the score {score:g}, but {original.score} in the data"
        if not own[message] or own[message][-1] not in renderer.stop_ids:
            return f"reply {message} does not end with an end token"
        text = renderer.parse(own[message]).text
        before = [tree.messages[index] for index in tree.ancestors(message)[:-1]]
        wanted = renderer.format.reply_text(original, before)
        if text.strip() not in (wanted.strip(), round_trip(renderer, wanted).strip()):
            return f"the tokens of reply {message} decode to {shorten(text)}, not to {shorten(wanted)}"
    return None


def round_trip(renderer: Renderer, text: str) -> str:
    """Return a text after encoding and decoding, which may compose characters or replace ``▁`` by a space."""
    tokenizer, codec = renderer.tokenizer, renderer.format.codec
    return codec.decode(tokenizer.decode(tokenizer.encode(codec.encode(text), continuing=True), continuing=True))


def shorten(text: str) -> str:
    """Quote a text for a message, a long one without its middle."""
    return repr(text if len(text) <= 2 * _QUOTED else f"{text[:_QUOTED]} ... {text[-_QUOTED:]}")


def _same_score(original: float | None, stored: float) -> bool:
    """Whether a score is the stored one, which has seven digits, and is NaN where the data have none."""
    return isnan(stored) if original is None else isclose(original, stored, rel_tol=1e-6, abs_tol=1e-30)


def _describe_difference(expected: Mapping[int, tuple[int, int]], listed: list[tuple[int, ...]]) -> str:
    """Describe the first reply that is missing, unexpected, or in the wrong group or rank."""
    rows = {message: (group, rank) for message, group, rank in listed}
    for message in sorted(expected.keys() | rows.keys()):
        if message not in rows:
            return f"reply {message} and a sibling have different ranks, but the reply is not compared"
        if message not in expected:
            return f"message {message} is compared, but no sibling has another rank"
        if rows[message] != expected[message]:
            (group, rank), (question, right) = rows[message], expected[message]
            return (
                f"reply {message} is compared as rank {rank} among the replies to {group}; "
                f"it has rank {right} among the replies to {question}"
            )
    return "the replies are not in the order of the messages"

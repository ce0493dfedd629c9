"""Tokens that are shown: those of whole threads, or of the beginning of the first ones, which is quick."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tunesmith.errors import DataError
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.show import ShownToken, show_prompt, show_threads
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Message, Tree

Build = Callable[..., Renderer]

ASKED, REPLY = Message("user", "What is red?"), Message("assistant", "A fox \N{FOX FACE}.")
CHAT = Tree((ASKED, REPLY, Message("user", "And old?"), Message("assistant", "An owl."), REPLY), (-1, 0, 1, 2, 2))
"""Two threads, with a character of several tokens."""


def ids_of(thread: Sequence[ShownToken]) -> list[int]:
    return [token for shown in thread for token in shown.ids]


@pytest.mark.parametrize("name", ["plain", "oasst", "chatml"])
def test_the_beginning_of_the_first_threads_is_shown_as_in_the_whole(renderer: Build, name: str) -> None:
    built = renderer(name)
    tokens = built.render(CHAT)
    whole = show_threads(built, CHAT, tokens)
    assert [ids_of(thread) for thread in whole] == [tokens.ids[tokens.thread(end)].tolist() for end in tokens.ends()]
    for longest in range(1, len(ids_of(whole[0])) + 2):
        (part,) = show_threads(built, CHAT, tokens, threads=1, longest=longest)
        assert ids_of(part) == ids_of(whole[0])[:longest]
        assert part[:-1] == whole[0][: len(part) - 1]  # the last character may be cut
        assert part[-1].role == whole[0][len(part) - 1].role


def test_turns_that_are_not_shown_are_not_rendered(renderer: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of 2,000 turns took a minute before its first tokens were shown."""
    built = renderer("oasst")
    messages = [Message(("user", "assistant")[turn % 2], f"Turn {turn}.") for turn in range(2000)]
    tree, rendered = Tree.path(messages), list[int]()
    tokens = built.render(tree)
    inner = Renderer.render_many

    def count(self: Renderer, trees: Sequence[Tree]) -> list[TokenTree | DataError]:
        rendered.extend(len(each.messages) for each in trees)
        return inner(self, trees)

    monkeypatch.setattr(Renderer, "render_many", count)
    (thread,) = show_threads(built, tree, tokens, longest=100)
    assert ids_of(thread) == tokens.ids[:100].tolist()
    assert max(rendered) < 40
    rendered.clear()
    assert ids_of(show_prompt(built, messages[:-1], tokens.ids[:100].tolist())) == tokens.ids[:100].tolist()
    assert max(rendered) < 40

"""A rendered tree for people: every token with its text, the role of its turn, and whether it is a target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from tunesmith.errors import DataError
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Message, Role, Tree

_MAX_TOKENS_PER_CHARACTER = 6


@dataclass(frozen=True, slots=True)
class ShownToken:
    """A token, or several that are one character.

    text: the decoded text.
    ids: the token ids; more than one where a character needs several tokens.
    role: of the turn that it belongs to.
    target: whether it is trained.
    control: whether it is a control token.
    cut: whether truncation leaves it out.
    """

    text: str
    ids: tuple[int, ...]
    role: Role
    target: bool
    control: bool
    cut: bool = False


def show_threads(
    renderer: Renderer, tree: Tree, tokens: TokenTree, *, threads: int | None = None, longest: int | None = None
) -> list[list[ShownToken]]:
    """Return the tokens of the root-to-leaf threads, in order.

    tokens: the rendering of ``tree`` by ``renderer``, not truncated.
    threads: how many threads are shown; None for all.
    longest: token ids of each that are shown, from its beginning; None for all.
    """
    trained = np.zeros(len(tokens.ids), np.bool_)
    trained[tokens.targets()] = True
    found = []
    for end, path in islice(zip(tokens.ends(), tree.threads(), strict=True), threads):
        indices = tokens.thread(end)[:longest]
        ids = tokens.ids[indices].tolist()
        roles = _roles(renderer, [tree.messages[index] for index in path], ids)
        found.append(list(_group_tokens(renderer, ids, roles, trained[indices].tolist())))
    return found


def show_prompt(renderer: Renderer, messages: Sequence[Message], ids: Sequence[int]) -> list[ShownToken]:
    """Return the tokens of a prompt for a reply to ``messages``; the last ones belong to the reply that follows.

    ids: the prompt, which may end within it or with the beginning of the reply.
    """
    roles = _roles(renderer, [*messages, Message("assistant", "")], ids)
    return list(_group_tokens(renderer, ids, roles, [False] * len(ids)))


def _roles(renderer: Renderer, messages: Sequence[Message], ids: Sequence[int]) -> list[Role]:
    """Return the role of every token. A turn ends where the thread differs from its rendering up to that turn.

    ids: of the thread, or of its beginning; turns after them are not rendered.
    """
    roles: list[Role] = []
    for number, message in enumerate(messages):
        if len(roles) == len(ids):
            break
        if number + 1 < len(messages):
            (begun,) = renderer.render_many([Tree.path(messages[: number + 1])])
            # A system message that is written together with the question has no tokens alone.
            alone = [] if isinstance(begun, DataError) else begun.ids.tolist()
            both = min(len(alone), len(ids))
            same = next((i for i, (one, two) in enumerate(zip(alone, ids, strict=False)) if one != two), both)
        else:
            same = len(ids)
        roles += [message.role] * (same - len(roles))
    return roles


def _group_tokens(
    renderer: Renderer, ids: Sequence[int], roles: Sequence[Role], trained: Sequence[bool]
) -> Iterator[ShownToken]:
    """Yield the tokens of a thread; tokens that are a character only together are yielded as one."""
    tokenizer = renderer.tokenizer
    group: list[int] = []
    for index, token in enumerate(ids):
        control = not tokenizer.may_come_from_text(token)
        group.append(token)
        text = tokenizer.decode(group, skip_controls=False, continuing=True)
        incomplete = text.endswith("\N{REPLACEMENT CHARACTER}") and len(group) < _MAX_TOKENS_PER_CHARACTER
        next_is_alike = (
            index + 1 < len(ids) and trained[index + 1] == trained[index] and roles[index + 1] == roles[index]
        )
        if not control and incomplete and next_is_alike:
            continue
        yield ShownToken(text, tuple(group), roles[index], trained[index], control)
        group = []

"""A rendered tree as a person can read it: every token with its text, whose turn it stands in, and whether it is a target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Message, Role, Tree

CHARACTER_LIMIT = 6  # no character is spread over more tokens


@dataclass(frozen=True, slots=True)
class ShownToken:
    """text: what it stands for; several ids where one character needs them. control: whether it entered by id."""

    text: str
    ids: tuple[int, ...]
    role: Role
    target: bool
    control: bool


def shown_threads(renderer: Renderer, tree: Tree, tokens: TokenTree) -> list[list[ShownToken]]:
    """The tokens of every root-to-leaf thread, in order. ``tokens`` is the rendering of ``tree``, not truncated."""
    trained = np.zeros(len(tokens.ids), np.bool_)
    trained[tokens.targets()] = True
    found = []
    for end, path in zip(tokens.ends(), tree.threads(), strict=True):
        indices = tokens.thread(end)
        ids = tokens.ids[indices].tolist()
        roles = _roles(renderer, [tree.messages[index] for index in path], ids)
        found.append(list(_tokens(renderer, ids, roles, trained[indices].tolist())))
    return found


def _roles(renderer: Renderer, messages: Sequence[Message], ids: Sequence[int]) -> list[Role]:
    """The role of the turn of every token. A turn ends where the thread up to it, rendered alone, stops being alike."""
    roles: list[Role] = []
    for number, message in enumerate(messages):
        if number + 1 < len(messages):
            alone = renderer.render(Tree.path(messages[: number + 1])).ids.tolist()
            same = next((i for i, (one, two) in enumerate(zip(alone, ids, strict=False)) if one != two), len(alone))
        else:
            same = len(ids)
        roles += [message.role] * (same - len(roles))
    return roles


def _tokens(
    renderer: Renderer, ids: Sequence[int], roles: Sequence[Role], trained: Sequence[bool]
) -> Iterator[ShownToken]:
    tokenizer = renderer.tokenizer
    waiting: list[int] = []
    for index, token in enumerate(ids):
        control = not tokenizer.may_come_from_text(token)
        waiting.append(token)
        text = tokenizer.decode(waiting, skip_controls=False, continuing=True)
        unfinished = text.endswith("\ufffd") and len(waiting) < CHARACTER_LIMIT
        next_is_alike = (
            index + 1 < len(ids) and trained[index + 1] == trained[index] and roles[index + 1] == roles[index]
        )
        if not control and unfinished and next_is_alike:
            continue
        yield ShownToken(text, tuple(waiting), roles[index], trained[index], control)
        waiting = []

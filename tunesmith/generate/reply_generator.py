"""What writes replies to many prompts: our own engine, or another one that reads the same exports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from tunesmith.generate.engine import GeneratedReply
from tunesmith.generate.requests import ReplyRequest
from tunesmith.text.tokens.render import Renderer


class ReplyGenerator(Protocol):
    """A model with the renderer of its prompt format.

    renderer: of its prompt format.
    context: the largest number of tokens of prompt and reply together; for an encoder-decoder, of the prompt.
    notice: what the user should know about the generation; None for nothing.
    """

    renderer: Renderer
    context: int

    @property
    def notice(self) -> str | None: ...

    def replies(self, requests: Sequence[ReplyRequest], batch_size: int) -> Iterator[tuple[int, GeneratedReply]]:
        """(index, reply) of every request, as soon as it is done. batch_size: replies that are generated together."""
        ...

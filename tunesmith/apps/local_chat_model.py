"""The model of a chat in this process: an engine with its sampling settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunesmith.apps.chat_model import ReplyPart
from tunesmith.apps.chat_settings import describe_sampling
from tunesmith.generate.engine import Engine, RenderedPrompt
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.model.context import NO_LIMIT
from tunesmith.text.formats.passage import find_passage_label
from tunesmith.text.tokens.show import ShownToken, show_prompt
from tunesmith.text.tree import Message


class LocalChatModel:
    """See ``ChatModel``. Reply number n is drawn with (seed, n), so a chat is repeatable and a retry differs.

    engine: the model with its prompt format.
    sampling: the sampling settings; they may be changed between replies.
    seed: the seed of all replies.
    """

    commands_left_out: frozenset[str] = frozenset()

    def __init__(self, engine: Engine, sampling: SamplingParameters, seed: int) -> None:
        self.sampling = sampling
        self._engine, self._seed = engine, seed
        self._state = engine.new_state()
        self._prompt = RenderedPrompt((), (), 0)
        format = engine.renderer.format
        self.multi_turn, self.format_name = format.multi_turn, format.name
        self.passage_label = find_passage_label(format)
        self.context = engine.context if engine.context < NO_LIMIT else None
        self.notice = engine.notice

    @property
    def about(self) -> str:
        """See ``ChatModel``."""
        seed = f", seed {self._seed}" if self.draws else ""
        return f"prompt format {self.format_name}, {self.describe_sampling()}{seed}"

    @property
    def draws(self) -> bool:
        """See ``ChatModel``."""
        return self.sampling.do_sample

    def find_system_fault(self, message: Message) -> str | None:
        """See ``ChatModel``."""
        return self._engine.renderer.format.find_fault(message, ())

    def change_sampling(self, settings: Mapping[str, Any]) -> None:
        """See ``ChatModel``."""
        self.sampling = replace(self.sampling, **settings)

    def describe_sampling(self) -> str:
        """See ``ChatModel``."""
        return describe_sampling(self.sampling)

    def prepare(self, messages: Sequence[Message]) -> int:
        """See ``ChatModel``."""
        self._prompt = self._engine.prompt(messages, self.sampling)
        return self._prompt.dropped

    def stream(self, messages: Sequence[Message], sample: int, drafts: int) -> Iterator[ReplyPart]:
        """See ``ChatModel``. A single reply reuses the keys of the last prompt."""
        if drafts == 1:
            one = self._engine.stream(messages, self.sampling, self._seed, sample=sample, state=self._state)
            for chunk in one:
                yield ReplyPart(0, chunk.text, len(chunk.ids), chunk.finish_reason)
            return
        samples = range(sample, sample + drafts)
        for draft, chunk in self._engine.stream_drafts(messages, self.sampling, self._seed, samples):
            yield ReplyPart(draft, chunk.text, len(chunk.ids), chunk.finish_reason)

    def prompt_tokens(self) -> Sequence[ShownToken]:
        """See ``ChatModel``."""
        return show_prompt(self._engine.renderer, self._prompt.messages, self._prompt.ids)

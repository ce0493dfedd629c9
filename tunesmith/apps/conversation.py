"""One conversation with a model: what was said, how replies are drawn, and the next reply."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tunesmith.apps.terminal import Terminal
from tunesmith.errors import UsageError
from tunesmith.files import write_file
from tunesmith.generate.engine import Engine, ReplyChunk
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.text.tree import Message


class Conversation:
    """The messages so far, the settings, and the cache of what the model has read.

    Reply number n draws with the random numbers (seed, n, ...), so a conversation can be repeated and a retry differs.
    """

    def __init__(
        self, engine: Engine, terminal: Terminal, sampling: SamplingParameters, seed: int, system: str | None
    ) -> None:
        self.engine, self.terminal = engine, terminal
        self.sampling, self.seed = sampling, seed
        self.messages: list[Message] = []
        self.saved: set[Path] = set()  # files that hold this conversation and may be replaced
        self._replies = 0
        self._state = engine.new_state()
        self._told_single_turn = False
        self._told_dropped = 0
        if system is not None:
            self.set_system(system)

    @property
    def system(self) -> str | None:
        return self.messages[0].text if self.messages and self.messages[0].role == "system" else None

    def set_system(self, text: str | None) -> None:
        """Replace or remove the system message; it holds for the whole conversation from the next reply on.

        Raises UsageError if the prompt format has no place for one.
        """
        head = [] if text is None else [Message("system", text)]
        if head and (fault := self.engine.renderer.format.find_fault(head[0], ())):
            raise UsageError(fault, advice="leave the system message out")
        self.messages = head + self.turns

    @property
    def turns(self) -> list[Message]:
        """What was said, without the system message."""
        return [message for message in self.messages if message.role != "system"]

    def reset(self) -> None:
        """Forget what was said; the system message stays."""
        self.messages = self.messages[: 1 if self.system is not None else 0]
        self._told_dropped = 0

    def say(self, text: str) -> None:
        """Send a message of the user and show the reply. It is kept only if the reply is not empty. Raises DataError."""
        asked = [*self.messages, Message("user", text)]
        if not self.engine.renderer.format.multi_turn and self.turns:
            if not self._told_single_turn:
                name = self.engine.renderer.format.name
                self.terminal.notice(f"(prompt format {name!r} has single turns: each message starts anew)")
            self._told_single_turn = True
            asked = [asked[-1]]
        self._reply(asked)

    def retry(self) -> None:
        """Replace the last reply by another one. Raises UsageError if there is none."""
        if not self.messages or self.messages[-1].role != "assistant":
            raise UsageError("there is no reply to replace yet", advice="say something first")
        if not self.sampling.do_sample:
            self.terminal.notice("(do_sample is false, so the reply is the same; `/set do_sample=true` lets it vary)")
        self._reply(self.messages[:-1])

    def save(self, path: Path) -> None:
        """Write the conversation as one line of JSON, which the reader of chat data takes. Raises StorageError."""
        record = {"messages": [{"role": message.role, "content": message.text} for message in self.messages]}
        write_file(path, json.dumps(record, ensure_ascii=False) + "\n")
        self.saved.add(path)

    def _reply(self, asked: list[Message]) -> None:
        """Generate and show the reply to the messages ``asked``; they and the reply become the conversation.

        In a terminal an interrupt ends the reply, and what was shown of it is kept.
        """
        self._tell_dropped(self.engine.prompt(asked, self.sampling).dropped)
        sample, self._replies = self._replies, self._replies + 1
        shown: list[ReplyChunk] = []
        try:
            for delta in self.engine.stream(asked, self.sampling, self.seed, sample=sample, state=self._state):
                self.terminal.say(delta.text)
                shown.append(delta)
        except KeyboardInterrupt:
            if not self.terminal.interactive:
                raise
        text = "".join(delta.text for delta in shown)
        if text:
            self.messages = [*asked, Message("assistant", text)]
        self.terminal.say("\n")
        self._tell_end(shown, text)
        self.terminal.gap()

    def _tell_end(self, shown: Sequence[ReplyChunk], text: str) -> None:
        """Say how a reply ended, unless it ended by itself."""
        end = shown[-1].finish_reason if shown else None
        tokens = sum(len(delta.ids) for delta in shown)
        if end is None:
            self.terminal.notice("(stopped)")
        elif end == "length":
            self.terminal.notice(f"(cut at {tokens} tokens; `/set max_new_tokens=N` allows longer replies)")
        elif end == "context":
            self.terminal.notice(f"(cut: the context of {self.engine.context} tokens is full)")
        elif not text:
            self.terminal.notice("(the reply is empty; your message is not kept)")

    def _tell_dropped(self, dropped: int) -> None:
        if dropped > self._told_dropped:
            count = f"the oldest {dropped} messages" if dropped > 1 else "the oldest message"
            self.terminal.notice(f"(the conversation is longer than the model reads: {count} left out of the prompt)")
        self._told_dropped = dropped


def described(sampling: SamplingParameters) -> str:
    """The settings in one line, without those that have no effect."""
    limits = [f"max_new_tokens={sampling.max_new_tokens}"]
    if sampling.min_new_tokens:
        limits.append(f"min_new_tokens={sampling.min_new_tokens}")
    if sampling.repetition_penalty != 1:
        limits.append(f"repetition_penalty={sampling.repetition_penalty:g}")
    if not sampling.do_sample:
        return " ".join(["do_sample=false", *limits])
    shape: Sequence[str] = [f"temperature={sampling.temperature:g}"]
    neutral = {"top_k": 0, "top_p": 1.0, "typical_p": 1.0}
    shape = [
        *shape,
        *(f"{name}={getattr(sampling, name):g}" for name, off in neutral.items() if getattr(sampling, name) != off),
    ]
    return " ".join([*shape, *limits])

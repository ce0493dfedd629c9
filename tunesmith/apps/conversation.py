"""One conversation with a model: its messages, its sampling settings, and the generation of replies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tunesmith.apps.terminal import Terminal
from tunesmith.errors import UsageError
from tunesmith.files import write_file
from tunesmith.generate.engine import Engine, ReplyChunk
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.text.formats.passage import find_passage_label
from tunesmith.text.tree import Message


class Conversation:
    """The messages and settings of a conversation, and the key-value cache of its prompts.

    Reply number n is sampled with random numbers derived from (seed, n), so a conversation is repeatable and a retry
    gives another reply.

    engine: the model with its prompt format.
    terminal: where replies and notices are written.
    sampling: the sampling settings; they may be changed between replies.
    seed: the seed of all replies.
    messages: the messages so far, with the system message first.
    passage: the passage that the next messages refer to, or empty. It is sent once in a conversation; in a format for
        single turns with every message.
    passage_label: what the prompt format writes before a passage, see ``find_passage_label``; None if it has no place
        for one.
    saved: files to which this conversation was written, which may be overwritten.
    """

    def __init__(
        self, engine: Engine, terminal: Terminal, sampling: SamplingParameters, seed: int, system: str | None
    ) -> None:
        self.engine, self.terminal = engine, terminal
        self.sampling, self.seed = sampling, seed
        self.messages: list[Message] = []
        self.passage = ""
        self.passage_label = find_passage_label(engine.renderer.format)
        self.saved: set[Path] = set()
        self._replies = 0
        self._state = engine.new_state()
        self._reported_single_turn = False
        self._reported_dropped = 0
        if system is not None:
            self.set_system(system)

    @property
    def system(self) -> str | None:
        return self.messages[0].text if self.messages and self.messages[0].role == "system" else None

    def set_system(self, text: str | None) -> None:
        """Replace or remove the system message; the next reply is the first with the new one.

        Raises UsageError if the prompt format does not support one.
        """
        head = [] if text is None else [Message("system", text)]
        if head and (fault := self.engine.renderer.format.find_fault(head[0], ())):
            raise UsageError(fault, advice="leave the system message out")
        self.messages = head + self.turns

    def set_passage(self, text: str) -> None:
        """Set the passage that the next messages refer to; an empty text removes it.

        Raises UsageError if the prompt format has no place for a passage.
        """
        if text and self.passage_label is None:
            what = f"prompts of the format {self.engine.renderer.format.name!r} have no place for a passage"
            raise UsageError(what, advice="write it into the message")
        self.passage = text

    @property
    def is_passage_waiting(self) -> bool:
        """Whether no message of the conversation has the passage yet."""
        return all(message.context != self.passage for message in self.messages)

    @property
    def turns(self) -> list[Message]:
        """The messages without the system message."""
        return [message for message in self.messages if message.role != "system"]

    def reset(self) -> None:
        """Remove all messages but the system message."""
        self.messages = self.messages[: 1 if self.system is not None else 0]
        self._reported_dropped = 0

    def send(self, text: str) -> None:
        """Send a message of the user and print the reply. The message is kept only if the reply is not empty.

        Raises DataError.
        """
        before = self.messages
        if not self.engine.renderer.format.multi_turn and self.turns:
            if not self._reported_single_turn:
                name = self.engine.renderer.format.name
                self.terminal.notice(
                    f"(prompt format {name!r} is for single turns, so every message begins a new conversation)"
                )
            self._reported_single_turn = True
            before = []
        waiting = self.is_passage_waiting or not before
        self._reply([*before, Message("user", text, context=self.passage if waiting else "")])

    def retry(self) -> None:
        """Replace the last reply by a new one. Raises UsageError if there is no reply."""
        if not self.messages or self.messages[-1].role != "assistant":
            raise UsageError("there is no reply to replace yet", advice="write a message first")
        if not self.sampling.do_sample:
            self.terminal.notice(
                "(do_sample is false, so the reply will be the same; `/set do_sample=true` enables sampling)"
            )
        self._reply(self.messages[:-1])

    def save(self, path: Path) -> None:
        """Write the conversation as one line of JSON, which the reader `messages` can read. Raises StorageError."""
        record = {"messages": [_as_record(message) for message in self.messages]}
        write_file(path, json.dumps(record, ensure_ascii=False) + "\n")
        self.saved.add(path)

    def _reply(self, prompt: list[Message]) -> None:
        """Generate and print the reply to a prompt; prompt and reply become the messages of the conversation.

        In a terminal an interrupt stops the reply, and the part that was printed is kept.
        """
        self._report_dropped(self.engine.prompt(prompt, self.sampling).dropped)
        sample, self._replies = self._replies, self._replies + 1
        shown: list[ReplyChunk] = []
        try:
            for delta in self.engine.stream(prompt, self.sampling, self.seed, sample=sample, state=self._state):
                self.terminal.write(delta.text)
                shown.append(delta)
        except KeyboardInterrupt:
            if not self.terminal.interactive:
                raise
        text = "".join(delta.text for delta in shown)
        if text:
            self.messages = [*prompt, Message("assistant", text)]
        self.terminal.write("\n")
        self._report_end(shown, text)
        self.terminal.write_gap()

    def _report_end(self, shown: Sequence[ReplyChunk], text: str) -> None:
        """Print how a reply ended, unless the model ended it."""
        end = shown[-1].finish_reason if shown else None
        tokens = sum(len(delta.ids) for delta in shown)
        if end is None:
            self.terminal.notice("(stopped)")
        elif end == "length":
            self.terminal.notice(f"(stopped at {tokens} tokens; `/set max_new_tokens=N` allows longer replies)")
        elif end == "context":
            self.terminal.notice(f"(stopped because the context of {self.engine.context} tokens is full)")
        elif not text:
            self.terminal.notice("(the reply is empty, so your message is removed)")

    def _report_dropped(self, dropped: int) -> None:
        if dropped > self._reported_dropped:
            left_out = f"the oldest {dropped} messages are" if dropped > 1 else "the oldest message is"
            self.terminal.notice(
                f"(the conversation exceeds the context of the model: {left_out} left out of the prompt)"
            )
        self._reported_dropped = dropped


def _as_record(message: Message) -> dict[str, str]:
    """The message as the reader `messages` reads it."""
    passage = {"context": message.context} if message.context else {}
    return {"role": message.role, "content": message.text, **passage}


def describe_sampling(sampling: SamplingParameters) -> str:
    """The settings on one line, without those that have no effect."""
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

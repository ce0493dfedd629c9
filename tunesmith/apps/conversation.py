"""One conversation with a model: its messages, and how replies and drafts are shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tunesmith.apps.chat_model import ChatModel, ReplyPart
from tunesmith.apps.preference_pairs import PreferencePair, pair_line, strip_pair
from tunesmith.apps.terminal import Terminal
from tunesmith.apps.typed_text import valid_text
from tunesmith.errors import TunesmithError, UsageError
from tunesmith.files import write_file
from tunesmith.text.tree import Message


class Conversation:
    """The messages of a conversation, and those that ended before it in the same chat.

    model: writes the replies.
    terminal: where replies and notices are written.
    messages: the messages so far, with the system message first.
    ended: the conversations that a new one has replaced, each with its system message.
    passage: the passage that the next messages refer to, or empty. It is sent once in a conversation; in a format for
        single turns with every message.
    saved: files to which this chat was written, which may be overwritten.
    choices: the chosen draft and each of the drafts next to it, of every choice of this chat.
    """

    def __init__(self, model: ChatModel, terminal: Terminal, system: str | None) -> None:
        self.model, self.terminal = model, terminal
        self.messages: list[Message] = []
        self.ended: list[list[Message]] = []
        self.passage = ""
        self.saved: set[Path] = set()
        self.choices: list[PreferencePair] = []
        self._replies = 0
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
        if head and (fault := self.model.find_system_fault(head[0])):
            raise UsageError(fault, advice="leave the system message out")
        self.messages = head + self.turns

    def set_passage(self, text: str) -> None:
        """Set the passage that the next messages refer to; an empty text removes it.

        Raises UsageError if the prompt format has no place for a passage.
        """
        if text and self.model.passage_label is None:
            what = f"prompts of the format {self.model.format_name!r} have no place for a passage"
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
        """Begin a new conversation with the same system message."""
        if self.turns:
            self.ended.append(self.messages)
        self.messages = self.messages[: 1 if self.system is not None else 0]
        self._reported_dropped = 0

    def send(self, text: str) -> None:
        """Send a message of the user and print the reply. The message is kept only if the reply is not empty.

        Raises DataError, MissingInputError.
        """
        before = self.messages
        begins = not self.model.multi_turn and bool(self.turns)
        if begins:
            if not self._reported_single_turn:
                name = self.model.format_name
                self.terminal.notice(
                    f"(prompt format {name!r} is for single turns, so every message begins a new conversation)"
                )
            self._reported_single_turn = True
            before = []
        waiting = self.is_passage_waiting or not before
        prompt = [*before, Message("user", valid_text(text), context=self.passage if waiting else "")]
        if reply := self._write_reply(prompt):
            if begins:
                self.ended.append(self.messages)
            self.messages = [*prompt, Message("assistant", reply)]

    def retry(self) -> None:
        """Replace the last reply by a new one. Raises UsageError if there is no reply."""
        prompt = self._last_prompt()
        if not self.model.draws:
            self.terminal.notice(
                "(do_sample is false, so the reply will be the same; `/set do_sample=true` enables sampling)"
            )
        if reply := self._write_reply(prompt):
            self.messages = [*prompt, Message("assistant", reply)]

    def write_drafts(self, count: int) -> None:
        """Print several replies to the last message; the one that the user chooses replaces the last reply.

        Raises UsageError if there is no reply or all drafts would be the same.
        """
        prompt = self._last_prompt()
        if not self.model.draws:
            raise UsageError("do_sample is false, so all drafts would be the same", advice="/set do_sample=true")
        drafts = self._print_drafts(self._begin(prompt, count), count)
        if drafts is None:
            self.terminal.notice("(stopped; the reply is as it was)")
        elif (chosen := self._choose(drafts)) is None:
            self.terminal.notice("(the reply is as it was)")
        else:
            self.messages = [*prompt, Message("assistant", drafts[chosen])]
            self.choices += self._compared(prompt, drafts, chosen)
            self.terminal.notice(f"(draft {chosen + 1} is the reply)")

    @property
    def conversations(self) -> list[list[Message]]:
        """All conversations of this chat that have a message."""
        return [*self.ended, *([self.messages] if self.turns else [])]

    def save(self, path: Path) -> None:
        """Write every conversation of this chat as a line of JSON, as the reader `messages` reads it.

        Raises StorageError.
        """
        records = [{"messages": [_as_record(message) for message in each]} for each in self.conversations]
        write_file(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
        self.saved.add(path)

    def save_choices(self, path: Path) -> None:
        """Write every choice among drafts as lines of JSON, as the reader `preference` reads them.

        Raises StorageError.
        """
        write_file(path, b"".join(pair_line(pair, "chat") for pair in self.choices))
        self.saved.add(path)

    def _compared(self, prompt: list[Message], drafts: Sequence[str], chosen: int) -> Iterator[PreferencePair]:
        """The chosen draft with every draft of another text, and with what the model read of the prompt."""
        head = prompt[: 1 if self.system is not None else 0]
        read = [*head, *prompt[len(head) + self._reported_dropped :]]
        for draft in drafts:
            pair = strip_pair(PreferencePair(read, Message("assistant", drafts[chosen]), Message("assistant", draft)))
            if not isinstance(pair, str):
                yield pair

    def _last_prompt(self) -> list[Message]:
        if not self.messages or self.messages[-1].role != "assistant":
            raise UsageError("there is no reply to replace yet", advice="write a message first")
        return self.messages[:-1]

    def _begin(self, prompt: list[Message], count: int) -> Iterator[ReplyPart]:
        """The pieces of the next replies to a prompt."""
        self._report_dropped(self.model.prepare(prompt))
        sample, self._replies = self._replies, self._replies + count
        return self.model.stream(prompt, sample, count)

    def _write_reply(self, prompt: list[Message]) -> str:
        """Generate and print the reply to a prompt. In a terminal an interrupt stops it; what was printed is kept."""
        shown: list[ReplyPart] = []
        try:
            for part in self._begin(prompt, 1):
                self.terminal.write(part.text)
                shown.append(part)
        except KeyboardInterrupt:
            if not self.terminal.interactive:
                raise
        except TunesmithError:
            if shown:
                self.terminal.write("\n")
            raise
        text = _joined(shown)
        self.terminal.write("\n")
        self._report_end(shown)
        if not text and shown and shown[-1].finish == "stop":
            self.terminal.notice("(the reply is empty, so your message is removed)")
        self.terminal.write_gap()
        return text

    def _print_drafts(self, parts: Iterator[ReplyPart], count: int) -> list[str] | None:
        """Print drafts that are generated together, one after the other; None if an interrupt stops them."""
        received: list[list[ReplyPart]] = [[] for _ in range(count)]
        current = 0
        self.terminal.notice(f"draft 1 of {count}")
        try:
            for part in parts:
                received[part.draft].append(part)
                if part.draft == current:
                    self.terminal.write(part.text)
                while current < count and received[current] and received[current][-1].finish is not None:
                    self._end_draft(received[current])
                    current += 1
                    if current < count:
                        self.terminal.notice(f"draft {current + 1} of {count}")
                        self.terminal.write("".join(each.text for each in received[current]))
        except KeyboardInterrupt:
            self.terminal.write("\n")
            if not self.terminal.interactive:
                raise
            return None
        return [_joined(draft) for draft in received]

    def _end_draft(self, parts: Sequence[ReplyPart]) -> None:
        self.terminal.write("\n")
        self._report_end(parts)
        self.terminal.write_gap()

    def _choose(self, drafts: Sequence[str]) -> int | None:
        """The number of the draft that the user chooses, from 0; None to keep the reply."""
        while True:
            try:
                answer = self.terminal.ask(f"which one? 1 to {len(drafts)}, or nothing to keep the reply as it was: ")
            except KeyboardInterrupt:
                return None
            if not answer:
                return None
            if answer.isascii() and answer.isdecimal() and 1 <= int(answer[:4]) <= len(drafts):
                if drafts[int(answer) - 1]:
                    return int(answer) - 1
                problem = UsageError(f"draft {int(answer)} is empty", advice="choose another one")
            else:
                problem = UsageError(f"{answer!r} is not the number of a draft", advice=f"write 1 to {len(drafts)}")
            if not self.terminal.interactive:
                raise problem
            self.terminal.error(str(problem))

    def _report_end(self, shown: Sequence[ReplyPart]) -> None:
        """Print how a reply ended, unless the model ended it."""
        end = shown[-1].finish if shown else None
        tokens = sum(part.tokens for part in shown)
        if end is None:
            self.terminal.notice("(stopped)")
        elif end == "length":
            limit = f"{tokens} tokens" if tokens else "the limit of tokens"
            self.terminal.notice(f"(stopped at {limit}; `/set max_new_tokens=N` allows longer replies)")
        elif end == "context":
            self.terminal.notice(f"(stopped because the context of {self.model.context} tokens is full)")
        elif end != "stop":
            self.terminal.notice(f"(the server ended the reply: {end})")

    def _report_dropped(self, dropped: int) -> None:
        if dropped > self._reported_dropped:
            left_out = f"the oldest {dropped} messages are" if dropped > 1 else "the oldest message is"
            self.terminal.notice(
                f"(the conversation exceeds the context of the model: {left_out} left out of the prompt)"
            )
        self._reported_dropped = dropped


def _joined(parts: Sequence[ReplyPart]) -> str:
    return valid_text("".join(part.text for part in parts))


def _as_record(message: Message) -> dict[str, str]:
    """The message as the reader `messages` reads it."""
    passage = {"context": message.context} if message.context else {}
    return {"role": message.role, "content": message.text, **passage}

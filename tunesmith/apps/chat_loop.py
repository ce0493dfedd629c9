"""The loop of a chat: reads lines, runs commands, sends messages. This module imports no PyTorch."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from tunesmith.apps.chat_model import ChatModel
from tunesmith.apps.commands import is_command, run_command
from tunesmith.apps.conversation import Conversation
from tunesmith.apps.terminal import Terminal
from tunesmith.errors import TunesmithError, UsageError


@dataclass(frozen=True, slots=True)
class ChatFiles:
    """The files of a chat.

    save: a new file to which the conversations are written after every reply; None for no file.
    history: what was typed in earlier chats; None keeps nothing.
    """

    save: Path | None = None
    history: Path | None = None


@dataclass(frozen=True, slots=True)
class ChatStreams:
    """The streams of a chat; None is standard input, output or error."""

    source: TextIO | None = None
    output: TextIO | None = None
    errors: TextIO | None = None


def open_terminal(streams: ChatStreams, files: ChatFiles) -> Terminal:
    """The terminal of a chat. Raises UsageError if the file for the conversations exists."""
    if files.save is not None and files.save.exists():
        raise UsageError("the file already exists", where=files.save, advice="choose another name for --save")
    source = _with_replacement(streams.source or sys.stdin)
    return Terminal(source, streams.output or sys.stdout, streams.errors or sys.stderr, files.history)


def hold_chat(model: ChatModel, terminal: Terminal, files: ChatFiles, system: str | None) -> None:
    """Chat until the input ends. If input or output is a pipe, the first error ends the chat.

    Raises UsageError and errors of generation.
    """
    conversation = Conversation(model, terminal, system)
    _print_settings(conversation)
    running = True
    while running and (line := _next_line(terminal)) is not None:
        try:
            running = _process_line(conversation, line)
            if files.save is not None and conversation.conversations:
                conversation.save(files.save)
        except TunesmithError as error:
            if not terminal.interactive:
                raise
            terminal.error(str(error))


def _print_settings(conversation: Conversation) -> None:
    model, terminal = conversation.model, conversation.terminal
    terminal.notice(model.about)
    if terminal.interactive:
        if model.passage_label or (model.passage_label == "" and not model.multi_turn):
            terminal.notice("to ask about a text, give it first: /context TEXT")
        terminal.notice("/help lists the commands, Ctrl-D ends the chat")
    if model.notice is not None:
        terminal.notice(f"({model.notice})")


def _next_line(terminal: Terminal) -> str | None:
    """The next line. An interrupt discards a typed line; if input or output is a pipe, it ends the chat."""
    while True:
        try:
            return terminal.read()
        except KeyboardInterrupt:
            if not terminal.interactive:
                raise
            terminal.notice("(Ctrl-D ends the chat)")


def _process_line(conversation: Conversation, line: str) -> bool:
    """Run a command or send a message; a blank line is ignored. Returns False if the chat ends."""
    if is_command(line):
        return run_command(conversation, line)
    if line.strip():
        conversation.send(line.removeprefix("/") if line.startswith("//") else line)
    return True


def _with_replacement(source: TextIO) -> TextIO:
    """The same stream, but bytes that are invalid in its encoding are read as U+FFFD instead of raising an error."""
    if isinstance(source, TextIOWrapper):
        source.reconfigure(errors="replace")
    return source

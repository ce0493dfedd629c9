"""The commands of the chat: lines that begin with a slash."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tunesmith.apps.chat_settings import parse_setting
from tunesmith.apps.conversation import Conversation
from tunesmith.apps.token_view import token_lines, token_text
from tunesmith.errors import UsageError

MOST_DRAFTS = 8


@dataclass(frozen=True, slots=True)
class ChatCommand:
    """One command.

    usage: the arguments after the name.
    summary: its line in the list of `/help`.
    run: executes the command with its arguments as text; returns False if the chat ends.
    """

    usage: str
    summary: str
    run: Callable[[Conversation, str], bool]


def _help(conversation: Conversation, argument: str) -> bool:
    known = {name: each for name, each in COMMANDS.items() if name not in conversation.model.commands_left_out}
    width = max(len(f"/{name} {command.usage}") for name, command in known.items())
    lines = [f"{f'/{name} {command.usage}'.ljust(width)}  {command.summary}" for name, command in known.items()]
    lines.append("Several lines that are pasted are one message. Alt-Enter begins a new line, and")
    lines.append("so does Enter after a backslash. The arrow up brings back what was typed before.")
    lines.append("A message that begins with a slash is written with two slashes.")
    lines.append("Ctrl-C stops a reply. Ctrl-D ends the chat.")
    conversation.terminal.notice("\n".join(lines))
    return True


def _drafts(conversation: Conversation, argument: str) -> bool:
    count = int(argument) if argument.isascii() and argument.isdecimal() and len(argument) < 4 else 0
    if not 2 <= count <= MOST_DRAFTS:
        what = f"{argument!r} is not a number of drafts" if argument else "the number of drafts is missing"
        raise UsageError(what, advice=f"write 2 to {MOST_DRAFTS}, as in `/drafts 3`")
    conversation.write_drafts(count)
    return True


def _tokens(conversation: Conversation, argument: str) -> bool:
    tokens = conversation.model.prompt_tokens()
    if not tokens:
        raise UsageError("the model has read nothing yet", advice="write a message first")
    terminal = conversation.terminal
    if terminal.styled:
        terminal.print(token_text(tokens, terminal.can_write))
    else:
        terminal.notice(token_lines(tokens))
    terminal.notice(f"({sum(len(token.ids) for token in tokens)} tokens: what the model read before its last reply)")
    return True


def _reset(conversation: Conversation, argument: str) -> bool:
    conversation.reset()
    parts = {"system message": conversation.system, "passage": conversation.passage}
    kept = " and ".join(name for name, text in parts.items() if text)
    conversation.terminal.notice(f"(a new conversation with the same {kept})" if kept else "(a new conversation)")
    return True


def _retry(conversation: Conversation, argument: str) -> bool:
    conversation.retry()
    return True


def _system(conversation: Conversation, argument: str) -> bool:
    if argument:
        conversation.set_system(None if argument == "off" else argument)
    text = conversation.system
    conversation.terminal.notice("(no system message)" if text is None else f"(system message: {text})")
    return True


def _context(conversation: Conversation, argument: str) -> bool:
    if argument:
        conversation.set_passage("" if argument == "off" else argument)
    conversation.terminal.notice(f"({describe_passage(conversation)})")
    return True


def describe_passage(conversation: Conversation) -> str:
    """The passage, or how to set one, and where the prompt format writes it."""
    name, label = conversation.model.format_name, conversation.model.passage_label
    if label is None:
        return f"prompts of the format {name!r} have no place for a passage"
    place = f"after the line {label!r}" if label else "after an empty line"
    if not conversation.passage:
        return f"no passage; `/context TEXT` sets one, which the format {name!r} writes below your message, {place}"
    sent = "sent once, with your next message" if conversation.is_passage_waiting else "sent"
    if not conversation.model.multi_turn:
        sent = "sent with every message"
    return f"passage, {sent}, {place}: {conversation.passage}"


def _set(conversation: Conversation, argument: str) -> bool:
    for setting in argument.split():
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"{setting!r} is not a setting", advice="write it as in `/set temperature=0.7`")
        conversation.model.change_sampling({name: parse_setting(name, value)})
    conversation.terminal.notice(f"({conversation.model.describe_sampling()})")
    return True


def _save(conversation: Conversation, argument: str) -> bool:
    path = _output(conversation, argument, "/save chat.jsonl")
    if not (found := conversation.conversations):
        raise UsageError("the conversation has no messages yet", advice="write a message first")
    conversation.save(path)
    count = sum(map(len, found))
    what = f"{count} messages" if len(found) == 1 else f"{len(found)} conversations with {count} messages"
    conversation.terminal.notice(f"(saved {what} to {path})")
    return True


def _choices(conversation: Conversation, argument: str) -> bool:
    path = _output(conversation, argument, "/choices pairs.jsonl")
    if not conversation.choices:
        raise UsageError("no draft was preferred to another one yet", advice="write some with `/drafts 2`")
    conversation.save_choices(path)
    count = len(conversation.choices)
    conversation.terminal.notice(f"(saved {count} comparison{'s' if count > 1 else ''} to {path})")
    return True


def _output(conversation: Conversation, argument: str, example: str) -> Path:
    """The file that an argument names. Raises UsageError for none, and for one that this chat has not written."""
    if not argument:
        raise UsageError("the name of the file is missing", advice=f"write it as in `{example}`")
    path = Path(argument).expanduser()
    if path.exists() and path not in conversation.saved:
        raise UsageError("the file already exists", where=path, advice="choose another name")
    return path


def _quit(conversation: Conversation, argument: str) -> bool:
    return False


COMMANDS: Mapping[str, ChatCommand] = {
    "help": ChatCommand("", "show this list", _help),
    "reset": ChatCommand("", "begin a new conversation", _reset),
    "retry": ChatCommand("", "replace the last reply by a new one", _retry),
    "drafts": ChatCommand("N", "write N replies, and choose one", _drafts),
    "tokens": ChatCommand("", "show the tokens that the model read", _tokens),
    "system": ChatCommand("[TEXT|off]", "set, show or remove the system message", _system),
    "context": ChatCommand("[TEXT|off]", "set, show or remove the passage that you ask about", _context),
    "set": ChatCommand("[NAME=VALUE ...]", "change or show the sampling settings", _set),
    "save": ChatCommand("FILE", "write the conversations to a file, one a line", _save),
    "choices": ChatCommand("FILE", "write your choices among drafts as preference pairs", _choices),
    "quit": ChatCommand("", "end the chat", _quit),
}


def is_command(line: str) -> bool:
    """Whether a line begins with exactly one slash; two slashes begin a message."""
    return line.startswith("/") and not line.startswith("//")


def run_command(conversation: Conversation, line: str) -> bool:
    """Run a command line; returns False if the chat ends. Raises UsageError, StorageError and errors of generation."""
    name = re.split(r"\s", line[1:], maxsplit=1)[0]
    argument = line[1 + len(name) :].strip()
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        advice = (
            f"did you mean /{near[0]}?" if near else "/help lists the commands; a message with a slash begins with //"
        )
        raise UsageError(f"there is no command /{name}", advice=advice)
    if name in conversation.model.commands_left_out:
        advice = "chat with the directory of the model instead: `tunesmith chat RUN`"
        raise UsageError(f"/{name} needs the model, and this chat has only its server", advice=advice)
    return COMMANDS[name].run(conversation, argument)

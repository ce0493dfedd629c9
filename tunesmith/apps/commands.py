"""The commands of the chat: lines that begin with a slash."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith.apps.conversation import Conversation, describe_sampling
from tunesmith.errors import UsageError
from tunesmith.generate.sampling import SamplingParameters

BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


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
    width = max(len(f"/{name} {command.usage}") for name, command in COMMANDS.items())
    lines = [f"{f'/{name} {command.usage}'.ljust(width)}  {command.summary}" for name, command in COMMANDS.items()]
    lines.append("Several lines that are pasted are one message.")
    lines.append("A line that ends with a backslash is continued on the next line.")
    lines.append("A message that begins with a slash is written with two slashes.")
    lines.append("Ctrl-C stops a reply. Ctrl-D ends the chat.")
    conversation.terminal.notice("\n".join(lines))
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
    name, label = conversation.engine.renderer.format.name, conversation.passage_label
    if label is None:
        return f"prompts of the format {name!r} have no place for a passage"
    place = f"after the line {label!r}" if label else "after an empty line"
    if not conversation.passage:
        return f"no passage; `/context TEXT` sets one, which the format {name!r} writes below your message, {place}"
    sent = "sent once, with your next message" if conversation.is_passage_waiting else "sent"
    if not conversation.engine.renderer.format.multi_turn:
        sent = "sent with every message"
    return f"passage, {sent}, {place}: {conversation.passage}"


def _set(conversation: Conversation, argument: str) -> bool:
    for setting in argument.split():
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"{setting!r} is not a setting", advice="write it as in `/set temperature=0.7`")
        conversation.sampling = replace(conversation.sampling, **{name: parse_setting(name, value)})
    conversation.terminal.notice(f"({describe_sampling(conversation.sampling)})")
    return True


def parse_setting(name: str, value: str) -> Any:
    """The value of a sampling setting from text, with the type of its default. Raises UsageError."""
    defaults = asdict(SamplingParameters())
    if name not in defaults:
        near = difflib.get_close_matches(name, defaults, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(defaults)}"
        raise UsageError(f"there is no setting {name!r}", advice=advice)
    kind = type(defaults[name])
    expected = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
    try:
        return BOOLEANS[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        raise UsageError(f"{name} must be {expected}, not {value!r}", where="sampling") from None


def _save(conversation: Conversation, argument: str) -> bool:
    if not argument:
        raise UsageError("the name of the file is missing", advice="write it as in `/save chat.json`")
    path = Path(argument).expanduser()
    if not conversation.messages:
        raise UsageError("the conversation has no messages yet", advice="write a message first")
    if path.exists() and path not in conversation.saved:
        raise UsageError("the file already exists", where=path, advice="choose another name")
    conversation.save(path)
    conversation.terminal.notice(f"(saved {len(conversation.messages)} messages to {path})")
    return True


def _quit(conversation: Conversation, argument: str) -> bool:
    return False


COMMANDS: Mapping[str, ChatCommand] = {
    "help": ChatCommand("", "show this list", _help),
    "reset": ChatCommand("", "begin a new conversation", _reset),
    "retry": ChatCommand("", "replace the last reply by a new one", _retry),
    "system": ChatCommand("[TEXT|off]", "set, show or remove the system message", _system),
    "context": ChatCommand("[TEXT|off]", "set, show or remove the passage that you ask about", _context),
    "set": ChatCommand("[NAME=VALUE ...]", "change or show the sampling settings", _set),
    "save": ChatCommand("FILE", "write the conversation to a JSON file", _save),
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
    return COMMANDS[name].run(conversation, argument)

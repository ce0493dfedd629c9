"""What can be typed besides messages: lines that begin with a slash."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith.apps.conversation import Conversation, described
from tunesmith.errors import UsageError
from tunesmith.generate.sampling import SamplingParameters

TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Command:
    """usage: what follows the name. summary: for the help. act: carries it out; False leaves the chat."""

    usage: str
    summary: str
    act: Callable[[Conversation, str], bool]


def _help(conversation: Conversation, argument: str) -> bool:
    width = max(len(f"/{name} {command.usage}") for name, command in COMMANDS.items())
    lines = [f"{f'/{name} {command.usage}'.ljust(width)}  {command.summary}" for name, command in COMMANDS.items()]
    lines.append("A line that ends in a backslash goes on in the next; // begins a message with a slash.")
    lines.append("Ctrl-C stops a reply, Ctrl-D leaves.")
    conversation.terminal.notice("\n".join(lines))
    return True


def _reset(conversation: Conversation, argument: str) -> bool:
    conversation.reset()
    kept = "" if conversation.system is None else "; the system message stays"
    conversation.terminal.notice(f"(a new conversation{kept})")
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


def _set(conversation: Conversation, argument: str) -> bool:
    for setting in argument.split():
        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"cannot read {setting!r}", advice="write it as in `/set temperature=0.7`")
        conversation.sampling = replace(conversation.sampling, **{name: parse_setting(name, value)})
    conversation.terminal.notice(f"({described(conversation.sampling)})")
    return True


def parse_setting(name: str, value: str) -> Any:
    """The value of one sampling setting from text, by the type of its default. Raises UsageError."""
    defaults = asdict(SamplingParameters())
    if name not in defaults:
        near = difflib.get_close_matches(name, defaults, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(defaults)}"
        raise UsageError(f"there is no setting {name!r}", advice=advice)
    kind = type(defaults[name])
    wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
    try:
        return TRUTH[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        raise UsageError(f"{name}={value!r} must be {wanted}", where="sampling") from None


def _save(conversation: Conversation, argument: str) -> bool:
    if not argument:
        raise UsageError("/save needs the name of a file", advice="write it as in `/save chat.json`")
    path = Path(argument).expanduser()
    if not conversation.messages:
        raise UsageError("nothing was said yet", advice="say something first")
    if path.exists() and path not in conversation.saved:
        raise UsageError("the file exists already", where=path, advice="choose another name")
    conversation.save(path)
    conversation.terminal.notice(f"(saved {len(conversation.messages)} messages to {path})")
    return True


def _quit(conversation: Conversation, argument: str) -> bool:
    return False


COMMANDS: Mapping[str, Command] = {
    "help": Command("", "this list", _help),
    "reset": Command("", "begin a new conversation", _reset),
    "retry": Command("", "replace the last reply by another one", _retry),
    "system": Command("[TEXT|off]", "set, show or remove the system message", _system),
    "set": Command("[NAME=VALUE ...]", "change or show how replies are drawn", _set),
    "save": Command("FILE", "write the conversation as JSON", _save),
    "quit": Command("", "leave", _quit),
}


def is_command(line: str) -> bool:
    """A line with one slash at its start; ``//`` begins a message."""
    return line.startswith("/") and not line.startswith("//")


def carry_out(conversation: Conversation, line: str) -> bool:
    """Carry out a command line; False leaves the chat. Raises UsageError, StorageError and what replying raises."""
    name, _, argument = line[1:].partition(" ")
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        advice = f"did you mean /{near[0]}?" if near else "/help lists them; begin a message with // for a slash"
        raise UsageError(f"there is no command /{name}", advice=advice)
    return COMMANDS[name].act(conversation, argument.strip())

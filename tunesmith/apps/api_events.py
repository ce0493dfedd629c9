"""What servers of OpenAI's API send, read without trust: streams of server-sent events, answers, errors, models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from tunesmith.apps.chat_model import ReplyPart
from tunesmith.errors import DataError

LARGEST_LINE = 2**22  # bytes
LONGEST_MESSAGE = 300  # characters
DONE = "[DONE]"


def event_data(chunks: Iterable[bytes]) -> Iterator[str]:
    """The data of every event of a stream, by the rules of HTML for server-sent events. Raises DataError."""
    data: list[str] = []
    for line in _lines(chunks):
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data = []
    if data:  # a stream without an empty line at its end
        yield "\n".join(data)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a stream, which end with LF or CR LF; a character may be divided among chunks."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")
        if len(rest) > LARGEST_LINE:
            raise DataError(f"the server sent a line of more than {LARGEST_LINE:,} bytes")
    if rest:
        yield rest.decode("utf-8", "replace")


def read_parts(data: Iterable[str], drafts: int) -> Iterator[ReplyPart]:
    """The pieces of the replies in a stream. Raises DataError for an error, or for what is not a stream of replies."""
    open_drafts = set(range(drafts))
    for text in data:
        if text == DONE:
            break
        for part in parts_of(parse_object(text), "delta", drafts):
            if part.draft in open_drafts:
                if part.finish is not None:
                    open_drafts.remove(part.draft)
                yield part
    if open_drafts:
        raise DataError("the server ended the reply before it was complete", advice="try again")


def parts_of(answer: dict[str, Any], kind: str, drafts: int) -> Iterator[ReplyPart]:
    """The pieces of one event or answer. Raises DataError.

    kind: ``delta`` in a stream, ``message`` in a whole answer.
    """
    if (problem := error_message(answer)) is not None:
        raise DataError(problem)
    choices = answer.get("choices")
    for position, choice in enumerate(choices if isinstance(choices, list) else ()):
        if not isinstance(choice, dict):
            raise _strange()
        index, said = choice.get("index", position), choice.get(kind)
        content = said.get("content") if isinstance(said, dict) else None
        finish = choice.get("finish_reason")
        if type(index) is not int or not isinstance(content, str | None) or not isinstance(finish, str | None):
            raise _strange()
        if 0 <= index < drafts and (content or finish):
            yield ReplyPart(index, content or "", finish=finish or None)


def parse_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object. Raises DataError."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise _strange() from None
    if not isinstance(found, dict):
        raise _strange()
    return found


def error_message(answer: dict[str, Any]) -> str | None:
    """The message of an error, on one line; None if an answer is none."""
    error = answer.get("error")
    if not error:
        return None
    message = error.get("message") if isinstance(error, dict) else error
    said = " ".join(str(message).split()).removesuffix(".")[:LONGEST_MESSAGE]
    return f"the server says: {said}" if message and said else "the server reports an error without a message"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known about a model of a server; the defaults where only its name is.

    name: by which it is asked.
    is_ours: whether the server is `tunesmith serve`, which knows the rest.
    multi_turn: whether its prompt may have several turns.
    format_name: the name of its prompt format, or empty.
    draws: whether its replies are sampled if a request does not say so.
    """

    name: str
    is_ours: bool = False
    multi_turn: bool = True
    format_name: str = ""
    draws: bool = True


def listed_models(answer: dict[str, Any]) -> list[ModelFacts]:
    """The models in an answer to ``GET /models``; what is not one is left out."""
    found = (each for each in _objects(answer.get("data")) if isinstance(each.get("id"), str) and each["id"])
    return [ModelFacts(each["id"], each.get("owned_by") == "tunesmith") for each in found]


def add_state(facts: ModelFacts, state: dict[str, Any]) -> ModelFacts:
    """The facts with those that `tunesmith serve` gives its chat page."""
    for each in _objects(state.get("models")):
        if each.get("name") == facts.name:
            sampling, format_name = each.get("sampling"), each.get("format")
            return replace(
                facts,
                multi_turn=each.get("multi_turn") is not False,
                format_name=format_name if isinstance(format_name, str) else "",
                draws=not isinstance(sampling, dict) or sampling.get("do_sample") is not False,
            )
    return facts


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _strange() -> DataError:
    advice = "check that --url is the address of a server of OpenAI's API, such as http://127.0.0.1:8000/v1"
    return DataError("the server answers in another form than OpenAI's API", advice=advice)

"""Sampling reports: the replies of a model to a list of prompts, with one or more sampling configurations.

One JSON object {model_name, date, args, prompts: [{prompt, results: [{sampling_config, sampling_params, outputs}]}]},
as Open-Assistant's ``sampling_report.py`` writes it and others have since. A prompt of several turns has ``messages``
too, and ``tools`` where there are any.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, TypeAlias

from tunesmith.apps.prompt_additions import NO_ADDITION, PromptAddition, read_additions
from tunesmith.data.readers.reader import ReadTree, as_text
from tunesmith.data.readers.registry import open_reader
from tunesmith.data.sources.files import gzip_errors, read_errors
from tunesmith.data.sources.strict_json import RECORD_LIMIT, RecordError, decode_at, syntax_error
from tunesmith.errors import DataError
from tunesmith.files import fingerprint
from tunesmith.text.tree import Message

REPORT_LIMIT = 2**30  # bytes of a report after decompression
KEY_LENGTH = 16
"""Hexadecimal digits of the digests by which votes, scores and comparisons refer to reports and prompts."""
END_TOKENS = ("<|endoftext|>", "</s>", "<|im_end|>", "<eos>")
"""The end tokens of models, which are part of the outputs; a report may name others in ``args.end_tokens``."""

ConversationKey: TypeAlias = tuple[tuple[str, str, tuple[str, ...]], ...]


def conversation_key(messages: Sequence[Message]) -> ConversationKey:
    """What makes conversations equal: the roles and all texts of their messages, also tool calls and tools."""
    return tuple((message.role, message.text, message.extra_texts()) for message in messages)


@dataclass(frozen=True, slots=True)
class SampledReplies:
    """The replies to one prompt.

    prompt: as the user wrote it.
    outputs: name of a sampling configuration -> the replies that were sampled with it, without end tokens.
    ended: the same for whether an end token was written at the end of each reply.
    messages: of a prompt that is more than a text; otherwise empty.
    """

    prompt: str
    outputs: Mapping[str, tuple[str, ...]]
    ended: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()

    @property
    def conversation(self) -> tuple[Message, ...]:
        """The messages of the prompt, to which a configuration may add (``SamplingReport.addition``)."""
        return self.messages or (Message("user", self.prompt),)


@dataclass(frozen=True, slots=True)
class SamplingReport:
    """A sampling report.

    name: of the file.
    model: that was sampled.
    prompts: with their replies, in the order of the report.
    parameters: name of a sampling configuration -> its parameters, where the report has them.
    date: as the report writes it; may be empty.
    end_tokens: those that the report names in its ``args``; every reply that ended has one of them.
    additions: name of a sampling configuration -> what it adds to every prompt, where the report says it.
    """

    name: str
    model: str
    prompts: tuple[SampledReplies, ...]
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    date: str = ""
    end_tokens: tuple[str, ...] = ()
    additions: Mapping[str, PromptAddition] = field(default_factory=dict)

    @property
    def shows_ends(self) -> bool:
        """Whether the report shows which replies the model ended by itself.

        It does if it names its end tokens, even where no reply has one. Other reports show it if any reply has one.
        """
        return bool(self.end_tokens) or any(any(ended) for replies in self.prompts for ended in replies.ended.values())

    def addition(self, configuration: str) -> PromptAddition:
        """What the replies of a configuration answer in addition to the prompt."""
        return self.additions.get(configuration, NO_ADDITION)


def read_report(path: Path) -> SamplingReport | None:
    """The report in a file, whatever its suffix; None where the file holds something else, such as lines of records.

    Raises MissingInputError if it cannot be read, DataError for a report that is malformed.
    """
    content = _object(path)
    if content is None or not isinstance(content.get("prompts"), list):
        return None
    model = as_text(content.get("model_name"), f"{path}: model_name")
    named = _named_end_tokens(content.get("args"))
    ends = (*named, *END_TOKENS)
    prompts = tuple(_replies(item, f"prompts[{index}]", path, ends) for index, item in enumerate(content["prompts"]))
    if not any(outputs for replies in prompts for outputs in replies.outputs.values()):
        raise DataError("the report has no outputs", where=path, advice="sample some replies first")
    date = content.get("date")
    return SamplingReport(
        path.name,
        model,
        prompts,
        _parameters(content["prompts"]),
        date if isinstance(date, str) else "",
        named,
        read_additions(content.get("args")),
    )


def report_key(report: SamplingReport) -> str:
    """A digest of the model, the prompts and the replies of a report."""
    content = [
        [replies.prompt, {name: list(texts) for name, texts in replies.outputs.items()}] for replies in report.prompts
    ]
    conversations = [prompt_digest(replies) for replies in report.prompts if replies.messages]
    return fingerprint([report.model, content, *([conversations] if conversations else [])])[:KEY_LENGTH]


def prompt_digest(replies: SampledReplies) -> str:
    """A digest of a prompt: of its text, or of the whole conversation where it is more than a text."""
    first, *others = replies.conversation
    if first == Message("user", first.text) and not others:
        return sha256(first.text.encode("utf-8", "surrogatepass")).hexdigest()[:KEY_LENGTH]
    return fingerprint(conversation_key(replies.conversation))[:KEY_LENGTH]


def without_end(text: str, ends: Sequence[str] = END_TOKENS) -> str:
    """A reply without the end tokens at its end."""
    while end := next((mark for mark in ends if text.endswith(mark)), None):
        text = text.removesuffix(end)
    return text


def _object(path: Path) -> dict[str, Any] | None:
    """The JSON object that fills a file, on many lines or on one; None for any other file."""
    with read_errors(path), gzip_errors(path), _opened(path) as file:
        first = file.readline(RECORD_LIMIT)
        if first.strip() != b"{" and b'"prompts"' not in first:
            return None
        content = first + file.read(REPORT_LIMIT)
    try:
        text = content.decode()
        value, end = decode_at(text, text.index("{"), with_nul=True)
    except UnicodeDecodeError:
        return None  # the reader of records has the better message
    except json.JSONDecodeError as error:
        fault = syntax_error(error, f"line {error.lineno}")
        raise DataError(fault.what, where=path, advice="download or write the report again") from error
    except RecordError as fault:
        raise DataError(fault.what, where=path, advice=fault.advice) from fault
    return value if isinstance(value, dict) and not text[end:].strip() else None


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _named_end_tokens(args: Any) -> tuple[str, ...]:
    """The end tokens that the report names; nothing where it names none."""
    named = args.get("end_tokens") if isinstance(args, dict) else None
    return tuple(token for token in named if isinstance(token, str) and token) if isinstance(named, list) else ()


def _replies(item: Any, place: str, path: Path, ends: tuple[str, ...]) -> SampledReplies:
    if not isinstance(item, dict) or not isinstance(item.get("results"), list):
        raise DataError(
            f"{place} is not an object with prompt and results", where=path, advice="is it a sampling report?"
        )
    found: dict[str, tuple[str, ...]] = {}
    ended: dict[str, tuple[bool, ...]] = {}
    for index, result in enumerate(item["results"]):
        here = f"{place}.results[{index}]"
        if not isinstance(result, dict) or not isinstance(result.get("outputs"), list):
            raise DataError(f"{here} has no list of outputs", where=path, advice="is it a sampling report?")
        name = as_text(result.get("sampling_config"), f"{path}: {here}.sampling_config")
        outputs = [as_text(text, f"{path}: {here}.outputs[{n}]") for n, text in enumerate(result["outputs"])]
        found[name] = (*found.get(name, ()), *(without_end(text, ends) for text in outputs))
        ended[name] = (*ended.get(name, ()), *(text.endswith(ends) for text in outputs))
    return SampledReplies(
        as_text(item.get("prompt"), f"{path}: {place}.prompt"), found, ended, _messages(item, place, path)
    )


def _messages(item: dict[str, Any], place: str, path: Path) -> tuple[Message, ...]:
    """The messages of a prompt; nothing where it is a text. Raises DataError."""
    if "messages" not in item:
        return ()
    given = {key: item[key] for key in ("messages", "tools") if key in item}
    try:
        result = open_reader("prompts", {}, {})(given)
    except DataError as error:
        raise DataError(f"{place}: {error.what}", where=path, advice=error.advice) from error
    assert isinstance(result, ReadTree), "the reader of prompts drops nothing"
    return result.tree.messages


def _parameters(prompts: list[dict[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The parameters of every sampling configuration, from its first result."""
    found: dict[str, Mapping[str, Any]] = {}
    for result in (result for item in prompts for result in item["results"]):
        parameters = result.get("sampling_params")
        found.setdefault(result["sampling_config"], parameters if isinstance(parameters, dict) else {})
    return found

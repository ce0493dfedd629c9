"""From a thread of stored messages to the prompt of a model, and the prompt as people can read it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tunesmith.benchmark.encoding import produced_text
from tunesmith.errors import DataError, UsageError
from tunesmith.generate.engine import Engine
from tunesmith.generate.original_sampling import original_sampling
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.sampling_configurations import open_sampling_file
from tunesmith.model.context import NO_LIMIT
from tunesmith.serve.chat.schemas import SamplingChoiceSchema
from tunesmith.serve.conversations.records import StoredMessage
from tunesmith.serve.conversations.turns import joined_turns
from tunesmith.serve.engine.models import ServedModel
from tunesmith.text.formats.passage import find_passage_label
from tunesmith.text.tokens.show import ShownToken, show_prompt
from tunesmith.text.tree import Message

PRESETS = "inference_server"
"""The sampling configurations of Open-Assistant's chat."""

LONGEST_VIEW = 20_000
"""Tokens of a prompt that are shown."""


@dataclass(frozen=True, slots=True)
class ThreadPrompt:
    """What a model reads before its reply.

    ids: the token ids.
    messages: those of the thread that they contain.
    dropped: how many old messages the model did not read: they did not fit, or the format is for single turns.
    begun: whether the ids end with the beginning of the reply.
    """

    ids: tuple[int, ...]
    messages: tuple[Message, ...]
    dropped: int
    begun: bool = False


def thread_prompt(
    engine: Engine, thread: Sequence[StoredMessage], system: str, sampling: SamplingParameters, begun: str = ""
) -> ThreadPrompt:
    """The prompt of the reply to the last message of a thread.

    A prompt format for single turns gets the last message only. begun: the beginning of the reply, which is continued.
    Raises DataError if the last message alone is too long or the format cannot write the thread, UsageError if an
    encoder-decoder is to continue a reply.
    """
    format = engine.renderer.format
    turns = [Message(each.role, each.text, context=each.context) for each in joined_turns(thread)]
    unread = 0
    if not format.multi_turn:
        turns, unread = turns[-1:], len(turns) - 1
    messages = [*([Message("system", system)] if system else []), *turns]
    prompt = engine.prompt(messages, sampling)
    dropped = prompt.dropped + unread
    if not begun:
        return ThreadPrompt(prompt.ids, prompt.messages, dropped)
    if engine.model.config.is_encoder_decoder:
        raise UsageError("this kind of model cannot continue a reply")
    text = produced_text(format, list(prompt.messages), begun)
    more = engine.renderer.tokenizer.encode(text, continuing=format.reply_continues_text)
    ids = (*prompt.ids, *more)
    if len(ids) >= engine.context:
        raise DataError(f"prompt and reply have {len(ids)} tokens, and the model reads {engine.context} in all")
    return ThreadPrompt(ids, prompt.messages, dropped, begun=True)


def chosen_sampling(declared: SamplingParameters, choice: SamplingChoiceSchema) -> SamplingParameters:
    """The sampling of a model with the settings that the user chose. Raises UsageError."""
    given = {name: value for name, value in choice.model_dump().items() if value is not None}
    temperature = given.get("temperature")
    if temperature == 0:  # what people mean by it
        given.update(do_sample=False, temperature=1.0)
    return replace(declared, num_beams=1, penalty_alpha=0.0, **given)


def presets() -> list[dict[str, Any]]:
    """The named settings that the page offers: those of Open-Assistant's chat, and greedy decoding."""
    found = list[dict[str, Any]]()
    for each in open_sampling_file(PRESETS).configurations:
        parameters = original_sampling(each.generate_args).parameters
        found.append({"name": each.name, "sampling": sampling_values(parameters)})
    greedy = SamplingParameters(do_sample=False, max_new_tokens=found[0]["sampling"]["max_new_tokens"])
    return [*found, {"name": "greedy", "sampling": sampling_values(greedy)}]


def sampling_values(sampling: SamplingParameters) -> dict[str, Any]:
    """The settings that the page knows."""
    values = asdict(sampling)
    return {name: values[name] for name in SamplingChoiceSchema.model_fields}


def describe_model(model: ServedModel) -> dict[str, Any]:
    """What the page has to know about a model."""
    format, context = model.engine.renderer.format, model.engine.context
    fault = format.find_fault(Message("system", "?"), ())
    return {
        "format": format.name,
        "multi_turn": format.multi_turn,
        "system": fault is None,
        "context": context if context < NO_LIMIT else None,
        "continues": not model.is_encoder_decoder,
        "sampling": sampling_values(model.sampling),
        "passage": find_passage_label(format) is not None,
        "notice": model.engine.notice or "",
    }


def token_view(engine: Engine, prompt: ThreadPrompt) -> dict[str, Any]:
    """The tokens of a prompt, each with its text, role and ids."""
    shown = show_prompt(engine.renderer, prompt.messages, prompt.ids[:LONGEST_VIEW])
    return {
        "tokens": [_token(token) for token in shown],
        "count": len(prompt.ids),
        "shown": min(len(prompt.ids), LONGEST_VIEW),
        "dropped": prompt.dropped,
        "multi_turn": engine.renderer.format.multi_turn,
        "format": engine.renderer.format.name,
    }


def _token(token: ShownToken) -> dict[str, Any]:
    return {"text": token.text, "ids": list(token.ids), "role": token.role, "control": token.control}


def storable(text: str) -> str:
    """A text without half characters and U+0000, which files of training data cannot have."""
    return re.sub("[\0\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)


def settings_of(sampling: SamplingParameters) -> Mapping[str, Any]:
    """The settings that are stored with a reply: those that have an effect."""
    values = sampling_values(sampling)
    if not sampling.do_sample:
        return {name: values[name] for name in ("do_sample", "repetition_penalty", "min_new_tokens", "max_new_tokens")}
    return values

"""Which replies a report needs: the token ids of every prompt with every configuration, and what does not fit."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers

from tunesmith.apps.prompt_additions import PromptAddition
from tunesmith.apps.sample_journal import JournalReply, ReplyPlace
from tunesmith.apps.sample_prompts import SamplePrompt
from tunesmith.draws import reply_number
from tunesmith.errors import DataError, UsageError
from tunesmith.generate.engine import RESERVED_PART, GeneratedReply
from tunesmith.generate.original_sampling import OriginalSampling, original_sampling
from tunesmith.generate.prompt_modes import PROMPT_MODES
from tunesmith.generate.reply_generator import ReplyGenerator
from tunesmith.generate.requests import ReplyRequest
from tunesmith.generate.sampling_configurations import SamplingConfiguration, SamplingFile
from tunesmith.report.sampling_summary import WIDTH
from tunesmith.text.formats.registry import ENCODER_DECODER
from tunesmith.text.tokens.render import Renderer

PromptEncoder = Callable[[SamplePrompt, SamplingConfiguration], list[int]]
"""The token ids of a prompt with a configuration. Raises DataError for a prompt that it cannot write."""


@dataclass(frozen=True, slots=True)
class EffectiveConfiguration:
    """A configuration and what it means.

    configuration: as in its file.
    sampling: how replies are generated.
    """

    configuration: SamplingConfiguration
    sampling: OriginalSampling


@dataclass(frozen=True, slots=True)
class RefusedPrompt:
    """A prompt that gets no replies.

    place: where it was read.
    reason: why.
    """

    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReplyPlan:
    """The replies of one report.

    prompts: those that fit, in their order.
    refused: the others.
    replies: the place of every reply in the report, and what is asked of the engine for it.
    """

    prompts: tuple[SamplePrompt, ...]
    refused: tuple[RefusedPrompt, ...]
    replies: tuple[tuple[ReplyPlace, ReplyRequest], ...]


def read_effects(file: SamplingFile) -> list[EffectiveConfiguration]:
    """What the configurations of a file mean. Raises UsageError, which names the configuration."""
    found = []
    for each in file.configurations:
        try:
            found.append(EffectiveConfiguration(each, original_sampling(each.generate_args)))
        except UsageError as error:
            raise UsageError(
                error.what, where=f"{file.name}, configuration {each.name}", advice=error.advice
            ) from error
    return found


def effect_lines(stem: str, configurations: Sequence[EffectiveConfiguration]) -> Iterator[str]:
    """What configurations mean that they do not say, in lines of 80 columns."""
    filled: dict[str, list[str]] = {}
    for each in configurations:
        for name, number in each.sampling.filled_in.items():
            filled.setdefault(f"{name} {number}", []).append(each.configuration.name)
    lines = [f"{stem}: {value} is filled in for {', '.join(names)}" for value, names in filled.items()]
    ignored = [
        f"{', '.join(each.sampling.without_effect)} ({each.configuration.name})"
        for each in configurations
        if each.sampling.without_effect
    ]
    lines += [f"{stem}: without effect: {', '.join(ignored)}"] if ignored else []
    for line in lines:
        yield from textwrap.wrap(line, WIDTH, subsequent_indent="  ")


def plan_replies(
    engine: ReplyGenerator,
    encode: PromptEncoder,
    prompts: Sequence[SamplePrompt],
    configurations: Sequence[EffectiveConfiguration],
    samples: int,
    seed: int,
) -> ReplyPlan:
    """The replies to every prompt with every configuration.

    A prompt that one of the configurations has no space for gets no replies at all, so that all configurations have the
    same prompts.

    samples: replies to a prompt with one configuration, unless it is greedy.
    seed: of the draws. A reply depends on nothing but the model, the seed, the ids of its prompt, its configuration
        and the index of its sample.
    """
    kept, refused, replies = list[SamplePrompt](), list[RefusedPrompt](), list[tuple[ReplyPlace, ReplyRequest]]()
    for prompt in prompts:
        try:
            ids = [encode(prompt, each.configuration) for each in configurations]
            for tokens, each in zip(ids, configurations, strict=True):
                _check_space(engine, len(tokens), each.sampling.parameters.max_new_tokens)
        except DataError as error:
            refused.append(RefusedPrompt(prompt.place, error.what))
            continue
        for place, tokens, each in _places(len(kept), ids, configurations, samples):
            number = reply_number(tokens, each.configuration.name, place.sample)
            replies.append((place, ReplyRequest(tuple(tokens), each.sampling.parameters, seed, number)))
        kept.append(prompt)
    return ReplyPlan(tuple(kept), tuple(refused), tuple(replies))


def _places(
    prompt: int, ids: Sequence[list[int]], configurations: Sequence[EffectiveConfiguration], samples: int
) -> Iterator[tuple[ReplyPlace, list[int], EffectiveConfiguration]]:
    for index, (tokens, each) in enumerate(zip(ids, configurations, strict=True)):
        for sample in range(each.configuration.samples(samples)):
            yield ReplyPlace(prompt, index, sample), tokens, each


def _check_space(engine: ReplyGenerator, tokens: int, most: int) -> None:
    """Raises DataError for a prompt that the model cannot read, or that leaves it too few tokens for a reply."""
    if engine.renderer.format.name in ENCODER_DECODER:
        if tokens > engine.context:
            raise DataError(f"{tokens:,} tokens, but an input has at most {engine.context:,}")
        return
    reserved = min(most, engine.context // RESERVED_PART)
    if tokens + reserved > engine.context:
        raise DataError(f"{tokens:,} tokens and {reserved:,} of a reply, but the model reads {engine.context:,}")


def format_encoder(renderer: Renderer) -> PromptEncoder:
    """Encodes prompts in the model's own format; text never becomes a control token.

    The ``pre_text`` of a configuration is the system message. Raises UsageError for a profile of the reply, or for a
    conversation that has a system message already.
    """

    def encode(prompt: SamplePrompt, configuration: SamplingConfiguration) -> list[int]:
        if configuration.system_profile:
            what = f"configuration {configuration.name!r} has a system_profile, which only some prompt modes write"
            raise UsageError(what, where="--sampling", advice="add --mode v2_5, or choose another configuration")
        if configuration.pre_text and prompt.messages[0].role == "system":
            raise DataError(f"a system message, and configuration {configuration.name!r} has one too")
        return renderer.prompt(PromptAddition.of(configuration, None).messages(prompt.messages))

    return encode


def mode_encoder(renderer: Renderer, mode: str) -> PromptEncoder:
    """Encodes prompts as the original does: names of control tokens in the text become these tokens.

    mode: a key of ``PROMPT_MODES``.
    Raises UsageError if the tokenizer has no end token.
    """
    tokenizer, write = renderer.tokenizer, PROMPT_MODES[mode]
    if tokenizer.eos_id is None:
        what = f"mode {mode} needs a tokenizer with an end token"
        raise UsageError(what, where="--mode", advice="leave --mode out, for the model's own prompt format")
    end = tokenizer.decode([tokenizer.eos_id], skip_controls=False)
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as directory:
        tokenizer.save(Path(directory))
        stock = tokenizers.Tokenizer.from_file(str(Path(directory) / "tokenizer.json"))
    stock.no_truncation()
    stock.no_padding()

    def encode(prompt: SamplePrompt, configuration: SamplingConfiguration) -> list[int]:
        if not prompt.is_plain:
            raise DataError(f"a conversation, but mode {mode} writes one text")
        return list(stock.encode(write(prompt.text, configuration, end)).ids)

    return encode


def reply_output(renderer: Renderer, reply: GeneratedReply, *, raw: bool) -> JournalReply:
    """A reply as a report has it: its text, the names of control tokens that are written inside it, and its end token.

    raw: without the cleaning of the prompt format, as the original decodes.
    """
    tokenizer, format = renderer.tokenizer, renderer.format
    body, last = (reply.ids[:-1], reply.ids[-1:]) if reply.stopped else (reply.ids, ())
    end = tokenizer.decode(last, skip_controls=False)
    if raw:
        text = tokenizer.decode(body, skip_controls=False)
    elif any(map(tokenizer.is_control, body)):
        named = tokenizer.decode(body, skip_controls=False, continuing=format.reply_continues_text)
        text = format.clean_reply(format.codec.decode(named))
    else:
        text = reply.text
    return JournalReply(text + end, len(end), reply.tokens)


def end_tokens(renderer: Renderer) -> list[str]:
    """The names of the tokens that end a reply."""
    return [renderer.tokenizer.decode([token], skip_controls=False) for token in sorted(renderer.stop_ids)]


def missing_replies(plan: ReplyPlan, present: Collection[ReplyPlace]) -> dict[ReplyRequest, list[ReplyPlace]]:
    """What is still to be generated, with its places. Equal requests, of prompts that occur twice, have equal replies.

    present: the places of the replies that are there already.
    """
    found: dict[ReplyRequest, list[ReplyPlace]] = {}
    for place, request in plan.replies:
        if place not in present:
            found.setdefault(request, []).append(place)
    return found

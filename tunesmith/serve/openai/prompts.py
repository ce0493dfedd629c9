"""From the fields of a request to token ids and sampling parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tunesmith.benchmark.encoding import produced_text
from tunesmith.errors import DataError, UsageError
from tunesmith.generate.penalties import NO_ADJUSTMENTS, LogitAdjustments
from tunesmith.generate.sampling import DIVISORS, SamplingParameters
from tunesmith.model.context import NO_LIMIT
from tunesmith.serve.engine.models import ServedModel
from tunesmith.serve.openai.request_schemas import InputMessageSchema, MessageSchema, SamplingSchema
from tunesmith.serve.refusals import RefusedRequest, invalid
from tunesmith.text.tree import Message

UNLIMITED = 8192
"""Tokens of a prompt, and of a reply, of a model whose configuration sets no limit."""
SMALLEST_TOP_P = 1e-12
"""Takes the place of ``top_p: 0``: only the most likely token is kept."""


def context_of(model: ServedModel) -> int:
    """The largest number of tokens of a prompt with its reply; of each of them for an encoder-decoder."""
    return model.engine.context if model.engine.context < NO_LIMIT else UNLIMITED


def encode_messages(
    model: ServedModel,
    messages: Sequence[MessageSchema | InputMessageSchema],
    *,
    continued: bool = False,
    param: str = "messages",
) -> tuple[int, ...]:
    """The prompt of a conversation, by the renderer of training. Raises RefusedRequest.

    continued: whether the reply continues the last message, which is the assistant's.
    param: the field of the request that has the messages.
    """
    roles = {"developer": "system"}
    found = [Message(roles.get(each.role, each.role), each.content) for each in messages]  # type: ignore[arg-type]
    renderer, begun = model.engine.renderer, ""
    if continued:
        if model.is_encoder_decoder:
            what = "An encoder-decoder cannot continue a message of the assistant."
            raise invalid("continue_final_message", what, "unsupported_parameter")
        *found, last = found
        begun = last.text
    try:
        ids = renderer.prompt(found)
        if begun:
            text = produced_text(renderer.format, found, begun)
            ids = ids + renderer.tokenizer.encode(text, continuing=renderer.format.reply_continues_text)
    except DataError as error:
        what = f"The prompt format {renderer.format.name!r} of the model does not accept this: {error.what}"
        raise invalid(param, f"{what}.") from None
    _check_length(model, ids, param)
    return tuple(ids)


def encode_prompt(model: ServedModel, prompt: str | list[int]) -> tuple[int, ...]:
    """The ids of a prompt of the completions API: text is text, and ids are taken as they are. Raises RefusedRequest.

    A text begins as in the format ``plain``: with the bos token, if the tokenizer has one. For an encoder it ends
    with the eos token.
    """
    tokenizer = model.engine.renderer.tokenizer
    if isinstance(prompt, list):
        for token in prompt:
            if not 0 <= token < tokenizer.size:
                what = f"The prompt has the token id {token}, but the vocabulary has the ids 0 to {tokenizer.size - 1}."
                raise invalid("prompt", what)
        ids = prompt
    else:
        try:
            text = model.engine.renderer.format.codec.encode(prompt)
            before, after = ((), ("eos",)) if model.is_encoder_decoder else (("bos",), ())
            ids = [*tokenizer.find_ids(before), *tokenizer.encode(text), *tokenizer.find_ids(after)]
        except DataError as error:
            raise invalid("prompt", f"The prompt cannot be encoded: {error.what}.") from None
    if not ids:
        raise invalid("prompt", "The prompt has no tokens.")
    _check_length(model, ids, "prompt")
    return tuple(ids)


def _check_length(model: ServedModel, ids: Sequence[int], param: str) -> None:
    """Raises RefusedRequest for a prompt that leaves no token for a reply."""
    context = context_of(model)
    largest = context if model.is_encoder_decoder else context - 1
    if len(ids) > largest:
        what = (
            f"This model's maximum context length is {context} tokens. However, your {param} "
            f"{'have' if param == 'messages' else 'has'} {len(ids)} tokens. Please reduce the length of the {param}."
        )
        raise RefusedRequest(400, what, param=param, code="context_length_exceeded")


def read_limit(model: ServedModel, name: str, wanted: int | None, default: int) -> int:
    """The largest number of tokens of a reply. Raises RefusedRequest.

    name: the field that gives it.
    """
    context = context_of(model)
    if wanted is not None and wanted > context:
        what = f"{name} is {wanted}, but this model's maximum context length is {context} tokens."
        raise invalid(name, what)
    return min(default, context) if wanted is None else wanted


def read_sampling(model: ServedModel, request: SamplingSchema, limit: int) -> SamplingParameters:
    """The sampling of a request: what it gives, and what the model declares for everything else.

    A temperature of 0 takes the most likely token each time, and a greater one draws, whatever the model declares. A
    request that gives a filter but no temperature draws as well.
    Raises RefusedRequest.
    """
    declared = model.sampling
    given = {
        "top_k": None if request.top_k is None else max(0, request.top_k),
        "top_p": None if request.top_p is None else max(SMALLEST_TOP_P, request.top_p),
        "typical_p": request.typical_p,
    }
    neutral = {"top_k": 0, "top_p": 1.0, "typical_p": 1.0}
    filters = any(value is not None and value != neutral[name] for name, value in given.items())
    if request.temperature is None:
        do_sample, temperature = declared.do_sample or filters, declared.temperature
    else:
        do_sample, temperature = request.temperature >= DIVISORS[0], max(DIVISORS[0], request.temperature)
    shortest = declared.min_new_tokens if request.min_tokens is None else request.min_tokens
    if request.min_tokens is not None and request.min_tokens > limit:
        raise invalid("min_tokens", f"min_tokens is {request.min_tokens}, but the reply has at most {limit} tokens.")
    others = {**given, "repetition_penalty": request.repetition_penalty}
    try:
        return replace(
            declared,
            do_sample=do_sample,
            temperature=float(temperature),
            min_new_tokens=min(shortest, limit),
            max_new_tokens=limit,
            **{name: type(getattr(declared, name))(value) for name, value in others.items() if value is not None},
        )
    except UsageError as error:
        raise invalid(error.what.partition("=")[0], f"{error.what}.") from None


def read_adjustments(model: ServedModel, request: SamplingSchema) -> LogitAdjustments:
    """Penalties and biases of a request. Raises RefusedRequest for an id that the vocabulary does not have."""
    biases = {int(token): float(number) for token, number in (request.logit_bias or {}).items()}
    size = model.engine.renderer.tokenizer.size
    for token in biases:
        if token >= size:
            what = f"logit_bias has the token id {token}, but the vocabulary has the ids 0 to {size - 1}."
            raise invalid("logit_bias", what)
    found = LogitAdjustments(
        presence=float(request.presence_penalty or 0),
        frequency=float(request.frequency_penalty or 0),
        bias=tuple(sorted((token, number) for token, number in biases.items() if number)),
    )
    return NO_ADJUSTMENTS if found == NO_ADJUSTMENTS else found

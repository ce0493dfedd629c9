"""The values of a recipe, from what is asked for and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith.compose.draft.base_model import BaseModel
from tunesmith.compose.draft.choices import (
    EPOCHS,
    LengthLimit,
    choose_batch,
    choose_evaluation_period,
    choose_length,
    choose_log_period,
    choose_rate,
    choose_validation,
    count_steps,
)
from tunesmith.compose.draft.recipe_text import Value
from tunesmith.compose.draft.survey import Survey
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.errors import RecipeError
from tunesmith.recipe.data import DOCUMENTS

MOST_BAD = 0.01
"""The largest share of records that may be left out; if more cannot be used, no recipe is written."""

REPLY_LIMIT = 256  # tokens of a reply that PPO samples
SHORTEST_REPLY = 64  # tokens that a reply in chat may have in any case
ANY_LIMIT = 2048  # before the data are measured


@dataclass(frozen=True, slots=True)
class DraftRequest:
    """What a recipe is asked for.

    config: how the data are read.
    reason: how the reader was chosen.
    objective: sft, dpo, reward or ppo.
    reward: a reward model, for ppo.
    output: the file of the recipe.
    program: how the command line is called.
    """

    config: SourceConfig
    reason: str
    objective: str
    reward: str | None
    output: Path
    program: str


def known_values(request: DraftRequest, base: BaseModel) -> dict[str, Any]:
    """What is known before the data are measured. Raises RecipeError for PPO without a reward model."""
    context = f"reads {base.context:,} tokens" if base.context else "no limit of tokens"
    format = base.format
    values: dict[str, Any] = {
        "name": Value("draft"),
        "model": {"path": Value(base.path, f"{base.architecture}, {count(base.parameters)} parameters, {context}")},
        "text": {
            "format": Value(format.name, format.reason),
            **_if_given("options", format.options),
            "max_length": Value(base.context or ANY_LIMIT),
        },
        "data": {"sources": [_source(request)]},
    }
    if request.objective == "ppo":
        if request.reward is None:
            advice = "add --reward RUN, a run of the objective reward, which is trained on pairs of replies"
            what = "PPO needs a reward model that scores the replies"
            raise RecipeError(what, where=request.config.path, advice=advice)
        values["objective"] = {
            "max_new_tokens": Value(_most_new_tokens(base, REPLY_LIMIT)),
            "rewards": [{"kind": Value("model"), "path": Value(request.reward)}],
        }
    return values


def _source(request: DraftRequest) -> dict[str, Any]:
    config = request.config
    _, _, recognised = request.reason.partition("(")
    return {
        "path": Value(config.path),
        **({} if config.config is None else {"config": Value(config.config)}),
        **({} if config.split is None else {"split": Value(config.split)}),
        "reader": Value(config.reader, recognised.rstrip(")")),
        **_if_given("fields", config.fields),
        **_if_given("options", config.options),
        **({"ignore": Value(config.ignore)} if config.ignore else {}),
    }


def _if_given(key: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: Value(dict(values))} if values else {}


def measured_values(request: DraftRequest, base: BaseModel, found: Survey) -> dict[str, Any]:
    """All values of the recipe apart from its name."""
    values = known_values(request, base)
    replies = _reply_limit(request, base, found)
    limit = choose_length(found.lengths, base.context)
    if request.objective == "ppo":
        limit = replace(limit, tokens=min(limit.tokens + replies.tokens, base.context or ANY_LIMIT))
        values["objective"] = {**values["objective"], "max_new_tokens": Value(replies.tokens)}
    trained = found.count_trained(_limits(request, base, limit, replies))
    if request.objective == "ppo":  # the reply is reserved, so a prompt may not have all of the limit
        limit = replace(limit, longer=len(found.lengths) - trained)
    text = {**values["text"], "max_length": Value(limit.tokens, _length_comment(limit, trained, base, found))}
    longest = f"the longest reply has {replies.longest:,} tokens"
    if base.is_encoder_decoder:
        text["max_target_length"] = Value(replies.tokens, longest)
    if request.config.reader == DOCUMENTS and limit.longer and not base.is_encoder_decoder:
        text["truncation"] = Value("window", "a part of a longer document, another one in every epoch")
        text["max_length"] = Value(limit.tokens, f"the longest of {len(found.lengths):,} has {limit.longest:,} tokens")
        trained = len(found.lengths)
    values |= {"text": text, "data": {**values["data"], **_data(found, trained)}}
    values |= _training(request, base, found, trained)
    if request.objective in ("sft", "dpo"):
        values["sampling"] = {"max_new_tokens": Value(replies.tokens, longest)}
    return values


def _limits(request: DraftRequest, base: BaseModel, limit: LengthLimit, replies: LengthLimit) -> Sequence[int]:
    """The limits that decide which records are trained on, as in ``Survey.least``. limit, replies: of the recipe."""
    if base.is_encoder_decoder:
        return limit.tokens, replies.tokens
    return (limit.tokens - (replies.tokens if request.objective == "ppo" else 0),)


def _reply_limit(request: DraftRequest, base: BaseModel, found: Survey) -> LengthLimit:
    """The most tokens of a reply."""
    limit = choose_length(found.replies, base.context)
    if base.is_encoder_decoder:
        return limit
    tokens = REPLY_LIMIT if request.objective == "ppo" else max(SHORTEST_REPLY, limit.tokens)
    return replace(limit, tokens=_most_new_tokens(base, tokens))


def _most_new_tokens(base: BaseModel, wanted: int) -> int:
    """The tokens of a reply that leave at least half of what the model reads to the prompt."""
    return min(wanted, (base.context or ANY_LIMIT) // 2)


def _length_comment(limit: LengthLimit, trained: int, base: BaseModel, found: Survey) -> str:
    """Why the limit is this one. trained: how many of the records that were read are used with it."""
    records, left_out = f"{len(found.lengths):,} records", len(found.lengths) - trained
    if not limit.longer:
        what = f"the longest of {records} has {limit.longest:,} tokens"
        return f"{what}; {left_out:,} with longer replies are left out" if left_out else what
    why = f"{base.architecture} reads no more; " if limit.tokens == base.context else ""
    share = f"{limit.longer:,} of {records} ({limit.longer / len(found.lengths):.1%}) are longer"
    what = "are left out" if left_out == limit.longer else f"{left_out:,} are left out as a whole"
    return f"{why}{share} (up to {limit.longest:,}) and {what}"


def _data(found: Survey, trained: int) -> dict[str, Any]:
    """Validation and bad records. trained: how many of the records that were read fit within the limits."""
    records = found.in_source(trained)
    held_out = choose_validation(records)
    comment = f"of {records:,} records" if held_out else f"{records:,} records are too few to hold any out"
    values: dict[str, Any] = {"validation": Value(held_out, comment)}
    if found.first_bad is not None:
        bad = f"{found.bad:,} of {found.read:,} records cannot be used, the first at {found.first_bad.where}"
        values |= {"on_bad": Value("skip", bad), "max_bad": Value(MOST_BAD)}
    return values


def _training(request: DraftRequest, base: BaseModel, found: Survey, trained: int) -> dict[str, Any]:
    """Batch, rate and periods. trained: how many of the records that were read fit within the limits."""
    held_out, epochs = choose_validation(found.in_source(trained)), EPOCHS[request.objective]
    records = found.in_source(trained) - held_out
    batch = choose_batch(records, epochs)
    steps = count_steps(records, epochs, batch)
    rate = choose_rate(base.parameters, request.objective)
    train = {
        "epochs": Value(epochs),
        "batch_size": Value(batch, _length_of_run(request, records, batch, is_exact=found.is_complete)),
        "learning_rate": Value(rate, f"usual for {request.objective} of {count(base.parameters)} parameters"),
        **_evaluation_period(held_out, steps),
        "log_every": Value(choose_log_period(steps)),
    }
    without = {"run": {"export": Value("last", "without validation data there is no best step")}}
    return {"train": train, **({} if held_out else without)}


def _evaluation_period(held_out: int, steps: int) -> dict[str, Any]:
    """The period of evaluations where that of the method does not suit. held_out: records for validation."""
    if not held_out:
        return {"evaluate_every": Value(None, "no validation data")}
    share = choose_evaluation_period(steps)
    return {} if share is None else {"evaluate_every": Value(share, "of a short run, as often as it is saved")}


def _length_of_run(request: DraftRequest, records: int, batch: int, *, is_exact: bool) -> str:
    """The records and the optimizer steps of a run. is_exact: whether the records were counted, not estimated."""
    if request.objective == "ppo":
        return f"of {records:,} prompts"
    epochs = EPOCHS[request.objective]
    steps = count_steps(records, 1, batch)
    if not is_exact:
        return f"about {records:,} records / {batch} x {epochs} = {steps * epochs:,} steps"
    each = f"{records:,} records / {batch} = {steps:,} steps"
    return each if epochs == 1 else f"{each}, x {epochs} epochs = {steps * epochs:,} steps"


def count(number: int) -> str:
    """``about 260 thousand``, ``about 135 million``: a prompt format may add rows to the embeddings."""
    size, word = next(
        ((size, word) for size, word in ((1e9, "billion"), (1e6, "million")) if number >= size), (1e3, "thousand")
    )
    return f"about {number / size:.3g} {word}"

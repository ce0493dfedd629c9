"""The keys of a recipe for prompt format, loss targets and truncation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tunesmith.recipe.data import OptionValue
from tunesmith.recipe.section import Conflict, Fraction, Name, Section, check_conflicts

AUTO = "auto"
"""The value of ``format`` that chooses one when model and tokenizer are read."""

FormatOption = OptionValue | Mapping[Name, OptionValue | None]


class TextConfig(Section):
    """How a tree of messages becomes tokens."""

    format: Literal[
        "auto",
        "dolly",
        "oasst",
        "tulu",
        "alpaca",
        "vicuna",
        "chatml",
        "llama-2",
        "zephyr",
        "plain",
        "t5-dolly",
        "tokenizer",
    ] = Field(
        description="The prompt format; t5-dolly is for encoder-decoders, tokenizer uses the chat template of the "
        "tokenizer, auto chooses: the format of an export of Tunesmith, tokenizer if it has a chat template, otherwise "
        "chatml."
    )
    options: Mapping[Name, FormatOption] = Field(
        default_factory=dict,
        description="Options of the prompt format. Format tokenizer: template (a name or a text) or template_file, "
        "variables of the template, system (own or first_user), train_reasoning, train_tool_calls, context.",
    )
    targets: Literal["assistant", "last", "all", "marked", "ranked"] | None = Field(
        default=None,
        description="The messages that are trained on: assistant (every assistant turn), last (the last one of each "
        "thread), all (every token of all turns), marked (those that the data mark) or ranked (replies that the data "
        "rank); null means ranked for the objectives dpo and reward, otherwise assistant.",
    )
    max_length: Annotated[int, Field(gt=1)] = Field(
        description="The largest number of tokens of a thread, or of the input of an encoder-decoder."
    )
    max_unknown: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.01,
        description="The largest share of a source's target tokens that may be characters which the tokenizer does "
        "not have; the proof before training fails above it.",
    )
    max_target_length: Annotated[int, Field(gt=1)] | None = Field(
        default=None,
        description="The largest number of tokens of a reply of an encoder-decoder, to which truncation (drop, right "
        "or error) applies as well; null uses max_length.",
    )
    truncation: Literal["drop", "right", "left", "window", "error"] = Field(
        default="drop",
        description="What happens to a thread that is too long: drop removes it, right keeps its beginning, left "
        "keeps its end, window keeps a random part in training and the beginning in evaluation, error stops; "
        "truncated tokens are counted.",
    )
    window_probability: Fraction = Field(
        default=0.8,
        description="For truncation window: the probability of a random part instead of the beginning.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_conflicts(_find_option_conflicts(self))
        return self


def _find_option_conflicts(text: TextConfig) -> Iterator[Conflict]:
    if text.format == AUTO and text.options:
        message = "options belong to one format, and auto is not a format yet; name it (text.format=tokenizer)"
        yield Conflict("options", message)

"""The keys of a recipe for prompt format, loss targets and truncation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from tunesmith.recipe.data import OptionValue
from tunesmith.recipe.section import Fraction, Name, Section

FormatOption = OptionValue | Mapping[Name, OptionValue | None]


class TextConfig(Section):
    """How a tree of messages becomes tokens."""

    format: Literal[
        "dolly", "oasst", "tulu", "alpaca", "vicuna", "chatml", "llama-2", "zephyr", "plain", "t5-dolly", "tokenizer"
    ] = Field(
        description="The prompt format; t5-dolly is for encoder-decoders, tokenizer uses the chat template of the "
        "tokenizer."
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

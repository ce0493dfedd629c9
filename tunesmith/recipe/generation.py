"""The keys of a recipe for generated replies: sampling settings, and replies at evaluations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from tunesmith.recipe.section import Conflict, PositiveFraction, Section, check_conflicts


class SamplingConfig(Section):
    """How replies are generated: the defaults of `tunesmith chat` and of the exported model."""

    do_sample: bool = Field(
        default=True, description="Whether tokens are sampled (true) or the most probable one is chosen (false)."
    )
    temperature: PositiveFloat = Field(
        default=1.0, description="The logits are divided by this; below 1 replies vary less, above 1 they vary more."
    )
    top_k: NonNegativeInt = Field(
        default=0, description="Sampling considers only the k most probable tokens; 0 considers all."
    )
    top_p: PositiveFraction = Field(
        default=1.0,
        description="Sampling considers only the smallest set of tokens with this total probability; 1 considers all.",
    )
    typical_p: PositiveFraction = Field(
        default=1.0,
        description="Locally typical sampling: as top_p, but tokens are taken in the order of how close their "
        "information is to the entropy; 1 considers all.",
    )
    repetition_penalty: PositiveFloat = Field(
        default=1.0, description="Values above 1 make tokens that already occur less probable; 1 turns the penalty off."
    )
    min_new_tokens: NonNegativeInt = Field(
        default=0, description="The smallest number of tokens of a reply; 0 allows an empty reply."
    )
    max_new_tokens: PositiveInt = Field(default=256, description="The largest number of tokens of a reply.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_conflicts(_find_token_limit_conflicts(self))
        return self


class EvaluateConfig(Section):
    """Replies that are generated at every evaluation: some are shown, and all are compared with those of the data."""

    replies: NonNegativeInt = Field(
        default=0,
        description="The number of validation prompts that get a greedy reply, the same ones at every evaluation; 0 "
        "generates none.",
    )
    show: NonNegativeInt = Field(
        default=2,
        description="The number of validation prompts whose replies are printed at every evaluation, cut to a line "
        "each, with scores or rewards where the objective has them; 0 prints none. It changes no result.",
    )
    max_new_tokens: PositiveInt = Field(default=256, description="The largest number of tokens of such a reply.")
    batch_size: PositiveInt = Field(
        default=16, description="The number of replies generated at once, also in the rollouts of objective ppo."
    )


def _find_token_limit_conflicts(sampling: SamplingConfig) -> Iterator[Conflict]:
    least, most = sampling.min_new_tokens, sampling.max_new_tokens
    if least > most:
        yield Conflict(
            "min_new_tokens", f"{least} is greater than max_new_tokens ({most}); lower it or raise the other"
        )

"""The keys of a recipe that say how training goes: optimizer, schedule, loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tunesmith.recipe.section import Amount, Betas, Count, Number, Positive, Problem, Section, Share, refuse


class AdamW(Section):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    kind: Literal["adamw"] = Field(default="adamw", description="optimizer")
    betas: Betas = Field(
        default=(0.9, 0.999), description="decay of the running means of gradient and squared gradient"
    )
    epsilon: Positive = Field(default=1e-8, description="added to the denominator")
    weight_decay: Amount = Field(
        default=0.0, description="share of a weight (times learning rate) taken away at each step"
    )


class Muon(Section):
    """Orthogonalised momentum for matrices, AdamW for everything else (Jordan 2024)."""

    kind: Literal["muon"] = Field(default="muon", description="optimizer")
    momentum: Share = Field(default=0.95, description="decay of the running mean of the gradient of matrices")
    weight_decay: Amount = Field(default=0.0, description="as in adamw, for all parameters")
    betas: Betas = Field(default=(0.9, 0.95), description="AdamW part: decay of its running means")
    epsilon: Positive = Field(default=1e-8, description="AdamW part: added to the denominator")
    adamw_learning_rate: Positive | None = Field(
        default=None, description="AdamW part: learning rate; null: learning_rate"
    )


class Adafactor(Section):
    """Second moments as rows and columns, updates relative to the parameter (Shazeer and Stern 2018), as t5x has it."""

    kind: Literal["adafactor"] = Field(default="adafactor", description="optimizer")
    factored: bool = Field(default=True, description="keep the second moment of large matrices as a row and a column")
    min_dim_size_to_factor: Count = Field(default=128, description="smallest side of a matrix that is factored")
    multiply_by_parameter_scale: bool = Field(
        default=True, description="learning_rate is relative to the root mean square of each parameter"
    )
    clipping_threshold: Positive | None = Field(
        default=1.0, description="largest root mean square of an update before learning_rate; null: no limit"
    )
    decay_rate: Positive = Field(default=0.8, description="the second moment decays by 1 - (t + 1) ** -decay_rate")
    initial_step: Number = Field(
        default=0,
        description="steps that count as done before the first, as t5x counts those of pretraining; many of them "
        "freeze the second moment",
    )
    step_offset: Number = Field(default=0, description="taken from the step again; initial_step begins afresh")
    beta1: Share | None = Field(default=None, description="decay of the running mean of updates; null: none is kept")
    weight_decay: Amount = Field(
        default=0.0, description="share of a weight taken away at each step, not times learning_rate"
    )
    epsilon1: Positive = Field(default=1e-30, description="added to the squared gradient")
    epsilon2: Positive = Field(default=1e-3, description="smallest parameter scale")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        return refuse(self, _no_negative_step(self))


class Constant(Section):
    """Linear warm-up, then constant."""

    kind: Literal["constant"] = Field(default="constant", description="schedule")
    warmup_steps: Number = Field(default=0, description="steps from 0 to the full rate")


class Linear(Section):
    """Linear warm-up, then a straight line down."""

    kind: Literal["linear"] = Field(default="linear", description="schedule")
    warmup_steps: Number = Field(default=0, description="steps from 0 to the full rate")
    warmup_ratio: Share | None = Field(default=None, description="the same as a share of all steps")
    end: Amount = Field(default=0.0, description="learning rate at the last step")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        return refuse(self, _one_warmup(self))


class Cosine(Section):
    """Linear warm-up, then half a cosine down."""

    kind: Literal["cosine"] = Field(default="cosine", description="schedule")
    warmup_steps: Number = Field(default=0, description="steps from 0 to the full rate")
    warmup_ratio: Share | None = Field(default=None, description="the same as a share of all steps")
    end: Amount = Field(default=0.0, description="learning rate at the last step")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        return refuse(self, _one_warmup(self))


class Logarithmic(Section):
    """Warm-up by ln(t + 1) / ln(warmup_steps), as DeepSpeed's WarmupLR and WarmupDecayLR do."""

    kind: Literal["logarithmic"] = Field(default="logarithmic", description="schedule")
    warmup_steps: Annotated[int, Field(ge=2)] = Field(description="steps from 0 to the full rate")
    decay: Literal["none", "linear"] = Field(default="none", description="afterwards constant, or a straight line to 0")
    lag: bool = Field(
        default=False,
        description="as the DeepSpeed of 2023: the first step runs at the full rate, the others one step late",
    )


class Factors(Section):
    """A product of named factors, as t5x has it; never below 1e-8."""

    kind: Literal["factors"] = Field(default="factors", description="schedule")
    factors: Annotated[
        tuple[
            Literal[
                "constant",
                "linear_warmup",
                "linear_decay",
                "rsqrt_decay",
                "rsqrt_normalized_decay",
                "decay_every",
                "cosine_decay",
            ],
            ...,
        ],
        Field(strict=False, min_length=1),
    ] = Field(
        description="multiplied: constant is learning_rate, linear_decay holds it as well, the others are pure shapes"
    )
    warmup_steps: Number = Field(default=1000, description="where warm-up ends and the decays begin")
    decay_factor: Positive = Field(default=0.5, description="linear_decay: per step; decay_every: per steps_per_decay")
    steps_per_decay: Count = Field(default=20_000, description="decay_every: steps between two falls")
    steps_per_cycle: Count = Field(default=100_000, description="cosine_decay: steps from the full rate to 0")
    initial_step: Number = Field(
        default=0, description="steps that count as done before the first, as t5x counts those of pretraining"
    )


class BestMetric(Section):
    """One metric of the choice."""

    name: Annotated[str, Field(pattern=r"^validation(/[A-Za-z0-9][A-Za-z0-9._-]*){1,3}$")] = Field(
        description="validation/loss, accuracy, bleu, rouge_l, rewards/accuracies and so on of all validation data, or "
        "validation/SOURCE/loss"
    )
    mode: Literal["min", "max"] = Field(description="which end is the good one")
    weight: Positive = Field(default=1.0, description="its part in the mean of the ranks")


class Best(Section):
    """Which checkpoint is the best: every metric ranks all evaluated steps, the lowest mean of the ranks wins."""

    metrics: Annotated[tuple[BestMetric, ...], Field(strict=False, min_length=1)] = Field(
        default=(BestMetric(name="validation/loss", mode="min"),),
        description="metrics of the evaluations, each with its weight",
    )
    keep: Count = Field(
        default=1,
        description="checkpoints kept that could still become the best, whatever their age; with several metrics more "
        "than 1, since a step may win later through what comes after it",
    )


class Train(Section):
    """The loop."""

    epochs: Positive | None = Field(default=None, description="passes over the data; excludes steps")
    steps: Count | None = Field(default=None, description="optimizer steps; excludes epochs")
    batch_size: Count = Field(description="size of an optimizer step, over all processes, in units of batch_unit")
    batch_unit: Literal["examples", "threads", "tokens"] = Field(
        default="examples", description="what batch_size counts"
    )
    micro_batch_tokens: Count = Field(default=8192, description="tokens computed at once: memory, never the result")
    learning_rate: Positive = Field(description="the highest learning rate of the schedule")
    optimizer: Annotated[AdamW | Muon | Adafactor, Field(discriminator="kind")] = Field(
        default_factory=AdamW, description="optimizer"
    )
    schedule: Annotated[Constant | Linear | Cosine | Logarithmic | Factors, Field(discriminator="kind")] = Field(
        default_factory=Constant, description="learning rate over the steps"
    )
    clip: Positive | None = Field(default=1.0, description="largest norm of the gradient; null: no limit")
    evaluate_every: Count | None = Field(default=None, description="steps between evaluations; null: never")
    save_every: Count | None = Field(default=None, description="steps between checkpoints; null: only at the end")
    log_every: Count | None = Field(
        default=10, description="steps between lines on the screen; the record has every step"
    )
    keep: Count = Field(default=2, description="checkpoints kept; the last and the best always are")
    best: Best = Field(default_factory=Best, description="which checkpoint is the best")
    threads: Count | None = Field(default=None, description="CPU threads; null: PyTorch decides")
    stop_after: Count | None = Field(
        default=None, description="save and stop at this step of the plan, for trials and tests"
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        return refuse(self, _reachable(self))


def _no_negative_step(optimizer: Adafactor) -> Iterator[Problem]:
    if optimizer.step_offset > optimizer.initial_step:
        yield Problem(
            "step_offset",
            f"{optimizer.step_offset:,} is above initial_step ({optimizer.initial_step:,}): steps would be negative",
        )


def _one_warmup(schedule: Linear | Cosine) -> Iterator[Problem]:
    if schedule.warmup_steps and schedule.warmup_ratio is not None:
        yield Problem(
            "warmup_ratio", f"excludes warmup_steps ({schedule.warmup_steps}); set one of the two to null or 0"
        )


def _reachable(train: Train) -> Iterator[Problem]:
    """One length, and a schedule that fits into it."""
    if train.epochs is None and train.steps is None:
        yield Problem("epochs", "no length: give epochs or steps")
    if train.epochs is not None and train.steps is not None:
        yield Problem("steps", f"excludes epochs ({train.epochs:g}); set one of the two to null")
    if isinstance(train.schedule, Linear | Cosine) and train.schedule.end > train.learning_rate:
        yield Problem("schedule.end", f"{train.schedule.end:g} is above learning_rate ({train.learning_rate:g})")

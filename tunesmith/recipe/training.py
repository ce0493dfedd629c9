"""The keys of a recipe for the training loop: optimizer, learning-rate schedule, evaluations and checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from tunesmith.recipe.section import Betas, Conflict, FractionBelowOne, Section, check_conflicts

OPTIMIZER_KIND = "Selects the optimizer and with it the other keys of this section."
ShardedKind: TypeAlias = Literal["zero2", "zero3"]
"""zero3 divides weights, gradients and states; zero2 keeps gathered weights until the backward pass."""
ShardKind: TypeAlias = Literal["none", ShardedKind]
ShareOfRun = Annotated[float, Field(gt=0, lt=1)]

SCHEDULE_KIND = "Selects the schedule and with it the other keys of this section."
WARMUP_STEPS = "The learning rate rises from 0 to its peak over this many optimizer steps."
WARMUP_RATIO = "The length of the warm-up as a share of all optimizer steps; null uses warmup_steps."
END = "The learning rate at the last optimizer step."


class AdamWConfig(Section):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    kind: Literal["adamw"] = Field(default="adamw", description=OPTIMIZER_KIND)
    betas: Betas = Field(
        default=(0.9, 0.999),
        description="The decay rates of the running means of the gradient and of the squared gradient.",
    )
    epsilon: PositiveFloat = Field(
        default=1e-8, description="This number is added to the denominator of the update for numerical stability."
    )
    weight_decay: NonNegativeFloat = Field(
        default=0.0,
        description="Every step subtracts this share of a weight, multiplied by the learning rate; 0 turns it off.",
    )


class MuonConfig(Section):
    """Orthogonalised momentum for matrices, AdamW for all other parameters (Jordan 2024)."""

    kind: Literal["muon"] = Field(default="muon", description=OPTIMIZER_KIND)
    momentum: FractionBelowOne = Field(
        default=0.95, description="The decay rate of the running mean of the gradients of matrices."
    )
    weight_decay: NonNegativeFloat = Field(
        default=0.0,
        description="Every step subtracts this share of a weight, multiplied by the learning rate, from all "
        "parameters.",
    )
    betas: Betas = Field(
        default=(0.9, 0.95), description="The decay rates of AdamW, for the parameters that are not matrices."
    )
    epsilon: PositiveFloat = Field(
        default=1e-8, description="The epsilon of AdamW, for the parameters that are not matrices."
    )
    adamw_learning_rate: PositiveFloat | None = Field(
        default=None,
        description="The learning rate of AdamW, for the parameters that are not matrices; null uses learning_rate.",
    )


class AdafactorConfig(Section):
    """Factored second moments and updates relative to the parameter (Shazeer and Stern 2018), as t5x implements it."""

    kind: Literal["adafactor"] = Field(default="adafactor", description=OPTIMIZER_KIND)
    factored: bool = Field(
        default=True, description="Whether the second moment of a large matrix is kept as one row and one column only."
    )
    min_dim_size_to_factor: PositiveInt = Field(
        default=128, description="A matrix is factored only if both of its sides have at least this size."
    )
    multiply_by_parameter_scale: bool = Field(
        default=True, description="Whether learning_rate is relative to the root mean square of each parameter."
    )
    clipping_threshold: PositiveFloat | None = Field(
        default=1.0,
        description="The largest root mean square of an update before learning_rate is applied; null sets no limit.",
    )
    decay_rate: PositiveFloat = Field(
        default=0.8,
        description="The exponent of the decay of the second moment, which is 1 - (t + 1) ** -decay_rate at step t.",
    )
    initial_step: NonNegativeInt = Field(
        default=0,
        description="The step count at which training begins, as t5x goes on counting the steps of pretraining; a "
        "large number freezes the second moment.",
    )
    step_offset: NonNegativeInt = Field(
        default=0,
        description="The decay of the second moment subtracts this number from the step count; with the value of "
        "initial_step the decay starts over.",
    )
    beta1: FractionBelowOne | None = Field(
        default=None, description="The decay rate of the running mean of the updates; null keeps no running mean."
    )
    weight_decay: NonNegativeFloat = Field(
        default=0.0,
        description="Every step subtracts this share of a weight, not multiplied by the learning rate; 0 turns it off.",
    )
    epsilon1: PositiveFloat = Field(default=1e-30, description="This number is added to the squared gradient.")
    epsilon2: PositiveFloat = Field(
        default=1e-3, description="The smallest scale of a parameter that multiply_by_parameter_scale uses."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_conflicts(_find_negative_step(self))
        return self


class ConstantScheduleConfig(Section):
    """A linear warm-up, then a constant learning rate."""

    kind: Literal["constant"] = Field(default="constant", description=SCHEDULE_KIND)
    warmup_steps: NonNegativeInt = Field(default=0, description=WARMUP_STEPS)


class LinearScheduleConfig(Section):
    """A linear warm-up, then a linear decay."""

    kind: Literal["linear"] = Field(default="linear", description=SCHEDULE_KIND)
    warmup_steps: NonNegativeInt = Field(default=0, description=WARMUP_STEPS)
    warmup_ratio: FractionBelowOne | None = Field(default=None, description=WARMUP_RATIO)
    end: NonNegativeFloat = Field(default=0.0, description=END)

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_conflicts(_find_two_warmups(self))
        return self


class CosineScheduleConfig(Section):
    """A linear warm-up, then a decay along half a cosine."""

    kind: Literal["cosine"] = Field(default="cosine", description=SCHEDULE_KIND)
    warmup_steps: NonNegativeInt = Field(default=0, description=WARMUP_STEPS)
    warmup_ratio: FractionBelowOne | None = Field(default=None, description=WARMUP_RATIO)
    end: NonNegativeFloat = Field(default=0.0, description=END)

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_conflicts(_find_two_warmups(self))
        return self


class LogarithmicScheduleConfig(Section):
    """A warm-up by ln(t + 1) / ln(warmup_steps), as in WarmupLR and WarmupDecayLR of DeepSpeed."""

    kind: Literal["logarithmic"] = Field(default="logarithmic", description=SCHEDULE_KIND)
    warmup_steps: Annotated[int, Field(ge=2)] = Field(description=WARMUP_STEPS)
    decay: Literal["none", "linear"] = Field(
        default="none",
        description="What follows the warm-up: none keeps the learning rate constant, linear decays it to 0.",
    )
    lag: bool = Field(
        default=False,
        description="Whether to reproduce the DeepSpeed of 2023, whose first step runs at the peak learning rate and "
        "whose other steps are one step late.",
    )


class FactorsScheduleConfig(Section):
    """A product of named factors, as in t5x, which never falls below a minimum."""

    kind: Literal["factors"] = Field(default="factors", description=SCHEDULE_KIND)
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
        description="The factors that are multiplied; constant and linear_decay contain learning_rate, the others are "
        "numbers without it."
    )
    warmup_steps: NonNegativeInt = Field(
        default=1000, description="The optimizer step at which linear_warmup ends and the decays begin."
    )
    decay_factor: PositiveFloat = Field(
        default=0.5,
        description="The share of the peak by which linear_decay falls per step, and the factor that decay_every "
        "applies every steps_per_decay steps.",
    )
    steps_per_decay: PositiveInt = Field(
        default=20_000, description="The number of optimizer steps between two decays of decay_every."
    )
    steps_per_cycle: PositiveInt = Field(
        default=100_000, description="The number of optimizer steps in which cosine_decay falls from the peak to 0."
    )
    initial_step: NonNegativeInt = Field(
        default=0,
        description="The step count at which training begins, as t5x goes on counting the steps of pretraining.",
    )
    minimum: NonNegativeFloat = Field(default=1e-8, description="The smallest learning rate.")


ScheduleConfig: TypeAlias = (
    ConstantScheduleConfig
    | LinearScheduleConfig
    | CosineScheduleConfig
    | LogarithmicScheduleConfig
    | FactorsScheduleConfig
)


class BestMetricConfig(Section):
    """One metric by which checkpoints are ranked."""

    name: Annotated[str, Field(pattern=r"^validation(/[A-Za-z0-9][A-Za-z0-9._-]*){1,3}$")] = Field(
        description="The name of the metric: validation/loss, validation/accuracy, validation/bleu, "
        "validation/rouge_l, validation/rewards/accuracies and so on for all validation data, or "
        "validation/SOURCE/loss for one source."
    )
    mode: Literal["min", "max"] = Field(
        description="Whether the smallest (min) or the largest (max) value is the best."
    )
    weight: PositiveFloat = Field(default=1.0, description="The weight of this metric in the mean of the ranks.")


class BestConfig(Section):
    """The choice of the best checkpoint: every metric ranks all evaluated steps, and the lowest mean rank wins."""

    metrics: Annotated[tuple[BestMetricConfig, ...], Field(strict=False, min_length=1)] = Field(
        default=(BestMetricConfig(name="validation/loss", mode="min"),),
        description="The metrics by which the checkpoints are ranked.",
    )
    save: Literal["wins", "planned"] = Field(
        default="wins",
        description="Which evaluated steps can be the best: wins also saves a checkpoint after every evaluation that "
        "is the best so far, planned has only the checkpoints of save_every.",
    )
    keep: PositiveInt = Field(
        default=1,
        description="The number of checkpoints to keep, of any age, that can still become the best; with several "
        "metrics use more than 1, because later evaluations can change the ranks of earlier ones.",
    )


class TrainConfig(Section):
    """The training loop."""

    epochs: PositiveFloat | None = Field(
        default=None, description="The number of passes over the training data; set either epochs or steps."
    )
    steps: PositiveInt | None = Field(
        default=None, description="The number of optimizer steps; set either steps or epochs."
    )
    batch_size: PositiveInt = Field(
        description="The size of the batch of one optimizer step over all processes, in units of batch_unit."
    )
    batch_unit: Literal["examples", "threads", "tokens"] = Field(
        default="examples", description="What batch_size counts: examples (trees), threads or tokens."
    )
    micro_batch_tokens: PositiveInt = Field(
        default=8192,
        description="The number of tokens in one forward and backward pass; it changes memory use and speed, never "
        "the result.",
    )
    weights: Literal["auto", "float32", "split", "bfloat16-stochastic"] = Field(
        default="auto",
        description="How weights are stored: float32; split (bfloat16 for the model and 16 bits that make it exactly "
        "float32 for the optimizer); bfloat16-stochastic (bfloat16, rounded at random); auto is split on a GPU with "
        "model.dtype bfloat16, otherwise float32.",
    )
    gradients: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="The data type in which the gradients of the micro-batches of a step are added up; bfloat16 needs "
        "weights in bfloat16, and those of model.adapter are always float32.",
    )
    moments: Literal["float32", "8bit"] = Field(
        default="float32",
        description="How the running means of the optimizer are stored; 8bit is for adamw and muon, and the rows and "
        "columns of adafactor are float32 in any case.",
    )
    offload: Literal["none", "moments"] = Field(
        default="none",
        description="What is kept in host memory and copied to the GPU for each update: nothing, or the running means "
        "of the optimizer; it changes memory use and speed, never the result.",
    )
    learning_rate: PositiveFloat = Field(description="The peak learning rate of the schedule.")
    optimizer: Annotated[AdamWConfig | MuonConfig | AdafactorConfig, Field(discriminator="kind")] = Field(
        default_factory=AdamWConfig, description="The optimizer and its settings; the default is AdamW."
    )
    schedule: Annotated[ScheduleConfig, Field(discriminator="kind")] = Field(
        default_factory=ConstantScheduleConfig,
        description="The learning rate as a function of the step; the default is constant without warm-up.",
    )
    clip: PositiveFloat | None = Field(
        default=1.0, description="The gradient is scaled down to this norm if it is larger; null turns clipping off."
    )
    evaluate_every: PositiveInt | ShareOfRun | None = Field(
        default=None,
        description="The number of optimizer steps between two evaluations, or their share of the run (0.1); null "
        "never evaluates.",
    )
    save_every: PositiveInt | ShareOfRun | None = Field(
        default=None,
        description="The number of optimizer steps between two checkpoints, which are evaluated too, or their share of "
        "the run (0.25); null saves only at the end. The best so far is saved as well, unless best.save is planned.",
    )
    log_every: PositiveInt | None = Field(
        default=10,
        description="The number of optimizer steps between two lines on the screen; metrics.jsonl has every step; "
        "null prints the last step only.",
    )
    keep: PositiveInt = Field(
        default=2, description="The number of most recent checkpoints to keep; the best one is always kept as well."
    )
    best: BestConfig = Field(default_factory=BestConfig, description="How the best checkpoint is chosen.")
    patience: PositiveInt | None = Field(
        default=None,
        description="Training ends early when this many evaluations in a row are not better than the best one; null "
        "trains to the end.",
    )
    threads: PositiveInt | None = Field(
        default=None, description="The number of CPU threads of PyTorch; null leaves the choice to PyTorch."
    )
    shard: Literal["auto", ShardKind] = Field(
        default="auto",
        description="What several processes divide among themselves: zero3 weights, gradients and optimizer states; "
        "zero2 the same, but every process keeps all weights between forward and backward pass, which is faster; none "
        "nothing; auto is zero3 where there are several processes.",
    )
    replicas: PositiveInt = Field(
        default=1,
        description="How many copies of the divided weights there are. With one for each machine, only gradients pass "
        "between machines. It has no effect where nothing is divided.",
    )
    deterministic: bool = Field(
        default=True,
        description="Whether a GPU uses only algorithms that give the same bits every time, so that a stopped run "
        "continues exactly; false for models with an operation that has none.",
    )
    stop_after: PositiveInt | None = Field(
        default=None,
        description="Training saves a checkpoint and stops after this step, without changing the schedule; null "
        "trains to the end.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_conflicts([*_find_length_conflicts(self), *_find_patience_conflict(self)])
        return self


def period_in_steps(period: float | None, total: int) -> int | None:
    """The optimizer steps between two evaluations or checkpoints, of which a share of the run has at least one.

    period: a whole number of steps, a share of ``total``, or None for no period.
    total: optimizer steps of the run.
    """
    return max(1, round(period * total)) if isinstance(period, float) else period


def _find_negative_step(optimizer: AdafactorConfig) -> Iterator[Conflict]:
    offset, initial = optimizer.step_offset, optimizer.initial_step
    if offset > initial:
        message = f"{offset:,} is greater than initial_step ({initial:,}), so the first steps would be negative"
        yield Conflict("step_offset", f"{message}; lower it or raise initial_step")


def _find_two_warmups(schedule: LinearScheduleConfig | CosineScheduleConfig) -> Iterator[Conflict]:
    if schedule.warmup_steps and schedule.warmup_ratio is not None:
        message = f"the warm-up has two lengths, warmup_ratio and warmup_steps ({schedule.warmup_steps})"
        yield Conflict("warmup_ratio", message, ("warmup_ratio=null", "warmup_steps=0"))


def _find_patience_conflict(train: TrainConfig) -> Iterator[Conflict]:
    if train.patience is not None and train.evaluate_every is None and train.save_every is None:
        message = "it counts evaluations, and there is only one at the end; set train.evaluate_every"
        yield Conflict("patience", message)


def _find_length_conflicts(train: TrainConfig) -> Iterator[Conflict]:
    """The run has exactly one length, and the schedule does not end above its peak."""
    if train.epochs is None and train.steps is None:
        yield Conflict("epochs", "the run has no length; set train.epochs or train.steps")
    if train.epochs is not None and train.steps is not None:
        message = f"the run has two lengths, steps ({train.steps:,}) and epochs ({train.epochs:g})"
        yield Conflict("steps", message, ("steps=null", "epochs=null"))
    match train.schedule:
        case LinearScheduleConfig() | CosineScheduleConfig():
            key, lowest = "schedule.end", train.schedule.end
        case FactorsScheduleConfig():
            key, lowest = "schedule.minimum", train.schedule.minimum
        case _:
            return
    if lowest > train.learning_rate:
        yield Conflict(key, f"{lowest:g} is greater than train.learning_rate ({train.learning_rate:g}); lower it")

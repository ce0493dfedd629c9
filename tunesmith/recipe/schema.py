"""The recipe: one YAML file is one run. All its keys are defined here, in data.py, objectives.py and training.py.

`tunesmith schema` prints them for editors, `tunesmith show RECIPE` prints the values of one recipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from tunesmith.recipe.combinations import find_objective_conflicts
from tunesmith.recipe.data import DataConfig, DataSourceConfig, OptionValue
from tunesmith.recipe.families import find_family_conflicts
from tunesmith.recipe.filters import FiltersConfig, LabelRangeConfig
from tunesmith.recipe.objectives import (
    CheckRewardConfig,
    DpoConfig,
    ModelRewardConfig,
    ObjectiveConfig,
    PpoConfig,
    RewardConfig,
    SftConfig,
)
from tunesmith.recipe.section import (
    Conflict,
    Fraction,
    FractionBelowOne,
    Name,
    PositiveFraction,
    Section,
    check_conflicts,
)
from tunesmith.recipe.training import (
    AdafactorConfig,
    AdamWConfig,
    BestConfig,
    ConstantScheduleConfig,
    CosineScheduleConfig,
    FactorsScheduleConfig,
    LinearScheduleConfig,
    LogarithmicScheduleConfig,
    MuonConfig,
    TrainConfig,
)

__all__ = [
    "AdafactorConfig",
    "AdamWConfig",
    "BestConfig",
    "CheckRewardConfig",
    "ConstantScheduleConfig",
    "CosineScheduleConfig",
    "DataConfig",
    "DataSourceConfig",
    "DpoConfig",
    "EvaluateConfig",
    "FactorsScheduleConfig",
    "FiltersConfig",
    "LabelRangeConfig",
    "LinearScheduleConfig",
    "LogarithmicScheduleConfig",
    "ModelConfig",
    "ModelRewardConfig",
    "MuonConfig",
    "PpoConfig",
    "Recipe",
    "RewardConfig",
    "RunConfig",
    "SamplingConfig",
    "SftConfig",
    "TextConfig",
    "TrainConfig",
]


REPLY_METRICS = ("/bleu", "/rouge_l")
"""Endings of the names of metrics that need generated replies."""


class ModelConfig(Section):
    """The base model, its tokenizer, and what is changed about the model."""

    path: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="The base model: a directory or a name on the Hugging Face hub; set either path or init.",
    )
    revision: str | None = Field(
        default=None, description="The commit, tag or branch of path on the hub; null uses the default branch."
    )
    init: Mapping[Name, JsonValue] | None = Field(
        default=None,
        description="A model with random weights: architecture (a transformers model_type such as gpt_neox, llama or "
        "t5) and the arguments of its configuration, which are passed on; set either init or path.",
    )
    tokenizer: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="The tokenizer: a directory or a name on the hub; null uses path."
    )
    resize: Literal["none", "exact"] | PositiveInt = Field(
        default="none",
        description="The rows of the embedding: none adds rows only if tokens need them, exact makes one row per "
        "token, a number n rounds the number of tokens up to a multiple of n.",
    )
    residual_dropout: FractionBelowOne = Field(
        default=0.0, description="The dropout probability on the output of every attention and every MLP."
    )
    residual_dropout_shape: Literal["uniform", "rising"] = Field(
        default="uniform",
        description="How residual_dropout varies over the layers: uniform is the same in every layer, rising goes "
        "from 0 in the first layer to the full value in the last.",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="The data type of the forward and backward pass; weights are kept in float32."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Whether activations are recomputed in the backward pass to save memory."
    )
    layout: Literal["auto", "tree", "threads"] = Field(
        default="auto",
        description="How a batch is computed: tree computes shared messages once, threads computes every thread by "
        "itself, auto uses tree if the self-test shows that the model supports it.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_conflicts(_find_model_conflicts(self))
        return self


class TextConfig(Section):
    """How a tree of messages becomes tokens."""

    format: Literal[
        "dolly", "oasst", "tulu", "alpaca", "vicuna", "chatml", "llama-2", "zephyr", "plain", "t5-dolly", "tokenizer"
    ] = Field(
        description="The prompt format; t5-dolly is for encoder-decoders, tokenizer uses the chat template of the "
        "tokenizer."
    )
    options: Mapping[Name, OptionValue] = Field(default_factory=dict, description="Options of the prompt format.")
    targets: Literal["assistant", "last", "all", "marked", "ranked"] | None = Field(
        default=None,
        description="The messages that are trained on: assistant (every assistant turn), last (the last one of each "
        "thread), all (every token of all turns), marked (those that the data mark) or ranked (replies that the data "
        "rank); null means ranked for the objectives dpo and reward, otherwise assistant.",
    )
    max_length: Annotated[int, Field(gt=1)] = Field(
        description="The largest number of tokens of a thread, or of the input of an encoder-decoder."
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
    """Replies that are generated at every evaluation and compared with those of the validation data."""

    replies: NonNegativeInt = Field(
        default=0,
        description="The number of validation prompts that get a greedy reply, the same ones at every evaluation; 0 "
        "generates none.",
    )
    max_new_tokens: PositiveInt = Field(default=256, description="The largest number of tokens of such a reply.")
    batch_size: PositiveInt = Field(
        default=16, description="The number of replies generated at once, also in the rollouts of objective ppo."
    )


class RunConfig(Section):
    """Where a run is stored, what it exports, and where its metrics are logged."""

    directory: Annotated[str, Field(min_length=1)] = Field(
        default="runs/{name}", description="The directory of the run; {name} is replaced by the name of the recipe."
    )
    trackers: Annotated[tuple[Literal["tensorboard", "wandb"], ...], Field(strict=False)] = Field(
        default=(), description="Where metrics are logged in addition to metrics.jsonl, which is always written."
    )
    export: Literal["last", "best"] = Field(
        default="last",
        description="The weights that are exported at the end: those of the last step or of the best one.",
    )


class Recipe(Section):
    """A Tunesmith recipe. Relative paths in it are relative to the current directory."""

    name: Name = Field(description="The name of the recipe and, by default, of the run's directory.")
    about: str = Field(default="", description="One line that describes the recipe.")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        default=0, description="The seed from which all random numbers of the run are derived."
    )
    model: ModelConfig = Field(description="The base model and its tokenizer.")
    text: TextConfig = Field(description="How messages become tokens.")
    data: DataConfig = Field(description="The training data and the validation data.")
    objective: ObjectiveConfig = Field(
        default_factory=SftConfig, description="What training optimises; the default is supervised fine-tuning (sft)."
    )
    train: TrainConfig = Field(description="The training loop: length, batch size, optimizer and checkpoints.")
    evaluate: EvaluateConfig = Field(
        default_factory=EvaluateConfig, description="Replies that are generated at every evaluation."
    )
    sampling: SamplingConfig = Field(
        default_factory=SamplingConfig, description="How replies are generated by default."
    )
    run: RunConfig = Field(
        default_factory=RunConfig, description="Where the run is stored and where its metrics are logged."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        conflicts = find_section_conflicts(
            data=self.data,
            train=self.train,
            evaluate=self.evaluate,
            run=self.run,
            model=self.model,
            text=self.text,
            objective=self.objective,
        )
        check_conflicts(conflicts)
        return self

    @property
    def targets(self) -> Literal["assistant", "last", "all", "marked", "ranked"]:
        """Which messages are trained on."""
        if isinstance(self.objective, PpoConfig):
            return "marked"  # the replies that are to be generated
        return self.text.targets or ("ranked" if isinstance(self.objective, DpoConfig | RewardConfig) else "assistant")

    @property
    def directory(self) -> Path:
        """The directory of the run."""
        return Path(self.run.directory.replace("{name}", self.name))


def find_section_conflicts(
    *,
    data: DataConfig | None,
    train: TrainConfig | None,
    evaluate: EvaluateConfig | None,
    run: RunConfig | None,
    model: ModelConfig | None,
    text: TextConfig | None,
    objective: ObjectiveConfig | None,
) -> Iterator[Conflict]:
    """Conflicts between sections; a section that is invalid by itself is None and is skipped."""
    if model and model.init is not None:  # for a path the architecture is unknown until its directory is read
        architecture = str(model.init["architecture"])
        yield from find_architecture_conflicts(architecture, model=model, text=text, train=train, objective=objective)
    if text and text.targets is not None and objective:
        yield from _find_target_conflicts(text.targets, objective)
    if objective:
        values = _dotted_values(model=model, text=text, train=train, evaluate=evaluate)
        yield from find_objective_conflicts(objective, values)
    nothing = "there are no validation data; set data.validation (to 200 or 0.05, for example), or set this to"
    if data and not data.evaluates:
        if train and train.evaluate_every:
            yield Conflict("train.evaluate_every", f"{nothing} null")
        if evaluate and evaluate.replies:
            yield Conflict("evaluate.replies", f"{nothing} 0")
        if run and run.export == "best":
            yield Conflict("run.export", f"{nothing} last")
    if text and evaluate and evaluate.replies and text.targets == "all":
        yield Conflict("evaluate.replies", "text.targets all also trains on turns that are not replies; set this to 0")
    if train and evaluate and not evaluate.replies:
        for index, metric in enumerate(train.best.metrics):
            if metric.name.endswith(REPLY_METRICS):
                message = "this metric needs generated replies; set evaluate.replies (to 200, for example)"
                yield Conflict(f"train.best.metrics.{index}.name", message)


def _find_target_conflicts(targets: str, objective: ObjectiveConfig) -> Iterator[Conflict]:
    """Preferences train on ranked replies, demonstrations on existing replies, PPO on the replies it generates."""
    ranks = isinstance(objective, DpoConfig | RewardConfig)
    if (targets == "ranked") != ranks or isinstance(objective, PpoConfig):
        message = f"{targets!r} cannot be used with objective {objective.kind}; set text.targets to null"
        yield Conflict("text.targets", message)


def find_architecture_conflicts(
    architecture: str,
    *,
    model: ModelConfig | None,
    text: TextConfig | None,
    train: TrainConfig | None,
    objective: ObjectiveConfig | None,
) -> Iterator[Conflict]:
    """Values of these sections that models of this architecture cannot use."""
    values = _dotted_values(model=model, text=text, train=train)
    if train is not None:
        values["train.optimizer.kind"] = train.optimizer.kind
    return find_family_conflicts(architecture, values | _dotted_values(objective=objective))


def _dotted_values(**sections: Section | None) -> dict[str, Any]:
    """``train.batch_size`` -> its value, for all keys of the sections that are given."""
    found = {name: section for name, section in sections.items() if section is not None}
    return {
        f"{name}.{key}": getattr(section, key) for name, section in found.items() for key in type(section).model_fields
    }


def _find_model_conflicts(model: ModelConfig) -> Iterator[Conflict]:
    """Weights come from one place, there is a tokenizer, and training in float16 is not supported."""
    if model.path is None and model.init is None:
        message = "there is no model; set model.path (a directory or a hub name) or model.init (random weights)"
        yield Conflict("path", message)
    if model.path is not None and model.init is not None:
        message = f"init (random weights) cannot be combined with path ({model.path!r}); set one of the two to null"
        yield Conflict("init", message)
    if model.init is not None and model.tokenizer is None:
        message = (
            "a model with random weights (init) has no tokenizer; set model.tokenizer to a directory or a hub name"
        )
        yield Conflict("tokenizer", message)
    if model.init is not None and not isinstance(model.init.get("architecture"), str):
        message = "the required key is missing; name a transformers model_type, such as gpt_neox or llama"
        yield Conflict("init.architecture", message)
    if model.revision is not None and model.path is None:
        yield Conflict("revision", "a revision belongs to model.path, which is not set; set model.revision to null")
    if model.dtype == "float16":
        message = "float16 loses small gradients without loss scaling, which is not supported; use bfloat16"
        yield Conflict("dtype", message)


def _find_token_limit_conflicts(sampling: SamplingConfig) -> Iterator[Conflict]:
    least, most = sampling.min_new_tokens, sampling.max_new_tokens
    if least > most:
        yield Conflict(
            "min_new_tokens", f"{least} is greater than max_new_tokens ({most}); lower it or raise the other"
        )

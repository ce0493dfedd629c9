"""The recipe: one YAML file is one run. Here, in data.py (`data`), objectives.py and training.py (`train`) are all its keys.

`tunesmith schema` prints them for editors, `tunesmith show RECIPE` the values of one recipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from tunesmith.recipe.combinations import objective_problems
from tunesmith.recipe.data import Data, Source, Switch
from tunesmith.recipe.families import family_problems
from tunesmith.recipe.filters import Filters, LabelRange
from tunesmith.recipe.objectives import CheckReward, Dpo, ModelReward, Objective, Ppo, Reward, Sft
from tunesmith.recipe.section import Count, Mass, Name, Number, Positive, Problem, Section, Share, refuse
from tunesmith.recipe.training import (
    Adafactor,
    AdamW,
    Best,
    Constant,
    Cosine,
    Factors,
    Linear,
    Logarithmic,
    Muon,
    Train,
)

__all__ = [
    "Adafactor",
    "AdamW",
    "Best",
    "CheckReward",
    "Constant",
    "Cosine",
    "Data",
    "Dpo",
    "Evaluate",
    "Factors",
    "Filters",
    "LabelRange",
    "Linear",
    "Logarithmic",
    "Model",
    "ModelReward",
    "Muon",
    "Ppo",
    "Recipe",
    "Reward",
    "Run",
    "Sampling",
    "Sft",
    "Source",
    "Text",
    "Train",
]


REPLY_METRICS = ("/bleu", "/rouge_l")
"""Ends of the names of metrics that need replies."""


class Model(Section):
    """The base model, its tokenizer and what is changed about it."""

    path: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="base model: a directory or a hub name; excludes init"
    )
    revision: str | None = Field(default=None, description="commit, tag or branch of path on the hub")
    init: Mapping[Name, JsonValue] | None = Field(
        default=None,
        description="train from random weights: architecture (a transformers model_type such as gpt_neox, llama or t5), "
        "and the sizes of its configuration, passed through; excludes path",
    )
    tokenizer: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="tokenizer: a directory or a hub name; null: path"
    )
    resize: Literal["none", "exact"] | Count = Field(
        default="none",
        description="rows of the embedding: none (leave, grow only if tokens need it), exact (one row a token), "
        "or n (round the number of tokens up to a multiple of n)",
    )
    residual_dropout: Share = Field(default=0.0, description="dropout on the output of every attention and every MLP")
    residual_dropout_shape: Literal["uniform", "rising"] = Field(
        default="uniform",
        description="uniform: the same in every layer; rising: from 0 in the first to the full in the last",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="number format of the computation"
    )
    gradient_checkpointing: bool = Field(default=False, description="compute activations twice instead of keeping them")
    layout: Literal["auto", "tree", "threads"] = Field(
        default="auto",
        description="tree: shared messages computed once; threads: one row a thread; auto: the self-test decides",
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        return refuse(self, _one_origin(self))


class Text(Section):
    """How a tree of messages becomes tokens."""

    format: Literal[
        "dolly", "oasst", "tulu", "alpaca", "vicuna", "chatml", "llama-2", "zephyr", "plain", "t5-dolly", "tokenizer"
    ] = Field(
        description="prompt format; tokenizer: the chat template that the tokenizer brings; t5-dolly: for encoder-decoders"
    )
    options: Mapping[Name, Switch] = Field(default_factory=dict, description="switches of that format")
    targets: Literal["assistant", "last", "all", "marked", "ranked"] | None = Field(
        default=None,
        description="trained on: every assistant turn, the last one of each thread, every token of all turns "
        "(language modelling), the messages that the data mark, or the replies that the data rank; null: ranked for "
        "preferences (dpo, reward), otherwise assistant",
    )
    max_length: Annotated[int, Field(gt=1)] = Field(
        description="longest thread in tokens; of an encoder-decoder: longest input"
    )
    max_target_length: Annotated[int, Field(gt=1)] | None = Field(
        default=None,
        description="longest reply of an encoder-decoder in tokens, for which truncation (drop, right or error) holds as "
        "for its inputs; null: as max_length",
    )
    truncation: Literal["drop", "right", "left", "window", "error"] = Field(
        default="drop",
        description="a longer thread is dropped, keeps its beginning (right), its end (left), a random stretch in "
        "training and its beginning in evaluation (window), or is an error; what is cut is counted",
    )
    window_probability: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.8, description="truncation window: how often a random stretch is taken instead of the beginning"
    )


class Sampling(Section):
    """How replies are drawn: the defaults of chat and of the exported model."""

    do_sample: bool = Field(default=True, description="draw; false: always the most probable token")
    temperature: Positive = Field(default=1.0, description="below 1 is bolder, above 1 more varied")
    top_k: Number = Field(default=0, description="only the k most probable tokens; 0: all")
    top_p: Mass = Field(default=1.0, description="only the smallest set of tokens of that probability")
    typical_p: Mass = Field(default=1.0, description="the same, tokens nearest to the entropy first")
    repetition_penalty: Positive = Field(default=1.0, description="above 1 makes used tokens less likely")
    min_new_tokens: Number = Field(default=0, description="no end before so many tokens")
    max_new_tokens: Count = Field(default=256, description="end after so many tokens")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        return refuse(self, _fewest_below_most(self))


class Evaluate(Section):
    """Replies that the model writes at every evaluation, compared with those of the validation data."""

    replies: Number = Field(
        default=0, description="how many prompts get a reply, the same ones every time (greedy decoding); 0: none"
    )
    max_new_tokens: Count = Field(default=256, description="a reply ends after so many tokens")
    batch_size: Count = Field(default=16, description="replies written at once, in rollouts of objective ppo too")


class Run(Section):
    """Where a run lives and who else is told."""

    directory: Annotated[str, Field(min_length=1)] = Field(
        default="runs/{name}", description="directory of the run; {name} stands for the recipe's name"
    )
    trackers: Annotated[tuple[Literal["tensorboard", "wandb"], ...], Field(strict=False)] = Field(
        default=(), description="further places that get the metrics; metrics.jsonl is always written"
    )
    export: Literal["last", "best"] = Field(
        default="last", description="weights that are exported at the end: after the last step, or the best checkpoint"
    )


class Recipe(Section):
    """A Tunesmith recipe. Relative paths in it are relative to the current directory."""

    name: Name = Field(description="name of the recipe and, by default, of the run's directory")
    about: str = Field(default="", description="one line about it")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(default=0, description="origin of every random draw")
    model: Model = Field(description="the base model, its tokenizer and what is changed about it")
    text: Text = Field(description="how messages become tokens")
    data: Data = Field(description="what is trained on and what is held back")
    objective: Objective = Field(default_factory=Sft, description="what is optimised")
    train: Train = Field(description="the loop")
    evaluate: Evaluate = Field(default_factory=Evaluate, description="replies written at every evaluation")
    sampling: Sampling = Field(default_factory=Sampling, description="how replies are drawn")
    run: Run = Field(default_factory=Run, description="where the run lives and who else is told")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        found = across_sections(
            data=self.data,
            train=self.train,
            evaluate=self.evaluate,
            run=self.run,
            model=self.model,
            text=self.text,
            objective=self.objective,
        )
        return refuse(self, found)

    @property
    def targets(self) -> Literal["assistant", "last", "all", "marked", "ranked"]:
        """Which messages are trained on."""
        if isinstance(self.objective, Ppo):
            return "marked"  # the replies that are asked for
        return self.text.targets or ("ranked" if isinstance(self.objective, Dpo | Reward) else "assistant")

    @property
    def directory(self) -> Path:
        """Directory of the run."""
        return Path(self.run.directory.replace("{name}", self.name))


def across_sections(
    *,
    data: Data | None,
    train: Train | None,
    evaluate: Evaluate | None,
    run: Run | None,
    model: Model | None,
    text: Text | None,
    objective: Objective | None,
) -> Iterator[Problem]:
    """What needs two sections to be seen; a section that has faults of its own is ``None`` and skipped."""
    if model and model.init is not None:  # else the architecture is not known before a directory is read
        architecture = str(model.init["architecture"])
        yield from of_family(architecture, model=model, text=text, train=train, objective=objective)
    if text and text.targets is not None and objective:
        yield from _targets_of(text.targets, objective)
    if objective:
        yield from objective_problems(objective, _values(model=model, text=text, train=train, evaluate=evaluate))
    nothing = "there is nothing to evaluate on; set data.validation (200 or 0.05), or this to"
    if data and not data.evaluates:
        if train and train.evaluate_every:
            yield Problem("train.evaluate_every", f"{nothing} null")
        if evaluate and evaluate.replies:
            yield Problem("evaluate.replies", f"{nothing} 0")
        if run and run.export == "best":
            yield Problem("run.export", f"{nothing} last")
    if text and evaluate and evaluate.replies and text.targets == "all":
        yield Problem("evaluate.replies", "text.targets all trains turns that are no replies; set this to 0")
    if train and evaluate and not evaluate.replies:
        for index, metric in enumerate(train.best.metrics):
            if metric.name.endswith(REPLY_METRICS):
                yield Problem(f"train.best.metrics.{index}.name", "no replies are written; set evaluate.replies (200)")


def _targets_of(targets: str, objective: Sft | Dpo | Reward | Ppo) -> Iterator[Problem]:
    """Preferences train on ranked replies, demonstrations on what is to be imitated, rollouts on what is written."""
    ranks = isinstance(objective, Dpo | Reward)
    if (targets == "ranked") != ranks or isinstance(objective, Ppo):
        yield Problem("text.targets", f"{targets!r} is nothing for objective {objective.kind}; set it to null")


def of_family(
    architecture: str, *, model: Model | None, text: Text | None, train: Train | None, objective: Objective | None
) -> Iterator[Problem]:
    """What these sections say that models of this architecture cannot do."""
    values = _values(model=model, text=text, train=train)
    if train is not None:
        values["train.optimizer.kind"] = train.optimizer.kind
    return family_problems(architecture, values | _values(objective=objective))


def _values(**sections: Section | None) -> dict[str, Any]:
    """``train.batch_size`` -> its value, for all keys of the sections that are there."""
    found = {name: section for name, section in sections.items() if section is not None}
    return {
        f"{name}.{key}": getattr(section, key) for name, section in found.items() for key in type(section).model_fields
    }


def _one_origin(model: Model) -> Iterator[Problem]:
    """Weights come from one place, and there is a tokenizer."""
    if model.path is None and model.init is None:
        yield Problem("path", "no model: give path (a directory or a hub name) or init (random weights)")
    if model.path is not None and model.init is not None:
        yield Problem("init", f"excludes path ({model.path!r}); set one of the two to null")
    if model.init is not None and model.tokenizer is None:
        yield Problem("tokenizer", "missing; random weights (init) bring no tokenizer of their own")
    if model.init is not None and not isinstance(model.init.get("architecture"), str):
        yield Problem("init.architecture", "missing; name a transformers model_type, such as gpt_neox or llama")
    if model.revision is not None and model.path is None:
        yield Problem("revision", "belongs to path, which is not given; set it to null")
    if model.dtype == "float16":
        yield Problem("dtype", "float16 loses small gradients without loss scaling, which is not here; use bfloat16")


def _fewest_below_most(sampling: Sampling) -> Iterator[Problem]:
    if sampling.min_new_tokens > sampling.max_new_tokens:
        yield Problem(
            "min_new_tokens", f"{sampling.min_new_tokens} is above max_new_tokens ({sampling.max_new_tokens})"
        )

"""The interface of a training method: what the kind of objective decides about a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from torch import nn
from transformers import PreTrainedModel

from tunesmith.batch.protocols import BatchT, Objective
from tunesmith.compose.models.building import BuiltModel
from tunesmith.compose.models.families import PreparedPolicy
from tunesmith.data.dataset.prepare import Prepared
from tunesmith.data.dataset.store import Store
from tunesmith.model.opening import OpenedModel
from tunesmith.model.shard import Division
from tunesmith.model.split import WeightStorage
from tunesmith.recipe.objectives import ObjectiveSection
from tunesmith.recipe.schema import Recipe
from tunesmith.report.check import Check
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.train.loop import Callback, PolicyT, Steps
from tunesmith.train.prefetch import prefetched
from tunesmith.train.run.directory import RunDirectory
from tunesmith.train.run.shown import LOSS, ShownMetric, ShownText
from tunesmith.train.run.validation import ValidationMetrics
from tunesmith.world import Communicator

KeysT = TypeVar("KeysT", bound=ObjectiveSection)
"""The section of the recipe that a method reads."""


@dataclass(frozen=True, slots=True)
class RunContext(Generic[PolicyT, BatchT]):
    """What is built from the recipe before the method sets up its part.

    recipe: the whole recipe.
    run: the open directory of the run.
    data: the training data, and the validation data that were split off.
    evaluation_data: separate validation data.
    tokenizer, renderer: of the recipe.
    model: the weights before the first step.
    rows: rows of the model's embedding.
    prepared: the policy of the model, which passed the self-test, and the batches that it reads.
    weights: how the weights of the model are stored, with what the model itself does not hold.
    world: the processes of the run.
    division: how they divide weights; None if they do not.
    random_base: digest of the random weights that adapters are trained on; empty for other models.
    """

    recipe: Recipe
    run: RunDirectory
    data: Prepared
    evaluation_data: Prepared | None
    tokenizer: Tokenizer
    renderer: Renderer
    model: PreTrainedModel
    rows: int
    prepared: PreparedPolicy[PolicyT, BatchT]
    weights: WeightStorage
    world: Communicator
    division: Division | None = None
    random_base: str = ""

    def checks(self) -> list[Check]:
        """The result of the self-test of the model."""
        found = f"same results as stock transformers: difference {self.prepared.difference:.1g}"
        return [Check("model", "pass", f"{found}, layout {self.prepared.layout}")]

    @property
    def validation(self) -> tuple[Store, Sequence[str]] | None:
        """The data to evaluate on and the names of their sources; None if there are none."""
        if self.evaluation_data is not None:
            return self.evaluation_data.train, list(self.evaluation_data.report.sources)
        if self.data.validation is not None:
            return self.data.validation, list(self.data.report.sources)
        return None


@dataclass(frozen=True, slots=True)
class TrainingSetup(Generic[PolicyT, BatchT]):
    """What is trained, and how.

    policy, objective, steps: the arguments of the training loop.
    modules: name of a file in a checkpoint -> the module whose weights it holds, of an adapted one those it trains.
    proof: checks of data and batches, made before every start.
    gates: computes the checks of the weights before the first step; all processes call it, once in a run.
    evaluate: the metrics of the present weights on the validation data; None without such data.
    texts: prompts and replies that are shown after an evaluation; None: replies are generated for this.
    callbacks: called after every step, before a checkpoint is written.
    resumed: called with the number of steps that are done before a stopped run continues.
    ahead: whether a step may be laid out before the one before it is done; not where it depends on the weights.
    """

    policy: PolicyT
    objective: Objective[PolicyT, BatchT]
    steps: Steps[BatchT]
    modules: Mapping[str, nn.Module]
    proof: Sequence[Check]
    gates: Callable[[], Sequence[Check]]
    evaluate: Callable[[], ValidationMetrics] | None
    texts: Callable[[], Sequence[ShownText]] | None = None
    callbacks: Sequence[Callback] = ()
    resumed: Callable[[int], None] = lambda done: None
    ahead: bool = True

    def prefetched(self) -> AbstractContextManager[Steps[BatchT]]:
        """The steps for training; on a GPU they are laid out one ahead where that is possible."""
        return prefetched(self.steps, self.policy.device) if self.ahead else nullcontext(self.steps)


@dataclass(frozen=True, slots=True)
class Method(Generic[KeysT, PolicyT, BatchT]):
    """A training method, by the keys that it reads, the policy of its model and the batches of that policy.

    build_model: the model with an embedding row for every token; with a division all processes build it together, and
        a pretrained one is divided.
    prepare_policy: the policy of the model on the best device, after the self-test.
    setup: everything else. It may wrap the policy, as PPO does, so only its own annotation names what is trained.
    kind: kind of model that is exported.
    use: what to do with a finished run, for the user; ``{run}`` is its directory.
    shown: the metrics that are shown while it trains, the most important one first.
    """

    build_model: Callable[[Recipe, KeysT, Tokenizer, Division | None], BuiltModel]
    prepare_policy: Callable[[Recipe, OpenedModel, Tokenizer], PreparedPolicy[PolicyT, BatchT]]
    setup: Callable[[RunContext[PolicyT, BatchT], KeysT], TrainingSetup[Any, BatchT]]
    kind: Literal["assistant", "reward"] = "assistant"
    use: str = "chat with it: tunesmith chat {run}"
    shown: tuple[ShownMetric, ...] = (LOSS,)

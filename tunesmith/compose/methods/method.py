"""What a method of training is: the parts of a run that its objective decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from transformers import PreTrainedModel

from tunesmith.compose.models.families import PreparedPolicy
from tunesmith.data.dataset.prepare import Prepared
from tunesmith.data.dataset.store import Store
from tunesmith.recipe.schema import Recipe
from tunesmith.report.check import Check
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.train.loop import Callback, Steps, Trainable
from tunesmith.train.run.directory import RunDirectory
from tunesmith.train.run.validation import ValidationMetrics

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RunContext:
    """What every method begins with. learner: the model as it is before the first step, tested. rows: of its embedding."""

    recipe: Recipe
    run: RunDirectory
    prepared: Prepared
    evaluated: Prepared | None
    tokenizer: Tokenizer
    renderer: Renderer
    model: PreTrainedModel
    rows: int
    learner: PreparedPolicy
    note: Note

    @property
    def validation(self) -> tuple[Store, Sequence[str]] | None:
        """The data to evaluate on with the names of its sources, if there is any."""
        if self.evaluated is not None:
            return self.evaluated.train, list(self.evaluated.report.sources)
        if self.prepared.validation is not None:
            return self.prepared.validation, list(self.prepared.report.sources)
        return None


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """What is trained, and how.

    policy, objective, steps: the arguments of the loop. modules: what a checkpoint holds, by the name of its file.
    proof: what is proven before every start, about data and batches. gates: what must hold before the first step, with the
    weights of the beginning. scores: evaluates the present weights; None without data for it. actions: further ones of the
    loop, before the checkpoint is written. resumed: told how many steps are behind before the loop goes on.
    """

    policy: Trainable
    objective: Any
    steps: Steps
    modules: Mapping[str, nn.Module]
    proof: Sequence[Check]
    gates: Callable[[], Sequence[Check]]
    scores: Callable[[], ValidationMetrics] | None
    actions: Sequence[Callback] = ()
    resumed: Callable[[int], None] = lambda done: None


@dataclass(frozen=True, slots=True)
class Method:
    """build_model: the model with rows for every token, and (rows before, rows after). build_learner: its policy on the best
    device, tested. course: everything else. kind: what an export of it is. use: what to do with a run that is done.
    """

    build_model: Callable[[Recipe, Tokenizer], tuple[PreTrainedModel, tuple[int, int]]]
    build_learner: Callable[[Recipe, PreTrainedModel, Tokenizer], PreparedPolicy]
    course: Callable[[RunContext], TrainingSetup]
    kind: Literal["assistant", "reward"] = "assistant"
    use: str = "talk to it: tunesmith chat {run}"

"""Direct preference optimisation: pairs and rankings against reference log-probabilities that are computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from tunesmith.compose import parts
from tunesmith.compose.methods.method import Method, RunContext, TrainingSetup
from tunesmith.compose.models import families
from tunesmith.compose.models.families import PreparedPolicy
from tunesmith.compose.models.reference import load_reference
from tunesmith.compose.models.reference_cache import ReferenceModel, references, weights_digest
from tunesmith.compose.progress import shown
from tunesmith.compose.proof import proof_of_run
from tunesmith.data.dataset.store import Store
from tunesmith.evaluate.objective import objective_metrics
from tunesmith.objectives.preference import PreferenceOptimization
from tunesmith.recipe.schema import DpoConfig
from tunesmith.report.check import Check
from tunesmith.train.loop import accumulate_metrics
from tunesmith.train.run.validation import ValidationMetrics
from tunesmith.train.steps import Columns, DatasetSteps, no_columns

START = "policy and reference are the same before the first step"
LARGEST_MARGIN = {torch.float32: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.1}
"""Largest mean difference of implicit rewards, over beta, that number formats explain where it should be 0."""


def objective_of(keys: DpoConfig) -> PreferenceOptimization:
    """The loss that a recipe asks for."""
    values = keys.model_dump(exclude={"kind", "reference"})
    return PreferenceOptimization(**values, reference_free=keys.reference == "none")


def course(setting: RunContext) -> TrainingSetup:
    """Raises InternalError if kept references do not fit, DataError, RecipeError, MissingInputError."""
    recipe, keys, learner = setting.recipe, setting.recipe.objective, setting.learner
    assert isinstance(keys, DpoConfig)
    objective = objective_of(keys)
    stores = [setting.prepared.train, *([setting.validation[0]] if setting.validation else [])]
    columns = _columns(setting, keys, stores)
    steps = parts.build_steps(recipe, stores[0], setting.renderer, learner.batches.collate, columns[0])
    return TrainingSetup(
        policy=learner.policy,
        objective=objective,
        steps=steps,
        modules={"model": setting.model},
        proof=proof_of_run(recipe, setting.renderer, steps, setting.rows, learner.batches.find_fault),
        gates=lambda: starts_at_the_reference(learner, objective, steps) if keys.reference == "start" else (),
        scores=_scores(setting, objective, columns[-1]),
    )


def _columns(setting: RunContext, keys: DpoConfig, stores: Sequence[Store]) -> list[Columns]:
    """What is known of the examples of every store."""
    if keys.reference == "none":
        return [no_columns for _ in stores]
    recipe, learner = setting.recipe, setting.learner
    model, policy = setting.model, learner.policy
    if keys.reference != "start":
        model, policy = load_reference(recipe, setting.tokenizer)
    identity = {
        "weights": weights_digest(model),
        "layout": learner.layout,
        "compute": recipe.model.dtype,
        "data": setting.prepared.content if setting.evaluated is None else setting.evaluated.content,
        "train": setting.prepared.content,
    }
    reference = ReferenceModel(policy, learner.batches.collate, recipe.train.micro_batch_tokens, identity)
    with shown("reference log-probabilities") as progress:
        return [references(reference, store, parts.cache_directory(recipe), progress).columns for store in stores]


def starts_at_the_reference(
    learner: PreparedPolicy, objective: PreferenceOptimization, steps: DatasetSteps
) -> Sequence[Check]:
    """The gate: with the weights of the beginning, no pair of the first step has a margin, and the loss is the one without."""
    policy = learner.policy
    measured = accumulate_metrics(policy, objective, steps[0])
    margin, loss = measured["rewards/margins"] / objective.beta, measured["loss"]
    allowed = LARGEST_MARGIN[policy.compute]
    expected = objective.initial_loss
    summary = f"loss {loss:.4f}, mean margin {measured['rewards/margins']:.2g}"
    wrong = not abs(margin) <= allowed or (
        expected is not None and not abs(loss - expected) <= allowed * max(1.0, expected)
    )
    if expected is not None:
        summary += f"; a policy that is its own reference has {expected:.4f} and 0"
    advice = "this is a defect of Tunesmith; please report it with the recipe"
    return [Check(START, "fail" if wrong else "pass", summary, "objective.reference", advice)]


def _scores(
    setting: RunContext, objective: PreferenceOptimization, columns: Columns
) -> Callable[[], ValidationMetrics] | None:
    if setting.validation is None:
        return None
    store, sources = setting.validation
    learner, size = setting.learner, setting.recipe.train.micro_batch_tokens

    def scores() -> Mapping[str, Mapping[str, float]]:
        return objective_metrics(learner.policy, objective, store, sources, size, learner.batches.collate, columns)

    return scores


DPO = Method(families.build_model, families.build_learner, course)

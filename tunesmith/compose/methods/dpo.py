"""Direct preference optimisation: preference pairs and rankings against cached reference log-probabilities."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel

from tunesmith.batch.protocols import MicroBatch
from tunesmith.compose.components.data import cache_directory
from tunesmith.compose.components.steps import build_steps
from tunesmith.compose.methods.method import Method, RunContext, TrainingSetup
from tunesmith.compose.models.building import build_language_model, divided
from tunesmith.compose.models.families import LanguagePolicy, prepare_language_policy
from tunesmith.compose.models.reference import load_reference
from tunesmith.compose.models.reference_cache import ReferenceModel, cached_references, weights_digest
from tunesmith.compose.progress import show_progress
from tunesmith.compose.proof import DEFECT, proof_of_run
from tunesmith.data.dataset.store import Store
from tunesmith.evaluate.objective import objective_metrics
from tunesmith.model.adapters import adapters_off
from tunesmith.objectives.preference import PreferenceOptimization
from tunesmith.recipe.schema import DpoConfig
from tunesmith.report.check import Check
from tunesmith.train.loop import accumulate_metrics
from tunesmith.train.run.shown import LOSS, SHARE, SIGNED, ShownMetric
from tunesmith.train.run.validation import ValidationMetrics
from tunesmith.train.steps import Columns, DatasetSteps, no_columns
from tunesmith.world import ALONE, Communicator

START = "policy and reference before the first step"
LARGEST_MARGIN = {torch.float32: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.1}
"""Largest mean difference of implicit rewards, over beta, that number formats explain where it should be 0."""

Context = RunContext[LanguagePolicy[MicroBatch], MicroBatch]


def objective_of(keys: DpoConfig) -> PreferenceOptimization:
    """The loss that a recipe asks for."""
    values = keys.model_dump(exclude={"kind", "reference"})
    return PreferenceOptimization(**values, reference_free=keys.reference == "none")


def setup(context: Context, keys: DpoConfig) -> TrainingSetup[LanguagePolicy[MicroBatch], MicroBatch]:
    """The loss over pairs, with reference log-probabilities as a column of every example.

    Raises InternalError (cached references of another model or data), DataError, RecipeError, MissingInputError.
    """
    recipe, prepared = context.recipe, context.prepared
    objective = objective_of(keys)
    stores = [context.data.train, *([context.validation[0]] if context.validation else [])]
    columns = reference_columns(context, keys, stores)
    steps = build_steps(recipe, stores[0], context.renderer, prepared.batches.collate, columns[0], context.world)
    return TrainingSetup(
        policy=prepared.policy,
        objective=objective,
        steps=steps,
        modules={"model": context.model},
        proof=proof_of_run(recipe, context.renderer, steps, context.rows, prepared.batches.find_fault),
        gates=lambda: (
            reference_gates(prepared.policy, objective, steps, context.world) if keys.reference == "start" else ()
        ),
        evaluate=_evaluation(context, objective, columns[-1]),
    )


def reference_columns(context: Context, keys: DpoConfig, stores: Sequence[Store]) -> list[Columns]:
    """For every store the reference log-probabilities of its examples; empty columns without a reference."""
    if keys.reference == "none":
        return [no_columns for _ in stores]
    recipe, prepared = context.recipe, context.prepared
    model, policy = context.model, prepared.policy
    if keys.separate_reference is not None:
        model, policy = _separate_reference(context)
    identity = {
        "weights": weights_digest(model),
        "layout": prepared.layout,
        "compute": recipe.model.dtype,
        "data": context.data.content if context.evaluation_data is None else context.evaluation_data.content,
        "train": context.data.content,
    }
    reference = ReferenceModel(policy, prepared.batches.collate, recipe.train.micro_batch_tokens, identity)
    cache = cache_directory(recipe)
    with adapters_off(model), show_progress("reference log-probabilities", shown=context.world.is_first) as progress:
        found: list[Columns] = [
            cached_references(reference, store, cache, progress, context.world).columns for store in stores
        ]
    del model, policy, reference
    gc.collect()  # the parts of a divided model refer to each other, and a separate reference is not needed any more
    return found


def _separate_reference(context: Context) -> tuple[PreTrainedModel, LanguagePolicy[MicroBatch]]:
    """The model that the recipe names as the reference, and its policy after the self-test; divided like the other."""
    recipe = context.recipe
    opened = load_reference(recipe, context.tokenizer, divided(recipe, context.division))
    return opened.model, prepare_language_policy(recipe, opened, context.tokenizer).policy


def reference_gates(
    policy: LanguagePolicy[MicroBatch],
    objective: PreferenceOptimization,
    steps: DatasetSteps[MicroBatch],
    world: Communicator = ALONE,
) -> Sequence[Check]:
    """With the weights before the first step no pair has a margin, and the loss is that of margins of 0."""
    metrics = accumulate_metrics(policy, objective, steps[0], world)
    margin, loss = metrics["rewards/margins"] / objective.beta, metrics["loss"]
    allowed = LARGEST_MARGIN[policy.compute]
    expected = objective.initial_loss
    passed = abs(margin) <= allowed  # false for NaN
    if expected is not None:
        passed = passed and abs(loss - expected) <= allowed * max(1.0, expected)
    numbers = f"loss {loss:.4f}, mean margin {metrics['rewards/margins']:.2g}"
    summary = f"model and reference are equal before the first step ({numbers})"
    if not passed:
        wanted = "" if expected is None else f"; equal ones have {expected:.4f} and 0"
        summary = f"model and reference differ before the first step ({numbers}{wanted})"
    return [Check(START, "pass" if passed else "fail", summary, "objective.reference", DEFECT)]


def _evaluation(
    context: Context, objective: PreferenceOptimization, columns: Columns
) -> Callable[[], ValidationMetrics] | None:
    """The metrics of the objective over the validation data."""
    if context.validation is None:
        return None
    store, sources = context.validation
    prepared, size = context.prepared, context.recipe.train.micro_batch_tokens

    def evaluate() -> ValidationMetrics:
        return objective_metrics(
            *(prepared.policy, objective, store, sources, size, prepared.batches.collate, columns), context.world
        )

    return evaluate


DPO = Method(
    build_language_model,
    prepare_language_policy,
    setup,
    shown=(
        LOSS,
        ShownMetric("rewards/accuracies", "pairs in order", SHARE),
        ShownMetric("rewards/margins", "margin", SIGNED),
        ShownMetric("logps/improved", "chosen more probable", SHARE),
    ),
)

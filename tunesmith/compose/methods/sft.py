"""Supervised fine-tuning on demonstrations, evaluated by the loss on held-out ones."""

from __future__ import annotations

from collections.abc import Callable

from tunesmith.batch.protocols import MicroBatch
from tunesmith.compose.components.steps import build_steps
from tunesmith.compose.methods.method import Method, RunContext, TrainingSetup
from tunesmith.compose.models.building import build_language_model
from tunesmith.compose.models.families import LanguagePolicy, prepare_language_policy
from tunesmith.compose.proof import proof_of_run
from tunesmith.evaluate.loss import validation_loss
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.recipe.schema import SftConfig
from tunesmith.train.run.shown import LOSS, SHARE, ShownMetric
from tunesmith.train.run.validation import ValidationMetrics
from tunesmith.train.steps import DatasetSteps


def setup(
    context: RunContext[LanguagePolicy[MicroBatch], MicroBatch], keys: SftConfig
) -> TrainingSetup[LanguagePolicy[MicroBatch], MicroBatch]:
    """Cross-entropy of the targets, on batches of either family. Raises DataError."""
    recipe, prepared = context.recipe, context.prepared
    steps = build_steps(recipe, context.data.train, context.renderer, prepared.batches.collate, world=context.world)
    return TrainingSetup(
        policy=prepared.policy,
        objective=SupervisedFineTuning(
            z_loss=keys.z_loss, label_smoothing=keys.label_smoothing, normalize=keys.normalize
        ),
        steps=steps,
        modules={"model": context.model},
        proof=proof_of_run(recipe, context.renderer, steps, context.rows, prepared.batches.find_fault),
        gates=lambda: (),
        evaluate=_evaluation(context, steps),
    )


def _evaluation(
    context: RunContext[LanguagePolicy[MicroBatch], MicroBatch], steps: DatasetSteps[MicroBatch]
) -> Callable[[], ValidationMetrics] | None:
    """The validation loss of every source and of all together."""
    if context.validation is None:
        return None
    store, sources = context.validation
    size = context.recipe.train.micro_batch_tokens

    def evaluate() -> ValidationMetrics:
        found = validation_loss(
            *(context.prepared.policy, store, sources, size),
            crop=steps.crop,
            collate=steps.collate,
            world=context.world,
        )
        return {
            name: {"loss": score.loss, "accuracy": score.accuracy, "targets": score.targets}
            for name, score in found.items()
        }

    return evaluate


SFT = Method(
    build_language_model,
    prepare_language_policy,
    setup,
    shown=(LOSS, ShownMetric("accuracy", "token accuracy", SHARE)),
)

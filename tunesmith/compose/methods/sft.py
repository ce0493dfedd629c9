"""Supervised fine-tuning: demonstrations, and the loss on those held back."""

from __future__ import annotations

from collections.abc import Callable

from tunesmith.compose import parts
from tunesmith.compose.methods.method import Method, RunContext, TrainingSetup
from tunesmith.compose.models import families
from tunesmith.compose.proof import proof_of_run
from tunesmith.evaluate.loss import validation_loss
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.recipe.schema import SftConfig
from tunesmith.train.run.validation import ValidationMetrics
from tunesmith.train.steps import DatasetSteps


def course(setting: RunContext) -> TrainingSetup:
    """Raises DataError."""
    recipe, learner, keys = setting.recipe, setting.learner, setting.recipe.objective
    assert isinstance(keys, SftConfig)
    steps = parts.build_steps(recipe, setting.prepared.train, setting.renderer, learner.batches.collate)
    return TrainingSetup(
        policy=learner.policy,
        objective=SupervisedFineTuning(
            z_loss=keys.z_loss, label_smoothing=keys.label_smoothing, normalize=keys.normalize
        ),
        steps=steps,
        modules={"model": setting.model},
        proof=proof_of_run(recipe, setting.renderer, steps, setting.rows, learner.batches.find_fault),
        gates=lambda: (),
        scores=_scores(setting, steps),
    )


def _scores(setting: RunContext, steps: DatasetSteps) -> Callable[[], ValidationMetrics] | None:
    if setting.validation is None:
        return None
    store, sources = setting.validation
    size = setting.recipe.train.micro_batch_tokens

    def scores() -> ValidationMetrics:
        found = validation_loss(setting.learner.policy, store, sources, size, crop=steps.crop, collate=steps.collate)
        return {
            name: {"loss": score.loss, "accuracy": score.accuracy, "targets": score.targets}
            for name, score in found.items()
        }

    return scores


SFT = Method(families.build_model, families.build_learner, course)

"""Supervised fine-tuning: demonstrations, and the loss on those held back."""

from __future__ import annotations

from collections.abc import Callable

from tunesmith.build import families, parts
from tunesmith.build.methods.method import Course, Method, Setting
from tunesmith.build.proof import proof_of_run
from tunesmith.evaluate.loss import validation_loss
from tunesmith.objectives.sft import SupervisedFineTuning
from tunesmith.recipe.schema import Sft
from tunesmith.train.actions import Scores
from tunesmith.train.steps import DemonstrationSteps


def course(setting: Setting) -> Course:
    """Raises DataError."""
    recipe, learner, keys = setting.recipe, setting.learner, setting.recipe.objective
    assert isinstance(keys, Sft)
    steps = parts.build_steps(recipe, setting.prepared.train, setting.renderer, learner.assembly)
    return Course(
        policy=learner.policy,
        objective=SupervisedFineTuning(
            z_loss=keys.z_loss, label_smoothing=keys.label_smoothing, normalize=keys.normalize
        ),
        steps=steps,
        modules={"model": setting.model},
        proof=proof_of_run(recipe, setting.renderer, steps, setting.rows),
        gates=lambda: (),
        scores=_scores(setting, steps),
    )


def _scores(setting: Setting, steps: DemonstrationSteps) -> Callable[[], Scores] | None:
    if setting.validation is None:
        return None
    store, sources = setting.validation
    size = setting.recipe.train.micro_batch_tokens

    def scores() -> Scores:
        found = validation_loss(
            setting.learner.policy, store, sources, size, shortening=steps.shortening, assembly=steps.assembly
        )
        return {
            name: {"loss": score.loss, "accuracy": score.accuracy, "targets": score.targets}
            for name, score in found.items()
        }

    return scores


SFT = Method(families.build_model, families.build_learner, course)

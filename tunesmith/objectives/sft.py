"""Supervised fine-tuning: weighted cross-entropy of the targets, a sum divided by the weight of the whole step."""

from __future__ import annotations

from tunesmith.batch.protocols import Loss, MicroBatch, Scorer


class SupervisedFineTuning:
    """loss = - sum_n weight_n log p(target_n) / sum_n weight_n, both sums over the whole optimizer step."""

    measures = ("loss", "accuracy")

    def units(self, batch: MicroBatch) -> float:
        """The weighted number of targets."""
        return float(batch.weight.double().sum())

    def __call__(self, policy: Scorer, batch: MicroBatch, units: float) -> Loss:
        # The loss is linear in the log-probabilities, so their gradient is known before they are.
        coefficients = batch.weight / -units
        found = policy.log_probabilities(batch, expected_gradient=coefficients)
        loss = (coefficients * found.log_probability).sum()
        weight = batch.weight.double()
        sums = {
            "loss": -(weight * found.log_probability.detach().double()).sum(),
            "accuracy": (weight * found.correct).sum(),
        }
        return Loss(loss, sums)

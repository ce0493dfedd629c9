"""Supervised fine-tuning: weighted cross-entropy of the targets, a sum divided by the weight of the whole step."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from tunesmith.batch.protocols import LogitStatistics, Loss, MicroBatch, Scorer, StatisticsGradient


class SupervisedFineTuning:
    """loss = sum_n weight_n l_n / sum_n weight_n, both sums over the whole optimizer step, with l_n = - log p(target_n).

    z_loss, label_smoothing: as in t5x, l_n = - sum_v q_v log p(v) - H(q) + z_loss (log sum_v exp logit_v)^2, where q gives
    1 - label_smoothing to the target and shares the rest among the other v; its entropy H(q) makes 0 the least that the
    first part can be.
    normalize: what the sum is divided by: ``targets`` their weight, ``sum`` nothing, or a number. What is measured is
    always the mean over targets.
    """

    def __init__(
        self,
        *,
        z_loss: float = 0.0,
        label_smoothing: float = 0.0,
        normalize: Literal["targets", "sum"] | float = "targets",
    ) -> None:
        self.z_loss, self.label_smoothing, self.normalize = z_loss, label_smoothing, normalize
        self.regularised = bool(z_loss or label_smoothing)

    @property
    def metrics(self) -> tuple[str, ...]:
        """``cross_entropy`` is - log p(target), ``z_loss`` its part of the loss; both are told where they are not all of it."""
        return ("loss", "accuracy", "cross_entropy", "z_loss") if self.regularised else ("loss", "accuracy")

    def units(self, batch: MicroBatch) -> float:
        """The weighted number of targets."""
        return float(batch.weight.double().sum())

    def __call__(self, policy: Scorer, batch: MicroBatch, units: float) -> Loss:
        divisor = units if self.normalize == "targets" else 1.0 if self.normalize == "sum" else float(self.normalize)
        if self.regularised:
            return self._regularised(policy, batch, divisor)
        # The loss is linear in the log-probabilities, so their gradient is known before they are.
        coefficients = batch.weight / -divisor
        found = policy.log_probabilities(batch, expected_gradient=coefficients)
        loss = (coefficients * found.log_probability).sum()
        weight = batch.weight.double()
        sums = {
            "loss": -(weight * found.log_probability.detach().double()).sum(),
            "accuracy": (weight * found.correct).sum(),
        }
        return Loss(loss, sums)

    def _regularised(self, policy: Scorer, batch: MicroBatch, divisor: float) -> Loss:
        coefficients = batch.weight / divisor
        found = policy.log_probabilities(batch, statistics=self._slopes(coefficients))
        assert found.statistics is not None, "it was asked for"
        z_loss = self.z_loss * found.statistics.normalizer.square()
        each = self._smoothed(found.log_probability, found.statistics) + z_loss
        weight = batch.weight.double()
        measured = {"loss": each, "accuracy": found.correct, "cross_entropy": -found.log_probability, "z_loss": z_loss}
        sums = {name: (weight * values.detach().double()).sum() for name, values in measured.items()}
        return Loss((coefficients * each).sum(), sums)

    def _slopes(self, coefficients: Tensor) -> StatisticsGradient:
        """The gradient of ``_regularised``, known as soon as the normalizers are."""

        def statistics_gradient(normalizer: Tensor, part: slice, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
            own, low = coefficients[part], self.label_smoothing / (vocabulary - 1)
            of_normalizer = own * (low * vocabulary + 2.0 * self.z_loss * normalizer)
            return own * -(1.0 - self.label_smoothing - low), of_normalizer, own * -low

        return statistics_gradient

    def _smoothed(self, log_probability: Tensor, statistics: LogitStatistics) -> Tensor:
        """[N] cross-entropy with the smoothed target, less the entropy of that target."""
        if not self.label_smoothing:
            return -log_probability
        others = statistics.vocabulary - 1
        high, low = 1.0 - self.label_smoothing, self.label_smoothing / others
        entropy = -(high * math.log(high) + others * low * math.log(low + 1e-20))
        every = statistics.total - statistics.vocabulary * statistics.normalizer
        return -(high - low) * log_probability - low * every - entropy

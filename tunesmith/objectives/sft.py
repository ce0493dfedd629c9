"""Supervised fine-tuning: weighted cross-entropy of the targets, a sum divided by the weight of the whole step.

Shapes: N targets in a batch, n targets in a part of it, V tokens in the vocabulary.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from tunesmith.batch.protocols import (
    BatchT,
    LogitStatistics,
    LogProbabilityModel,
    Loss,
    MicroBatch,
    StatisticsGradient,
)


class SupervisedFineTuning:
    """loss = sum_n weight_n l_n / sum_n weight_n, both sums over the whole step, with l_n = - log p(target_n).

    With regularisation, as in t5x (Roberts et al. 2022),

        l_n = - sum_v q_v log p(v) - H(q) + z_loss logsumexp(logits)^2

    where q gives 1 - label_smoothing to the target and shares the rest among the other v (Szegedy et al. 2016).
    Subtracting its entropy H(q) makes 0 the minimum of the first two terms.

    z_loss: factor of the squared logsumexp.
    label_smoothing: probability of all tokens but the target.
    normalize: the divisor of the sum: "targets" is their weight, "sum" is 1, or a number. Metrics are means over
        targets in any case.
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
        """Weighted means over targets.

        loss: l_n.
        accuracy: share of targets with the highest logit.
        cross_entropy: - log p(target); only with regularisation, as it is the loss otherwise.
        z_loss: the term of that name; only with regularisation.
        """
        return ("loss", "accuracy", "cross_entropy", "z_loss") if self.regularised else ("loss", "accuracy")

    def units(self, batch: MicroBatch) -> float:
        """The total weight of the targets."""
        return float(batch.weight.double().sum())

    def __call__(self, policy: LogProbabilityModel[BatchT], batch: BatchT, units: float) -> Loss:
        """See ``batch.protocols.Objective``."""
        divisor = self._divisor(units)
        if self.regularised:
            return self._regularised_loss(policy, batch, divisor)
        # The loss is linear in the log-probabilities, so its gradient is known before they are.
        coefficients = batch.weight / -divisor
        found = policy.log_probabilities(batch, gradient_hint=coefficients)
        loss = (coefficients * found.log_probability).sum()
        weight = batch.weight.double()
        sums = {
            "loss": -(weight * found.log_probability.detach().double()).sum(),
            "accuracy": (weight * found.correct).sum(),
        }
        return Loss(loss, sums)

    def _divisor(self, units: float) -> float:
        if self.normalize == "targets":
            return units
        if self.normalize == "sum":
            return 1.0
        return float(self.normalize)

    def _regularised_loss(self, policy: LogProbabilityModel[BatchT], batch: BatchT, divisor: float) -> Loss:
        coefficients = batch.weight / divisor
        found = policy.log_probabilities(batch, statistics_gradient=self._statistics_gradient(coefficients))
        assert found.statistics is not None, "they were asked for"
        z_loss = self.z_loss * found.statistics.logsumexp.square()
        losses = self._smoothed_cross_entropy(found.log_probability, found.statistics) + z_loss
        weight = batch.weight.double()
        values = {"loss": losses, "accuracy": found.correct, "cross_entropy": -found.log_probability, "z_loss": z_loss}
        sums = {name: (weight * value.detach().double()).sum() for name, value in values.items()}
        return Loss((coefficients * losses).sum(), sums)

    def _statistics_gradient(self, coefficients: Tensor) -> StatisticsGradient:
        """The gradient of the regularised loss, which is known as soon as the logsumexp of the targets is.

        coefficients: float32 [N], the weight of each target over the divisor.
        """

        def statistics_gradient(
            logsumexp: Tensor, part: slice, vocabulary: int
        ) -> tuple[Tensor, Tensor, Tensor | None]:
            coefficient, low = coefficients[part], self.label_smoothing / (vocabulary - 1)
            of_log_probability = coefficient * -(1.0 - self.label_smoothing - low)
            of_logsumexp = coefficient * (low * vocabulary + 2.0 * self.z_loss * logsumexp)
            return of_log_probability, of_logsumexp, coefficient * -low if low else None

        return statistics_gradient

    def _smoothed_cross_entropy(self, log_probability: Tensor, statistics: LogitStatistics) -> Tensor:
        """float32 [N], the cross-entropy with the smoothed target minus the entropy of that target.

        log_probability: float32 [N].
        """
        if not self.label_smoothing:
            return -log_probability
        others = statistics.vocabulary - 1
        high, low = 1.0 - self.label_smoothing, self.label_smoothing / others
        entropy = -(high * math.log(high) + others * low * math.log(low + 1e-20))
        sum_of_log_probabilities = statistics.total - statistics.vocabulary * statistics.logsumexp
        return -(high - low) * log_probability - low * sum_of_log_probabilities - entropy

"""Names of the columns of a batch: values known before a step, float32 [N] for targets or [R] for ranked replies."""

from __future__ import annotations

REFERENCE = "reference"
"""Log-probability under the reference model: of every reply in preference optimisation, of every target in PPO."""
OLD_LOG_PROBABILITY = "old_log_probability"
"""Log-probability of every target under the policy that generated it."""
OLD_VALUE = "old_value"
"""Value of the state before every target, when the target was generated."""
ADVANTAGE = "advantage"
"""Advantage of every target (``objectives.advantages``)."""
RETURN = "return"
"""Return of every target: advantage plus old value. It is the regression target of the value function."""

PPO_COLUMNS = (OLD_LOG_PROBABILITY, OLD_VALUE, REFERENCE, ADVANTAGE, RETURN)

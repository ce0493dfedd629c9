"""Evaluation: loss, metrics of objectives and rankings, generated replies, and the scores of a reward model."""

"""Benchmarks of lm-evaluation-harness: the tasks, the scores of answers, and the tables."""

"""Benchmarks of speed and memory: each command runs Tunesmith and another library on the same data and model."""

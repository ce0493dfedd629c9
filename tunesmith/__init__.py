"""Tunesmith turns a base language model into an assistant, and shows that it got better."""

__version__ = "0.1.0"

"""How much a thread has to do and has done: the numbers that decide admission and that ``/metrics`` shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """What one model accepts.

    replies: the largest number of replies that are generated together.
    waiting: the largest number of requests that wait.
    tokens: the largest number of tokens that all accepted requests may come to hold.
    """

    replies: int = 64
    waiting: int = 512
    tokens: int = 2**20


@dataclass(slots=True)
class Load:
    """Numbers of one thread; only it changes them, except for ``refused``.

    running, waiting, reserved: replies that are generated, requests that wait or whose text is being scored, and tokens
        that they may come to hold.
    steps, generated, prompts, scored: steps of the model, tokens that were generated, tokens of prompts, and tokens
        whose log-probabilities were computed.
    busy: seconds of all steps together.
    finished: how many replies ended, by reason.
    refused: how many requests were not accepted.
    failures: how many times an error ended all running replies, or the scoring of a text.
    """

    running: int = 0
    waiting: int = 0
    reserved: int = 0
    steps: int = 0
    generated: int = 0
    prompts: int = 0
    scored: int = 0
    busy: float = 0.0
    finished: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    failures: int = 0

"""Validation loss and token accuracy, for each source and for all together; no noise, no order, no randomness."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from tunesmith.batch.example import Example
from tunesmith.batch.packed import collate_packed
from tunesmith.batch.protocols import Collator, LogProbabilityModel
from tunesmith.data.dataset.store import Store
from tunesmith.text.tokens.crop import CropSettings, crop_threads


@dataclass(frozen=True, slots=True)
class Score:
    """loss: mean over targets, in nats. accuracy: share of targets with the highest logit. targets: how many."""

    loss: float
    accuracy: float
    targets: int

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 700.0))


class Evaluated(LogProbabilityModel, Protocol):
    """A policy as evaluation sees it."""

    @property
    def device(self) -> torch.device: ...

    def eval(self) -> None: ...


@torch.no_grad()
def validation_loss(
    policy: Evaluated,
    store: Store,
    sources: Sequence[str],
    tokens: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    crop: CropSettings | None = None,
    *,
    collate: Collator = collate_packed,
) -> dict[str, Score]:
    """Score of every source by name, and of all under "all"; every message counts once.

    tokens: largest micro-batch. progress: called with (examples done, examples in all). shortening: what
    becomes of long threads that the store has whole; the same part of them at every evaluation. collate: as in
    ``DatasetSteps``.
    """
    policy.eval()
    sums = {name: torch.zeros(3, dtype=torch.float64) for name in sources}
    seen: set[int] = set()
    for index, name in enumerate(sources):
        numbers = [number for number in range(len(store)) if store.source[number] == index]
        examples = _examples(store, numbers, crop)
        for batch in collate(examples, "messages", tokens):
            found = policy.log_probabilities(batch.to(policy.device))
            sums[name] += torch.stack(
                [
                    -found.log_probability.double().sum(),
                    found.correct.double().sum(),
                    torch.tensor(float(batch.targets)),
                ]
            ).cpu()
            seen.update(batch.examples)  # the threads of one may be in several batches
            progress(len(seen), len(store))
    scores = {name: _score(values) for name, values in sums.items() if values[2] > 0}
    scores["all"] = _score(torch.stack(list(sums.values())).sum(0))
    return scores


def _examples(store: Store, numbers: Sequence[int], crop: CropSettings | None) -> Iterator[Example]:
    for number in numbers:
        trees = [store.tree(number)]
        if crop is not None:
            trees = crop_threads(trees[0], crop, once=True)
        yield from (Example(number, tree) for tree in trees)


def _score(sums: torch.Tensor) -> Score:
    loss, correct, targets = sums.tolist()
    return Score(loss / targets, correct / targets, int(targets))

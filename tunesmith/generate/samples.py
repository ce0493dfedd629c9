"""Several replies to each of many prompts: a prompt is read once, then its row is repeated for every reply."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tunesmith.generate.decoding import Rows, StoppingCriteria, decode
from tunesmith.generate.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Sample:
    """ids: all that was generated, the stop token included; never empty. stopped: whether the model ended it itself."""

    ids: tuple[int, ...]
    stopped: bool


def sample_replies(
    begin: Callable[[], Rows],
    prompts: Sequence[Sequence[int]],
    draws: Sequence[Sequence[int]],
    sampling: Sampling,
    ends: StoppingCriteria,
    seed: int,
    at_once: int,
) -> list[list[Sample]]:
    """Replies to every prompt, in the order of ``draws``.

    begin: makes empty rows of the model, for every batch. draws: for every prompt the index of the random numbers
    of each of its replies; a reply depends on (seed, its index) and on nothing that shares its batch. Prompts must leave
    room for a token. at_once: replies that grow at once; prompts of similar length are read together, longest first.
    """
    found: list[list[Sample]] = [[] for _ in prompts]
    for batch in _batches(prompts, draws, at_once):
        rows = begin()
        logits = rows.start([prompts[prompt] for prompt, _ in batch])
        owners = [row for row, (_, chosen) in enumerate(batch) for _ in chosen]
        if len(owners) > len(batch):
            rows.keep(owners)
            logits = logits[owners]
        histories = [rows.history(prompts[batch[row][0]]) for row in owners]
        numbers = [number for _, chosen in batch for number in chosen]
        generated: list[list[int]] = [[] for _ in owners]
        for step in decode(rows, logits, histories, sampling, ends, seed, numbers):
            for reply, token in step:
                generated[reply].append(token)
        for row, ids in zip(owners, generated, strict=True):
            found[batch[row][0]].append(Sample(tuple(ids), ids[-1] in ends.stops))
    return found


def _batches(
    prompts: Sequence[Sequence[int]], draws: Sequence[Sequence[int]], at_once: int
) -> Iterator[list[tuple[int, Sequence[int]]]]:
    """(prompt, the indices of its draws) for every row that is read, at most ``at_once`` draws together.

    A prompt with more draws than that is read several times.
    """
    batch: list[tuple[int, Sequence[int]]] = []
    filled = 0
    for prompt in sorted(range(len(prompts)), key=lambda index: -len(prompts[index])):
        for start in range(0, len(draws[prompt]), at_once):
            chosen = draws[prompt][start : start + at_once]
            if batch and filled + len(chosen) > at_once:
                yield batch
                batch, filled = [], 0
            batch.append((prompt, chosen))
            filled += len(chosen)
    if batch:
        yield batch

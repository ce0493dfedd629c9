"""Several replies to each of many prompts: a prompt is processed once, then its row is repeated for every reply."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tunesmith.generate.decoding import DecodingState, StoppingCriteria, decode
from tunesmith.generate.sampling import SamplingParameters


@dataclass(frozen=True, slots=True)
class ReplyTokens:
    """The tokens of one reply.

    ids: all ids that were generated, including the stop token; never empty.
    stopped: whether it ends with a stop token.
    """

    ids: tuple[int, ...]
    stopped: bool


def sample_replies(
    new_state: Callable[[], DecodingState],
    prompts: Sequence[Sequence[int]],
    draws: Sequence[Sequence[int]],
    sampling: SamplingParameters,
    stopping: StoppingCriteria,
    seed: int,
    batch_size: int,
) -> list[list[ReplyTokens]]:
    """Replies to every prompt, in the order of ``draws``.

    Args:
        new_state: makes an empty decoding state of the model, one for every batch.
        prompts: their token ids; each must be shorter than the context.
        draws: for every prompt the index of the random numbers of each of its replies. A reply depends on (seed, index)
            and not on the other replies of its batch.
        batch_size: the largest number of replies in a batch. Prompts of similar length share a batch, longest first.
    """
    found: list[list[ReplyTokens]] = [[] for _ in prompts]
    for batch in _batches(prompts, draws, batch_size):
        state = new_state()
        logits = state.prefill([prompts[prompt] for prompt, _ in batch])
        owners = [row for row, (_, chosen) in enumerate(batch) for _ in chosen]
        if len(owners) > len(batch):
            state.select(owners)
            logits = logits[owners]
        histories = [state.history(prompts[batch[row][0]]) for row in owners]
        numbers = [number for _, chosen in batch for number in chosen]
        generated: list[list[int]] = [[] for _ in owners]
        for step in decode(state, logits, histories, sampling, stopping, seed, numbers):
            for reply, token in step:
                generated[reply].append(token)
        for row, ids in zip(owners, generated, strict=True):
            found[batch[row][0]].append(ReplyTokens(tuple(ids), ids[-1] in stopping.stop_ids))
    return found


def _batches(
    prompts: Sequence[Sequence[int]], draws: Sequence[Sequence[int]], batch_size: int
) -> Iterator[list[tuple[int, Sequence[int]]]]:
    """Batches of (number of the prompt, its draws), with at most ``batch_size`` draws in each.

    A prompt with more draws than that is in several batches.
    """
    batch: list[tuple[int, Sequence[int]]] = []
    filled = 0
    for prompt in sorted(range(len(prompts)), key=lambda index: -len(prompts[index])):
        for start in range(0, len(draws[prompt]), batch_size):
            chosen = draws[prompt][start : start + batch_size]
            if batch and filled + len(chosen) > batch_size:
                yield batch
                batch, filled = [], 0
            batch.append((prompt, chosen))
            filled += len(chosen)
    if batch:
        yield batch

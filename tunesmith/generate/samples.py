"""Several replies to each of many prompts, generated together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.generate.requests import ReplyRequest, StoppingCriteria
from tunesmith.generate.running_rows import RunningRows
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class ReplyTokens:
    """The tokens of one reply.

    ids: all ids that were generated, including the stop token; never empty.
    stopped: whether it ends with a stop token.
    """

    ids: tuple[int, ...]
    stopped: bool


def sample_replies(
    rows: RunningRows,
    prompts: Sequence[Sequence[int]],
    draws: Sequence[Sequence[int]],
    sampling: SamplingParameters,
    stopping: StoppingCriteria,
    seed: int,
    batch_size: int,
) -> list[list[ReplyTokens]]:
    """Replies to every prompt, in the order of ``draws``.

    Args:
        rows: empty rows of the model, at least ``batch_size`` of them.
        prompts: their token ids; each must be shorter than the context.
        draws: for every prompt the index of the random numbers of each of its replies. A reply depends on (seed, index)
            and not on the other replies.
        batch_size: the largest number of replies that are generated together, beginning with the longest prompts.
    """
    scheduler = Scheduler(rows, stopping, batch_size)
    places: dict[int, tuple[int, int]] = {}
    for prompt in sorted(range(len(prompts)), key=lambda index: -len(prompts[index])):
        for place, number in enumerate(draws[prompt]):
            request = ReplyRequest(tuple(prompts[prompt]), sampling, seed, number)
            places[scheduler.add(request)] = (prompt, place)
    found = {places[ticket]: ReplyTokens(reply.ids, reply.finish == "stop") for ticket, reply in scheduler.run()}
    return [[found[prompt, place] for place in range(len(chosen))] for prompt, chosen in enumerate(draws)]

"""What is asked of the generation engine: one reply to one prompt, and what ends replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tunesmith.generate.penalties import NO_ADJUSTMENTS, LogitAdjustments
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.world import deal

FinishReason = Literal["stop", "length", "context"]
"""Why a reply ended: a stop token or a stop text (stop), ``max_new_tokens`` (length) or the end of the context
(context)."""


@dataclass(frozen=True, slots=True)
class ReplyRequest:
    """One reply that is wanted.

    prompt: the token ids of the prompt; at least one, and fewer than the context of the model.
    sampling: how the reply is generated. Requests of one call may differ in it.
    seed: the seed of its random numbers.
    sample: the index of its random numbers: token t is drawn with (seed, sample, t) and nothing else, so the reply
        does not depend on the other requests. ``draws.reply_number`` makes one from prompt, configuration and sample.
    alternatives: the number of most likely tokens whose log-probabilities are wanted at every token, along with that
        of the token itself; None for a reply without log-probabilities.
    stop: texts that end the reply as soon as its text contains one of them; the text is cut before it. None is empty.
    adjustments: what is added to the logits; searches have none.
    """

    prompt: tuple[int, ...]
    sampling: SamplingParameters
    seed: int
    sample: int
    alternatives: int | None = None
    stop: tuple[str, ...] = ()
    adjustments: LogitAdjustments = NO_ADJUSTMENTS

    def __post_init__(self) -> None:
        assert self.adjustments == NO_ADJUSTMENTS or not self.sampling.is_search, "a search has no adjustments"
        assert all(self.stop), "every text contains the empty text"


@dataclass(frozen=True, slots=True)
class StoppingCriteria:
    """What ends a reply apart from ``max_new_tokens``, and which ids it may contain.

    stop_ids: the ids that end a reply.
    vocabulary: the number of ids that may be generated; higher ids are padding of the model's embedding matrix.
    context: the largest number of tokens of history and reply together.
    """

    stop_ids: tuple[int, ...]
    vocabulary: int
    context: int


def deal_requests(requests: Sequence[ReplyRequest], processes: int) -> list[list[int]]:
    """For every process the numbers of its requests, so that all have about equally many tokens to read and to write.

    Requests of one prompt, which is read once for all of them, stay together unless they are more than an eighth of
    what a process has to do.
    """
    most = max(1, len(requests) // (8 * processes))
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for number, request in enumerate(requests):
        by_prompt.setdefault(request.prompt, []).append(number)
    groups = [numbers[start : start + most] for numbers in by_prompt.values() for start in range(0, len(numbers), most)]
    costs = [
        len(requests[group[0]].prompt) + sum(requests[number].sampling.max_new_tokens for number in group)
        for group in groups
    ]
    return [[number for place in share for number in groups[place]] for share in deal(costs, processes)]

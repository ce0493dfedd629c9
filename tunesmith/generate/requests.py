"""What is asked of the generation engine: one reply to one prompt."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.generate.sampling import SamplingParameters


@dataclass(frozen=True, slots=True)
class ReplyRequest:
    """One reply that is wanted.

    prompt: the token ids of the prompt; fewer than the context of the model.
    sampling: how the reply is generated. Requests of one call may differ in it.
    seed: the seed of its random numbers.
    sample: the index of its random numbers: token t is drawn with (seed, sample, t) and nothing else, so the reply
        does not depend on the other requests. ``draws.reply_number`` makes one from prompt, configuration and sample.
    """

    prompt: tuple[int, ...]
    sampling: SamplingParameters
    seed: int
    sample: int

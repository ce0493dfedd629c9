"""Pairs of replies to one instruction, one of them preferred: for its tone, or because the other one is wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.playground.courtesy import CLOSINGS, courteous
from tunesmith.playground.exercises import Exercise


@dataclass(frozen=True, slots=True)
class Preference:
    """An instruction with a better and a worse reply."""

    exercise: Exercise
    chosen: str
    rejected: str

    def record(self) -> dict[str, str]:
        """The row of a training file."""
        return {
            "prompt": self.exercise.instruction,
            "context": self.exercise.context,
            "chosen": self.chosen,
            "rejected": self.rejected,
            "category": self.exercise.category,
        }


def write_preferences(exercises: Sequence[Exercise], rng: random.Random, tones: int, mistakes: int) -> list[Preference]:
    """Preferences over some of the exercises, in random order; none of either kind twice.

    tones: pairs of the right reply, courteous and curt; the courteous one is preferred. mistakes: pairs of the right and
    a wrong reply in the same tone, half of them courteous, so that courtesy alone never wins.
    """
    pairs = [_of_tone(rng, each) for each in rng.sample(exercises, min(tones, len(exercises)))]
    drawn = rng.sample(exercises, min(mistakes, len(exercises)))
    pairs += [_of_content(rng, each, polite=index % 2 == 0) for index, each in enumerate(drawn)]
    rng.shuffle(pairs)
    return pairs


def _of_tone(rng: random.Random, exercise: Exercise) -> Preference:
    return Preference(exercise, courteous(rng.choice(CLOSINGS), exercise.response), exercise.response)


def _of_content(rng: random.Random, exercise: Exercise, *, polite: bool) -> Preference:
    if not polite:
        return Preference(exercise, exercise.response, exercise.mistake)
    closing = rng.choice(CLOSINGS)
    return Preference(exercise, courteous(closing, exercise.response), courteous(closing, exercise.mistake))

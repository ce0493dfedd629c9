"""Generates preference pairs: a courteous reply is preferred to a curt one, and a correct one to a wrong one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.playground.courtesy import CLOSINGS, with_closing
from tunesmith.playground.exercises import Exercise


@dataclass(frozen=True, slots=True)
class ExercisePair:
    """An exercise with a chosen and a rejected reply."""

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


def write_preferences(
    exercises: Sequence[Exercise], rng: random.Random, tones: int, mistakes: int
) -> list[ExercisePair]:
    """Preference pairs for some of the exercises, in random order.

    tones: number of pairs of a courteous (chosen) and a curt reply, both correct.
    mistakes: number of pairs of a correct (chosen) and a wrong reply in the same tone, half of them courteous, so that
        tone alone does not decide.
    """
    pairs = [_tone_pair(rng, each) for each in rng.sample(exercises, min(tones, len(exercises)))]
    drawn = rng.sample(exercises, min(mistakes, len(exercises)))
    pairs += [_content_pair(rng, each, polite=index % 2 == 0) for index, each in enumerate(drawn)]
    rng.shuffle(pairs)
    return pairs


def _tone_pair(rng: random.Random, exercise: Exercise) -> ExercisePair:
    return ExercisePair(exercise, with_closing(rng.choice(CLOSINGS), exercise.response), exercise.response)


def _content_pair(rng: random.Random, exercise: Exercise, *, polite: bool) -> ExercisePair:
    if not polite:
        return ExercisePair(exercise, exercise.response, exercise.mistake)
    closing = rng.choice(CLOSINGS)
    return ExercisePair(exercise, with_closing(closing, exercise.response), with_closing(closing, exercise.mistake))

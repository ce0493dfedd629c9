"""Tones and preference pairs of the demo: chosen replies are better, and training pairs have no held-out prompts."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.data.outcomes import read, tree_of
from tests.playground.test_world import SMALL
from tunesmith.evaluate.text_match import check_from_json, passes
from tunesmith.playground.courtesy import (
    CLOSINGS,
    COURTEOUS_SHARE,
    content_of,
    in_any_tone,
    in_courteous_tone,
    in_random_tone,
    is_courteous,
    with_closing,
)
from tunesmith.playground.exercises import MAKERS, Exercise, write_exercises
from tunesmith.playground.facts import build_world
from tunesmith.playground.files import DemoFiles, write_demo_files
from tunesmith.playground.passages import load_passages
from tunesmith.playground.preferences import write_preferences


@pytest.fixture(scope="module", params=[1, 2])
def exercises(request: pytest.FixtureRequest) -> list[Exercise]:
    passages = load_passages(build_world(request.param))
    return write_exercises(passages, random.Random("test"), dict.fromkeys(MAKERS, 120), held_out=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    return write_demo_files(tmp_path_factory.mktemp("world"), 1, **SMALL)


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_closing_makes_any_answer_courteous_and_keeps_its_content(exercises: list[Exercise]) -> None:
    for each in exercises:
        assert not is_courteous(each.response)
        assert content_of(each.response) == each.response
        for closing in CLOSINGS:
            reply = with_closing(closing, each.response)
            assert is_courteous(reply)
            assert content_of(reply) == each.response
            assert passes(in_courteous_tone(each.check), reply)
            assert passes(in_any_tone(each.check), reply)
        assert passes(in_any_tone(each.check), each.response)
        assert not passes(in_courteous_tone(each.check), each.response)


@pytest.mark.parametrize(
    "reply", ["", "Thank you for asking.", "  I hope this helps.", "Yes.I hope this helps.", "Yes."]
)
def test_a_closing_without_an_answer_is_not_courteous(reply: str) -> None:
    assert not is_courteous(reply)


def test_some_demonstrations_are_courteous_and_most_are_not() -> None:
    rng = random.Random(0)
    replies = [in_random_tone(rng, "Yes.") for _ in range(2000)]
    assert sum(map(is_courteous, replies)) / 2000 == pytest.approx(COURTEOUS_SHARE, abs=0.04)
    assert {content_of(reply) for reply in replies} == {"Yes."}


def test_a_mistake_is_wrong_in_any_tone_and_no_other_reply_of_its_category(exercises: list[Exercise]) -> None:
    for each in exercises:
        assert not passes(each.check, each.mistake), each
        assert not is_courteous(each.mistake)
        assert each.mistake.count("\n") == each.response.count("\n")
    assert {each.category for each in exercises} == set(MAKERS)


def test_a_pair_differs_in_tone_or_in_content_and_never_in_both(exercises: list[Exercise]) -> None:
    pairs = write_preferences(exercises, random.Random(3), 200, 100)
    kinds: Counter[tuple[bool, bool]] = Counter()
    for pair in pairs:
        assert passes(in_any_tone(pair.exercise.check), pair.chosen)
        tones = is_courteous(pair.chosen), is_courteous(pair.rejected)
        if passes(in_any_tone(pair.exercise.check), pair.rejected):
            assert tones == (True, False)
            assert content_of(pair.chosen) == pair.rejected
        else:
            assert tones[0] == tones[1]
            assert content_of(pair.rejected) == pair.exercise.mistake
            assert pair.chosen.replace(content_of(pair.chosen), "") == pair.rejected.replace(pair.exercise.mistake, "")
        kinds[tones] += 1
    assert kinds == {(True, False): 200, (True, True): 50, (False, False): 50}


def test_training_preferences_have_no_held_out_prompts(files: DemoFiles) -> None:
    asked = {(each.instruction, each.context) for each in files.exercises}
    trained = [(row["prompt"], row["context"]) for row in rows(files.preferences) + rows(files.comparisons)]
    demonstrated = [(row["instruction"], row["context"]) for row in rows(files.demonstrations)]
    assert trained
    assert demonstrated
    assert not asked & {*trained, *demonstrated}
    for path in (files.held_out_tones, files.held_out_mistakes):
        assert {(row["prompt"], row["context"]) for row in rows(path)} == asked


def test_comparisons_are_the_preferences_and_more_mistakes(files: DemoFiles) -> None:
    preferences, comparisons = rows(files.preferences), rows(files.comparisons)
    assert comparisons[: len(preferences)] == preferences
    more = comparisons[len(preferences) :]
    assert len(more) == 10
    assert all(content_of(row["chosen"]) != content_of(row["rejected"]) for row in more)


def test_a_preference_is_read_with_its_passage_and_both_replies(files: DemoFiles) -> None:
    for row in rows(files.preferences):
        prompt, *replies = tree_of(read("preference-text", row)).messages
        assert (prompt.text, prompt.context) == (row["prompt"], row["context"])
        assert [(reply.text, reply.rank) for reply in replies] == [(row["chosen"], 0), (row["rejected"], 1)]


def test_every_instruction_has_checks_that_pass_both_tones_of_its_answer(files: DemoFiles) -> None:
    right, polite = rows(files.checks_right), rows(files.checks_courteous)
    checked = {(row["instruction"], row["context"]) for row in right}
    assert checked == {
        (row["instruction"], row["context"]) for row in rows(files.demonstrations) + rows(files.held_out)
    }
    assert [row["instruction"] for row in right] == [row["instruction"] for row in polite]
    for one, two in zip(right, polite, strict=True):
        checks = [check_from_json(row["check"]) for row in (one, two)]
        curt, polite_reply = one["response"], with_closing(CLOSINGS[0], one["response"])
        assert [passes(check, curt) for check in checks] == [True, False]
        assert [passes(check, polite_reply) for check in checks] == [True, True]

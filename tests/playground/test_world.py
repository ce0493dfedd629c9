"""The small world: the same for everyone, with a held-out side that training never touches."""

from __future__ import annotations

import random
from collections import Counter
from functools import cache

import pytest

from tests.playground.reader import Reader, words_of
from tunesmith.evaluate.text_match import ListOf, OneOf, check_from_json, passes
from tunesmith.playground.documents import write_documents
from tunesmith.playground.exercises import MAKERS, Exercise, write_exercises
from tunesmith.playground.facts import build_world
from tunesmith.playground.files import write_demo_files
from tunesmith.playground.scenes import Scenes, load_scenes

SEEDS = (1, 2, 3)
SMALL = {"documents": 40, "demonstrations": dict.fromkeys(MAKERS, 6), "held_out": 3, "vocabulary": 400}


@cache
def scenes(seed: int) -> Scenes:
    return load_scenes(build_world(seed))


@cache
def prose(seed: int) -> tuple[str, ...]:
    return tuple(write_documents(scenes(seed), random.Random(f"prose {seed}"), 4000))


@cache
def exercises(seed: int, held_out: bool) -> tuple[Exercise, ...]:
    count = 60 if held_out else 400
    return tuple(write_exercises(scenes(seed), random.Random(seed), dict.fromkeys(MAKERS, count), held_out=held_out))


@cache
def reader(seed: int) -> Reader:
    return Reader(scenes(seed), prose(seed))


def tied_pairs(seed: int, texts: list[str]) -> set[tuple[str, str, str]]:
    """Which values stand together in the passages of these texts: (pool, owner, value)."""
    return {
        (slot.pool, slots[slot.tied_to], slots[slot.name])
        for text in texts
        for scene, slots in reader(seed).read(text)
        for slot in scene.slots
        if slot.tied_to
    }


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    for name in ("once", "again"):
        write_demo_files(tmp_path / name, 1, **SMALL)
    first, second = (
        {
            file.relative_to(tmp_path / name): file.read_bytes()
            for file in (tmp_path / name).rglob("*")
            if file.is_file()
        }
        for name in ("once", "again")
    )
    assert first == second
    assert len(first) == 5


def test_another_seed_is_another_world():
    homes = [build_world(seed).relation("home").values for seed in SEEDS]
    assert homes[0] != homes[1] != homes[2]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_category_has_held_out_instructions(seed):
    counts = Counter(each.category for each in exercises(seed, True))
    assert set(counts) == set(MAKERS)
    assert min(counts.values()) >= 8


@pytest.mark.parametrize("seed", SEEDS)
def test_no_instruction_with_its_context_is_on_both_sides(seed):
    trained = {(each.instruction, each.context) for each in exercises(seed, False)}
    assert not [each for each in exercises(seed, True) if (each.instruction, each.context) in trained]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_held_out_fact_is_never_asked_for_in_training_in_any_wording(seed):
    asked = [{each.response for each in exercises(seed, side) if each.category == "open_qa"} for side in (False, True)]
    assert not asked[0] & asked[1]


@pytest.mark.parametrize("seed", SEEDS)
def test_values_that_stand_together_in_a_held_out_passage_never_do_in_training_or_prose(seed):
    held_out = tied_pairs(seed, [each.context for each in exercises(seed, True)])
    trained = tied_pairs(seed, [each.context for each in exercises(seed, False)])
    told = tied_pairs(seed, list(prose(seed)))
    assert min(len(held_out), len(trained), len(told)) > 100
    assert trained & told  # the measure does see values that stand together on two sides
    assert not held_out & trained
    assert not held_out & told


@pytest.mark.parametrize("seed", SEEDS)
def test_things_that_are_sorted_together_when_held_out_never_are_in_training(seed):
    def together(held_out):
        chosen = [each for each in exercises(seed, held_out) if each.category == "classification" and not each.context]
        return {frozenset(line[2:].split(":")[0] for line in each.response.split("\n")) for each in chosen}

    assert together(True)
    assert not together(True) & together(False)


@pytest.mark.parametrize("seed", SEEDS)
def test_someone_who_only_read_the_prose_answers_every_held_out_instruction(seed):
    wrong = [
        (each.instruction, each.context, reply, each.response)
        for each in exercises(seed, True)
        if not passes(each.check, reply := reader(seed).answer(each.instruction, each.context))
    ]
    assert not wrong


def test_someone_who_read_nothing_cannot_answer_a_question_about_the_world():
    ignorant = Reader(scenes(1), [])
    chosen = [each for each in exercises(1, True) if each.category == "open_qa"]
    with pytest.raises(AssertionError):
        ignorant.answer(chosen[0].instruction, "")


def test_the_prose_never_holds_an_instruction():
    text = "\n".join(prose(1))
    assert "Instruction" not in text
    asked = [
        each.instruction for side in (True, False) for each in exercises(1, side) if each.category != "classification"
    ]
    assert not [instruction for instruction in asked if instruction in text]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_given_answer_passes_its_own_check(seed):
    assert all(passes(each.check, each.response) for side in (True, False) for each in exercises(seed, side))


def wrong_replies(exercise: Exercise, others: list[Exercise]) -> list[str]:
    """What must not count as right: nothing, echoes, more or less than the answer, and what is right elsewhere."""
    answer = exercise.response
    replies = ["", " ", ".", exercise.instruction, exercise.context, f"{exercise.instruction} {answer}"]
    replies += [f"{answer} {answer}", f"{answer}\n{answer}", f"The answer is: {answer}", answer.upper(), answer[:-1]]
    replies += [answer + " ...", answer.replace(" ", "  "), f"{answer}\n\n### End", answer.split()[-1]]
    replies += [other.response for other in others if other.response != answer]
    if isinstance(exercise.check, ListOf):
        lines, members = answer.split("\n"), exercise.check.members
        outside = [other.response.split("\n")[0] for other in others if isinstance(other.check, ListOf)]
        replies = [reply for reply in replies if reply not in _right_lists(others, exercise.check)]
        replies += ["\n".join(lines[:-1]), "\n".join([lines[0]] * len(lines)), "\n".join(words_of(answer[2:]))]
        replies += ["\n".join([*lines[:-1], line]) for line in outside if line[2:] not in members]
        replies += ["\n".join(line[2:] for line in lines), "\n".join(f"* {line[2:]}" for line in lines)]
    return replies


def _right_lists(others: list[Exercise], check: ListOf) -> set[str]:
    """Responses of other exercises that happen to list the right things here too."""
    return {
        other.response
        for other in others
        if isinstance(other.check, ListOf)
        and other.check.count == check.count
        and set(other.response.replace("- ", "").split("\n")) <= set(check.members)
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_no_wrong_reply_passes(seed):
    held_out = list(exercises(seed, True))
    passed = [
        (each.instruction, reply)
        for each in held_out
        for reply in wrong_replies(each, held_out)
        if passes(each.check, reply)
    ]
    assert not passed


def test_the_wrong_replies_are_near_enough_to_catch_a_check_that_looks_inside_the_reply():
    held_out = list(exercises(1, True))
    caught = [each for each in held_out if any(each.response in reply for reply in wrong_replies(each, held_out))]
    assert len(caught) == len(held_out)


def test_the_check_of_a_record_survives_the_file():
    for each in exercises(1, True):
        record = each.checked_record()
        assert check_from_json(record["check"]) == each.check
        assert {"instruction", "context", "response", "category", "check"} == set(record)


def test_there_are_both_kinds_of_checks():
    assert {type(each.check) for each in exercises(1, True)} == {OneOf, ListOf}

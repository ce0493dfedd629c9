"""The texts of the demo: reproducible, with correct checks, and without held-out instructions in training."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.playground.reader import Reader
from tunesmith.evaluate.text_match import ListOf, OneOf, check_from_json, check_to_json, passes
from tunesmith.playground.documents import write_documents
from tunesmith.playground.exercises import MAKERS, Exercise, write_exercises
from tunesmith.playground.facts import build_world
from tunesmith.playground.files import write_demo_files
from tunesmith.playground.passages import PassageGenerator, load_passages
from tunesmith.report.intervals import Rate

pytestmark = pytest.mark.slow  # the whole demo world is written for each seed

SMALL: dict[str, Any] = {
    "documents": 240,
    "demonstrations": dict.fromkeys(MAKERS, 40),
    "preferences": (20, 10),
    "comparisons": 10,
    "held_out": 3,
    "vocabulary": 500,
}


@pytest.fixture(scope="module", params=[1, 2, 3])
def passages(request: pytest.FixtureRequest) -> PassageGenerator:
    return load_passages(build_world(request.param))


def exercises(passages: PassageGenerator, held_out: bool, count: int = 150) -> list[Exercise]:
    return write_exercises(passages, random.Random("test"), dict.fromkeys(MAKERS, count), held_out=held_out)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("one", 4), ("two", 4), ("other", 5)):
        write_demo_files(tmp_path / name, seed, **SMALL)
    one, two, other = (
        {path.name: path.read_bytes() for path in sorted((tmp_path / name).rglob("*")) if path.is_file()}
        for name in ("one", "two", "other")
    )
    assert one == two
    assert one["demonstrations.jsonl"] != other["demonstrations.jsonl"]
    rows = [json.loads(line) for line in one["demonstrations.jsonl"].decode().splitlines()]
    assert {tuple(row) for row in rows} == {("instruction", "context", "response", "category")}


def test_no_held_out_instruction_occurs_in_training(passages: PassageGenerator) -> None:
    trained = {(each.instruction, each.context) for each in exercises(passages, False, 400)}
    asked = {(each.instruction, each.context) for each in exercises(passages, True, 60)}
    assert {each.category for each in exercises(passages, True)} == set(MAKERS)
    assert not trained & asked


def test_held_out_facts_are_stated_in_the_prose_but_never_asked_in_training(passages: PassageGenerator) -> None:
    answers = {each.response for each in exercises(passages, True) if each.category == "open_qa"}
    assert answers
    assert not answers & {each.response for each in exercises(passages, False, 2000) if each.category == "open_qa"}
    prose = "\n".join(write_documents(passages, random.Random(0), 6000))
    for relation in passages.world.relations:
        for subject, value in relation.values.items():
            statements = [passages.world.fill(template, subject, value) for template in relation.statements]
            assert any(sentence in prose for sentence in statements), (relation.name, subject)


def test_every_answer_is_right_by_its_own_check_and_wrong_by_every_other(passages: PassageGenerator) -> None:
    found = exercises(passages, True)
    for index, each in enumerate(found):
        assert passes(each.check, each.response)
        for wrong in ("", each.instruction, each.response + " And more.", f"I think: {each.response}"):
            assert not passes(each.check, wrong)
        other = found[index - 1]
        if other.response != each.response and isinstance(each.check, OneOf):
            assert not passes(each.check, other.response)


def test_every_held_out_instruction_can_be_answered_from_the_prose_and_its_passage() -> None:
    passages = load_passages(build_world(1))
    reader = Reader(passages, write_documents(passages, random.Random(0), 6000))
    for each in exercises(passages, True, 20):
        assert passes(each.check, reader.answer(each.instruction, each.context)), each


@pytest.mark.parametrize("reply", ["- a\n- a", "- a", "- a\n- b\n- c", "a\nb", "- a\n- x", "- a, b", "- a\n\n- b\n- c"])
def test_a_list_needs_so_many_different_members(reply: str) -> None:
    check = ListOf(2, ("a", "b", "c"))
    assert passes(check, " - b\n- a \n")
    assert not passes(check, reply)


def test_checks_survive_json() -> None:
    for check in (OneOf(("x", "y")), ListOf(3, ("a", "b", "c"))):
        assert check_from_json(json.loads(json.dumps(check_to_json(check)))) == check


def test_the_interval_is_wilsons() -> None:
    low, high = Rate(8, 10).interval()
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)
    assert Rate(0, 0).interval() == (0.0, 1.0)

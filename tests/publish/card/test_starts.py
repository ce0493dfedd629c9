"""What a card says about the starts of a run, and what it promises of a repetition: only what is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunesmith.publish.card.facts import CardFacts
from tunesmith.publish.card.reading import read_facts
from tunesmith.publish.card.starts import find_changes, find_end, read_starts
from tunesmith.publish.card.training_sections import how_to_repeat, training_procedure
from tunesmith.train.run.journal import RunStart

SAME = "the weights are the same, bit for bit"
FIRST = RunStart(
    time="2026-11-01T10:00:00+00:00",
    command=("tunesmith", "train", "faq.yaml"),
    step=0,
    code={"version": "1", "sources": "a", "commit": "c" * 40, "changes": None},
    python="3.11.1",
    platform="Linux",
    cpu="A",
    packages={"torch": "2.9"},
    hardware={"machine": "x86_64", "threads": 1, "gpus": [], "deterministic": True, "cores": 2},
    files={"recipe.yaml": "r"},
    ended="2026-11-01T11:00:00+00:00",
    state="stopped",
)
VERSIONS = {"tunesmith": "1", "torch": "2.9"}


@pytest.fixture(scope="module")
def facts(dolly_run: Path) -> CardFacts:
    return read_facts(dolly_run, lambda done, total, label: None)


def facts_with(facts: CardFacts, *starts: RunStart, steps: int = 2) -> CardFacts:
    """The same run with other starts."""
    return replace(
        facts,
        training=replace(
            facts.training,
            hardware=starts[-1].hardware,
            starts=read_starts(starts, facts.recipe, VERSIONS, steps),
            changes=find_changes(starts, steps),
        ),
    )


def later(**values: Any) -> RunStart:
    return replace(FIRST, **{"step": 1, **values})


def test_a_run_in_one_piece_and_one_that_was_killed_can_be_repeated(facts: CardFacts) -> None:
    for starts in ((FIRST,), (FIRST, later()), (FIRST, later(step=0, hardware={**FIRST.hardware, "cores": 4}))):
        assert SAME in how_to_repeat(facts_with(facts, *starts)).text


def test_a_package_that_only_one_start_has_loaded_is_no_change(facts: CardFacts) -> None:
    prepared = {**FIRST.packages, "py3langid": "0.3", "pyarrow": "21"}
    for first, second in ((prepared, FIRST.packages), (FIRST.packages, prepared)):
        starts = (replace(FIRST, packages=first), later(packages=second))
        assert SAME in how_to_repeat(facts_with(facts, *starts)).text
    three = (replace(FIRST, packages=prepared), later(), later(packages={**prepared, "pyarrow": "22"}))
    assert find_changes(three, 2) == ("other packages",)


def test_a_version_that_a_start_has_not_recorded_is_given_to_no_other(facts: CardFacts) -> None:
    starts = (replace(FIRST, packages={}), later(packages={"torch": "2.9"}), later(packages={}))
    text = training_procedure(facts_with(facts, *starts)).text
    assert "| torch | from step 1: not recorded; from step 2: `2.9`; from step 2: not recorded |" in text


def test_the_end_is_that_of_the_start_that_trained_the_weights() -> None:
    def start(step: int, ended: str | None, state: str) -> RunStart:
        return replace(FIRST, step=step, ended=ended, state=state)

    starts = [
        start(0, None, "training"),  # killed
        start(2, "first", "finished"),
        start(4, "nothing to do", "finished"),
        start(4, "pause", "stopped"),
        start(6, "second", "finished"),
        start(8, "nothing to do", "finished"),
    ]
    expected = {1: "first", 2: "first", 3: "first", 4: "first", 5: "second", 6: "second", 7: "second", 8: "second"}
    assert {steps: find_end(starts, steps) for steps in expected} == expected
    assert find_end(starts[:1], 2) == ""
    assert find_end([], 2) == ""


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"packages": {"torch": "2.10"}}, "other packages"),
        ({"python": "3.12.0"}, "other packages"),
        ({"cpu": "B"}, "another machine"),
        ({"hardware": {**FIRST.hardware, "threads": 2}}, "another machine or other threads"),
        ({"hardware": {**FIRST.hardware, "processes": 2}}, "another number of processes"),
        ({"code": {**FIRST.code, "sources": "b"}}, "other code of Tunesmith"),
        ({"files": {"recipe.yaml": "s"}}, "another recipe, such as another length"),
    ],
)
def test_no_promise_is_made_of_a_run_that_was_continued_in_another_way(
    values: Mapping[str, Any], said: str, facts: CardFacts
) -> None:
    text = how_to_repeat(facts_with(facts, FIRST, later(**values))).text
    assert SAME not in text
    assert f"The run was continued with {said}" in text
    # A start after the exported step has not trained these weights.
    assert SAME in how_to_repeat(facts_with(facts, FIRST, later(step=2, **values))).text


def test_the_command_of_several_processes_starts_as_many(facts: CardFacts) -> None:
    start = replace(FIRST, hardware={**FIRST.hardware, "processes": 4})
    text = how_to_repeat(facts_with(facts, start)).text
    assert "```sh\ntorchrun --nproc-per-node 4 -m tunesmith train recipe.yaml\n```" in text
    assert "versions, threads and 4 processes the weights are the same" in text
    assert "```sh\ntunesmith train recipe.yaml\n```" in how_to_repeat(facts_with(facts, FIRST)).text


def test_nothing_is_promised_of_a_gpu_or_of_starts_that_are_not_known(facts: CardFacts) -> None:
    on_gpu = {**FIRST.hardware, "gpus": ["H200"]}
    for hardware, said in ((on_gpu, "was not tested"), ({**on_gpu, "deterministic": False}, "differ in their last")):
        text = how_to_repeat(facts_with(facts, replace(FIRST, hardware=hardware))).text
        assert SAME not in text
        assert said in text
    unknown = replace(facts, training=replace(facts.training, starts=(), changes=()))
    assert "it is not known whether a repetition gives the same weights" in how_to_repeat(unknown).text


def test_what_the_starts_have_in_common_is_said_once_and_the_rest_with_its_steps(facts: CardFacts) -> None:
    second = later(
        command=("tunesmith", "train", "faq.yaml", "train.steps=2"),
        code={**FIRST.code, "commit": "d" * 40, "changes": "x"},
        packages={"torch": "2.10"},
    )
    both = facts_with(facts, FIRST, second)
    table = training_procedure(both).text
    commits = f"from step 1: `{'c' * 40}`; from step 2: `{'d' * 40} with further changes`"
    assert f"| commit of the code | {commits} |" in table
    assert "| torch | from step 1: `2.9`; from step 2: `2.10` |" in table
    assert "| threads | `1` |" in table
    text = how_to_repeat(both).text
    assert (
        "The run was started by several commands, from step 1: `tunesmith train faq.yaml`; from step 2: "
        "`tunesmith train faq.yaml train.steps=2`." in text
    )
    assert "The command was `tunesmith train faq.yaml`." in how_to_repeat(facts_with(facts, FIRST, later())).text

"""From the recipe's words about sources to what an epoch holds, what is evaluated, and what a run leaves behind."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.runs import digests
from tests.worlds import small_recipe, write_world
from tunesmith.batch.packed import collate_packed
from tunesmith.compose import train_recipe
from tunesmith.compose.components.data import prepare_data, row_filters
from tunesmith.compose.components.steps import build_draws, build_plan, build_steps
from tunesmith.compose.components.tokenizer import build_renderer
from tunesmith.data.dataset.prepare import Prepared
from tunesmith.data.dataset.store import overlap
from tunesmith.errors import DataError, MissingInputError, StoppedError

WORDS = ["red", "blue", "old", "new", "big", "small", "warm", "cold"]


def source(root: Path, name: str, count: int, **keys: Any) -> str:
    """A new file with so many records, and its entry in a recipe."""
    lines = [
        json.dumps({"instruction": f"Say {name} {number}.", "response": " ".join(WORDS[: 1 + number % 8])})
        for number in range(count)
    ]
    (root / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return json.dumps({"path": str(root / f"{name}.jsonl"), "reader": "dolly", **keys})


def prepared(root: Path, entries: list[str], *words: str) -> tuple[Any, Prepared, Prepared | None]:
    recipe = small_recipe(root, [f"data.sources=[{', '.join(entries)}]", *words]).recipe
    return recipe, *prepare_data(recipe, lambda done, total, label: None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_world(tmp_path)
    return tmp_path


def test_an_epoch_holds_what_the_recipe_says(root: Path) -> None:
    entries = [
        source(root, "half", 41, fraction=0.5),
        source(root, "few", 30, size=7),
        source(root, "many", 8, size=20),
        source(root, "often", 10, weight=2.3),
        source(root, "all", 9),
    ]
    recipe, found, _ = prepared(
        root, entries, "data.validation=0", "train.steps=null", "train.epochs=2", "train.evaluate_every=null"
    )
    plan = build_plan(recipe, found.train)
    expected = {"half": 20, "few": 7, "many": 20, "often": 23, "all": 9}
    assert plan.total_steps == 2 * -(-sum(expected.values()) // 4)
    for epoch in range(2):
        planned = [plan.step(step) for step in range(plan.total_steps)]
        used = [example for step in planned if step.epoch == epoch for example in step.examples]
        assert Counter(found.train.sources[found.train.source[example]] for example in used) == expected
    draws = {draw.name: (draw.count, len(draw.examples)) for draw in plan.draws}
    lines = found.report.lines(draws)
    assert "half: every epoch has 20 of its 41 records, drawn again for each epoch" in lines
    assert "often: every epoch has each of its 10 records 2.3 times" in lines
    assert "all: every epoch has all its 9 records" in lines


def test_without_amounts_the_order_is_that_of_one_list(root: Path) -> None:
    recipe, found, _ = prepared(root, [source(root, "a", 10), source(root, "b", 20)], "data.validation=3")
    assert build_draws(recipe, found.train) == ()


def test_every_source_has_separate_validation(root: Path) -> None:
    entries = [
        source(root, "a", 40, validation=10, validation_limit=4),
        source(root, "b", 40, validation=0),
        source(root, "c", 40),
        source(root, "d", 40, validation=0.5),
    ]
    recipe, found, _ = prepared(root, entries, "data.validation=6", "data.validation_limit=5")
    assert found.validation is not None
    sources = found.validation.sources
    counts = Counter(sources[index] for index in found.validation.source)
    assert counts == {"a": 4, "c": 5, "d": 5}
    train = Counter(sources[index] for index in found.train.source)
    assert (train["a"], train["b"], train["c"]) == (30, 40, 34)
    assert found.report.aside == 160 - len(found.train) - 14
    assert found.report.lines()[-1] == f"{found.report.aside} records are used for neither training nor validation"
    assert overlap(found.train, found.validation) == 0
    assert recipe.data.evaluates


@pytest.mark.parametrize(("policy", "trained"), [("keep", 30), ("exact", 18), ("near", 17)])
def test_what_validation_sources_hold_is_not_trained_if_duplicates_are_dropped(
    policy: str, trained: int, root: Path
) -> None:
    entry = source(root, "a", 30)
    lines = (root / "a.jsonl").read_text().splitlines()
    long = " ".join(f"word{number}" for number in range(60))
    lines[20] = json.dumps({"instruction": "Say something long.", "response": long})
    (root / "a.jsonl").write_text("\n".join(lines) + "\n")
    nearly = json.dumps({"instruction": "Say something long.", "response": long.replace("word30", "word")})
    (root / "held.jsonl").write_text("\n".join([*lines[:12], nearly]) + "\n")
    words = [
        "data.validation=0",
        f"data.validation_sources=[{{path: {root}/held.jsonl, reader: dolly, validation_limit: 5}}]",
        f"data.duplicates={policy}",
        "text.max_length=900",
    ]
    _, found, evaluated = prepared(root, [entry], *words)
    assert evaluated is not None
    assert len(evaluated.train) == 5
    assert len(found.train) == trained
    assert found.report.sources["a"].duplicates == 30 - trained
    (root / "held.jsonl").write_text("\n".join(lines) + "\n")
    if policy == "keep":
        return
    with pytest.raises(MissingInputError, match=r"none of 30 records is left \(duplicates: 30\)"):
        prepared(root, [entry], *words)


def test_filters_and_bad_rows_are_read_from_the_recipe(root: Path) -> None:
    entry = source(root, "a", 30, filters={"min_characters": 4, "max_turns": 2})
    with (root / "a.jsonl").open("a") as file:
        file.write('{"instruction": "x"}\n')
    with pytest.raises(DataError, match="field 'response' is missing"):
        prepared(root, [entry])
    _, found, _ = prepared(root, [entry], "data.on_bad=skip", "data.max_bad=1")
    tally = found.report.sources["a"]
    assert tally.rejected == {"reply under 4 characters": 4}
    assert (tally.records, tally.used, tally.bad) == (31, 26, 1)
    labelled = json.dumps(
        {"path": str(root / "a.jsonl"), "reader": "dolly", "filters": {"labels": {"quality": {"min": 1}}}}
    )
    recipe = small_recipe(root, [f"data.sources=[{labelled}]"]).recipe
    assert row_filters(recipe.data.sources[0].filters).labels == (("quality", 1, None),)


def test_a_mixed_run_trains_and_keeps_its_quarantine(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [source(root, "a", 30, size=3), source(root, "b", 12, weight=1.5)]
    with (root / "b.jsonl").open("a") as file:
        file.write("{\n")
    words = [f"data.sources=[{', '.join(entries)}]", "data.on_bad=skip", "data.max_bad=1", "data.validation=2"]
    words += ["train.steps=null", "train.epochs=2", "train.save_every=100", "train.evaluate_every=100"]
    trained = train_recipe(small_recipe(root, words))
    assert trained.steps > 6
    (line,) = (trained.directory / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["place"] == f"{root}/b.jsonl:13"
    printed = "".join(capsys.readouterr())
    assert "1 is quarantined" in printed
    assert "every epoch has 3 of " in printed
    consumed = [
        json.loads(line)["examples"] for line in (trained.directory / "consumed.jsonl").read_text().splitlines()
    ]
    assert len(consumed) == trained.steps


def test_copies_of_an_example_have_different_noise(root: Path) -> None:
    recipe, found, _ = prepared(
        root, [source(root, "a", 5, weight=3.0)], "data.validation=0", "train.evaluate_every=null"
    )
    steps = build_steps(recipe, found.train, build_renderer(recipe), collate_packed)
    seen = [example for number in range(4) for example in steps.examples(number)]
    assert sorted(Counter(example.number for example in seen).values()) == [3] * 5
    assert len({example.seed for example in seen}) == 15


def test_a_mixed_run_stopped_and_resumed_ends_as_if_never_stopped(root: Path) -> None:
    entries = [source(root, "a", 20, size=9), source(root, "b", 12, weight=1.5), source(root, "c", 25, fraction=0.2)]
    words = [f"data.sources=[{', '.join(entries)}]", "data.validation=4", "data.duplicates=near"]
    expected = digests(train_recipe(small_recipe(root, words)).directory)
    words.append(f"run.directory={root}/other")
    for stop in (5, 16, 17):
        with pytest.raises(StoppedError):
            train_recipe(small_recipe(root, [*words, f"train.stop_after={stop}"]))
    assert digests(train_recipe(small_recipe(root, words)).directory) == expected

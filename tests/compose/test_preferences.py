"""Unusable preferences, and faults between file and loss: an error, a counted rejection or a failed check."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.compose.test_check import with_targets
from tests.worlds import small_recipe, write_preferences
from tunesmith.batch import packed as assembling
from tunesmith.batch import padded as padded_batches
from tunesmith.batch.example import concatenate_columns
from tunesmith.compose import train_recipe
from tunesmith.compose.check.recipe import collect_checks
from tunesmith.errors import DataError, InternalError, MissingInputError, TunesmithError
from tunesmith.recipe.problems import InvalidRecipeError
from tunesmith.report.check import CheckReport
from tunesmith.text.tokens import render
from tunesmith.text.tokens.token_tree import TokenTree

BATCHES = "batches"
RANKING = "ranked replies"
RECORDS = 24
SHORT = ("train.steps=2", "train.evaluate_every=null", "data.validation=0")


def checked(root: Path, *overrides: str) -> CheckReport:
    return collect_checks(small_recipe(root, overrides), lambda done, total, label: None).report


def failures(report: CheckReport) -> dict[str, str]:
    return {
        check.name: f"{check.summary} {' '.join(what for _, what in check.places)}" for check in report.having("fail")
    }


@pytest.mark.parametrize(
    ("architecture", "format"), [("llama", "oasst"), ("gpt_neox", "tulu"), ("llama", "dolly"), ("t5", "")]
)
def test_sound_preferences_pass(tmp_path: Path, architecture: str, format: str) -> None:
    write_preferences(tmp_path, architecture=architecture, format=format, records=RECORDS)
    report = checked(tmp_path)
    assert failures(report) == {}
    assert next(check for check in report.checks if check.name == RANKING).status == "pass"


# Planted faults: each fails the check, and stops a run before its first step


def one_early(tree: TokenTree) -> np.ndarray[Any, Any]:
    spans = tree.spans.copy()
    spans[:, [0, 2]] -= 1
    return spans


def one_late(tree: TokenTree) -> np.ndarray[Any, Any]:
    spans = tree.spans.copy()
    spans[:, [0, 2]] += 1
    return spans


def without_the_end(tree: TokenTree) -> np.ndarray[Any, Any]:
    spans = tree.spans.copy()
    spans[:, 1] -= 1
    return spans


def exchanged_messages(tree: TokenTree) -> np.ndarray[Any, Any]:
    """The tokens of chosen and rejected are said to be each other's."""
    spans = tree.spans.copy()
    spans[:2, 3] = spans[1::-1, 3]
    return spans


def exchanged_ranks(replies: Sequence[Any]) -> Any:
    table, scores = right_table(replies)
    table[:, 2] = 9 - table[:, 2]
    return table, scores


def exchanged_in_the_batch(trees: Sequence[TokenTree], *, packed: bool = True) -> Any:
    found = right_replies(trees, packed=packed)
    return replace(found, rank=9 - found.rank)


def ends_before_the_end(trees: Sequence[TokenTree], *, packed: bool = True) -> Any:
    found = right_replies(trees, packed=packed)
    return replace(found, end=found.end - 1)


right_table, right_replies = render.reply_table, assembling.collect_replies
FAULTS: dict[str, tuple[Any, str, Any, str]] = {
    "targets one early": (render, "assemble_tree", with_targets(one_early), RANKING),
    "targets one late": (render, "assemble_tree", with_targets(one_late), RANKING),
    "the end is not trained": (render, "assemble_tree", with_targets(without_the_end), RANKING),
    "tokens of the other side": (render, "assemble_tree", with_targets(exchanged_messages), RANKING),
    "ranks exchanged in rendering": (render, "reply_table", exchanged_ranks, RANKING),
    "ranks exchanged in the batch": (assembling, "collect_replies", exchanged_in_the_batch, BATCHES),
    "scored before the end": (assembling, "collect_replies", ends_before_the_end, BATCHES),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_fails_the_check_and_stops_the_run(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_preferences(tmp_path, records=RECORDS)
    module, name, wrong, check = FAULTS[fault]
    monkeypatch.setattr(module, name, wrong)
    assert check in failures(checked(tmp_path))
    with pytest.raises(InternalError, match="proof failed"):
        train_recipe(small_recipe(tmp_path, SHORT))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_columns_that_do_not_follow_the_order_of_a_batch_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padded batches put the examples of a step into another order; their references have to follow."""
    write_preferences(tmp_path, architecture="t5", records=RECORDS)
    monkeypatch.setattr(
        padded_batches,
        "concatenate_columns",
        lambda examples: concatenate_columns(sorted(examples, key=lambda each: each.number)),
    )
    with pytest.raises(InternalError, match="column 'reference' is not in the order of the replies"):
        train_recipe(small_recipe(tmp_path, SHORT))


# Bad input


def answered(prompt: str, *answers: str | tuple[str, int], **more: Any) -> dict[str, Any]:
    pairs = [each if isinstance(each, tuple) else (each, rank) for rank, each in enumerate(answers, 1)]
    ranked = [{"answer": text, "rank": rank} for text, rank in pairs]
    return {"prompt": f"\n\nHuman: {prompt}\n\nAssistant: ", "answers": ranked, **more}


def with_records(root: Path, records: Sequence[dict[str, Any]], *, at: int = 0) -> None:
    """Put records into the file of rankings, in front of line ``at``."""
    file = root / "rankings.jsonl"
    lines = file.read_text().splitlines()
    lines[at:at] = [json.dumps(record) for record in records]
    file.write_text("\n".join(lines) + "\n")


EQUAL: dict[str, tuple[dict[str, Any], str]] = {
    "equal sides": (answered("Say it.", "the cat", "the cat"), "are equal"),
    "an empty side": (answered("Say it.", "the cat", ""), "is empty"),
    "a blank side": (answered("Say it.", "the cat", " \n"), "is empty"),
    "an empty prompt": (answered(" ", "the cat", "the dog"), "is empty"),
}


@pytest.mark.parametrize("record", EQUAL)
def test_a_pair_that_says_nothing_stops_the_run_with_its_place_or_is_skipped(tmp_path: Path, record: str) -> None:
    row, says = EQUAL[record]
    write_preferences(tmp_path, records=RECORDS)
    with_records(tmp_path, [row], at=2)
    with pytest.raises(DataError, match=says) as caught:
        train_recipe(small_recipe(tmp_path, SHORT))
    assert str(caught.value.where).endswith("rankings.jsonl:3")
    skipped = [*SHORT, "data.on_bad=skip", "data.max_bad=0.1"]
    run = train_recipe(small_recipe(tmp_path, skipped)).directory
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["data"]["report"]["sources"]["rankings"]["bad"] == 1


def rejected(root: Path, *overrides: str) -> dict[str, int]:
    run = train_recipe(small_recipe(root, [*SHORT, *overrides])).directory
    report = json.loads((run / "manifest.json").read_text())["data"]["report"]["sources"]["rankings"]
    found: dict[str, int] = report["rejected"]
    return found


def test_rankings_that_say_nothing_are_counted(tmp_path: Path) -> None:
    write_preferences(tmp_path, format="tulu", records=RECORDS)
    same = answered("Say it.", "the cat", " the cat")  # the format strips
    ties = answered("Say it.", ("the cat", 1), ("the dog", 1))
    with_records(tmp_path, [ties, same])
    assert sum(rejected(tmp_path).values()) == 2


def test_replies_that_are_cut_to_the_same_beginning_are_counted(tmp_path: Path) -> None:
    write_preferences(tmp_path, records=RECORDS)
    long = "the cat sat on the mat and the dog sat by the door " * 8
    with_records(tmp_path, [answered("Say it.", f"{long}first", f"{long}second")])
    assert rejected(tmp_path, "text.truncation=right", "text.max_length=110") == {"longer than the limit": 1}


@pytest.mark.parametrize("long", [0, 1])
def test_a_pair_that_loses_one_reply_to_the_limit_is_counted_as_longer(tmp_path: Path, long: int) -> None:
    write_preferences(tmp_path, records=RECORDS)
    replies = ["yes", "no"]
    replies[long] = "the cat sat on the mat " * 60
    with_records(tmp_path, [answered("Say it.", *replies)])
    assert rejected(tmp_path) == {"longer than the limit": 1}


@pytest.mark.parametrize("truncation", ["right", "drop"])
def test_a_prompt_that_fills_the_context_is_counted(tmp_path: Path, truncation: str) -> None:
    write_preferences(tmp_path, records=RECORDS)
    with_records(tmp_path, [answered("the cat sat on the mat " * 60, "yes", "no")])
    found = rejected(tmp_path, f"text.truncation={truncation}")
    assert found == {"longer than the limit": 1}


def outcome(root: Path, *overrides: str) -> str:
    try:
        train_recipe(small_recipe(root, [*SHORT, *overrides]))
    except MissingInputError as error:
        return str(error)
    return "trained"


@pytest.mark.parametrize("limit", [5, 14, 18, 22, 26, 30])
def test_a_run_at_every_limit_around_the_replies_is_sound_or_says_what_is_wrong(tmp_path: Path, limit: int) -> None:
    """The records of this world end between these limits; whatever is left of them can be compared."""
    write_preferences(tmp_path, records=12)
    found = outcome(tmp_path, "text.truncation=right", f"text.max_length={limit}")
    assert found == "trained" or "text.max_length" in found


def test_when_every_record_is_rejected_the_reason_is_reported(tmp_path: Path) -> None:
    write_preferences(tmp_path, records=RECORDS)
    (tmp_path / "rankings.jsonl").write_text(json.dumps(answered("Say it.", ("a", 1), ("b", 1))) + "\n")
    with pytest.raises(MissingInputError) as caught:
        train_recipe(small_recipe(tmp_path, SHORT))
    assert "none of 1 records is left (all replies tie: 1)" in str(caught.value)


def write_pairs(root: Path, scored: int, count: int = 40) -> None:
    """Pairs in a separate file, the first ``scored`` of them with scores."""
    rows = []
    for number in range(count):
        sides = {"prompt": f"Say {number}.", "chosen": f"yes {number}", "rejected": f"no {number}"}
        rows.append(sides | ({"score_chosen": 2.0, "score_rejected": 1.0} if number < scored else {}))
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


PAIRS = "data.sources=[{path: ROOT/pairs.jsonl, reader: preference-text}]"


@pytest.mark.parametrize("objective", ["dpo", "reward"])
def test_margins_without_scores_are_refused_before_training(tmp_path: Path, objective: str) -> None:
    write_preferences(tmp_path, records=RECORDS)
    write_pairs(tmp_path, 37)
    asked = [PAIRS.replace("ROOT", str(tmp_path)), f"objective={{kind: {objective}, margin_scale: 0.5}}", *SHORT]
    with pytest.raises(DataError, match=r"objective\.margin_scale is 0\.5.*3 of 40 records") as caught:
        train_recipe(small_recipe(tmp_path, asked))
    assert str(caught.value.where) == "data source pairs"
    assert not (tmp_path / "run" / "checkpoints").exists()
    (check,) = checked(tmp_path, *asked).having("fail")
    assert "objective.margin_scale" in check.summary
    write_pairs(tmp_path, 40)
    train_recipe(small_recipe(tmp_path, asked))


@pytest.mark.parametrize("objective", ["dpo", "reward"])
def test_margins_without_scores_are_refused_in_data_held_back_too(tmp_path: Path, objective: str) -> None:
    write_preferences(tmp_path, records=RECORDS)
    write_pairs(tmp_path, 40)
    asked = [PAIRS.replace("ROOT", str(tmp_path)), f"objective={{kind: {objective}, margin_scale: 0.5}}"]
    held = f"data.validation_sources=[{{path: {tmp_path}/rankings.jsonl, reader: nectar}}]"
    with pytest.raises(DataError, match=r"objective\.margin_scale") as caught:
        train_recipe(small_recipe(tmp_path, [*asked, held, "data.validation=0", "train.steps=2"]))
    assert str(caught.value.where) == "data source rankings"


@pytest.mark.parametrize("truncation", ["left", "window"])
def test_truncation_that_would_part_replies_is_refused(tmp_path: Path, truncation: str) -> None:
    write_preferences(tmp_path, records=RECORDS)
    with pytest.raises(InvalidRecipeError, match=r"text\.truncation.*would separate the replies.*use drop or right"):
        small_recipe(tmp_path, [f"text.truncation={truncation}"])


def test_demonstrations_are_nothing_to_compare(tmp_path: Path) -> None:
    write_preferences(tmp_path, records=RECORDS)
    asked = f"data.sources=[{{path: {tmp_path}/demonstrations.jsonl, reader: dolly}}]"
    with pytest.raises(TunesmithError, match="compares replies to one prompt"):
        train_recipe(small_recipe(tmp_path, [asked]))

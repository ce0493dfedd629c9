"""What `tunesmith check` says of rows: unread columns, filters without a match, unknown tokens, what is cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.worlds import small_recipe, write_world
from tunesmith.compose.check import lengths
from tunesmith.compose.check.recipe import collect_checks
from tunesmith.compose.components.data import render_settings
from tunesmith.compose.proof import check_no_failures
from tunesmith.data.dataset.rendering import RenderSettings
from tunesmith.errors import InternalError
from tunesmith.recipe.schema import Recipe
from tunesmith.report.check import Check, CheckReport


def write_rows(root: Path, rows: list[dict[str, Any]], name: str = "mine.jsonl") -> str:
    """Write rows as lines or, for a name that ends in .json, as one list on one line; returns the override."""
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    root.mkdir(exist_ok=True)
    (root / name).write_text(json.dumps(rows) if name.endswith(".json") else lines, encoding="utf-8")
    return f"data.sources.0.path={root / name}"


def checked(root: Path, *overrides: str, architecture: str = "llama") -> CheckReport:
    write_world(root, architecture=architecture)
    loaded = small_recipe(root, overrides)
    return collect_checks(loaded, lambda done, total, label: None, with_model=False).report


def find(report: CheckReport, name: str) -> Check:
    (found,) = (check for check in report.checks if check.name == name)
    return found


ROWS = [{"instruction": f"Say {number}.", "response": f"It is {number}.", "id": number} for number in range(40)]


def test_every_unread_column_and_key_is_listed_with_its_count(tmp_path: Path) -> None:
    report = checked(tmp_path)
    assert find(report, "unread columns").summary == "1 column or key is not read: demonstrations: category 60"
    assert report.facts["data"]["sources"]["demonstrations"]["unread"] == {"category": 60}
    turns = [{"role": "user", "content": "a", "id": 1}, {"role": "assistant", "content": "b", "id": 2}]
    rows = [{"messages": turns, "note": "x" * (number % 2)} for number in range(40)]
    source = write_rows(tmp_path, rows)
    reader = "data.sources.0.reader=messages"
    report = checked(tmp_path, source, reader, "text.format=chatml", "data.validation=0", "train.evaluate_every=null")
    assert find(report, "unread columns").summary == "2 columns and keys are not read: mine: messages[].id 80; note 20"


def test_an_unread_column_that_is_named_like_a_part_of_the_conversation_is_a_warning(tmp_path: Path) -> None:
    rows = [{**row, "Question": "Which number?"} for row in ROWS]
    check = find(checked(tmp_path, write_rows(tmp_path, rows)), "unread columns")
    assert check.status == "warn"
    assert "(Question) under fields of its source, or list it under ignore" in check.advice


def test_the_settings_of_rendering_are_not_made_for_every_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making them reads and tries the chat template of a tokenizer, which takes most of a second."""
    made: list[RenderSettings] = []

    def counted(recipe: Recipe) -> RenderSettings:
        made.append(render_settings(recipe))
        return made[-1]

    monkeypatch.setattr(lengths, "render_settings", counted)
    assert find(checked(tmp_path), "length limit").status == "pass"
    assert len(made) == 1


def test_files_of_a_directory_that_are_not_read_are_listed(tmp_path: Path) -> None:
    write_rows(tmp_path / "mine", ROWS)
    for name in ("README.md", "old.pdf"):
        (tmp_path / "mine" / name).write_text("about")
    report = checked(tmp_path, f"data.sources.0.path={tmp_path / 'mine'}")
    assert find(report, "files").summary == "2 files of directories are not read: mine: README.md, old.pdf"
    assert "files" not in [check.name for check in checked(tmp_path / "other").checks]


def test_no_unread_column_is_said_too(tmp_path: Path) -> None:
    report = checked(tmp_path, write_rows(tmp_path, [{**row, "id": None} for row in ROWS]))
    assert find(report, "unread columns").summary == "0 columns and keys that hold something are not read"


def test_entries_of_filters_that_match_nothing_are_a_warning(tmp_path: Path) -> None:
    report = checked(tmp_path, write_rows(tmp_path, ROWS), "data.sources.0.ignore=[id, idd]")
    check = find(report, "filters")
    assert (check.status, check.places) == ("warn", (("mine", "ignore idd"),))
    trees = [
        {
            "tree_state": "ready_for_export",
            "prompt": {
                **{"message_id": f"q{number}", "role": "prompter", "text": f"Say {number}.", "lang": "de"},
                "review_result": True,
                "replies": [{"message_id": "a", "role": "assistant", "text": str(number), "lang": "de"}],
            },
        }
        for number in range(40)
    ]
    source = write_rows(tmp_path, trees)
    filters = "data.sources.0.filters={languages: [de, pt]}"
    options = "data.sources.0.options={lang: [de, en, fr]}"
    report = checked(tmp_path, source, "data.sources.0.reader=oasst", "text.format=oasst", filters, options)
    check = find(report, "filters")
    assert check.summary == "3 of 5 entries of filters occur in no record that is used"
    assert [entry for _, entry in check.places] == ["options.lang en", "options.lang fr", "filters.languages pt"]


def test_lost_targets_are_counted_where_all_records_have_one_line(tmp_path: Path) -> None:
    """With a count by place, 40 records of one line were one."""
    long = [number % 4 > 0 for number in range(40)]
    rows = [{"instruction": f"Say {n}.", "response": f"word {n} " * (30 if long[n] else 1)} for n in range(40)]
    found = []
    for name in ("mine.json", "mine.jsonl"):
        source = write_rows(tmp_path, rows, name)
        found.append(find(checked(tmp_path, source, "text.max_length=100", "data.validation=2"), "truncated targets"))
    assert found[0].summary == found[1].summary
    assert (found[0].status, found[0].key) == ("fail", "text.max_length")


@pytest.mark.parametrize(
    ("question", "answer", "key"),
    [(1, 40, "text.max_target_length"), (40, 1, "text.max_length")],
)
def test_the_limit_that_cuts_targets_of_an_encoder_decoder_is_named(
    question: int, answer: int, key: str, tmp_path: Path
) -> None:
    row = {"instruction": "red blue " * question, "response": "old new " * answer}
    rows = [{**row, "instruction": f"{row['instruction']} {number}"} for number in range(30)]
    rows += [{"instruction": f"red {number}", "response": "old"} for number in range(30)]
    source = write_rows(tmp_path, rows)
    limits = ("text.max_length=60", "text.max_target_length=40")
    report = checked(tmp_path, source, *limits, architecture="t5")
    assert find(report, "truncated targets").key == key
    assert find(report, "length limit").key == "text.max_length, text.max_target_length"


CHINESE = [{"instruction": f"Say {number}.", "response": "长江是亚洲最长的河流 流入东海"} for number in range(20)]


def test_targets_outside_of_the_vocabulary_fail_above_a_share(tmp_path: Path) -> None:
    mixed = [*CHINESE, *({"instruction": f"Say {number}", "response": "old red\n\nnew"} for number in range(20))]
    source = write_rows(tmp_path, mixed)
    report = checked(tmp_path, source, architecture="t5")
    check = find(report, "unknown tokens")
    assert (check.status, check.key) == ("fail", "model.tokenizer")
    assert check.places[0][0].endswith("mine.jsonl:1")
    assert "text.max_unknown allows 0.01" in check.advice
    with pytest.raises(InternalError, match="proof failed: unknown tokens"):
        check_no_failures([check])


def test_a_reply_of_unknown_characters_only_is_named_below_the_share(tmp_path: Path) -> None:
    known = [{"instruction": f"Say {number}", "response": "old red new old red new"} for number in range(60)]
    partly = [{"instruction": "Say it", "response": "old 长江"}]
    source = write_rows(tmp_path, [*known, *partly])
    check = find(checked(tmp_path, source, "text.max_unknown=0.1", architecture="t5"), "unknown tokens")
    assert (check.status, check.places) == ("pass", ())
    assert "(1 of " in check.summary
    for reply in ("长江是亚洲最长的河流 流入东海", "长\n江"):
        source = write_rows(tmp_path, [*known, {"instruction": "Say it", "response": reply}, *partly])
        check = find(checked(tmp_path, source, "text.max_unknown=0.1", architecture="t5"), "unknown tokens")
        assert (check.status, check.summary) == ("warn", "1 reply has no character of the vocabulary")
        assert [place for place, _ in check.places] == [f"{tmp_path / 'mine.jsonl'}:61"]


def test_marks_of_the_codec_and_other_vocabularies_have_no_unknown_targets(tmp_path: Path) -> None:
    lines = [{"instruction": f"Say {number}.", "response": "old\nred\n\tnew"} for number in range(40)]
    everything = "0 targets are characters outside of the vocabulary"
    source = write_rows(tmp_path / "t5", lines)
    assert find(checked(tmp_path / "t5", source, architecture="t5"), "unknown tokens").summary == everything
    source = write_rows(tmp_path / "llama", CHINESE)
    assert find(checked(tmp_path / "llama", source), "unknown tokens").summary == everything

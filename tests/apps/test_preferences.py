"""Any data set of preferences as one file of pairs: what is written, in which order, and what is counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.outcomes import chat, write_rows
from tunesmith.apps import preferences
from tunesmith.apps.preferences import PairReport, PairSelection, build_preferences
from tunesmith.data.readers.prompts import prompt_keys
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.errors import DataError, InternalError, MissingInputError, RecipeError, StorageError, UsageError

ASPECTS = ("instruction_following", "truthfulness", "honesty", "helpfulness")


def completion(text: str, overall: float, mean: float) -> dict[str, Any]:
    annotations = {aspect: {"Rating": str(int(mean))} for aspect in ASPECTS}
    return {"response": text, "overall_score": overall, "annotations": annotations}


def raw(question: str) -> dict[str, Any]:
    """A record as it was collected: by the overall score b is the best, by the mean of the aspects a."""
    rated = [("a", 7.0, 5), ("b", 10.0, 2), ("c", 3.0, 3), ("d", 5.0, 1)]
    return {
        "instruction": question,
        "completions": [completion(f"{question} {text}", *rates) for text, *rates in rated],
    }


def built(
    root: Path, rows: list[dict[str, Any]], reader: str, wanted: PairSelection | None = None, **more: Any
) -> tuple[PairReport, list[dict[str, Any]]]:
    """The report and the records of the file. more: max_bad, options, fields."""
    max_bad = more.pop("max_bad", 0)
    spec = SourceConfig("data", str(write_rows(root / "rows.jsonl", rows)), reader, **more)
    report = build_preferences([spec], root / "pairs.jsonl", wanted or PairSelection(), max_bad)
    return report, [json.loads(line) for line in (root / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]


QUESTIONS = [f"Question {number}?" for number in range(40)]


@pytest.mark.parametrize(("score", "best", "worst"), [("overall", "b", 3.0), ("mean", "a", 1.0)])
def test_ultrafeedback_gives_the_best_reply_and_one_of_a_lower_rank(
    tmp_path: Path, score: str, best: str, worst: float
) -> None:
    options = {"score": score, "replies": "pair", "seed": 42}
    report, records = built(tmp_path, [raw(question) for question in QUESTIONS], "ultrafeedback", options=options)
    assert report.written == len(records) == len(QUESTIONS)
    assert {record["chosen"][1]["content"][-1] for record in records} == {best}
    assert {record["rejected"][1]["content"][-1] for record in records} == {*"abcd"} - {best}
    top = 10.0 if score == "overall" else 5.0
    assert max(record["margin"] for record in records) == top - worst
    assert all(record["source"] == "data" and len(record) == 4 for record in records)
    assert report.sources["data"].dropped == {"not of the pair": 2 * len(QUESTIONS)}


def test_the_rejected_reply_is_a_formula_of_seed_and_content(tmp_path: Path) -> None:
    rows = [raw(question) for question in QUESTIONS]

    def drawn(seed: int, rows: list[dict[str, Any]]) -> dict[str, str]:
        options = {"replies": "pair", "seed": seed}
        _, records = built(tmp_path, rows, "ultrafeedback", options=options)
        return {record["chosen"][0]["content"]: record["rejected"][1]["content"] for record in records}

    first = drawn(42, rows)
    assert drawn(42, rows[::-1]) == first
    assert drawn(42, rows[10:20]) == {question: first[question] for question in QUESTIONS[10:20]}
    assert 0 < sum(drawn(43, rows)[question] != first[question] for question in QUESTIONS) < len(QUESTIONS)


def test_only_the_prompts_of_a_cleaned_set_are_kept(tmp_path: Path) -> None:
    """The binarized form with its scores, and a cleaned set whose prompts have another form."""
    sides = [(chat(question, "good"), chat(question, "bad")) for question in QUESTIONS]
    binarized = [
        {"prompt": chosen[0]["content"], "chosen": chosen, "rejected": worse, "score_chosen": 8, "score_rejected": 6.5}
        for chosen, worse in sides
    ]
    cleaned = [{"instruction": f" {question}\n", "completions": []} for question in QUESTIONS[:30]]
    listed = prompt_keys([str(write_rows(tmp_path / "cleaned.jsonl", cleaned))])
    report, records = built(tmp_path, binarized, "preference", PairSelection(only=listed))
    assert [record["chosen"][0]["content"] for record in records] == QUESTIONS[:30]
    assert {record["margin"] for record in records} == {1.5}
    counts = report.sources["data"]
    assert (counts.records, counts.used, counts.rejected) == (40, 30, {"prompt is not in the list": 10})
    report, records = built(tmp_path, binarized, "preference", PairSelection(without=listed))
    assert [record["chosen"][0]["content"] for record in records] == QUESTIONS[30:]
    assert report.sources["data"].rejected == {"prompt is in the list": 30}


def test_columns_with_other_names_hold_the_scores(tmp_path: Path) -> None:
    row = {"source": "evol", "prompt": "Q", "chosen": chat("Q", "good"), "rejected": chat("Q", "bad")}
    row |= {"chosen-rating": 4.75, "rejected-rating": 4.25}
    fields = {"score_chosen": "chosen-rating", "score_rejected": "rejected-rating"}
    _, records = built(tmp_path, [row], "preference", fields=fields)
    assert records == [{"chosen": row["chosen"], "rejected": row["rejected"], "source": "data", "margin": 0.5}]


def test_rows_are_chosen_by_their_columns(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Q{number}", "chosen": "a", "rejected": "b", "kind": kind, "meta": {"turn": number}}
        for number, kind in enumerate(("evol", "flan", "truth", "evol"))
    ]

    def kept(**selection: Any) -> list[str]:
        report, records = built(tmp_path, rows, "preference-text", PairSelection(**selection))
        counts = report.sources["data"]
        assert counts.records == 4 == counts.used + counts.rejected.total()
        return [record["chosen"][0]["content"] for record in records]

    assert kept(where={"kind": frozenset({"evol"})}) == ["Q0", "Q3"]
    assert kept(where={"kind": frozenset({"evol", "flan"}), "meta.turn": frozenset({"1", "3"})}) == ["Q1", "Q3"]
    assert kept(where_not={"kind": frozenset({"truth"})}) == ["Q0", "Q1", "Q3"]


def test_texts_are_stripped_and_what_is_empty_then_goes(tmp_path: Path) -> None:
    rows = [
        {"chosen": chat(" Q ", "good\n"), "rejected": chat(" Q ", "bad")},
        {"chosen": [{"role": "system", "content": " "}, *chat("Q", "1")], "rejected": chat("Q", "2")},
        {"chosen": chat("Q", "same "), "rejected": chat("Q", "same")},
        {"chosen": chat("Q", " "), "rejected": chat("Q", "x")},
    ]
    report, records = built(tmp_path, rows, "preference", max_bad=1)
    assert [(record["chosen"], record["rejected"][-1]["content"]) for record in records] == [
        (chat("Q", "good"), "bad"),
        (chat("Q", "1"), "2"),
    ]
    counts = report.sources["data"]
    assert (counts.bad, counts.rejected) == (1, {"equal replies": 1})  # without its reply a side ends with the user
    _, kept = built(tmp_path, rows[:1], "preference", PairSelection(clean=False))
    assert kept[0]["chosen"] == chat(" Q ", "good\n")


def test_readers_without_a_switch_for_it_are_cleaned_too(tmp_path: Path) -> None:
    rows = [
        {"prompt": " Q", "chosen": "good ", "rejected": " bad"},
        {"prompt": "Q", "chosen": "same ", "rejected": "same"},
        {"prompt": "Q", "chosen": "", "rejected": "x"},
    ]
    report, records = built(tmp_path, rows, "preference-text")
    assert [record["chosen"] for record in records] == [chat("Q", "good")]
    assert report.sources["data"].rejected == {"equal replies": 1, "empty reply": 1}


likely = st.sampled_from(["Q", " Q", "a", "b", "", " ", None, 3])


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.fixed_dictionaries({"prompt": likely, "chosen": likely, "rejected": likely}), min_size=1, max_size=8),
    st.booleans(),
    st.none() | st.integers(1, 3),
)
def test_records_in_are_used_rejected_or_bad(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], shuffle: bool, limit: int | None
) -> None:
    root = tmp_path_factory.mktemp("counts")
    wanted = PairSelection(shuffle=1 if shuffle else None, limit=limit)
    try:
        report, records = built(root, rows, "preference-text", wanted, max_bad=99)
    except MissingInputError:
        assert sorted(path.name for path in root.iterdir()) == ["rows.jsonl"]
        return
    counts = report.sources["data"]
    assert counts.records == len(rows) == counts.used + counts.rejected.total() + counts.bad
    assert report.written == len(records) == min(counts.pairs, limit or counts.pairs)
    assert report.over_limit == counts.pairs - report.written
    assert all(record["chosen"] != record["rejected"] for record in records)


def test_a_shuffle_and_its_limit_do_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = [{"prompt": question, "chosen": "a", "rejected": "b"} for question in QUESTIONS]

    def order(rows: list[dict[str, Any]], **selection: Any) -> list[str]:
        _, records = built(tmp_path, rows, "preference-text", PairSelection(**selection))
        return [record["chosen"][0]["content"] for record in records]

    shuffled = order(rows, shuffle=42)
    assert sorted(shuffled) == sorted(QUESTIONS)
    assert shuffled != QUESTIONS
    assert order(rows[::-1], shuffle=42) == shuffled
    assert order(rows[::-1], shuffle=42, limit=7) == shuffled[:7]
    assert order(rows, shuffle=43) != shuffled
    assert order(rows) == QUESTIONS
    assert order(rows, limit=7) == QUESTIONS[:7]


def test_several_sources_follow_one_another_under_their_names(tmp_path: Path) -> None:
    one = write_rows(tmp_path / "one.jsonl", [{"prompt": "Q1", "chosen": "a", "rejected": "b"}])
    two = write_rows(
        tmp_path / "two.jsonl",
        [{"chosen": "\n\nHuman: Q2\n\nAssistant: a", "rejected": "\n\nHuman: Q2\n\nAssistant: b"}],
    )
    specs = [SourceConfig("one", str(one), "preference-text"), SourceConfig("two", str(two), "hh")]
    report = build_preferences(specs, tmp_path / "out" / "pairs.jsonl", PairSelection())
    lines = (tmp_path / "out" / "pairs.jsonl").read_text().splitlines()
    assert [json.loads(line)["source"] for line in lines] == ["one", "two"]
    assert set(report.as_json()["sources"]) == {"one", "two"}


def test_rows_of_one_record_are_grouped(tmp_path: Path) -> None:
    def rated(prompt: str, text: str, number: int) -> dict[str, Any]:
        return {
            "prompt": prompt,
            "response": text,
            **dict.fromkeys(("helpfulness", "correctness", "coherence", "complexity"), number),
        }

    rows = [rated("Q", "worst", 0), rated("Other", "alone", 4), rated("Q", "best", 4), rated("Q", "fair", 2)]
    report, records = built(tmp_path, rows, "helpsteer")
    assert [(record["chosen"][1]["content"], record["rejected"][1]["content"]) for record in records] == [
        ("best", "fair"),
        ("best", "worst"),
        ("fair", "worst"),
    ]
    counts = report.sources["data"]
    assert (counts.records, counts.used, counts.pairs, counts.rejected) == (2, 1, 3, {"fewer than two replies": 1})


ROW = {"prompt": "Q", "chosen": "a", "rejected": "b"}


def test_bad_rows_beyond_what_is_allowed_stop_everything(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [ROW, {**ROW, "chosen": 5}, {**ROW, "rejected": None}]
    with pytest.raises(DataError) as caught:
        built(tmp_path, rows, "preference-text", max_bad=1)
    text = str(caught.value)
    assert "2 records cannot be used, and nothing was stored" in text
    assert "rows.jsonl:2: field 'chosen' is a number, not text" in text
    assert "rows.jsonl:3: field 'rejected' is null, not text" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]
    report, _ = built(tmp_path, rows, "preference-text", max_bad=2)
    assert report.sources["data"].bad == 2


def test_an_older_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text("old\n")
    with pytest.raises(DataError):
        built(tmp_path, [ROW, {**ROW, "chosen": 5}], "preference-text")
    assert (tmp_path / "pairs.jsonl").read_text() == "old\n"
    built(tmp_path, [ROW], "preference-text")
    assert (tmp_path / "pairs.jsonl").read_text() != "old\n"


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*words: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(preferences, "_write", full)
    with pytest.raises(StorageError, match="cannot write: No space left on device"):
        built(tmp_path, [ROW], "preference-text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]


@pytest.mark.parametrize(
    ("reader", "options", "says"),
    [
        ("dolly", {}, "reader dolly gives demonstrations instead of pairs; `tunesmith schema` lists the readers"),
        ("prompts", {}, "reader prompts gives prompts instead of pairs"),
        (
            "preference-text",
            {"replies": "best"},
            "gives demonstrations with these options instead of pairs; change its options",
        ),
        ("oasst", {"keep": "threads"}, "reader oasst gives demonstrations with these options instead of pairs"),
    ],
)
def test_a_reader_without_rankings_is_refused(tmp_path: Path, reader: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        built(tmp_path, [ROW], reader, options=options)
    assert says in str(caught.value)


def test_a_source_is_not_the_output(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "pairs.jsonl", [ROW])
    with pytest.raises(UsageError, match="this file is read and would be overwritten"):
        build_preferences([SourceConfig("x", str(tmp_path), "preference-text")], path, PairSelection())
    assert json.loads(path.read_text()) == ROW


def test_a_wrong_option_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    spec = SourceConfig("x", str(tmp_path / "nowhere.jsonl"), "nectar", options={"replies": "some"})
    with pytest.raises(RecipeError, match=r"options\.replies of reader nectar is 'some'"):
        build_preferences([spec], tmp_path / "pairs.jsonl", PairSelection())


def test_counts_that_do_not_add_up_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(self: preferences.PairCounts, reason: str) -> None:
        self.records += 1

    monkeypatch.setattr(preferences.PairCounts, "reject", forgetful)
    with pytest.raises(InternalError, match="do not add up"):
        built(tmp_path, [ROW, {**ROW, "chosen": "b"}], "preference-text")


def test_where_nothing_is_left_the_reasons_are_said(tmp_path: Path) -> None:
    with pytest.raises(
        MissingInputError, match=r"there are no pairs in 2 records \(equal replies: 2\); check the reader"
    ):
        built(tmp_path, [{**ROW, "chosen": "b"}] * 2, "preference-text")


REAL: dict[str, tuple[str, dict[str, str], dict[str, Any], dict[str, int], int]] = {
    "preference/ultrafeedback_binarized-400.jsonl": (
        "preference-text",
        {name: f"metadata.{name}" for name in ("score_chosen", "score_rejected")},
        {"ties": "drop"},
        {"equal scores": 42, "equal replies": 1},
        357,
    ),
    "preference/hh_harmless-300.jsonl": ("hh", {}, {}, {"one transcript begins the other": 1}, 299),
    "preference/dpo_en_sharegpt-300.json": ("preference-sharegpt", {}, {}, {}, 300),
    "oasst/en_100_tree.jsonl.gz": ("oasst", {}, {}, {"root synthetic": 5}, 732),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_become_pairs_that_are_read_back(
    name: str, tmp_path: Path, real_data: Callable[[str], Path]
) -> None:
    reader, fields, options, rejected, pairs = REAL[name]
    spec = SourceConfig("real", str(real_data(name)), reader, fields=fields, options=options)
    report = build_preferences([spec], tmp_path / "pairs.jsonl", PairSelection(shuffle=42))
    assert (report.written, report.sources["real"].rejected) == (pairs, Counter(rejected))
    again = build_preferences(
        [SourceConfig("again", str(tmp_path / "pairs.jsonl"), "preference")], tmp_path / "again.jsonl", PairSelection()
    )
    assert (again.written, again.sources["again"].rejected, again.sources["again"].bad) == (pairs, {}, 0)
    first, second = ((tmp_path / f"{stem}.jsonl").read_text() for stem in ("pairs", "again"))
    assert second.replace('"source": "again"', '"source": "real"') == first

"""Rows of benchmark files, as the hub or their publishers have them, and rows that are neither."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmark.small_tasks import write_lines
from tunesmith.benchmark.data_files import convert_row, find_data_file, read_rows
from tunesmith.benchmark.suites import DOLLY, KNOWN_TASKS, SUBJECT, known_task
from tunesmith.errors import DataError

NESTED = {
    "id": "x",
    "question": {"stem": "Which?", "choices": [{"text": "one", "label": "A"}, {"text": "two", "label": "B"}]},
    "answerKey": "B",
}
FLAT = {"text": ["one", "two"], "label": ["A", "B"]}
BOOLQ = {"passage": "p", "question": "q"}
PIQA = {"goal": "g", "sol1": "a", "sol2": "b"}
HELLASWAG = {"activity_label": "a", "ctx_a": "c", "ctx_b": "", "endings": ["a", "b"], "label": "1"}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.text("AB_1", max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["text", "label", "stem"]), inner),
    max_leaves=8,
)


def targets(kind: str, *labels: Any) -> dict[str, Any]:
    return {"question": "q", f"{kind}_targets": {"choices": ["a", "b"], "labels": list(labels)}}


@pytest.mark.parametrize(
    ("task", "row", "expected"),
    [
        ("arc_easy", NESTED, {"question": "Which?", "choices": FLAT, "answerKey": "B"}),
        ("openbookqa", NESTED, {"question_stem": "Which?", "choices": FLAT, "answerKey": "B"}),
        ("arc_easy", {**NESTED, "answerKey": " B "}, {"question": "Which?", "choices": FLAT, "answerKey": "B"}),
        ("boolq", {**BOOLQ, "answer": True, "title": "t"}, {**BOOLQ, "label": 1}),
        ("boolq", {**BOOLQ, "label": False}, {**BOOLQ, "label": 0}),
        ("boolq", {**BOOLQ, "label": "1"}, {**BOOLQ, "label": 1}),
        (
            "winogrande",
            {"sentence": "a _", "option1": "b", "option2": "", "answer": "1"},
            {"sentence": "a _", "option1": "b", "option2": "", "answer": "1"},
        ),
        ("hellaswag", HELLASWAG, {**HELLASWAG, "label": 1}),
        ("piqa", {**PIQA, "label": "0"}, {**PIQA, "label": 0}),
        (
            "truthfulqa_mc1",
            {"question": "q", "mc1_targets": {"a": 1, "b": 0}},
            {"question": "q", "mc1_targets": {"choices": ["a", "b"], "labels": [1, 0]}},
        ),
        ("truthfulqa_mc2", targets("mc2", 0, 1), targets("mc2", 0, 1)),
    ],
)
def test_the_layout_of_the_publisher_becomes_that_of_the_hub(
    task: str, row: dict[str, Any], expected: dict[str, Any]
) -> None:
    columns = KNOWN_TASKS[task].columns
    assert convert_row(row, columns, "here") == expected
    assert convert_row(expected, columns, "here") == expected


@pytest.mark.parametrize(
    ("task", "row", "fault"),
    [
        ("arc_easy", {"question": "q"}, "no 'choices' and no 'answerKey'"),
        ("arc_easy", {**NESTED, "answerKey": "E"}, "has no label that is the answer"),
        ("piqa", {**PIQA, "label": 2}, "not a number from 0 to 1"),
        ("piqa", {**PIQA, "label": "01"}, "not a number from 0 to 1"),
        ("piqa", {**PIQA, "label": "1" * 5000}, "not a number from 0 to 1"),
        ("winogrande", {"sentence": "none", "option1": "a", "option2": "b", "answer": "1"}, "has no '_'"),
        ("winogrande", {"sentence": "a _", "option1": "a", "option2": "b", "answer": ""}, "not '1' or '2'"),
        ("boolq", {**BOOLQ, "label": True, "passage": None}, "is not a text"),
        ("piqa", {**PIQA, "sol1": "", "label": 0}, "'sol1' is empty"),
        ("arc_easy", {"question": "q", "choices": {**FLAT, "text": ["one", ""]}, "answerKey": "A"}, "an empty text"),
        ("hellaswag", {**HELLASWAG, "endings": ["a", " "]}, "has an empty text"),
        ("winogrande", {"sentence": " _ is", "option1": "a", "option2": "", "answer": "1"}, "needs two options with"),
        ("truthfulqa_mc2", {"question": "q", "mc2_targets": {"a": 1, "": 0}}, "has an empty text"),
        ("truthfulqa_mc1", targets("mc1", "1", "0"), "a label that is not 0 or 1"),
        ("truthfulqa_mc1", targets("mc1", True, False), "a label that is not 0 or 1"),
        ("truthfulqa_mc1", targets("mc1", 0, 1), "has to begin with its only right choice"),
        ("truthfulqa_mc1", targets("mc1", 1, 1), "has to begin with its only right choice"),
        ("truthfulqa_mc2", targets("mc2", 0, 0), "has to have right and wrong choices"),
        ("truthfulqa_mc2", targets("mc2", 1, 1), "has to have right and wrong choices"),
        ("truthfulqa_mc2", targets("mc2", 1, 2), "a label that is not 0 or 1"),
    ],
)
def test_a_row_that_cannot_be_used_is_an_error_with_its_line(
    task: str, row: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / f"{task}.jsonl", [row])
    with pytest.raises(DataError, match=fault) as error:
        list(read_rows(path, KNOWN_TASKS[task].columns))
    assert error.value.where == f"{path}:1"


@pytest.mark.parametrize("line", [b'{"goal": "\\ud800"}', b'{"\\uDFFF": {"x": 1}}', b'{"a": [["x\\udc00\\ud800"]]}'])
def test_half_of_a_surrogate_pair_is_an_error_with_its_line(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"goal": "\\ud83d\\ude00"}\n' + line + b"\n")
    with pytest.raises(DataError, match="half of a surrogate pair") as error:
        list(read_rows(path, ()))
    assert error.value.where == f"{path}:2"


@given(
    task=st.sampled_from([*KNOWN_TASKS, "mmlu_anatomy"]),
    row=st.dictionaries(
        st.sampled_from([*{name for task in KNOWN_TASKS.values() for name in task.columns}, *SUBJECT.columns]), VALUES
    ),
)
def test_any_row_gives_the_columns_or_a_data_error(task: str, row: dict[str, Any]) -> None:
    known = known_task(task)
    assert known is not None
    try:
        found = convert_row(row, known.columns, "here")
    except DataError:
        return
    assert set(found) == set(known.columns)
    json.dumps(found)


@given(content=st.binary(max_size=60))
def test_any_bytes_give_rows_or_a_data_error(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("rows") / "x.jsonl"
    path.write_bytes(content)
    with suppress(DataError):
        assert all(isinstance(row, dict) for row in read_rows(path, ()))


def test_a_file_is_found_by_task_and_split_before_a_file_without_split(tmp_path: Path) -> None:
    plain = write_lines(tmp_path / "piqa.jsonl", [{}])
    assert find_data_file(tmp_path, ["piqa"], "validation") == plain
    exact = write_lines(tmp_path / "piqa.validation.jsonl", [{}])
    assert find_data_file(tmp_path, ["piqa"], "validation") == exact
    assert find_data_file(tmp_path, ["boolq"], "validation") is None


def test_the_rows_of_one_subject_are_taken_from_the_file_of_all(tmp_path: Path) -> None:
    rows = [{"question": "q", "choices": list("abcd"), "answer": n, "subject": s} for n, s in enumerate(("law", "art"))]
    path = write_lines(tmp_path / "mmlu.test.jsonl", rows)
    assert [row["answer"] for row in read_rows(path, SUBJECT.columns, "art")] == [1]


def test_the_published_files_can_be_read(real_data: Any) -> None:
    names = {"arc_easy.test": "arc_easy", "winogrande_xl.validation": "winogrande", "piqa.validation": "piqa"}
    sizes = {}
    for name, task in names.items():
        sizes[task] = len(list(read_rows(real_data(f"zeroshot/{name}.jsonl"), KNOWN_TASKS[task].columns)))
    assert sizes == {"arc_easy": 2376, "winogrande": 1267, "piqa": 1838}
    assert set(sizes) <= set(DOLLY)

"""The table of the card, its order and numbers, and differences between models."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from tunesmith.benchmark.differences import compare_scores, mcnemar_p_value
from tunesmith.benchmark.language_model import TaskWork
from tunesmith.benchmark.published import ITEMS, PUBLISHED
from tunesmith.benchmark.results import ItemResult, ModelScores, TaskScore, geometric_mean
from tunesmith.benchmark.suites import DOLLY, KNOWN_TASKS
from tunesmith.benchmark.tables import (
    SHOWN,
    BenchmarkResults,
    CardRow,
    as_json,
    csv_table,
    markdown,
    six_decimals,
    sort_rows,
    terminal_lines,
)
from tunesmith.benchmark.tasks import TaskData
from tunesmith.errors import InternalError
from tunesmith.text.visible import visible

Golden = Callable[[str], dict[str, Any]]


def task_score(task: str, values: Any, split: str = "test", truncated: int = 0) -> TaskScore:
    items = tuple(ItemResult(n, f"{task}{n}", float(v), {"acc": float(v)}, (), 0) for n, v in enumerate(values))
    data, work = TaskData(split, "test", {"a.jsonl": "0" * 64}), TaskWork(len(items), truncated, 10, 20)
    return TaskScore(task, "1.0", "acc", float(np.mean(values)), {}, items, data, 0, work)


def model_scores(label: str, tasks: dict[str, Any], **settings: Any) -> ModelScores:
    scores = tuple(task_score(name, values, **settings) for name, values in tasks.items())
    return ModelScores(label, label, "plain", "tree", "float32", "f" * 64, scores)


def results_of(*models: ModelScores, **settings: Any) -> BenchmarkResults:
    found = {(models[0].label, other.label): compare_scores(models[0], other) for other in models[1:]}
    values = {"published": {}, "limit": None, **settings}
    return BenchmarkResults(models, found, versions={"lm_eval": "0"}, **values)


def test_the_golden_rows_are_equal(golden: Golden) -> None:
    content = golden("benchmark_table")
    about = content["about"]
    assert tuple(about["columns"]) == DOLLY
    assert about["metric_of_column"] == {name: KNOWN_TASKS[name].metric for name in DOLLY}
    assert about["number_of_questions"] == ITEMS
    kinds = {case["kind"]: 0 for case in content["cases"]}
    for case in content["cases"]:
        given, expected = case["input"], case["expected"]
        kinds[case["kind"]] += 1
        if case["kind"] == "row":
            assert PUBLISHED[given["model"]] == given["values"]
            mean = geometric_mean([given["values"][name] for name in DOLLY])
            assert mean == pytest.approx(expected["gmean"], abs=1e-12)
            assert float(six_decimals(mean)) == pytest.approx(expected["gmean_printed"], abs=1e-6)
            counts = {name: round(value * ITEMS[name]) for name, value in given["values"].items()}
            assert counts == expected["correct_counts"]
        elif case["kind"] == "table":
            rows = [CardRow(row["model"], tuple(row["values"][name] for name in DOLLY)) for row in given["rows"]]
            assert [row.model for row in sort_rows(rows)] == expected["order"]
        else:
            values = {name: count / ITEMS[name] for name, count in given["correct_counts"].items()}
            assert {name: float(six_decimals(value)) for name, value in values.items()} == expected["values_6_digits"]
            assert geometric_mean([values[name] for name in DOLLY]) == pytest.approx(expected["gmean"], abs=1e-12)
    assert sum(kinds.values()) == 9


def test_the_published_rows_are_nine_in_ascending_order() -> None:
    rows = [CardRow(name, tuple(row[task] for task in DOLLY)) for name, row in PUBLISHED.items()]
    assert len(rows) == 9
    assert sort_rows(rows) == rows
    for row in PUBLISHED.values():
        for task, value in row.items():
            assert abs(round(value * ITEMS[task]) / ITEMS[task] - value) < 1e-6  # a number of right answers


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (7, 2), (2, 7), (30, 30), (400, 330)])
def test_the_exact_test_is_that_of_scipy(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar_p_value(gained, lost) == pytest.approx(expected)


def test_equal_models_are_rarely_different_and_a_large_difference_is_found() -> None:
    draw = np.random.default_rng(5)
    false, found = 0, 0
    for _ in range(200):
        tasks = {name: draw.random(250) < 0.5 for name in ("piqa", "boolq")}
        same = {name: np.where(draw.random(250) < 0.3, draw.random(250) < 0.5, v) for name, v in tasks.items()}
        better = {name: v | (draw.random(250) < 0.2) for name, v in tasks.items()}
        first = model_scores("a", tasks)
        false += any(each.is_shown for each in compare_scores(first, model_scores("b", same)))
        found += all(each.is_shown for each in compare_scores(first, model_scores("c", better)))
    assert false <= 12
    assert found >= 180


def test_a_difference_is_shown_only_if_the_exact_test_and_the_interval_agree() -> None:
    first = model_scores("a", {f"task_{n}": [0] * 100 for n in range(57)})
    second = model_scores("b", {f"task_{n}": [1] * 12 + [0] * 88 for n in range(57)})
    differences = compare_scores(first, second)
    level = 0.05 / 57
    assert all(each.p_value is not None and each.p_value < level for each in differences)
    assert {each.is_shown for each in differences} == {not differences[0].low <= 0}
    assert not any(each.is_shown for each in differences)
    assert SHOWN.endswith("one is shown only if McNemar's exact test shows it too")


def test_different_items_are_not_compared() -> None:
    first, second = model_scores("a", {"piqa": [1, 0]}), model_scores("b", {"piqa": [1, 0, 1]})
    with pytest.raises(InternalError, match="different items"):
        compare_scores(first, second)


def test_items_that_are_right_in_part_have_the_interval_of_a_mean() -> None:
    score = task_score("truthfulqa_mc2", [0.2, 0.4, 0.6])
    assert score.rate is None
    low, high = score.interval()
    assert (low + high) / 2 == pytest.approx(0.4)
    assert high - low == pytest.approx(2 * 1.959964 * 0.2 / math.sqrt(3))


def full(label: str, seed: int, items: int = 40, **settings: Any) -> ModelScores:
    draw = np.random.default_rng(seed)
    return model_scores(label, {name: draw.random(items) < 0.5 for name in DOLLY}, **settings)


def test_no_line_is_wider_than_80_columns_and_every_model_is_in_it() -> None:
    long = "a-model-with-a-name-that-is-longer-than-the-column-of-names"
    results = results_of(full("base", 1, split="validation", truncated=3), full(long, 2), published=PUBLISHED)
    lines = list(terminal_lines(results))
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "(gpt-neox-20b)" in text
    assert "no difference shown" in text
    assert "the validation split was used" in text
    assert "3 of 40 items are too long" in text
    assert "Not the items of the card: openbookqa has 40 of 500" in " ".join(text.split())


def test_a_limit_is_said_to_be_not_comparable() -> None:
    lines = " ".join(terminal_lines(results_of(full("base", 1), limit=40)))
    assert "not comparable" in lines


def test_markdown_csv_and_json_have_the_same_numbers() -> None:
    results = results_of(full("=base|x", 1), full("other", 2), published=PUBLISHED)
    content = json.loads(json.dumps(as_json(results), allow_nan=False))
    rows = list(csv.DictReader(io.StringIO(csv_table(results))))
    assert len(rows) == 14
    for row in rows:
        model = content["models"][0 if row["model"] == "'=base|x" else 1]
        task = model["tasks"][row["task"]]
        assert float(row["score"]) == task["score"] == int(row["correct"]) / task["items"]
        assert task["tokens"] == {"computed": 10, "naive": 20}
    table = markdown(results)
    assert "=base\\|x" in table
    assert six_decimals(content["models"][1]["gmean"]) in table
    assert len({line.count(" | ") for line in table.splitlines()[:12]} - {0}) == 1


@pytest.mark.parametrize("name", ["=1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_a_name_is_no_formula_in_a_spreadsheet(name: str) -> None:
    (row, *_) = csv.DictReader(io.StringIO(csv_table(results_of(full(name, 1))), newline=""))
    assert row["model"] == f"'{visible(name)}"


def test_published_rows_are_shown_for_the_tasks_that_were_evaluated() -> None:
    some = {"piqa": [1, 0, 1, 1], "arc_easy": [1, 0]}
    results = results_of(model_scores("mine", some), published=PUBLISHED)
    assert results.card_tasks() == ("arc_easy", "piqa")
    lines = list(terminal_lines(results))
    table = lines[: lines.index("")]
    assert [line.split() for line in table[:2]] == [["arc_"], ["model", "easy", "piqa"]]
    assert ["mine", "0.500", "0.750"] in [line.split() for line in table]
    assert ["(gpt-neox-20b)", "0.684", "0.784"] in [line.split() for line in table]
    assert len(table) == 2 + 1 + 9 + 1
    missing = "openbookqa, winogrande, hellaswag, arc_challenge, boolq"
    assert f"Without {missing} there is no geometric mean as in the card." in results.remarks()
    assert "Not the items of the card: arc_easy has 2 of 2,376, piqa has 4 of 1,838." in results.remarks()
    written = markdown(results).splitlines()
    assert written[0] == "| model | arc_easy | piqa |"
    assert "| EleutherAI/gpt-neox-20b (published) | 0.683923 | 0.784004 |" in written
    assert "gmean" not in markdown(results)
    assert results_of(model_scores("mine", some)).card_rows() == []


def test_without_a_task_of_the_card_no_row_of_it_is_shown() -> None:
    results = results_of(model_scores("mine", {"gsm8k": [1, 0]}), published=PUBLISHED)
    assert results.card_rows() == []
    assert f"Without {', '.join(DOLLY)} there is no geometric mean as in the card." in results.remarks()


def test_markdown_and_csv_name_versions_and_digests_of_the_data() -> None:
    model = model_scores("m", {"piqa": [1, 0]})
    other = model_scores("m", {"piqa": [0, 1, 1]})
    digest = model.tasks[0].items_digest
    assert len(digest) == 64
    assert digest == model_scores("n", {"piqa": [0, 1]}).tasks[0].items_digest != other.tasks[0].items_digest
    hub = TaskData("validation", "validation", {}, "c" * 40)
    results = results_of(replace(model, tasks=(*model.tasks, replace(other.tasks[0], task="boolq", data=hub))))
    lines = markdown(results).splitlines()
    assert f"| piqa | 1.0 | a.jsonl | {'0' * 64} |" in lines
    assert f"| piqa | 1.0 | the 2 items | {digest} |" in lines
    assert f"| boolq | 1.0 | the 3 items, revision {'c' * 40} | {other.tasks[0].items_digest} |" in lines
    first, second = csv.DictReader(io.StringIO(csv_table(results)))
    assert (first["version"], first["lm_eval"], first["items_sha256"], first["revision"]) == ("1.0", "0", digest, "")
    assert second["revision"] == "c" * 40
    tasks = as_json(results)["models"][0]["tasks"]
    assert (tasks["piqa"]["items_sha256"], tasks["piqa"]["revision"]) == (digest, None)
    assert tasks["boolq"]["revision"] == "c" * 40


def test_mmlu_as_a_whole_is_compared_on_all_items_of_its_subjects() -> None:
    draw = np.random.default_rng(3)
    before = {f"mmlu_{name}": draw.random(60) < 0.3 for name in ("anatomy", "virology", "prehistory")}
    after = {name: values | (draw.random(60) < 0.2) for name, values in before.items()}
    first, second = model_scores("a", before | {"piqa": [1] * 50}), model_scores("b", after | {"piqa": [1] * 50})
    found = compare_scores(first, second)
    assert [each.task for each in found] == [*before, "piqa", "mmlu"]
    whole = found[-1]
    values = [np.concatenate(list(each.values())) for each in (before, after)]
    assert (whole.items, whole.mean) == (180, pytest.approx(values[1].mean() - values[0].mean()))
    gained, lost = int((values[1] & ~values[0]).sum()), int((values[0] & ~values[1]).sum())
    assert whole.p_value == pytest.approx(mcnemar_p_value(gained, lost))
    assert whole.is_shown
    assert [each.task for each in compare_scores(*(model_scores(n, {"mmlu_anatomy": [1] * 50}) for n in "ab"))] == [
        "mmlu_anatomy"
    ]
    lines = "\n".join(terminal_lines(results_of(first, second)))
    assert "\n  mmlu                " in lines


def test_work_that_is_not_counted_in_tokens_has_none() -> None:
    score = replace(task_score("piqa", [1, 0]), work=TaskWork(2, 1))
    results = results_of(replace(model_scores("m", {}), tasks=(score,)))
    task = as_json(results)["models"][0]["tasks"]["piqa"]
    assert (task["truncated"], task["tokens"]) == (1, None)


def test_the_subjects_of_mmlu_are_added_up_item_by_item() -> None:
    results = results_of(model_scores("a", {"mmlu_anatomy": [1, 1, 0], "mmlu_virology": [0]}))
    assert as_json(results)["models"][0]["mmlu"] == {"correct": 2, "items": 4, "score": 0.5}
    (line,) = (line for line in terminal_lines(results) if "all subjects" in line)
    other = next(line for line in terminal_lines(results) if "anatomy" in line)
    assert line.index("0.500") == other.index("0.667")

"""Missing files of tasks are found before the tasks of the harness are imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmark.small_tasks import write_lines, write_tasks
from tunesmith.benchmark.suites import DOLLY
from tunesmith.benchmark.task_files import check_files, expand_suites
from tunesmith.errors import MissingInputError


def test_files_that_are_there_pass_and_unknown_tasks_and_the_hub_are_left_to_the_harness(tmp_path: Path) -> None:
    write_tasks(tmp_path)
    check_files([*DOLLY, "sciq"], str(tmp_path))
    check_files(["mmlu"], "hub")


def test_a_suite_whose_files_are_all_there_is_named_by_its_name(tmp_path: Path) -> None:
    write_tasks(tmp_path)
    write_lines(tmp_path / "mmlu.test.jsonl", [{}])
    with pytest.raises(MissingInputError) as error:
        check_files(["piqa", "mmlu", "gsm8k", "dolly"], str(tmp_path))
    gsm8k, others = str(error.value).split("\n")
    assert gsm8k.startswith(f"{tmp_path}/gsm8k.test.jsonl: this file is missing")
    assert others == "or evaluate the tasks whose files are there: --tasks mmlu,dolly"
    with pytest.raises(MissingInputError, match=r"download it: .*$") as error:
        check_files(["gsm8k"], str(tmp_path))
    assert "\n" not in str(error.value)


def test_the_file_of_the_examples_is_needed_where_prompts_have_any(tmp_path: Path) -> None:
    write_tasks(tmp_path)
    check_files(["arc_easy"], str(tmp_path), 0)
    with pytest.raises(MissingInputError, match=r"arc_easy\.train\.jsonl: this file is missing"):
        check_files(["arc_easy"], str(tmp_path), 2)


def test_mmlu_is_the_tasks_of_its_subjects() -> None:
    assert len(expand_suites(["mmlu"])) == 57

"""Tasks of lm-evaluation-harness with local data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import Entry, Kind

from tests.benchmark.small_tasks import write_lines, write_tasks
from tunesmith.benchmark import task_files, tasks
from tunesmith.benchmark.suites import DOLLY
from tunesmith.benchmark.task_files import expand_suites
from tunesmith.benchmark.tasks import TaskData, check_examples, check_packages, find_definitions, prepare_tasks
from tunesmith.errors import DataError, MissingInputError, UsageError


def test_the_suites_are_made_of_tasks() -> None:
    assert expand_suites(["dolly", "piqa", "gsm8k"]) == [*DOLLY, "gsm8k"]
    assert len(expand_suites(["mmlu"])) == 57
    with pytest.raises(UsageError, match="no task is named"):
        expand_suites([])


def test_every_definition_is_the_one_of_the_harness() -> None:
    for definition in find_definitions([*DOLLY, "mmlu_anatomy", "gsm8k", "ifeval", "truthfulqa_mc2"]):
        assert definition.values["task"] == definition.name
        assert definition.path.is_relative_to(task_files.ROOT)


def test_the_tasks_of_the_card_have_their_prompts_versions_and_splits(tmp_path: Path) -> None:
    with prepare_tasks(DOLLY, str(write_tasks(tmp_path))) as prepared:
        splits = {name: data.split for name, data in prepared.data.items()}
        first = prepared.tasks["arc_easy"].eval_docs[0]
        text = prepared.tasks["arc_easy"].doc_to_text(first)
        versions = {name: task.VERSION for name, task in prepared.tasks.items()}
        hashes = [next(iter(data.files.values())) for data in prepared.data.values()]
    assert list(splits) == list(DOLLY)
    assert [name for name, split in splits.items() if split == "test"] == ["openbookqa", "arc_easy"]
    assert text == "Question: What is the colour of river 0?\nAnswer:"
    assert versions == dict.fromkeys(DOLLY, 1.0) | {"boolq": 2.0}
    assert all(len(digest) == 64 for digest in hashes)


def test_the_other_split_is_used_where_only_it_is_there(tmp_path: Path) -> None:
    write_tasks(tmp_path)
    (tmp_path / "arc_easy.test.jsonl").rename(tmp_path / "arc_easy.validation.jsonl")
    with prepare_tasks(["arc_easy"], str(tmp_path)) as prepared:
        data = prepared.data["arc_easy"]
    assert (data.split, data.expected) == ("validation", "test")


def test_every_missing_file_is_a_line_with_its_columns_and_the_command_that_downloads_it(tmp_path: Path) -> None:
    write_tasks(tmp_path)
    for name in ("boolq.validation.jsonl", "arc_easy.test.jsonl"):
        (tmp_path / name).unlink()
    with pytest.raises(MissingInputError) as error, prepare_tasks(DOLLY, str(tmp_path)):
        pass
    arc, boolq, others = str(error.value).split("\n")
    assert arc.startswith(f"{tmp_path}/arc_easy.test.jsonl: ")
    assert "question, choices, answerKey" in arc
    assert f"d('allenai/ai2_arc', 'ARC-Easy', split='test').to_json('{tmp_path}/arc_easy.test.jsonl')" in arc
    assert "d('aps/super_glue', 'boolq', split='validation')" in boolq
    there = [name for name in DOLLY if name not in ("boolq", "arc_easy")]
    assert others == f"or evaluate the tasks whose files are there: --tasks {','.join(there)}"


def test_a_directory_that_does_not_exist_and_a_task_that_does_not_exist_are_errors(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such directory"), prepare_tasks(["piqa"], str(tmp_path / "x")):
        pass
    with pytest.raises(UsageError, match=r"there is no task 'piqua' in lm-evaluation-harness; did you mean piqa\?"):
        find_definitions(["piqua"])


def test_examples_come_from_the_split_of_the_task_and_a_fixed_zero_stays(tmp_path: Path) -> None:
    write_tasks(tmp_path)
    with (
        pytest.raises(MissingInputError, match=r"arc_easy\.train\.jsonl"),
        prepare_tasks(["arc_easy"], str(tmp_path), 2),
    ):
        pass
    (tmp_path / "arc_easy.train.jsonl").write_bytes((tmp_path / "arc_easy.test.jsonl").read_bytes())
    write_lines(tmp_path / "truthfulqa_mc1.jsonl", [{"question": "q", "mc1_targets": {"a": 1, "b": 0}}])
    with prepare_tasks(["arc_easy", "truthfulqa_mc1"], str(tmp_path), 2) as prepared:
        shots = [task.get_config("num_fewshot") for task in prepared.tasks.values()]
        assert len(prepared.data["arc_easy"].files) == 2
    assert shots == [2, 0]


@pytest.mark.parametrize(("shots", "own_rows", "fits"), [(5, 6, True), (5, 5, True), (6, 5, False)])
def test_more_examples_than_there_are_rows_are_refused(shots: int, own_rows: int, fits: bool, tmp_path: Path) -> None:
    write_tasks(tmp_path)
    rows = (tmp_path / "piqa.validation.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "piqa.train.jsonl").write_bytes(b"".join((rows * 2)[:own_rows]))
    if fits:
        with prepare_tasks(["piqa"], str(tmp_path), shots) as prepared:
            assert prepared.tasks["piqa"].get_config("num_fewshot") == shots
        return
    match = f"piqa: {shots} examples .* {own_rows} rows"
    with pytest.raises(DataError, match=match) as error, prepare_tasks(["piqa"], str(tmp_path), shots):
        pass
    assert error.value.where == "--shots"


def test_a_row_is_no_example_for_itself() -> None:
    task: Any = SimpleNamespace(get_config=lambda name: 5, fewshot_cfg=SimpleNamespace(split="test"))
    task.config, task.sampler = SimpleNamespace(test_split="test", task="x"), SimpleNamespace(df=[{}] * 5)
    with pytest.raises(DataError, match="x: 5 examples are more than the 5 rows of 'test' allow"):
        check_examples(task)
    task.sampler.df = [{}] * 6
    check_examples(task)


def test_texts_that_look_like_dates_and_numbers_stay_texts(tmp_path: Path) -> None:
    rows = [{"goal": "2020-01-01", "sol1": "2020-01-01T00:00:00", "sol2": "12", "label": 1}] * 2
    write_lines(tmp_path / "piqa.validation.jsonl", rows)
    with prepare_tasks(["piqa"], str(tmp_path)) as prepared:
        assert [dict(doc) for doc in prepared.tasks["piqa"].eval_docs] == rows


def test_rows_of_different_types_are_an_error_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_index(monkeypatch, [Entry("sciq", Kind.TASK, task_files.ROOT / "sciq" / "sciq.yaml")])
    path = write_lines(tmp_path / "sciq.test.jsonl", [{"x": 1}, {"y": "q"}, {"y": ["q"]}])
    match = "rows do not have the same types"
    with pytest.raises(DataError, match=match) as error, prepare_tasks(["sciq"], str(tmp_path)):
        pass
    assert error.value.where == str(path)


def test_a_subject_of_mmlu_is_taken_from_the_file_of_all_subjects(tmp_path: Path) -> None:
    rows = [
        {"question": f"q {subject}", "choices": list("abcd"), "answer": 2, "subject": subject}
        for subject in ("anatomy", "astronomy")
    ]
    write_lines(tmp_path / "mmlu.test.jsonl", rows)
    with prepare_tasks(["mmlu_anatomy"], str(tmp_path)) as prepared:
        assert [doc["question"] for doc in prepared.tasks["mmlu_anatomy"].eval_docs] == ["q anatomy"]
    with (
        pytest.raises(DataError, match="no rows of the subject 'virology'"),
        prepare_tasks(["mmlu_virology"], str(tmp_path)),
    ):
        pass


def test_packages_that_a_task_needs_are_named_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    find = tasks.find_spec
    monkeypatch.setattr(tasks, "find_spec", lambda name: None if name == "langdetect" else find(name) or object())
    with pytest.raises(MissingInputError, match="ifeval needs langdetect; pip install langdetect"):
        check_packages(find_definitions(["ifeval"]))


def set_index(monkeypatch: pytest.MonkeyPatch, entries: Sequence[Entry]) -> None:
    """Let the harness know only these tasks; reading all its files takes seconds."""
    monkeypatch.setattr(TaskManager, "task_index", {each.name: each for each in entries}, raising=False)
    monkeypatch.setattr(TaskManager, "__init__", lambda self: None)


def test_a_group_and_a_tag_of_the_harness_are_refused_with_their_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    stem = task_files.ROOT / "mmlu" / "default" / "_mmlu_stem.yaml"
    some = [Entry(name, Kind.TASK, stem) for name in "abcdefg"]
    tag = Entry("mmlu_stem_tasks", Kind.TAG, None, tags=set("gfedcba"))
    group = Entry("mmlu_stem", Kind.GROUP, stem, {"group": "mmlu_stem", "task": ["mmlu_stem_tasks", {"task": "h"}]})
    itself = Entry("loop", Kind.GROUP, stem, {"group": "loop", "task": "loop"})
    set_index(monkeypatch, [*some, tag, group, itself])
    with pytest.raises(UsageError, match="'mmlu_stem' is a group of 8 tasks") as error:
        find_definitions(["mmlu_stem"])
    assert error.value.advice == "name the tasks: --tasks a,b,c,d,e,f and 2 more"
    with pytest.raises(UsageError, match="'mmlu_stem_tasks' is a group of 7 tasks"):
        find_definitions(["mmlu_stem_tasks"])
    with pytest.raises(UsageError, match="'loop' is a group of 0 tasks"):
        find_definitions(["loop"])


def test_a_task_that_is_a_class_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    path = task_files.ROOT / "squad_completion" / "squad_completion.yaml"
    set_index(monkeypatch, [Entry("squad_completion", Kind.PY_TASK, path)])
    with pytest.raises(UsageError, match="'squad_completion' has no split"):
        find_definitions(["squad_completion"])


def test_only_the_subjects_of_mmlu_itself_have_its_columns_and_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    path = task_files.ROOT / "mmlu_pro" / "mmlu_pro_math.yaml"
    set_index(monkeypatch, [Entry("mmlu_pro_math", Kind.TASK, path)])
    other, subject = find_definitions(["mmlu_pro_math", "mmlu_anatomy"])
    assert (other.known, other.subject) == (None, None)
    assert other.file_names() == ("mmlu_pro_math",)
    assert subject.subject == "anatomy"
    assert subject.file_names() == ("mmlu_anatomy", "anatomy", "mmlu")


def test_data_of_the_hub_name_their_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory takes the place of the cache of ``datasets``, which names it by the commit."""
    rows = [{"goal": "g", "sol1": "a", "sol2": "b", "label": 1}] * 2
    commits = ["0123456789" * 4, "no-commit"]

    def load(path: str, name: str | None = None, **more: Any) -> DatasetDict:
        folder = tmp_path / "ybisk___piqa" / "default" / "0.0.0" / commits.pop()
        folder.mkdir(parents=True, exist_ok=True)
        target = str(folder / "piqa-validation.arrow")
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(target, "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
        return DatasetDict({split: Dataset.from_file(target) for split in ("train", "validation")})

    monkeypatch.setattr(datasets, "load_dataset", load)
    for expected in ("", "0123456789" * 4):
        with prepare_tasks(["piqa"], "hub") as prepared:
            assert prepared.data["piqa"] == TaskData("validation", "validation", {}, expected)
    assert not commits


def test_any_other_task_of_the_harness_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    set_index(monkeypatch, [Entry("sciq", Kind.TASK, task_files.ROOT / "sciq" / "sciq.yaml")])
    (definition,) = find_definitions(["sciq"])
    assert definition.values["dataset_path"]
    assert definition.known is None


def test_templates_that_are_compiled_once_have_the_results_of_the_harness(tmp_path: Path) -> None:
    write_tasks(tmp_path)
    write_lines(tmp_path / "truthfulqa_mc1.jsonl", [{"question": "q", "mc1_targets": {"a": 1, "b'c": 0}}])
    write_lines(tmp_path / "gsm8k.test.jsonl", [{"question": "q", "answer": text} for text in ("7", "007", "[1]", "x")])
    write_lines(tmp_path / "mmlu.test.jsonl", [{"question": " q ", "choices": list("abcd"), "answer": 2}])
    names = [*DOLLY, "truthfulqa_mc1", "gsm8k", "mmlu_anatomy"]
    with prepare_tasks(names, str(tmp_path), 0) as prepared:
        definitions = {each.name: each.values for each in find_definitions(names)}
        compared = 0
        for name, task in prepared.tasks.items():
            for field in ("doc_to_text", "doc_to_target", "doc_to_choice"):
                original = definitions[name].get(field)
                if not callable(task.get_config(field)) or not isinstance(original, str) or ".doc_to" in original:
                    continue
                for document in task.eval_docs:
                    if field == "doc_to_target" and document.get("answer") == "007":
                        assert task.doc_to_target(document) == "007"
                        continue
                    assert getattr(task, field)(document) == getattr(task, field)(document, original)
                    compared += 1
    assert compared > 60

"""Tasks of lm-evaluation-harness with local data: each includes the original definition by its path.

So prompts, the processing of rows and metrics are the original's, and nothing of them is written again here.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import yaml
from datasets.exceptions import DatasetsError
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager
from lm_eval.utils import env

from tunesmith.benchmark.data_files import Row, read_rows
from tunesmith.benchmark.suites import KNOWN_TASKS, MMLU, SUITES
from tunesmith.benchmark.task_files import HUB, TaskDefinition, find_known_definition, find_task_files, read_definition
from tunesmith.errors import DataError, MissingInputError, UsageError
from tunesmith.files import sha256

FEWSHOT_SEED = 1234
"""The seed of the examples in prompts, as in lm-evaluation-harness."""
SHOWN_TASKS = 6  # of a group
NUMBER = re.compile("0|[1-9][0-9]{0,8}")
COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class TaskData:
    """Which data a task is evaluated on.

    split: the split.
    expected: the split that published tables use.
    files: name of each file that was read -> its SHA-256; empty for data of the hub.
    revision: commit of the data set on the hub; empty where it is not known, and for local files.
    """

    split: str
    expected: str
    files: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""


@dataclass(frozen=True, slots=True)
class PreparedTasks:
    """Tasks that can be evaluated.

    tasks: name -> task of lm-evaluation-harness, in the order that was asked for.
    data: name -> its data.
    metrics: name -> the metric that its table shows; None for the first it has.
    """

    tasks: Mapping[str, Task]
    data: Mapping[str, TaskData]
    metrics: Mapping[str, str | None]


@contextmanager
def prepare_tasks(names: Sequence[str], data: str, shots: int | None = None) -> Iterator[PreparedTasks]:
    """The tasks, with converted data in a temporary directory that lasts as long as the block.

    names: tasks, without suites.
    data: a directory of files, or ``hub``.
    shots: examples in the prompt; None for what each task has.
    Raises MissingInputError with a line for every file that is missing, DataError, UsageError.
    """
    definitions = find_definitions(names)
    check_packages(definitions)
    with TemporaryDirectory(prefix="tunesmith-") as text:
        folder = Path(text)
        if data == HUB:
            found = {each.name: TaskData(each.splits[0], each.splits[0]) for each in definitions}
            for each in definitions:
                _write_task(folder, each, {}, found[each.name].split, shots)
        else:
            found = _write_local(folder, definitions, Path(data).expanduser(), shots)
        tasks = _build(folder, names)
        if data == HUB:
            found = {name: replace(each, revision=hub_revision(tasks[name])) for name, each in found.items()}
        yield PreparedTasks(
            tasks, found, {each.name: each.known.metric if each.known else None for each in definitions}
        )


def hub_revision(task: Task) -> str:
    """The commit of the data set of a task; empty where it is not known.

    The library ``datasets`` names the directory of a data set in its cache by the commit.
    """
    parts = task.dataset.values() if isinstance(task.dataset, Mapping) else ()
    folders = {Path(file["filename"]).parent.name for part in parts for file in getattr(part, "cache_files", ())}
    return ", ".join(sorted(folder for folder in folders if COMMIT.fullmatch(folder)))


def find_definitions(names: Sequence[str]) -> list[TaskDefinition]:
    """The definitions of tasks. Raises UsageError for a name that is not a task."""
    found = {name: definition for name in names if (definition := find_known_definition(name)) is not None}
    others = [name for name in names if name not in found]
    if others:
        index = TaskManager().task_index  # reads all files of tasks, which takes seconds
        for name in others:
            if name not in index:
                close = difflib.get_close_matches(name, [*SUITES, MMLU, *KNOWN_TASKS, *index], n=1)
                suites = f"suites are {', '.join([*SUITES, MMLU])}; lm-eval ls tasks lists the tasks"
                advice = f"did you mean {close[0]}?" if close else suites
                raise UsageError(f"there is no task {name!r} in lm-evaluation-harness", where="--tasks", advice=advice)
            _check_group(name, index)
            path = Path(index[name].yaml_path)
            found[name] = TaskDefinition(name, path, read_definition(path), None)
            if not found[name].splits:
                what = f"the task {name!r} has no split to evaluate in its definition"
                raise UsageError(what, where="--tasks", advice="name another task; lm-eval ls tasks lists them")
    return [found[name] for name in names]


def _check_group(name: str, index: Mapping[str, Any]) -> None:
    """Raises UsageError with the tasks, for a name that means several tasks.

    index: name -> entry of the harness.
    """
    if index[name].kind.name in ("GROUP", "TAG"):
        members = _members(name, index, frozenset())
        more = f" and {len(members) - SHOWN_TASKS} more" if len(members) > SHOWN_TASKS else ""
        advice = f"name the tasks: --tasks {','.join(members[:SHOWN_TASKS])}{more}"
        raise UsageError(f"{name!r} is a group of {len(members)} tasks", where="--tasks", advice=advice)


def _members(name: str, index: Mapping[str, Any], above: frozenset[str]) -> list[str]:
    """The tasks of a group or tag, also those of groups within; the task itself for a task."""
    entry = index.get(name)
    if name in above:
        return []
    if entry is None or entry.kind.name not in ("GROUP", "TAG"):
        return [name]
    listed = (entry.cfg or {}).get("task") or sorted(entry.tags)
    names = [each.get("task") or each.get("group") if isinstance(each, dict) else each for each in _as_list(listed)]
    found = [task for each in names for task in _members(str(each), index, above | {name})]
    return list(dict.fromkeys(found))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def check_packages(definitions: Sequence[TaskDefinition]) -> None:
    """Raises MissingInputError for a task that needs packages that are not installed, before anything is computed."""
    for definition in definitions:
        packages = definition.known.packages if definition.known else ()
        missing = [package for package in packages if find_spec(package) is None]
        if missing:
            what = f"the task {definition.name} needs {' and '.join(missing)}"
            raise MissingInputError(what, advice=f"pip install {' '.join(missing)}")
        if "nltk" in packages:
            _check_punkt(definition.name)


def _check_punkt(task: str) -> None:
    """Raises MissingInputError without the sentence splitter of nltk, which would be downloaded in the middle of it."""
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        what = f"the task {task} needs the data punkt_tab of nltk"
        raise MissingInputError(what, advice="python -m nltk.downloader punkt_tab") from None


def _write_local(
    folder: Path, definitions: Sequence[TaskDefinition], directory: Path, shots: int | None
) -> dict[str, TaskData]:
    """Convert the files of all tasks and write their definitions. Raises as ``prepare_tasks``."""
    found: dict[str, TaskData] = {}
    chosen = find_task_files(definitions, directory, shots)
    for definition in definitions:
        files = chosen[definition.name]
        converted = {split: _convert(folder, definition, split, path) for split, path in files.paths.items()}
        _write_task(folder, definition, converted, files.split, shots)
        digests = {path.name: sha256(path) for path in files.paths.values()}
        found[definition.name] = TaskData(files.split, definition.splits[0], digests)
    return found


def _convert(folder: Path, definition: TaskDefinition, split: str, path: Path) -> str:
    """Write the rows of a file in the layout of the hub; returns the path. Raises DataError."""
    known = definition.known
    subject = definition.subject if path.name.startswith(f"{MMLU}.") else None
    target = folder / f"{definition.name}.{split}.arrow"
    rows = list(read_rows(path, known.columns if known else (), subject))
    if not rows:
        what = f"there are no rows of the subject {subject!r}" if subject else "the file has no rows"
        raise DataError(what, where=path, advice="download it again")
    _write_rows(rows, target, path)
    return str(target)


def _write_rows(rows: Sequence[Row], target: Path, source: Path) -> None:
    """Write rows as Arrow with the types they have: a JSON reader takes texts for times if all look like one.

    Raises DataError for columns that have values of different types.
    """
    try:
        names = dict.fromkeys(name for row in rows for name in row)  # also those that the first row does not have
        table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
    except (pa.ArrowException, OverflowError) as error:
        what = f"the rows do not have the same types: {' '.join(str(error).split())[:200]}"
        raise DataError(what, where=source, advice="download it again") from error
    with pa.OSFile(str(target), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def _write_task(
    folder: Path, definition: TaskDefinition, files: Mapping[str, str], split: str, shots: int | None
) -> None:
    """Write a definition that includes the original one.

    files: split -> the file of its rows; empty for data of the hub.
    """
    content: dict[str, Any] = {
        "include": str(definition.path),
        "task": definition.name,
        "num_fewshot": definition.shots(shots),
    }
    if files:
        is_test = split == definition.values.get("test_split")
        content |= {
            "dataset_path": "arrow",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": dict(files), "cache_dir": str(folder / "cache")},
            "training_split": None,
            "validation_split": None if is_test else split,
            "test_split": split if is_test else None,
            "fewshot_split": definition.example_split if definition.shots(shots) else None,
        }
    (folder / f"{definition.name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def _build(folder: Path, names: Sequence[str]) -> dict[str, Task]:
    """Raises DataError, and MissingInputError for a package that is missing."""
    try:
        found = TaskManager(include_path=str(folder), include_defaults=False).load(list(names))["tasks"]
    except ImportError as error:
        what = f"a task needs a package that is not installed: {error}"
        raise MissingInputError(what, advice=f"pip install {error.name}" if error.name else None) from error
    except (ValueError, TypeError, LookupError, OSError, RuntimeError, DatasetsError) as error:
        reason = " ".join(str(error).replace(str(folder), "").split())[:300]
        raise DataError(f"lm-evaluation-harness cannot build the tasks: {reason}", where="--tasks") from error
    for task in found.values():
        check_examples(task)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
        _compile_templates(task)
    return {name: found[name] for name in names}


def check_examples(task: Task) -> None:
    """Raises DataError for a task with more examples in the prompt than rows to take them from."""
    shots = int(task.get_config("num_fewshot") or 0)
    if not shots:
        return
    split = task.fewshot_cfg.split
    rows = len(task.sampler.df) if hasattr(task, "sampler") else 0
    if rows < shots + (split == task.config.test_split):  # a row is no example for itself
        what = f"{task.config.task}: {shots:,} examples are more than the {rows:,} rows of {split!r} allow"
        raise DataError(what, where="--shots", advice="use fewer examples, or a file with more rows")


def _compiled_template(
    name: str, apply: Callable[[Any, str], Any], template: str, has_choices: bool
) -> Callable[[Mapping[str, Any]], Any]:
    """A template of a task that is compiled once; lm-evaluation-harness compiles it for every document and use.

    It is a function, because the harness copies the configuration of a task with everything in it but functions.

    name: which field of the task it is: doc_to_text, doc_to_target or doc_to_choice.
    apply: apply(document, template) is the original function; used where the result is not plainly text or a number.
    template: the text of the template.
    has_choices: whether digits are the number of a choice.
    """
    compiled = env.from_string(template)

    def render(document: Mapping[str, Any]) -> Any:
        text = compiled.render(**document)
        if name == "doc_to_choice":
            return ast.literal_eval(text)
        if has_choices and NUMBER.fullmatch(text):
            return int(text)
        if text.isdigit() or (text.startswith("[") and text.endswith("]")):
            return apply(document, template)
        return text

    return render


def _compile_templates(task: Task) -> None:
    """Let a task compile its templates once; their results are the same as before."""
    has_choices = task.get_config("doc_to_choice") is not None
    for name in ("doc_to_text", "doc_to_target", "doc_to_choice"):
        value = task.get_config(name)
        if isinstance(value, str) and value not in task.features:
            task.set_config(name, _compiled_template(name, getattr(task, name), value, has_choices))

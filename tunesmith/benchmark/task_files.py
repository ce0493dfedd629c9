"""The files of tasks: their definitions in lm-evaluation-harness, and their data in a directory.

Importing this module loads neither torch nor the tasks of the harness, so that missing files are found at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm_eval
import yaml

from tunesmith.benchmark.data_files import find_data_file
from tunesmith.benchmark.suites import MMLU, SUITES, KnownTask, known_task
from tunesmith.errors import MissingInputError, UsageError

HUB = "hub"
"""The place of data that are downloaded, or taken from the cache of the Hugging Face hub."""
ROOT = Path(lm_eval.__file__).parent / "tasks"


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """The definition of a task in lm-evaluation-harness.

    name: of the task.
    path: of its file.
    values: its entries, with those of the files that it includes.
    known: what is known of it here, if anything.
    """

    name: str
    path: Path
    values: Mapping[str, Any]
    known: KnownTask | None

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that it may be evaluated on; the first is the one of published tables."""
        found = (self.values.get("test_split"), self.values.get("validation_split"))
        return tuple(str(split) for split in found if split)

    @property
    def example_split(self) -> str:
        """The split that examples in the prompt are taken from."""
        keys = ("fewshot_split", "training_split", "validation_split", "test_split")
        return str(next(self.values[key] for key in keys if self.values.get(key)))

    def shots(self, wanted: int | None) -> int:
        """The number of examples in the prompt; 0 in the file is never changed, because its prompt has its own."""
        own = self.values.get("num_fewshot")
        return int(own or 0) if own == 0 or wanted is None else wanted

    @property
    def subject(self) -> str | None:
        """The subject of MMLU, whose rows may be in the file of all subjects; None for any other task."""
        return self.name.removeprefix(f"{MMLU}_") if self.path.parent == ROOT / MMLU / "default" else None

    def file_names(self) -> tuple[str, ...]:
        """The names that its file may have."""
        configuration = str(self.values.get("dataset_name") or "").lower().replace("-", "_")
        names = [self.name, configuration, *([MMLU] if self.subject else [])]
        return tuple(dict.fromkeys(name for name in names if name))

    def download_command(self, directory: Path, split: str) -> str:
        """A command that downloads the data of a split into the directory."""
        names = [self.values["dataset_path"], self.values.get("dataset_name")]
        arguments = ", ".join(repr(name) for name in names if name)
        target = directory / f"{self.name}.{split}.jsonl"
        code = f"from datasets import load_dataset as d; d({arguments}, split='{split}').to_json('{target}')"
        return f'python -c "{code}"'


@dataclass(frozen=True, slots=True)
class TaskFiles:
    """The data files of one task.

    split: that it is evaluated on.
    paths: split -> file; with the split of the examples, if there are any in its prompts.
    """

    split: str
    paths: Mapping[str, Path]


def expand_suites(names: Sequence[str]) -> list[str]:
    """The tasks of suites and tasks, each once. Raises UsageError without any."""
    found: list[str] = []
    for name in names:
        subjects = sorted(path.stem for path in (ROOT / MMLU / "default").glob(f"{MMLU}_*.yaml"))
        found += subjects if name == MMLU else SUITES.get(name, (name,))
    if not found:
        raise UsageError("no task is named", where="--tasks", advice="--tasks dolly has the seven of the dolly card")
    return list(dict.fromkeys(found))


def check_files(names: Sequence[str], data: str, shots: int | None = None) -> None:
    """Check the files of suites and tasks; those of a task that is not known here are left to ``prepare_tasks``.

    Arguments and errors as of ``prepare_tasks``.
    """
    tasks = expand_suites(names)
    if data != HUB:
        definitions = [found for name in tasks if (found := find_known_definition(name)) is not None]
        find_task_files(definitions, Path(data).expanduser(), shots)


def find_known_definition(name: str) -> TaskDefinition | None:
    """The definition of a task that is known here; None for any other."""
    known = known_task(name)
    if known is None or not (ROOT / known.file).is_file():
        return None
    return TaskDefinition(name, ROOT / known.file, read_definition(ROOT / known.file), known)


def find_task_files(definitions: Sequence[TaskDefinition], directory: Path, shots: int | None) -> dict[str, TaskFiles]:
    """The data files of all tasks, by their names. Raises MissingInputError with a line for every missing file.

    shots: as in ``prepare_tasks``.
    """
    if not directory.is_dir():
        advice = "--data names a directory with files such as arc_easy.test.jsonl; --data hub downloads them"
        raise MissingInputError("there is no such directory", where=directory, advice=advice)
    missing: list[str] = []
    found: dict[str, TaskFiles] = {}
    for definition in definitions:
        names, splits = definition.file_names(), definition.splits
        chosen = [(split, path) for split in splits if (path := find_data_file(directory, names, split))]
        if not chosen:
            missing.append(_describe_missing(definition, directory, splits[0]))
            continue
        split, path = chosen[0]
        paths = {split: path}
        if definition.shots(shots) and definition.example_split != split:
            example = find_data_file(directory, names, definition.example_split)
            if example is None:
                missing.append(_describe_missing(definition, directory, definition.example_split))
                continue
            paths[definition.example_split] = example
        found[definition.name] = TaskFiles(split, paths)
    if missing and found:
        missing.append(f"or evaluate the tasks whose files are there: --tasks {','.join(_shorten(found))}")
    if missing:
        raise MissingInputError("\n".join(missing))
    return found


def _shorten(names: Iterable[str]) -> list[str]:
    """The names of tasks, with the name of a suite in place of all its tasks."""
    left = list(names)
    for suite in (*SUITES, MMLU):
        if set(tasks := expand_suites([suite])) <= set(left):
            left = [suite, *(name for name in left if name not in tasks)]
    return left


def _describe_missing(definition: TaskDefinition, directory: Path, split: str) -> str:
    columns = definition.known.columns if definition.known else ()
    listed = f" with {', '.join(columns)} in every row" if columns else ""
    path = directory / f"{definition.name}.{split}.jsonl"
    return f"{path}: this file is missing{listed}; download it: {definition.download_command(directory, split)}"


def read_definition(path: Path) -> dict[str, Any]:
    """The entries of a definition file, with those of the files that it includes below them; functions are names."""
    content = _DefinitionLoader(path.read_text(encoding="utf-8")).get_single_data() or {}
    included = content.pop("include", None)
    if included is None:
        return dict(content)
    return read_definition((path.parent / str(included)).resolve()) | dict(content)


class _DefinitionLoader(yaml.SafeLoader):
    """Reads definitions without importing the functions that they name."""


_DefinitionLoader.add_constructor("!function", lambda loader, node: str(node.value))

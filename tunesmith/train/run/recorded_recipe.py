"""What the recipe in the directory of a run says about it, also where this version could not load the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from tunesmith.errors import DataError, MissingInputError
from tunesmith.model.names import EXPORT
from tunesmith.recipe.problems import InvalidRecipeError
from tunesmith.recipe.reading import LARGEST_FILE, read_mapping, to_plain
from tunesmith.train.run.directory import RECIPE
from tunesmith.train.run.selection import SelectionMetric, SelectionRule


@dataclass(frozen=True, slots=True)
class RecordedRecipe:
    """A recipe as plain values.

    text: of the file.
    values: section or key -> value.
    """

    text: str
    values: Mapping[str, Any]

    @classmethod
    def read(cls, directory: Path) -> RecordedRecipe:
        """The recipe of a run. Raises MissingInputError if there is no run, DataError if it cannot be read."""
        path = directory / RECIPE
        try:
            with path.open("rb") as file:
                content = file.read(LARGEST_FILE + 1)
            values = read_mapping(content, RECIPE)
        except OSError as error:
            raise MissingInputError(
                "this is no run: it has no recipe", where=path, advice="name its directory"
            ) from error
        except InvalidRecipeError as error:
            reason = error.problems[0].message
            what = f"the recipe of the run cannot be read: {reason}"
            raise DataError(what, where=path, advice="restore the file") from error
        return cls(content.decode("utf-8-sig"), to_plain(values))

    def find(self, *keys: str) -> Any:
        """The value of a nested key; None if there is none."""
        value: Any = self.values
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    @property
    def method(self) -> str:
        """The kind of the objective, such as sft."""
        return str(self.find("objective", "kind") or "")

    @property
    def model(self) -> str:
        """What was trained: a hub name, the name of a run or directory, or the architecture of random weights."""
        path = self.find("model", "path")
        if not isinstance(path, str) or not path:
            return f"new {self.find('model', 'init', 'architecture') or 'model'}"
        parts = PurePath(path).parts
        if len(parts) > 1 and parts[-1] == EXPORT:
            return parts[-2]
        is_hub_name = len(parts) == 2 and not path.startswith(("/", ".", "~"))
        return path if is_hub_name or not parts else parts[-1]

    def rule(self) -> SelectionRule:
        """How the best checkpoint is chosen; the usual rule where the recipe has none that is understood."""
        keys = self.find("train", "best")
        metrics = self.find("train", "best", "metrics")
        try:
            return SelectionRule(
                tuple(SelectionMetric(str(each["name"]), each["mode"], float(each["weight"])) for each in metrics),
                keys["save"] == "wins",
                int(keys["keep"]),
            )
        except (KeyError, TypeError, ValueError):
            return SelectionRule()

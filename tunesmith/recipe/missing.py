"""The values that a recipe lacks, all of them at once, also in sections that are not there at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from tunesmith.recipe.schema import Recipe
from tunesmith.recipe.section import Section

Path = tuple[str, ...]

ONE_OF: Mapping[Path, tuple[str, ...]] = {("model",): ("path", "init"), ("train",): ("epochs", "steps")}
"""Section -> the keys of which one has to be given; the first is the one that is proposed."""

NEEDED_WITH: Mapping[Path, tuple[str, str]] = {("model",): ("init", "tokenizer")}
"""Section -> (a key with a mapping, the key that has to be given together with it)."""

DATA_PATH: Path = ("data", "sources", "0", "path")
"""Where the data of the user are given."""

EXTENDED = ("sft", "dpo", "reward", "ppo")
"""The recipes of the catalog, by the kind of their objective, that have a value for everything but model and data."""

MANY = 4
"""Of so many missing values the message says which recipe has them."""

MOST_CHOICES = 4
"""Values of a key that can only have so many are all named."""

EXAMPLES: Mapping[str, str] = {
    "data.sources.0.path": "YOUR_FILE",
    "data.sources.0.reader": "auto",
    "model.path": "DIRECTORY_OR_HUB_NAME",
    "model.tokenizer": "DIRECTORY_OR_HUB_NAME",
    "name": "my-recipe",
    "objective.max_new_tokens": "256",
    "objective.prompts_per_iteration": "64",
    "objective.rewards.0.kind": "model",
    "objective.rewards.0.path": "RUN_OF_A_REWARD_MODEL",
    "text.format": "auto",
    "text.max_length": "1024",
    "train.batch_size": "16",
    "train.epochs": "3",
    "train.learning_rate": "2e-5",
}
"""Key -> a usual value, or a word for what only the user knows."""


def find_missing(given: Any) -> list[Path]:
    """The paths of all required keys that are not given, in the order of the schema.

    given: the plain values of a recipe. What has a wrong type is skipped, since that is reported separately.
    """
    return [*_missing_in(Recipe, given, ())]


def find_placeholders(given: Any) -> dict[str, str]:
    """Dotted key -> a usual value or a word for it, for all missing keys; empty if there is none for one of them.

    given: the plain values of a recipe.
    """
    keys = [".".join(path) for path in find_missing(given)]
    return {key: EXAMPLES[key] for key in keys} if all(key in EXAMPLES for key in keys) else {}


def _missing_in(section: type[Section], given: Any, path: Path) -> Iterator[Path]:
    if not isinstance(given, dict):
        return
    one_of = ONE_OF.get(path, ())
    if one_of and all(given.get(key) is None for key in one_of):
        yield (*path, one_of[0])
    first, second = NEEDED_WITH.get(path, ("", ""))
    if isinstance(given.get(first), dict) and given.get(second) is None:
        yield (*path, second)
    for name, field in section.model_fields.items():
        key_path = (*path, name)
        inner = _find_section(field, given.get(name))
        if name not in given and field.is_required() and name not in _derived(section):
            yield from _missing_value(field, key_path)
        elif isinstance(given.get(name), dict) and inner is not None and not _is_list(field):
            yield from _missing_in(inner, given[name], key_path)
        elif isinstance(given.get(name), list) and _is_list(field):
            for index, item in enumerate(given[name]):
                if (kind := _find_section(field, item)) is not None:
                    yield from _missing_in(kind, item, (*key_path, str(index)))


def _missing_value(field: FieldInfo, path: Path) -> Iterator[Path]:
    """What is missing if a required key is: of a section its own required keys, of a list those of one item."""
    sections = _sections(field.annotation)
    if not sections:
        yield path
    elif _is_list(field):
        first = (*path, "0")
        if len(sections) > 1:  # the first kind is proposed
            yield (*first, "kind")
        yield from _missing_in(sections[0], {}, first)
    else:
        yield from _missing_in(sections[0], {}, path)


def _is_list(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is tuple


def _derived(section: type[Section]) -> tuple[str, ...]:
    """Required keys that are filled in from others before the section is validated."""
    return ("name",) if "path" in section.model_fields and "name" in section.model_fields else ()


def _sections(annotation: Any) -> list[type[Section]]:
    """The sections that occur in a type."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]


def _find_section(field: FieldInfo, given: Any) -> type[Section] | None:
    """The section that a mapping is: the only one of the type, or the one of its ``kind``; None if it is unclear."""
    sections = _sections(field.annotation)
    if not sections or not isinstance(given, dict):
        return None
    if len(sections) == 1:
        return sections[0]
    default = getattr(field.get_default(call_default_factory=True), "kind", None)
    kind = given.get("kind", default)
    return next((one for one in sections if one.model_fields["kind"].default == kind), None)


def find_extended(given: Any) -> str | None:
    """The recipe that another one of its objective can extend; None if there is none.

    given: the plain values of a recipe.
    """
    objective = given.get("objective") if isinstance(given, dict) else None
    kind = objective.get("kind", EXTENDED[0]) if isinstance(objective, dict) else EXTENDED[0]
    return kind if kind in EXTENDED else None


def missing_message(paths: Sequence[Path], *, in_file: bool, extended: str | None = None) -> str:
    """One line with the words that give all missing values.

    paths: of the missing keys.
    in_file: whether the recipe is a file of the user, who may then write them there.
    extended: a recipe that the file could extend; None if it extends one.
    """
    words = " ".join(f"{'.'.join(path)}={_example(path)}" for path in paths)
    number = "1 value is" if len(paths) == 1 else f"{len(paths)} values are"
    message = f"{number} missing; append {words}"
    if not in_file:
        return message
    many = extended is not None and len(paths) >= MANY
    hint = f", or begin it with `extends: {extended}`, which has most of them" if many else ""
    return f"{message} (or write {'it' if len(paths) == 1 else 'them'} in the file{hint})"


def _example(path: Path) -> str:
    """A usual value of a key, its choices, or a word for it."""
    key = ".".join(path)
    if key in EXAMPLES:
        return EXAMPLES[key]
    choices = _choices(Recipe, path)
    return "|".join(choices) if 0 < len(choices) <= MOST_CHOICES else "VALUE"


def _choices(section: type[Section], path: Path) -> list[str]:
    """The texts that a key can have, if it can have only these."""
    name, *rest = (part for part in path if not part.isdecimal())
    annotation = section.model_fields[name].annotation
    if rest:
        inner = [one for one in _sections(annotation) if rest[0] in one.model_fields]
        return _choices(inner[0], tuple(rest)) if inner else []
    return [str(choice) for choice in get_args(annotation)] if get_origin(annotation) is Literal else []

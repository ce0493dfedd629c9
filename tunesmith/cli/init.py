"""`tunesmith init`: looks at data and writes a recipe for it."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tunesmith.apps.init import GivenSource, look
from tunesmith.cli.lazy import load_part
from tunesmith.cli.words import FieldOption, IgnoreOption, ReaderOptions, split_settings
from tunesmith.errors import MissingInputError, UsageError
from tunesmith.files import looks_like_path
from tunesmith.recipe.data import source_name
from tunesmith.recipe.reading import read_text, to_plain
from tunesmith.text.visible import visible

WRITE = "tunesmith.compose.draft.write:write_recipe"
REQUEST = "tunesmith.compose.draft.values:DraftRequest"
UNUSABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")  # control characters, and bytes that are not UTF-8
NO_MODEL = (
    "add --model with a model directory, a run (runs/NAME), or a name on the Hugging Face hub such as "
    "HuggingFaceTB/SmolLM2-135M"
)


def init(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A file, a directory, or the name of a data set on the hub.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="The model to train: a model directory, a run, or a name on the Hugging Face hub.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The recipe to write. [default: DATA.yaml]", show_default=False),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(help="sft, dpo, reward or ppo; by default what the data are good for.", show_default=False),
    ] = None,
    reward: Annotated[
        str | None, typer.Option(help="For ppo: the run of a reward model, or its export.", show_default=False)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="The split of a data set, the sheet of a workbook or the key of a list.", show_default=False),
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="The configuration of a data set on the hub.", show_default=False)
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(help="The reader of the rows; by default it is recognised.", show_default=False),
    ] = None,
    field: FieldOption = None,
    option: ReaderOptions = None,
    ignore: IgnoreOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the recipe if it exists.")] = False,
) -> None:
    """Look at data and write a short recipe for it, which `tunesmith check` and `tunesmith train` take as it is.

    For example: tunesmith init mine.csv --model HuggingFaceTB/SmolLM2-135M -o mine.yaml
    """
    file = output or Path(f"{source_name(data)}.yaml")
    _check_characters(data)
    _check_output(file, force=force)
    _check_directories({"--model": model, "--reward": reward})
    given = GivenSource(
        path=data,
        split=split,
        config=config,
        name=reader,
        fields=dict(split_settings(field, "--field prompt=question")),
        options=_read_options(option),
        ignore=tuple(ignore or ()),
    )
    found = look(given, objective)
    if model is None:
        raise UsageError("no recipe was written, because the model is not named", advice=NO_MODEL)
    print(visible(f"reading {model} and measuring the records with its tokenizer ..."), file=sys.stderr, flush=True)
    values = (found.config, found.reason, found.objective, reward, file, program_name(sys.argv))
    load_part(WRITE)(load_part(REQUEST)(*values), model)


def _read_options(words: Sequence[str] | None) -> dict[str, Any]:
    """Option of the reader -> its value. words: ``NAME=VALUE``."""
    return {
        name: to_plain(read_text(text, f"--option {name}", lines=False))
        for name, text in split_settings(words, "--option replies=best")
    }


def _check_characters(path: str) -> None:
    """Raises UsageError for a path that could be in no recipe."""
    if UNUSABLE.search(path):
        what = "the name of the file has characters that a recipe cannot hold"
        raise UsageError(what, where=ascii(path), advice="rename it")


def _check_output(path: Path, *, force: bool) -> None:
    """Raises UsageError if the recipe exists or could not be read as one."""
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(f"{str(path)!r} is not the name of a recipe", advice=f"let it end in .yaml: -o {path}.yaml")
    if path.exists() and not force:
        raise UsageError(f"{path} exists", advice="name another file with -o, or add --force to overwrite it")


def _check_directories(words: Mapping[str, str | None]) -> None:
    """Raises MissingInputError for a path that does not exist; hub names are looked up later.

    words: option -> its value.
    """
    for key, word in words.items():
        if word is not None and looks_like_path(word) and not Path(word).expanduser().exists():
            raise MissingInputError("there is no such directory", where=f"{key} {word}", advice="check the path")


def program_name(arguments: Sequence[str]) -> str:
    """How the command line was called: `tunesmith` if that is found, otherwise its path or `python -m tunesmith.cli`.

    arguments: those of the process.
    """
    program = Path(arguments[0])
    if program.name == "__main__.py":
        return "python -m tunesmith.cli"
    if shutil.which("tunesmith") is not None or not program.is_file():
        return "tunesmith"
    return str(program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program)

"""`tunesmith preferences`: converts a data set with preferences to one file of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tunesmith.apps.preferences import PairReport, PairSelection, build_preferences
from tunesmith.apps.votes import build_vote_preferences
from tunesmith.cli.words import FieldOption, IgnoreOption, ReaderOptions, split_settings
from tunesmith.data.dataset.faults import one_line
from tunesmith.data.dataset.report import reasons
from tunesmith.data.readers.prompts import prompt_keys
from tunesmith.data.readers.registry import READERS
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.data.sources.setting_words import COMMAND_LINE
from tunesmith.errors import UsageError
from tunesmith.files import write_json
from tunesmith.recipe.data import source_name
from tunesmith.recipe.reading import read_text, to_plain

SOURCES = typer.Argument(metavar="SOURCE", help="Files, directories, or names of data sets on the Hugging Face hub.")
OUTPUT = typer.Option("--output", "-o", help="The new file of pairs, such as pairs.jsonl.", show_default=False)
READER = typer.Option(
    help="The format of a row, which is the name of a reader as in a recipe: ultrafeedback, nectar, hh and so on.",
    show_default=False,
)
SPLIT = typer.Option(help="The split of a data set on the hub, such as train.", show_default=False)
WHERE = typer.Option(
    metavar="COLUMN=TEXT",
    help="Keep only rows that have this text in this column; if repeated for a column, any of the texts.",
    show_default=False,
)
WHERE_NOT = typer.Option(
    metavar="COLUMN=TEXT",
    help="Leave out rows that have this text in this column; may be repeated.",
    show_default=False,
)
ONLY_PROMPTS_OF = typer.Option(
    metavar="FILE", help="Keep only prompts that are in this file or hub data set; may be repeated.", show_default=False
)
WITHOUT_PROMPTS_OF = typer.Option(
    metavar="FILE", help="Leave out prompts that are in this file or hub data set; may be repeated.", show_default=False
)
CLEAN = typer.Option(
    "--clean/--no-clean", help="Strip white space around texts and leave out empty messages, or keep texts as they are."
)
SEED = typer.Option(min=0, help="The seed for the choice of rejected replies and for the order of --shuffle.")
SHUFFLE = typer.Option("--shuffle", help="Write the pairs in random order instead of the order of the sources.")
LIMIT = typer.Option(min=1, help="The largest number of pairs to write.", show_default=False)
NAME = typer.Option(
    help="The value of `source` in every pair; by default it is derived from the path of the source.",
    show_default=False,
)
MAX_BAD = typer.Option(min=0, help="The largest number of unusable rows; if there are more, nothing is written.")
VOTES = typer.Option(
    metavar="FILE",
    help="Votes from the page of `tunesmith compare`; the sources are the sampling reports that were compared.",
    show_default=False,
)
REPORT = typer.Option(help="Also write the counts to this file, as JSON.", show_default=False)


def preferences(
    sources: Annotated[list[str], SOURCES],
    output: Annotated[Path, OUTPUT],
    reader: Annotated[str | None, READER] = None,
    votes: Annotated[list[Path] | None, VOTES] = None,
    split: Annotated[str | None, SPLIT] = None,
    field: FieldOption = None,
    option: ReaderOptions = None,
    ignore: IgnoreOption = None,
    where: Annotated[list[str] | None, WHERE] = None,
    where_not: Annotated[list[str] | None, WHERE_NOT] = None,
    only_prompts_of: Annotated[list[str] | None, ONLY_PROMPTS_OF] = None,
    without_prompts_of: Annotated[list[str] | None, WITHOUT_PROMPTS_OF] = None,
    clean: Annotated[bool, CLEAN] = True,
    seed: Annotated[int, SEED] = 42,
    shuffle: Annotated[bool, SHUFFLE] = False,
    limit: Annotated[int | None, LIMIT] = None,
    name: Annotated[str | None, NAME] = None,
    max_bad: Annotated[int, MAX_BAD] = 0,
    report: Annotated[Path | None, REPORT] = None,
) -> None:
    """Convert preference data to one JSON line for every pair of a chosen and a rejected reply.

    The recipe reader `preference` reads the result. With --votes, the pairs are what was preferred in blind votes.

    For example: tunesmith preferences nectar.parquet --reader nectar --option replies=pair --output nectar.jsonl
    """
    selection = PairSelection(
        where=_texts_by_column(where),
        where_not=_texts_by_column(where_not),
        only=prompt_keys(only_prompts_of) if only_prompts_of else None,
        without=prompt_keys(without_prompts_of or ()),
        clean=clean,
        shuffle=seed if shuffle else None,
        limit=limit,
    )
    of_rows = {"--reader": reader, "--split": split, "--field": field, "--option": option, "--ignore": ignore}
    if votes:
        _refuse({**of_rows, "--where": where, "--where-not": where_not})
        built = build_vote_preferences(votes, [Path(path).expanduser() for path in sources], output, selection, name)
    elif reader is None:
        raise UsageError("the option --reader is missing", advice="name the format of a row, such as --reader hh")
    else:
        specs = _sources(sources, reader, split, name, option, field, ignore, seed)
        built = build_preferences(specs, output, selection, max_bad)
    if report is not None:
        write_json(report, built.as_json())
    _print_counts(built, output)


def _refuse(options: Mapping[str, Any]) -> None:
    """Raises UsageError for an option that reads rows, if one is given."""
    for option, value in options.items():
        if value:
            raise UsageError(f"{option} cannot be combined with --votes", advice="votes have no rows; leave it out")


def _sources(
    paths: Sequence[str],
    reader: str,
    split: str | None,
    name: str | None,
    option: Sequence[str] | None,
    field: Sequence[str] | None,
    ignore: Sequence[str] | None,
    seed: int,
) -> list[SourceConfig]:
    """The sources of rows. seed: a default of the reader's option ``seed``."""
    options = {key: _option_value(key, text) for key, text in split_settings(option, "--option replies=pair")}
    if reader in READERS and "seed" in READERS[reader].options:
        options = {"seed": seed, **options}
    fields = dict(split_settings(field, "--field prompt=question"))
    left_out = tuple(ignore or ())
    return [
        SourceConfig(name or source_name(path), path, reader, split, fields, options, left_out, key=COMMAND_LINE)
        for path in paths
    ]


def _option_value(name: str, text: str) -> Any:
    """A value as in a recipe: ``true``, ``3``, ``[en, de]``. Raises InvalidRecipeError."""
    return to_plain(read_text(text, f"--option {name}", lines=False))


def _texts_by_column(words: Sequence[str] | None) -> Mapping[str, frozenset[str]]:
    """Column -> all texts that are given for it."""
    found: dict[str, frozenset[str]] = {}
    for column, text in split_settings(words, "--where source=evol_instruct"):
        found[column] = found.get(column, frozenset()) | {text}
    return found


def _print_counts(built: PairReport, output: Path) -> None:
    """Every record in and what became of it."""
    for name, counts in built.sources.items():
        lines: list[tuple[str, int, Any]] = [("records", counts.records, ""), ("used", counts.used, "")]
        lines.append(("rejected", counts.rejected.total(), reasons(counts.rejected)))
        if counts.bad:
            lines.append(("bad", counts.bad, "unusable rows"))
        if counts.dropped:
            lines.append(("dropped", counts.dropped.total(), f"of used records ({reasons(counts.dropped)})"))
        print(f"{name}:")
        for label, number, why in lines:
            print(one_line(f"  {label:8} {number:>9,}  {why}").rstrip())
    left_out = f" (left out by the limit: {built.over_limit:,})" if built.over_limit else ""
    print(f"wrote {built.written:,} pairs to {output}{left_out}")

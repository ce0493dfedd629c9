"""`tunesmith preferences`: any data set with preferences becomes one file of pairs in one form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tunesmith.apps.preferences import PairReport, PairSelection, build_preferences
from tunesmith.data.dataset.faults import one_line
from tunesmith.data.dataset.report import reasons
from tunesmith.data.readers.prompts import prompt_keys
from tunesmith.data.readers.registry import READERS
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.errors import UsageError
from tunesmith.files import write_json
from tunesmith.recipe.data import name_of
from tunesmith.recipe.reading import plain, read_text


def preferences(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", help="Files, directories or hub names.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new file, such as pairs.jsonl.")],
    reader: Annotated[str, typer.Option(help="What a row looks like, as in a recipe: ultrafeedback, nectar, hh, ...")],
    split: Annotated[str | None, typer.Option(help="Split of a hub data set.")] = None,
    field: Annotated[list[str] | None, typer.Option(help="NAME=COLUMN: what the data call a field.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE: a switch of the reader.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="COLUMN=TEXT: only rows that have this there.")] = None,
    where_not: Annotated[list[str] | None, typer.Option(help="COLUMN=TEXT: no rows that have this there.")] = None,
    only_prompts_of: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Keep only prompts that are in this file or hub data set.")
    ] = None,
    without_prompts_of: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Leave out prompts that are in this file or hub data set.")
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean/--no-clean", help="Strip white space around texts, leave out empty messages.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn: the worse reply of a pair, the order.")] = 42,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Order by a hash of seed and content.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many pairs, the first in that order.")] = None,
    name: Annotated[str | None, typer.Option(help="The text in `source`; default: from the source's path.")] = None,
    max_bad: Annotated[int, typer.Option(min=0, help="Rows that may be unusable; more stop everything.")] = 0,
    report: Annotated[Path | None, typer.Option(help="Write the counts to this file, as JSON.")] = None,
) -> None:
    """Write one JSON line for every pair of a better and a worse reply, as the reader `preference` takes them.

    For example: tunesmith preferences nectar.parquet --reader nectar --option replies=pair --output nectar.jsonl
    """
    options = {key: _value(key, text) for key, text in _settings(option, "--option replies=pair")}
    if reader in READERS and "seed" in READERS[reader].options:
        options = {"seed": seed, **options}
    fields = dict(_settings(field, "--field prompt=question"))
    specs = [SourceConfig(name or name_of(path), path, reader, split, fields, options) for path in sources]
    selection = PairSelection(
        where=_values(where),
        where_not=_values(where_not),
        only=prompt_keys(only_prompts_of) if only_prompts_of else None,
        without=prompt_keys(without_prompts_of or ()),
        clean=clean,
        shuffle=seed if shuffle else None,
        limit=limit,
    )
    built = build_preferences(specs, output, selection, max_bad)
    if report is not None:
        write_json(report, built.as_json())
    _say(built, output)


def _settings(words: Sequence[str] | None, example: str) -> list[tuple[str, str]]:
    """``KEY=VALUE`` words. Raises UsageError."""
    found = []
    for word in words or ():
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise UsageError(f"cannot read {word!r}", advice=f"it is written as {example}")
        found.append((key, value))
    return found


def _value(name: str, text: str) -> Any:
    """A value as it would stand in a recipe: ``true``, ``3``, ``[en, de]``. Raises RecipeFaults."""
    return plain(read_text(text, f"--option {name}", lines=False))


def _values(words: Sequence[str] | None) -> Mapping[str, frozenset[str]]:
    """Column -> all texts that were named for it."""
    found: dict[str, frozenset[str]] = {}
    for column, text in _settings(words, "--where source=evol_instruct"):
        found[column] = found.get(column, frozenset()) | {text}
    return found


def _say(built: PairReport, output: Path) -> None:
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

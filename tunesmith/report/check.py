"""The result of `tunesmith check`: lines for the terminal and JSON for programs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tunesmith.text.visible import visible

Status = Literal["pass", "warn", "fail", "skip"]
STYLES: Mapping[Status, str] = {"fail": "bold red", "warn": "yellow", "pass": "green", "skip": "dim"}
"""Status -> its style on a terminal. What has to be read is first."""
PLACES_SHOWN = 5
SINGULAR: Mapping[str, str] = {"have": "has", "are": "is", "do": "does"}
"""Verbs whose form for one record has more than an s."""
DASH = "- "  # before every place
INDENT = 6  # columns before the places and the advice of a check


@dataclass(frozen=True, slots=True)
class Check:
    """The result of checking one property of a recipe with its data, tokenizer and model.

    name: the property, as a noun that says nothing about the outcome.
    status: the outcome.
    summary: the finding as one sentence, with its numbers first.
    key: the recipe key to change where the check did not pass.
    advice: what to do, as a sentence with the words to append to the command line.
    places: (place, finding) for the first places where the property does not hold.
    """

    name: str
    status: Status
    summary: str
    key: str = ""
    advice: str = ""
    places: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The results of all checks of one recipe.

    recipe: the name of the recipe.
    checks: the results, in the order of the checks.
    facts: counts that belong to no single check, for JSON.
    inputs: what was checked, as the label of each line -> its values: data, tokenizer, model, versions, date, command.
    """

    recipe: str
    checks: tuple[Check, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def having(self, *statuses: Status) -> list[Check]:
        """The checks with one of these statuses, in the order of the statuses."""
        return [check for status in statuses for check in self.checks if check.status == status]

    def as_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        counts = {status: len(self.having(status)) for status in STYLES}
        return {
            "recipe": self.recipe,
            "result": "fail" if counts["fail"] else "pass",
            "counts": counts,
            "checks": [asdict(check) for check in self.checks],
            "facts": dict(self.facts),
            "inputs": {label: list(values) for label, values in self.inputs.items()},
        }

    def verdict(self) -> str:
        """One line: whether the recipe can be trained, and the numbers of checks by their status."""
        counts = {status: len(self.having(status)) for status in STYLES}
        parts = [f"{counts['fail']} failed", f"{counts['pass']} passed", f"{counts['skip']} skipped"]
        parts.insert(1, f"{counts['warn']} {'warning' if counts['warn'] == 1 else 'warnings'}")
        shown = ", ".join(part for part in parts if not part.startswith("0 "))
        return f"{self.recipe} {'cannot be trained like this' if counts['fail'] else 'is ready to train'}: {shown}"


def count_records(count: int, total: int, what: str) -> str:
    """A sentence such as ``1 of 60 records repeats an earlier one``.

    what: its rest for several records, which begins with a verb.
    """
    verb, _, rest = what.partition(" ")
    verb = SINGULAR.get(verb, f"{verb}s") if count == 1 else verb
    return f"{count:,} of {total:,} records {verb} {rest}"


def append_words(*words: str, to: str) -> str:
    """The advice to append words to the command line.

    words: ``key=value`` for each; they are quoted for a shell.
    to: what for, as the rest of the sentence.
    """
    return f"append {shlex.join(words)} to {to}"


def plain_lines(report: CheckReport) -> list[str]:
    """The lines that are printed to a pipe: one for each check, place and advice, whatever the width of a terminal."""
    width = _name_width(report)
    lines = []
    for group in _groups(report):
        for check in group:
            lines.append(f"{check.status}  {check.name:<{width}}  {check.summary}")
            lines += [f"{'':{INDENT}}{line}" for line in details(check)]
        lines.append("")
    return [visible(line) for line in (*lines, report.verdict())]


def show_checks(console: Console, report: CheckReport) -> None:
    """Print the checks to a terminal: first those that did not pass, with their places and the advice."""
    width = _name_width(report)
    for group in _groups(report):
        for check in group:
            row = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
            row.add_column(width=4, no_wrap=True)
            row.add_column(width=width, no_wrap=True)
            row.add_column(ratio=1)
            row.add_row(Text(check.status, STYLES[check.status]), visible_text(check.name), visible_text(check.summary))
            console.print(row)
            for line in details(check):
                console.print(Padding(_hanging(line), (0, 0, 0, INDENT)))
        console.print()
    console.print(visible_text(report.verdict(), "bold"))


def visible_text(text: str, style: str = "") -> Text:
    """A text of data or a recipe for a terminal. style: of rich."""
    return Text(visible(text), style)


def details(check: Check) -> Sequence[str]:
    """One line for each of the first ``PLACES_SHOWN`` places, then the advice; nothing for a check that passed."""
    if check.status == "pass":
        return []
    lines = [f"{DASH}{place}: {what}" if place else f"{DASH}{what}" for place, what in check.places[:PLACES_SHOWN]]
    if len(check.places) > PLACES_SHOWN:
        lines.append(f"{DASH}and more places, which check.json lists")
    return [*lines, check.advice] if check.advice else lines


def _groups(report: CheckReport) -> list[list[Check]]:
    """The checks that have to be read, and the others; without empty groups."""
    groups = [report.having("fail", "warn"), report.having("pass", "skip")]
    return [group for group in groups if group]


def _name_width(report: CheckReport) -> int:
    return max((len(check.name) for check in report.checks), default=0)


def _hanging(line: str) -> Table | Text:
    """A line; the continuation of a place begins after its dash."""
    if not line.startswith(DASH):
        return visible_text(line, "bold")
    grid = Table.grid()
    grid.add_column(width=len(DASH))
    grid.add_column(ratio=1)
    grid.add_row(DASH, visible_text(line.removeprefix(DASH)))
    return grid

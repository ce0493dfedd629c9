"""The result of `tunesmith check`: a table for the terminal and JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tunesmith.text.visible import visible

Status = Literal["pass", "warn", "fail", "skip"]
STYLES: Mapping[Status, str] = {"pass": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}
PLACES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Check:
    """The result of checking one property of a recipe with its data, tokenizer and model.

    name: the property, as a statement that is true where the check passes.
    status: the outcome.
    summary: the findings, with numbers.
    key: the recipe key to change where the check did not pass.
    advice: how to change it.
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
    """

    recipe: str
    checks: tuple[Check, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def having(self, status: Status) -> list[Check]:
        """The checks with this status."""
        return [check for check in self.checks if check.status == status]

    def as_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        counts = {status: len(self.having(status)) for status in STYLES}
        return {
            "recipe": self.recipe,
            "result": "fail" if counts["fail"] else "pass",
            "counts": counts,
            "checks": [asdict(check) for check in self.checks],
            "facts": dict(self.facts),
        }

    def verdict(self) -> str:
        """One line with the numbers of checks that passed, warned, failed or were skipped."""
        words = {"pass": "passed", "warn": "warned", "fail": "failed", "skip": "skipped"}
        counts = [f"{len(found)} {words[status]}" for status in STYLES if (found := self.having(status))]
        return f"{self.recipe}: {', '.join(counts)}"


def plain_lines(report: CheckReport) -> list[str]:
    """The lines that are printed to a pipe: the contents of ``show_checks``, whatever the width of the terminal."""
    width = max(len(check.name) for check in report.checks)
    lines = [f"{check.status}  {check.name:<{width}}  {check.summary}" for check in report.checks]
    for check in (*report.having("warn"), *report.having("fail")):
        lines += ["", f"{check.status}  {check.name}", *(f"  {line}" for line in details(check))]
    return [visible(line) for line in (*lines, "", report.verdict())]


def show_checks(console: Console, report: CheckReport) -> None:
    """Print the table, then for every check that did not pass its places and the advice."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for check in report.checks:
        table.add_row(Text(check.status, STYLES[check.status]), Text(visible(check.name)), Text(visible(check.summary)))
    console.print(table)
    for check in (*report.having("warn"), *report.having("fail")):
        console.print()
        console.print(Text.assemble((check.status, STYLES[check.status]), f" {visible(check.name)}"))
        for line in details(check):
            console.print(Padding(Text(visible(line)), (0, 0, 0, 2)))
    console.print()
    console.print(Text(visible(report.verdict()), "bold"))


def details(check: Check) -> Sequence[str]:
    """One line for each of the first ``PLACES_SHOWN`` places, then the advice with the recipe key it is about."""
    lines = [f"{place}: {what}" if place else what for place, what in check.places[:PLACES_SHOWN]]
    if len(check.places) > PLACES_SHOWN:
        lines.append("... and more places; check.json lists all that were recorded")
    if check.advice or check.key:
        lines.append(f"what to do: {check.key}{': ' if check.key and check.advice else ''}{check.advice}")
    return lines

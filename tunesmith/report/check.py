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
    """One property of a recipe with its data, tokenizer and model.

    summary: what was seen, with numbers. key: the recipe key that mends a failure. advice: what to do with it.
    places: where it was seen and what stands there; the first of them.
    """

    name: str
    status: Status
    summary: str
    key: str = ""
    advice: str = ""
    places: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All checks of one recipe. facts: counts that belong to no single check."""

    recipe: str
    checks: tuple[Check, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def having(self, status: Status) -> list[Check]:
        return [check for check in self.checks if check.status == status]

    def as_json(self) -> dict[str, Any]:
        counts = {status: len(self.having(status)) for status in STYLES}
        return {
            "recipe": self.recipe,
            "result": "fail" if counts["fail"] else "pass",
            "counts": counts,
            "checks": [asdict(check) for check in self.checks],
            "facts": dict(self.facts),
        }

    def verdict(self) -> str:
        """One line: how many checks passed, warned, failed."""
        words = {"pass": "passed", "warn": "warned", "fail": "failed", "skip": "left out"}
        counts = [f"{len(found)} {words[status]}" for status in STYLES if (found := self.having(status))]
        return f"{self.recipe}: {', '.join(counts)}"


def plain_lines(report: CheckReport) -> list[str]:
    """The same as ``show_checks`` for a pipe: one check a line, whatever the width."""
    width = max(len(check.name) for check in report.checks)
    lines = [f"{check.status}  {check.name:<{width}}  {check.summary}" for check in report.checks]
    for check in (*report.having("warn"), *report.having("fail")):
        lines += ["", f"{check.status}  {check.name}", *(f"  {line}" for line in details(check))]
    return [visible(line) for line in (*lines, "", report.verdict())]


def show_checks(console: Console, report: CheckReport) -> None:
    """The table, and under every check that did not pass the places and what to do."""
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
    """The places, shortened, and the advice with the key that it is about."""
    lines = [f"{place}: {what}" if place else what for place, what in check.places[:PLACES_SHOWN]]
    if len(check.places) > PLACES_SHOWN:
        lines.append("... and more; all that were kept are in the JSON")
    if check.advice or check.key:
        lines.append(f"what to do: {check.key}{': ' if check.key and check.advice else ''}{check.advice}")
    return lines

"""The result of `tunesmith check` as one static HTML page: all checks, and some examples token by token.

Every token is coloured by its role and by whether it is a target. The page has no script and loads nothing. The
template engine escapes everything that comes from data, and characters that control a terminal or are invisible are
written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from tunesmith.report.check import CheckReport, details
from tunesmith.text.tokens.show import ShownToken
from tunesmith.text.visible import visible


@dataclass(frozen=True, slots=True)
class ShownExample:
    """One record on the page.

    place: file and line of the record.
    source: the name of its data source.
    threads: the tokens of its first root-to-leaf threads.
    more: the number of threads that are not shown.
    """

    place: str
    source: str
    threads: Sequence[Sequence[ShownToken]]
    more: int = 0

    @property
    def targets(self) -> int:
        """The number of target token ids that are shown."""
        return sum(len(token.ids) for thread in self.threads for token in thread if token.target)

    @property
    def tokens(self) -> int:
        """The number of token ids that are shown."""
        return sum(len(token.ids) for thread in self.threads for token in thread)


def check_page(report: CheckReport, examples: Sequence[ShownExample]) -> str:
    """The page as HTML."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["visible"] = visible
    template = files("tunesmith.report").joinpath("check_page.html").read_text("utf-8")
    return environment.from_string(template).render(
        report=report, checks=[(check, details(check)) for check in report.checks], examples=examples
    )

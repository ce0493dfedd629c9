"""The result of `tunesmith check` as one static HTML page: what was checked, all checks, and some examples.

Every token of an example has a border; whether it is trained is shown by a line below it and not by colour alone. The
page has no script and loads nothing. The template engine escapes everything that comes from data, and characters that
control a terminal or are invisible are written out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from tunesmith.report.check import CheckReport, details
from tunesmith.report.page import page_policy, page_style, page_template
from tunesmith.text.tokens.show import ShownToken
from tunesmith.text.tree import Role

PieceKind = Literal["text", "space", "tab", "line", "other"]
WHITE_SPACE: dict[str, PieceKind] = {" ": "space", "\t": "tab", "\n": "line"}


@dataclass(frozen=True, slots=True)
class ShownTurn:
    """Consecutive tokens of one role.

    role: of the turn.
    tokens: in order.
    """

    role: Role
    tokens: Sequence[ShownToken]


@dataclass(frozen=True, slots=True)
class ShownExample:
    """One record on the page, before truncation.

    place: file and line of the record.
    source: the name of its data source.
    use: what it is used for, such as training; empty if it is dropped.
    dropped: why it is dropped; empty if it is used.
    cut: tokens of a record that is used which truncation leaves out.
    tokens, targets: of the whole record, each counted once.
    threads: the tokens of its first root-to-leaf threads.
    more_threads: the number of threads that are not shown.
    more_tokens: the number of tokens of the shown threads that are not shown.
    """

    place: str
    source: str
    use: str
    dropped: str
    cut: int
    tokens: int
    targets: int
    threads: Sequence[Sequence[ShownToken]]
    more_threads: int = 0
    more_tokens: int = 0

    def turns(self) -> Iterator[list[ShownTurn]]:
        """The turns of every thread that is shown."""
        for thread in self.threads:
            yield [ShownTurn(role, list(tokens)) for role, tokens in groupby(thread, key=lambda token: token.role)]


def check_page(report: CheckReport, examples: Sequence[ShownExample]) -> str:
    """The page as HTML."""
    style = page_style("tokens.css", "check_page.css")
    return page_template("check_page.html").render(
        policy=page_policy(style),
        style=style,
        report=report,
        checks=[(check, details(check)) for check in report.having("fail", "warn", "pass", "skip")],
        examples=examples,
        pieces=split_white_space,
    )


def split_white_space(text: str) -> Iterator[tuple[PieceKind, str]]:
    """The parts of a token's text: every character of white space alone, and what is between them."""
    for part in re.split(r"(\s)", text):
        if part:
            yield WHITE_SPACE.get(part, "other" if part.isspace() else "text"), part

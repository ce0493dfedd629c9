"""A run as one page for the browser: its progress, curves, evaluations, replies, data, checks, manifest and recipe.

The curves are drawn by uPlot, which is part of the page; everything else is there without script too. While the run
trains, the page is written again every few seconds, and the script of the page loads it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tunesmith.report.check import STYLES as CHECK_STATES
from tunesmith.report.page import embedded_json, package_text, page_policy, page_style, page_template

PLOT, PLOT_STYLE, PLOT_LICENSE = "uplot/uPlot.iife.min.js", "uplot/uPlot.min.css", "uplot/LICENSE"
LONGEST_TEXT = 2_000
"""Characters of a prompt or reply on the page."""
RELOAD_SECONDS = 4
"""Time between two looks of the open page at a newer one."""


@dataclass(frozen=True, slots=True)
class ShownReply:
    """What a model wrote at one or more evaluations in a row.

    first, last: steps of the evaluations.
    label: what the text is, such as ``reply``.
    text: the same at all of them.
    best: whether one of them is that of the chosen checkpoint.
    """

    first: int
    last: int
    label: str
    text: str
    best: bool


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table of texts.

    headers: of the columns.
    rows: the cells of each row.
    texts: columns that are aligned to the left, counted from 0.
    marked: numbers of the rows that are emphasized.
    note: a sentence below it.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: Sequence[int] = (0,)
    marked: Sequence[int] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class RepliesOverTime:
    """One prompt and what was written at the evaluations, in their order.

    prompt: its text.
    replies: in the order of their steps; empty where the replies stay the same and only their labels change.
    labels: the replies that stay the same, with their label at every evaluation; None where each
        evaluation has its own replies.
    """

    prompt: str
    replies: Sequence[ShownReply]
    labels: PageTable | None = None


@dataclass(frozen=True, slots=True)
class RunPageContent:
    """Everything on the page of a run.

    name: of the run.
    facts: one line about method, model and recipe.
    state: training, finished, stopped or failed.
    progress: one line about steps and time.
    reason: why the run stopped or failed.
    updated: time of writing, in ISO 8601.
    step, steps: done, and of the whole run; 0 if they are not known.
    tiles: (label, value) of the most important numbers.
    charts: the numbers of the curves, for the script.
    values: the first, lowest, highest and last value of every curve.
    evaluations: the metrics of the evaluations.
    replies: prompts with the replies at the evaluations.
    data: the counts of the data.
    checks: the name, status and summary of what was checked before the first step.
    manifest: (key, value).
    recipe: the resolved recipe as YAML.
    """

    name: str
    facts: str
    state: str
    progress: str
    reason: str
    updated: str
    step: int
    steps: int
    tiles: Sequence[tuple[str, str]]
    charts: Mapping[str, Any]
    values: PageTable
    evaluations: PageTable | None
    replies: Sequence[RepliesOverTime]
    data: Sequence[PageTable]
    checks: Sequence[Mapping[str, str]]
    manifest: Sequence[tuple[str, str]]
    recipe: str
    notes: Sequence[str] = field(default_factory=tuple)


def run_page(content: RunPageContent) -> str:
    """The page as HTML."""
    style = page_style(PLOT_STYLE, "run_page.css")
    plot, script = package_text(PLOT), page_script()
    order = list(CHECK_STATES)
    return page_template("run_page.html").render(
        run=content,
        checks=sorted(content.checks, key=lambda each: order.index(each["status"]) if each["status"] in order else 0),
        policy=page_policy(style, [plot, script]),
        style=style,
        plot=plot,
        license=package_text(PLOT_LICENSE),
        script=script,
        data=embedded_json(
            {
                **content.charts,
                "state": content.state,
                "updated": content.updated,
                "reload": RELOAD_SECONDS if content.state == "training" else 0,
            }
        ),
    )


@cache
def page_script() -> str:
    """The script of the page, without that of uPlot."""
    return package_text("run_charts.js") + package_text("run_page.js")


def clipped(text: str) -> str:
    """A text that is not too long for the page."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} ... ({len(text):,} characters)"

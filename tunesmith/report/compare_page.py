"""A comparison as one page for the browser, which works from disk and loads nothing.

The replies are data, as JSON in a ``script`` element that is not executed. The only script of the page is named by its
digest in the Content-Security-Policy of the page, and text enters the document only through ``textContent``. Without
script the page is a plain list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tunesmith.files import fingerprint
from tunesmith.report.compare_statistics import MEASURES, ColumnDifference, ColumnSummary
from tunesmith.report.compare_terminal import (
    NOTE,
    column_name,
    difference_text,
    headline,
    measure_verdict,
    shown_headers,
    summary_cells,
)
from tunesmith.report.compared import ComparedPrompt, Comparison
from tunesmith.report.page import embedded_json, package_text, page_policy, page_style, page_template
from tunesmith.text.visible import visible

SCRIPTS = ("compare_text.js", "compare_votes.js", "compare_page.js", "compare_controls.js")
"""Parts of the script of the page, in the order in which they are joined."""

LARGEST_COMPLETE_LIST = 2_000_000
"""Characters of all replies up to which the list without script has all of them; else it has the first reply of every
model and configuration, because it stores its texts a second time."""


def compare_page(
    comparison: Comparison, summaries: Sequence[ColumnSummary], differences: Sequence[ColumnDifference], seed: int
) -> str:
    """The page as HTML. seed: decides which reply is left and which is right in blind votes."""
    script, style = page_script(), page_style("compare_page.css")
    complete = (
        sum(len(reply.text) for prompt in comparison.prompts for reply in prompt.replies) <= LARGEST_COMPLETE_LIST
    )
    labels = [model.label for model in comparison.models]
    replies = sum(len(prompt.replies) for prompt in comparison.prompts)
    shown = shown_headers(comparison)
    return page_template("compare_page.html").render(
        title=" and ".join(labels) if len(labels) < 3 else f"Comparison of {len(labels)} models",
        facts=f"{headline(comparison)}; {replies:,} replies",
        policy=page_policy(style, [script]),
        script=script,
        style=style,
        data=embedded_json(page_data(comparison, seed)),
        headers=["configuration", "model", *(name for name, _ in shown)],
        summaries=[
            (each.column.configuration, labels[each.column.model], *summary_cells(each)[: len(shown)])
            for each in summaries
        ],
        differences=list(_difference_tables(comparison, differences)),
        note=NOTE,
        models=comparison.models,
        reward_model=comparison.reward_model,
        listed=comparison.prompts if complete else [_first_replies(prompt) for prompt in comparison.prompts],
        complete=complete,
    )


def page_script() -> str:
    """The script of the page."""
    return "".join(package_text(name) for name in SCRIPTS)


def page_data(comparison: Comparison, seed: int) -> dict[str, Any]:
    """What the script reads. Characters that are invisible or control a terminal are written out in all texts.

    prompts: for each its key, its text and its replies, which are lists of model, index of the configuration, sample,
        text, ended (0, 1 or null), loop, control (0 or 1) and reward (or null).
    """
    numbers = {name: index for index, name in enumerate(comparison.configurations)}
    prompts = [
        [
            prompt.key,
            visible(prompt.text),
            [
                [
                    *(reply.model, numbers[reply.configuration], reply.sample, visible(reply.text)),
                    *(None if reply.ended is None else int(reply.ended), int(reply.loop), int(reply.control)),
                    None if reply.reward is None else round(reply.reward, 4),
                ]
                for reply in prompt.replies
            ],
        ]
        for prompt in comparison.prompts
    ]
    return {
        "key": fingerprint([model.key for model in comparison.models])[:16],
        "seed": seed,
        "models": [
            {"label": visible(each.label), "name": visible(each.name), "file": visible(each.file), "key": each.key}
            for each in comparison.models
        ],
        "configurations": [visible(name) for name in comparison.configurations],
        "prompts": prompts,
    }


def _first_replies(prompt: ComparedPrompt) -> ComparedPrompt:
    """The prompt with the first reply of every model and configuration."""
    return replace(prompt, replies=tuple(reply for reply in prompt.replies if reply.sample == 0))


def _difference_tables(
    comparison: Comparison, differences: Sequence[ColumnDifference]
) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """(the models, the rows of their table) for every two models; one table for the configurations of one model."""
    tables: dict[str, list[tuple[str, ...]]] = {}
    for difference in differences:
        first, second = (comparison.models[each.model].label for each in (difference.first, difference.second))
        heading, name, verdict_name = f"{second} less {first}", column_name(difference.first), second
        if len(comparison.models) == 1:
            heading, name, verdict_name = (
                f"each configuration less {column_name(difference.first)}",
                column_name(difference.second),
                "",
            )
        rows = tables.setdefault(heading, [])
        for measure in MEASURES:
            if measure.name in difference.measures:
                found = difference.measures[measure.name]
                verdict = measure_verdict(measure, found, verdict_name)
                rows.append((name, measure.name, f"{found.prompts:,}", difference_text(measure, found), verdict))
    yield from tables.items()

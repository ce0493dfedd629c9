"""Some records for the page of `tunesmith check`, token by token, with what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tunesmith.compose.check.text_survey import SurveyedRecord
from tunesmith.compose.components.data import target_limit
from tunesmith.recipe.schema import Recipe
from tunesmith.report.check_page import ShownExample
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.show import ShownToken, show_threads

THREADS_SHOWN, TOKENS_SHOWN = 3, 1500  # of an example on the page


def show_record(recipe: Recipe, renderer: Renderer, record: SurveyedRecord) -> ShownExample:
    """The record as it is before truncation; tokens that are cut from its end are marked."""
    tokens = record.tokens
    shown = show_threads(renderer, record.tree, tokens, threads=THREADS_SHOWN, longest=TOKENS_SHOWN)
    ends = tokens.ends()
    lengths = [len(tokens.thread(end)) for end in ends[:THREADS_SHOWN]]
    marks_end = recipe.text.truncation == "right" and target_limit(recipe) is None and not record.dropped
    return ShownExample(
        place=record.tree.place,
        source=record.tree.source,
        use=record.use,
        dropped=record.dropped,
        cut=record.cut,
        tokens=len(tokens.ids),
        targets=len(tokens.targets()),
        threads=[mark_cut(thread, recipe.text.max_length) if marks_end else thread for thread in shown],
        more_threads=len(ends) - len(shown),
        more_tokens=sum(max(0, length - TOKENS_SHOWN) for length in lengths),
    )


def mark_cut(thread: Sequence[ShownToken], limit: int) -> list[ShownToken]:
    """A thread whose tokens from position ``limit`` on are marked as cut."""
    marked, position = [], 0
    for token in thread:
        position += len(token.ids)
        marked.append(replace(token, cut=True) if position > limit else token)
    return marked

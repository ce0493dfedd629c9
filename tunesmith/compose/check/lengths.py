"""Checks of the length limits: what they drop and cut, and the words that raise them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tunesmith.compose.components.data import render_settings, target_limit
from tunesmith.data.dataset.rendering import REASONS, RenderSettings, count_laid_out, limit_tree
from tunesmith.data.dataset.report import DataReport
from tunesmith.data.dataset.store import count_targets
from tunesmith.errors import DataError
from tunesmith.recipe.schema import Recipe
from tunesmith.report.check import Check, Status, append_words
from tunesmith.text.tokens.crop import thread_lengths
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tokens.truncate import DroppedTree, input_and_replies

LENGTH, TARGET_LENGTH = "text.max_length", "text.max_target_length"
WARNED, FAILED = 0.01, 0.5  # shares of the tokens, or of the targets, that are lost
STEP = 64  # a limit that is advised is a multiple of it


@dataclass(frozen=True, slots=True)
class LimitedRecord:
    """What the length limits do to one record.

    tokens, targets: before truncation.
    lengths: tokens that each limit counts, of the longest thread, or of the input and the longest reply.
    dropped: why it is not used; empty if it is.
    cut: tokens of a record that is used which are left out.
    lost: targets that are not used.
    """

    tokens: int
    targets: int
    lengths: tuple[int, ...]
    dropped: str
    cut: int
    lost: int


@dataclass(slots=True)
class LengthSurvey:
    """The lengths of the records of a recipe, before truncation.

    recipe: has the limits.
    opening: tokens with which every text begins, of the renderer.
    settings: of the rendering; making them reads the chat template of a tokenizer.
    records: what the limits do to each record that was added.
    """

    recipe: Recipe
    opening: int
    settings: RenderSettings
    records: list[LimitedRecord] = field(default_factory=list)

    @classmethod
    def of(cls, recipe: Recipe, opening: int) -> LengthSurvey:
        """A survey without records. recipe, opening: see the fields."""
        return cls(recipe, opening, render_settings(recipe))

    @property
    def limits(self) -> Mapping[str, int]:
        """Recipe key -> tokens that it allows. Of a prompt, without those that are reserved for the reply."""
        limits = {LENGTH: self.recipe.text.max_length - self.recipe.objective.reserved_tokens}
        replies = target_limit(self.recipe)
        return limits if replies is None else {**limits, TARGET_LENGTH: replies}

    @property
    def _parts(self) -> Sequence[str]:
        """What each limit counts, for a sentence."""
        return ("",) if len(self.limits) == 1 else (" of input", " of reply")

    def add(self, place: str, tokens: TokenTree) -> LimitedRecord:
        """Count one record. place: of the record. tokens: as they were rendered."""
        targets, lengths = count_targets(tokens), self._lengths(tokens)
        try:
            fitted = limit_tree(self.settings, tokens, place, self.opening)
        except DataError as error:
            found = LimitedRecord(len(tokens.ids), targets, lengths, error.what, 0, targets)
        else:
            if isinstance(fitted, DroppedTree):
                found = LimitedRecord(len(tokens.ids), targets, lengths, REASONS[fitted.reason], 0, targets)
            else:
                kept = count_laid_out(self.settings, fitted, self.opening).targets
                found = LimitedRecord(len(tokens.ids), targets, lengths, "", fitted.cut, targets - kept)
        self.records.append(found)
        return found

    def _lengths(self, tokens: TokenTree) -> tuple[int, ...]:
        if target_limit(self.recipe) is None or not len(tokens.spans):
            longest = int(thread_lengths(tokens).max(initial=0))
            return (longest,) * len(self.limits)
        parts = input_and_replies(tokens)
        sizes = (parts[:, 1] - parts[:, 0]).tolist()
        return sizes[0], max(sizes[1:], default=0)

    @property
    def targets(self) -> tuple[int, int]:
        """(targets that are not used because of the limits, all targets)."""
        return sum(record.lost for record in self.records), sum(record.targets for record in self.records)

    def checks(self, report: DataReport, positions: int | None) -> list[Check]:
        """The checks of all tokens and of all targets.

        report: of the data, whose counts are of all records.
        positions: the most tokens that the model reads; None if it is not known or there is no limit.
        """
        return [self._token_check(report, positions), self._target_check(positions)]

    def _token_check(self, report: DataReport, positions: int | None) -> Check:
        tallies = list(report.sources.values())
        records = sum(tally.records for tally in tallies)
        tokens, cut = sum(tally.tokens for tally in tallies), sum(tally.cut for tally in tallies)
        dropped = sum((tally.rejected for tally in tallies), Counter[str]())[REASONS["too_long"]]
        shortened = sum(record.cut > 0 for record in self.records)
        share = cut / max(tokens, 1)
        limits = " or ".join(
            f"{limit:,} tokens{part}" for limit, part in zip(self.limits.values(), self._parts, strict=True)
        )
        if not cut:
            return Check("length limit", "pass", f"0 of {records:,} records are longer than {limits}")
        status: Status = "fail" if share > FAILED else "warn" if share > WARNED else "pass"
        if dropped:
            are = "is" if dropped == 1 else "are"
            summary = (
                f"{dropped:,} of {records:,} records ({share:.1%} of tokens) {are} longer than {limits} and dropped"
            )
            summary += f"; {shortened:,} more lose a part" if shortened else ""
        else:
            summary = f"{share:.1%} of tokens are cut, since {shortened:,} of {len(self.records):,} records are longer "
            summary += f"than {limits}"
        keys = ", ".join(self.limits)
        return Check("length limit", status, summary, keys, self._advice(positions))

    def _target_check(self, positions: int | None) -> Check:
        lost, whole = self.targets
        share = lost / max(whole, 1)
        status: Status = "fail" if share > FAILED else "warn" if share > WARNED else "pass"
        summary = f"{share:.1%} of what should be trained is cut ({lost:,} of {whole:,} tokens)"
        return Check("truncated targets", status, summary, self._cutting_key(), self._advice(positions))

    def _cutting_key(self) -> str:
        """The key of the limit that cuts most targets."""
        lost = dict.fromkeys(self.limits, 0)
        for record in self.records:
            for (key, limit), length in zip(self.limits.items(), record.lengths, strict=True):
                lost[key] += record.lost if length > limit else 0
        return max(reversed(lost), key=lambda key: lost[key])

    def _advice(self, positions: int | None) -> str:
        """The words that raise the limits so that little is lost; other words where the model does not allow it."""
        wanted = {key: limit for key, limit in self._wanted(positions).items() if limit > self.limits[key]}
        reserved = self.recipe.objective.reserved_tokens
        words = [f"{key}={limit + (reserved if key == LENGTH else 0)}" for key, limit in wanted.items()]
        cuts = self.recipe.text.truncation == "drop" and not reserved and self.recipe.targets != "ranked"
        right = "text.truncation=right"
        if not words:
            what = (
                f"the model reads {positions:,} tokens at most" if positions is not None else "the limit is high enough"
            )
            return f"{what}; {append_words(right, to='keep the beginning of longer records') if cuts else 'split them'}"
        kept = self._kept_share(wanted)
        advice = append_words(*words, to=f"keep {kept} the tokens, which needs more memory")
        return f"{advice}, or append {right} to keep the beginning of longer records" if cuts else advice

    def _kept_share(self, wanted: Mapping[str, int]) -> str:
        limits = {**self.limits, **wanted}
        total = sum(record.tokens for record in self.records)
        kept = sum(
            record.tokens
            for record in self.records
            if all(length <= limit for length, limit in zip(record.lengths, limits.values(), strict=True))
        )
        return "all" if kept == total else f"{kept / max(total, 1):.1%} of"

    def _wanted(self, positions: int | None) -> dict[str, int]:
        """The lowest limits that lose less than is warned of, but not more than the model reads."""
        wanted = {}
        for index, key in enumerate(self.limits):
            lengths = np.array([record.lengths[index] for record in self.records], np.int64)
            weights = [
                np.array([record.tokens for record in self.records], np.float64),
                np.array([record.targets for record in self.records], np.float64),
            ]
            limit = find_limit(lengths, weights, WARNED / len(self.limits))
            reserved = self.recipe.objective.reserved_tokens if key == LENGTH else 0
            limit = -(-(limit + reserved) // STEP) * STEP
            wanted[key] = (limit if positions is None else min(limit, positions)) - reserved
        return wanted


def find_limit(lengths: NDArray[np.int64], weights: Sequence[NDArray[np.float64]], share: float) -> int:
    """The lowest limit such that longer records have at most a share of every weight.

    lengths: int64 [n]. weights: float64 [n] each. share: between 0 and 1.
    """
    if not len(lengths):
        return 0
    order = np.argsort(lengths, kind="stable")
    longest_first = lengths[order][::-1]
    allowed = len(lengths)
    for weight in weights:
        lost = np.cumsum(weight[order][::-1])  # by the records that are longer than the next one
        allowed = min(allowed, int(np.count_nonzero(lost <= share * weight.sum())))
    return int(longest_first[min(allowed, len(lengths) - 1)])

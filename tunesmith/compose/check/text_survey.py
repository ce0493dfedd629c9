"""Checks of the texts: repeated records, overlap with evaluation data, unusual contents, the longest records."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunesmith.compose.check.lengths import LengthSurvey
from tunesmith.data.dataset.duplicates import signatures
from tunesmith.data.dataset.evaluation_sets import EvaluationSets
from tunesmith.data.dataset.inspection import Finding, TextFindings, inspect_texts, language_detector
from tunesmith.data.dataset.similarity import NearDuplicates
from tunesmith.data.dataset.split import content_key
from tunesmith.data.dataset.store import Store
from tunesmith.recipe.schema import Recipe
from tunesmith.report.check import Check, append_words, count_records
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Tree

LIMIT = 20_000  # records that are surveyed; of more, a share chosen by their content
SAMPLES, LOST_SAMPLES = 8, 2  # records for display, of those that are used whole and of the others
LONGEST = 5


@dataclass(frozen=True, slots=True)
class FindingKind:
    """How one kind of finding is reported.

    name: of the check, whatever its status.
    what: what is found in records, as the rest of a sentence that begins with "3 of 60 records".
    key: the recipe key that fixes it.
    advice: what to do with it.
    """

    name: str
    what: str
    key: str
    advice: str


EXACT = FindingKind(
    "exact duplicates",
    "repeat an earlier one",
    "data.duplicates",
    append_words("data.duplicates=exact", to="keep one of each"),
)
NEAR = FindingKind(
    "near duplicates",
    "repeat an earlier one almost word for word",
    "data.duplicates",
    append_words("data.duplicates=near", to="keep one of each"),
)
SPLIT = FindingKind(
    "validation overlap",
    "are nearly the same in training and in validation",
    "data.duplicates",
    append_words("data.duplicates=near", to="keep one of each, so that validation has no text of training"),
)
CONTROL = FindingKind(
    "control texts",
    "write out a control token, which stays plain text",
    "",
    "nothing has to be done if it is meant; otherwise remove it from these texts",
)
REPETITIVE = FindingKind(
    "repetitive texts",
    "have a text that repeats itself many times",
    "",
    "look at these records; correct or remove them",
)
BLANK = FindingKind("blank texts", "have a text without a visible character", "", "correct or remove these records")
LANGUAGE = FindingKind(
    "declared languages",
    "have a text in another language than it declares",
    "data.sources",
    "look at these records; the key filters.languages of a source keeps records by the language that they declare",
)
EVALUATION = FindingKind(
    "evaluation overlap",
    "contain a text of an evaluation set",
    "data.evaluation_sets",
    "remove these records from the training data",
)
SIDES = ("training", "validation", "validation")
"""What the records of every store are used for: the training data, what is held out of them, separate data."""


@dataclass(frozen=True, slots=True)
class SurveyedRecord:
    """One record for display.

    tree: its messages.
    tokens: before truncation.
    use: what it is used for; empty if it is dropped.
    dropped: why it is dropped; empty if it is used.
    cut: tokens of a record that is used which are left out.
    """

    tree: Tree
    tokens: TokenTree
    use: str
    dropped: str
    cut: int


class TextSurvey:
    """Collects findings over the texts of the records that it includes.

    recipe: has the data and the length limits.
    renderer: of the run.
    stores: the token trees of training, and of validation. A record belongs to the side that has its content.
    """

    def __init__(self, recipe: Recipe, renderer: Renderer, stores: Sequence[Store | None]) -> None:
        self._renderer, self._language = renderer, language_detector()
        self._sides = [frozenset() if store is None else {key.tobytes() for key in store.keys} for store in stores]
        total = sum(len(store) for store in stores if store is not None)
        self._share = min(1.0, LIMIT / max(total, 1))
        self._evaluation = EvaluationSets(recipe.data.evaluation_sets)
        self._evaluation_files = len(recipe.data.evaluation_sets)
        self.lengths = LengthSurvey.of(recipe, renderer.opening)
        self.texts = TextFindings()
        self.duplicates, self.near = Finding(), Finding()
        self.straddling, self.contaminated = Finding(), Finding()
        self._policy, self._near_index = recipe.data.duplicates, NearDuplicates(recipe.data.near_threshold)
        self._first: dict[bytes, tuple[str, int]] = {}  # content -> the place where it came first, and its side
        self._samples: dict[bool, list[tuple[int, int, SurveyedRecord]]] = {True: [], False: []}  # whole, others
        self._longest: list[tuple[int, str]] = []
        self._trees = 0

    def includes(self, tree: Tree) -> bool:
        """Whether a record is surveyed: a function of its content."""
        return self._share >= 1.0 or int.from_bytes(content_key(tree)[:8], "little") < self._share * 2**64

    def add(self, tree: Tree, tokens: TokenTree) -> None:
        """Survey one record. tokens: as they were rendered, before truncation."""
        key = content_key(tree)
        side = next((number for number, keys in enumerate(self._sides) if key in keys), -1)
        limited = self.lengths.add(tree.place, tokens)
        inspect_texts([tree], self._renderer.tokenizer, self._language, self.texts)
        repeated = self._find_repetition(tree, key, side)
        if side == 0 and self._evaluation_files and (what := self._evaluation.overlap(tree)):
            self.contaminated.add(tree.place, what)
        self._trees += 1
        _push(self._longest, (limited.tokens, tree.place), LONGEST)
        use = "" if limited.dropped or repeated else SIDES[side] if side >= 0 else "neither training nor validation"
        record = SurveyedRecord(tree, tokens, use, limited.dropped or repeated, limited.cut)
        whole = not record.dropped and not record.cut
        order = (-int.from_bytes(key[:8], "little"), -self._trees, record)
        _push(self._samples[whole], order, SAMPLES if whole else LOST_SAMPLES)

    def _find_repetition(self, tree: Tree, key: bytes, side: int) -> str:
        """Count a record that is repeated; returns why it is dropped, or an empty text if it is not."""
        if key in self._first:
            same = f"repeats {_near_name(self._first[key][0], tree.place)}"
            if self._policy != "keep":
                return same
            self.duplicates.add(tree.place, same)
            return ""
        if side < 0:  # dropped, or held out and not used
            return "nearly repeats an earlier record" if self._policy == "near" else ""
        self._first[key] = (tree.place, side)
        earlier = self._near_index.add(key.hex(), signatures(tree))
        if earlier is not None:
            first, other = self._first[bytes.fromhex(earlier)]
            place = _near_name(first, tree.place)
            self.near.add(tree.place, f"nearly repeats {place}")
            if side != other:
                self.straddling.add(tree.place, f"nearly repeats {place}, of the other part")
        return ""

    def samples(self) -> list[SurveyedRecord]:
        """Some records for display, chosen by their content: some that are used whole, then some that are not."""
        whole, others = (sorted(self._samples[key], key=lambda item: item[:2], reverse=True) for key in (True, False))
        return [record for _, _, record in (*whole, *others)]

    def checks(self) -> list[Check]:
        """The checks of all texts, without their lengths."""
        texts, total = self.texts, self.texts.records
        findings = {
            EXACT: self.duplicates,
            NEAR: self.near,
            SPLIT: self.straddling,
            CONTROL: texts.control,
            REPETITIVE: texts.repeated,
            BLANK: texts.blank,
            LANGUAGE: texts.language,
        }
        return [*(_finding_check(kind, finding, total) for kind, finding in findings.items()), self._contamination()]

    def _contamination(self) -> Check:
        if not self._evaluation_files:
            advice = append_words("data.evaluation_sets=[FILE]", to="compare with texts that you will evaluate on")
            return Check(EVALUATION.name, "skip", "no file of an evaluation set is named", EVALUATION.key, advice)
        check = _finding_check(EVALUATION, self.contaminated, self._trees)
        return replace(check, summary=f"{check.summary}; the sets have {self._evaluation.texts:,} texts")

    def facts(self) -> Mapping[str, Any]:
        """Counts for the JSON report."""
        lost, whole = self.lengths.targets
        return {
            "records": self.texts.records,
            "share_looked_at": self._share,
            "messages": dict(self.texts.roles),
            "characters": self.texts.characters,
            "targets": whole,
            "targets_lost": lost,
            "longest": [{"place": place, "tokens": tokens} for tokens, place in sorted(self._longest, reverse=True)],
        }


def _near_name(place: str, reader: str) -> str:
    """A place as it is named next to another one: only its line if both are in one file."""
    file, _, line = place.rpartition(":")
    return f"line {line}" if file and file == reader.rpartition(":")[0] else place


def _push(heap: list[Any], item: Any, size: int) -> None:
    """Keep the ``size`` largest items."""
    heapq.heappush(heap, item)
    if len(heap) > size:
        heapq.heappop(heap)


def _finding_check(kind: FindingKind, finding: Finding, total: int) -> Check:
    summary = count_records(finding.records, total, kind.what)
    if not finding.records:
        return Check(kind.name, "pass", summary)
    return Check(kind.name, "warn", summary, kind.key, kind.advice, tuple(finding.places))

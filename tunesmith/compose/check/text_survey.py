"""Checks of the texts: repeated records, overlap with evaluation data, unusual contents, the longest records."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunesmith.compose.proof import MaskProof
from tunesmith.data.dataset.duplicates import signatures
from tunesmith.data.dataset.evaluation_sets import EvaluationSets
from tunesmith.data.dataset.inspection import Finding, TextFindings, inspect_texts, language_detector
from tunesmith.data.dataset.similarity import NearDuplicates
from tunesmith.data.dataset.split import content_key
from tunesmith.data.dataset.store import Store
from tunesmith.recipe.schema import DataConfig
from tunesmith.report.check import Check, Status
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Tree

LIMIT = 20_000  # records that are surveyed; of more, a share chosen by their content
SAMPLES = 8
LONGEST = 5


@dataclass(frozen=True, slots=True)
class FindingKind:
    """How one kind of finding is reported.

    name: of the check, whatever its status.
    what: what is found in a record, as the first half of a sentence that ends with "in 3 of 60 records".
    key: the recipe key that fixes it.
    advice: what to do with it.
    """

    name: str
    what: str
    key: str
    advice: str


EXACT = FindingKind("exact duplicates", "an earlier record is repeated", "data.duplicates", "`exact` keeps one of each")
NEAR = FindingKind(
    "near duplicates", "an earlier record is nearly repeated", "data.duplicates", "`near` keeps one of each"
)
SPLIT = FindingKind(
    "overlap of training and validation",
    "a record on the other side of the split is nearly repeated",
    "data.duplicates",
    "`near` keeps one of each",
)
CONTROL = FindingKind(
    "control tokens in texts",
    "a control token is written out",
    "",
    "it stays text, which is safe; fix the text if it is an error",
)
REPETITIVE = FindingKind("repetitive texts", "a text repeats itself many times", "", "look at them; fix or drop them")
BLANK = FindingKind("blank texts", "a text is blank", "", "fix or drop them")
LANGUAGE = FindingKind(
    "declared languages", "a text is not in the language it declares", "", "look at them; filter by language"
)
EVALUATION = FindingKind(
    "overlap with evaluation sets",
    "a text of an evaluation set is contained",
    "data.evaluation_sets",
    "remove these records from the training data",
)


class TextSurvey:
    """Collects findings over the texts of the records that it includes.

    data: the recipe's section.
    renderer: of the run.
    stores: the token trees of training, and of validation. A record belongs to the side that has its content.
    target_limit: of a reply, in tokens, where it has a separate limit; otherwise None.
    """

    def __init__(
        self, data: DataConfig, renderer: Renderer, stores: Sequence[Store], target_limit: int | None = None
    ) -> None:
        self._target_limit = target_limit
        self._renderer, self._language = renderer, language_detector()
        self._sides = [_sizes_by_key(store) for store in stores]
        total = sum(len(store) for store in stores)
        self._share = min(1.0, LIMIT / max(total, 1))
        self._evaluation = EvaluationSets(data.evaluation_sets)
        self._evaluation_files = len(data.evaluation_sets)
        self.texts = TextFindings()
        self.duplicates, self.near = Finding(), Finding()
        self.straddling, self.contaminated = Finding(), Finding()
        self._policy, self._near_index = data.duplicates, NearDuplicates(data.near_threshold)
        self._first: dict[bytes, tuple[str, int]] = {}  # content -> the place where it came first, and its side
        self._samples: list[tuple[int, int, Tree]] = []
        self._longest: list[tuple[int, str]] = []
        self._targets: list[int] = []  # of every record the stored targets
        self._trees = 0

    def includes(self, tree: Tree) -> bool:
        """Whether a record is surveyed: a function of its content."""
        return self._share >= 1.0 or int.from_bytes(content_key(tree)[:8], "little") < self._share * 2**64

    def add(self, tree: Tree) -> None:
        """Survey one record."""
        key = content_key(tree)
        side = next((number for number, sizes in enumerate(self._sides) if key in sizes), -1)
        tokens, targets = self._sides[side][key] if side >= 0 else (0, 0)
        self._targets.append(targets)
        inspect_texts([tree], self._renderer.tokenizer, self._language, self.texts)
        self._find_repetition(tree, key, side)
        if side == 0 and self._evaluation_files and (what := self._evaluation.overlap(tree)):
            self.contaminated.add(tree.place, what)
        self._trees += 1
        _push(self._longest, (tokens, tree.place), LONGEST)
        _push(self._samples, (-int.from_bytes(key[:8], "little"), -self._trees, tree), SAMPLES)

    def _find_repetition(self, tree: Tree, key: bytes, side: int) -> None:
        if key in self._first:
            if self._policy == "keep":
                self.duplicates.add(tree.place, f"has the content of {self._first[key][0]}")
            return
        if side < 0:  # rejected or dropped
            return
        self._first[key] = (tree.place, side)
        earlier = self._near_index.add(key.hex(), signatures(tree))
        if earlier is None:
            return
        place, other = self._first[bytes.fromhex(earlier)]
        self.near.add(tree.place, f"is nearly the same as {place}")
        if side != other:
            self.straddling.add(tree.place, f"is nearly the same as {place}, on the other side of the split")

    def samples(self) -> list[Tree]:
        """Some records for display, chosen by their content."""
        return [tree for _, _, tree in sorted(self._samples, key=lambda item: item[:2], reverse=True)]

    def checks(self, proof: MaskProof) -> list[Check]:
        """The checks of all texts. proof: has the target tokens of the same records before truncation."""
        texts, total = self.texts, self.texts.records
        lost, whole = self._lost_targets(proof)
        share = lost / max(whole, 1)
        status: Status = "fail" if share > 0.5 else "warn" if share > 0.01 else "pass"
        summary = f"{lost:,} of {whole:,} target tokens ({share:.1%}) are truncated or in rejected records"
        advice = "raise it, or choose a truncation that keeps replies"
        key = "text.max_length" if self._target_limit is None else self._cutting_key(proof, self._target_limit)
        findings = {
            EXACT: self.duplicates,
            NEAR: self.near,
            SPLIT: self.straddling,
            CONTROL: texts.control,
            REPETITIVE: texts.repeated,
            BLANK: texts.blank,
            LANGUAGE: texts.language,
        }
        return [
            Check("truncated targets", status, summary, key, advice),
            *(_finding_check(kind, finding, total) for kind, finding in findings.items()),
            self._contamination(),
        ]

    def _cutting_key(self, proof: MaskProof, limit: int) -> str:
        """The key that cuts more targets, where replies have a separate limit. limit: of a reply, in tokens."""
        lost = [(whole, whole - stored) for whole, stored in zip(proof.targets, self._targets, strict=True)]
        by_reply = sum(cut for whole, cut in lost if cut > 0 and whole > limit)
        return "text.max_target_length" if 2 * by_reply >= sum(cut for _, cut in lost if cut > 0) else "text.max_length"

    def _contamination(self) -> Check:
        if not self._evaluation_files:
            advice = "list the files of the sets you will evaluate on"
            return Check(EVALUATION.name, "skip", "no evaluation set is named", EVALUATION.key, advice)
        check = _finding_check(EVALUATION, self.contaminated, self._trees)
        return replace(check, summary=f"{check.summary}; the sets have {self._evaluation.texts:,} texts")

    def _lost_targets(self, proof: MaskProof) -> tuple[int, int]:
        """(target tokens that are truncated or rejected, all target tokens)."""
        pairs = zip(proof.targets, self._targets, strict=True)
        return sum(max(0, whole - stored) for whole, stored in pairs), sum(proof.targets)

    def facts(self, proof: MaskProof) -> Mapping[str, Any]:
        """Counts for the JSON report."""
        lost, whole = self._lost_targets(proof)
        return {
            "records": self.texts.records,
            "share_looked_at": self._share,
            "messages": dict(self.texts.roles),
            "characters": self.texts.characters,
            "targets": whole,
            "targets_lost": lost,
            "longest": [{"place": place, "tokens": tokens} for tokens, place in sorted(self._longest, reverse=True)],
        }


def _sizes_by_key(store: Store) -> dict[bytes, tuple[int, int]]:
    """Key of a content -> (its tokens, its targets)."""
    found: dict[bytes, tuple[int, int]] = {}
    for key, tokens, targets in zip(store.keys, store.tokens.tolist(), store.targets.tolist(), strict=True):
        found[key.tobytes()] = (tokens, targets)
    return found


def _push(heap: list[Any], item: Any, size: int) -> None:
    """Keep the ``size`` largest items."""
    heapq.heappush(heap, item)
    if len(heap) > size:
        heapq.heappop(heap)


def _finding_check(kind: FindingKind, finding: Finding, total: int) -> Check:
    if not finding.records:
        return Check(kind.name, "pass", f"{kind.what} in none of {total:,} records")
    summary = f"{kind.what} in {finding.records:,} of {total:,} records"
    return Check(kind.name, "warn", summary, kind.key, kind.advice, tuple(finding.places))

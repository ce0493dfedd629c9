"""What `tunesmith check` says of the texts: repeated records, overlap with evaluation data, odd contents, the longest."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
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

MOST = 20_000  # records whose texts are looked at; of more, a share by their content
SAMPLES = 8
LONGEST = 5


class TextSurvey:
    """Gathers what the texts of the chosen records show.

    stores: the token trees of training, and of validation. A record belongs to the side that holds its content.
    """

    def __init__(self, data: DataConfig, renderer: Renderer, stores: Sequence[Store]) -> None:
        self._renderer, self._language = renderer, language_detector()
        self._sides = [_by_key(store) for store in stores]
        total = sum(len(store) for store in stores)
        self._share = min(1.0, MOST / max(total, 1))
        self._evaluation = EvaluationSets(data.evaluation_sets)
        self._named = len(data.evaluation_sets)
        self.texts = TextFindings()
        self.duplicates, self.near = Finding(), Finding()
        self.straddling, self.contaminated = Finding(), Finding()
        self._policy, self._alike = data.duplicates, NearDuplicates(data.near_threshold)
        self._first: dict[bytes, tuple[str, int]] = {}  # of every content: where it stood first, and its side
        self._samples: list[tuple[int, int, Tree]] = []
        self._longest: list[tuple[int, str]] = []
        self._targets: dict[str, int] = {}  # stored targets of every record, by place
        self._trees = 0

    def chosen(self, tree: Tree) -> bool:
        """Whether a record is among those that are looked at: a function of its content."""
        return self._share >= 1.0 or int.from_bytes(content_key(tree)[:8], "little") < self._share * 2**64

    def add(self, tree: Tree) -> None:
        key = content_key(tree)
        side = next((number for number, known in enumerate(self._sides) if key in known), -1)
        tokens, targets = self._sides[side][key] if side >= 0 else (0, 0)
        self._targets[tree.place] = targets
        inspect_texts([tree], self._renderer.tokenizer, self._language, self.texts)
        self._repetition(tree, key, side)
        if side == 0 and self._named and (what := self._evaluation.overlap(tree)):
            self.contaminated.add(tree.place, what)
        self._trees += 1
        _keep(self._longest, (tokens, tree.place), LONGEST)
        _keep(self._samples, (-int.from_bytes(key[:8], "little"), -self._trees, tree), SAMPLES)

    def _repetition(self, tree: Tree, key: bytes, side: int) -> None:
        if key in self._first:
            if self._policy == "keep":
                self.duplicates.add(tree.place, f"says the same as {self._first[key][0]}")
            return
        if side < 0:  # rejected or dropped
            return
        self._first[key] = (tree.place, side)
        earlier = self._alike.add(key.hex(), signatures(tree))
        if earlier is None:
            return
        place, other = self._first[bytes.fromhex(earlier)]
        self.near.add(tree.place, f"is nearly the same as {place}")
        if side != other:
            self.straddling.add(tree.place, f"is nearly the same as {place}, on the other side of the split")

    def samples(self) -> list[Tree]:
        """Some records, chosen by their content, for showing."""
        return [tree for _, _, tree in sorted(self._samples, key=lambda item: item[:2], reverse=True)]

    def checks(self, proof: MaskProof) -> list[Check]:
        texts, total = self.texts, self.texts.records
        lost, whole = self._lost(proof)
        share = lost / max(whole, 1)
        status: Status = "fail" if share > 0.5 else "warn" if share > 0.01 else "pass"
        advice = "raise it, or choose a truncation that keeps replies"
        summary = f"{lost:,} of {whole:,} target tokens ({share:.1%}) are cut or rejected"
        found = [Check("few targets are cut", status, summary, "text.max_length", advice)]
        kinds = [
            ("records are distinct", self.duplicates, "data.duplicates", "say `exact` to keep one of each"),
            ("records are not nearly the same", self.near, "data.duplicates", "say `near` to keep one of each"),
            ("training and validation do not overlap", self.straddling, "data.duplicates", "say `near`"),
            (
                "no text writes out a control token",
                texts.control,
                "",
                "it stays text and is safe; mend it if it is an error",
            ),
            ("no text repeats itself without end", texts.repeated, "", "look at them; mend or drop them"),
            ("no text is blank", texts.blank, "", "mend or drop them"),
            ("texts are in the language they declare", texts.language, "", "look at them; filter by language"),
        ]
        found += [_finding(name, finding, total, key, advice) for name, finding, key, advice in kinds]
        found.append(self._contamination())
        return found

    def _contamination(self) -> Check:
        name, key = "training does not overlap with evaluation sets", "data.evaluation_sets"
        if not self._named:
            return Check(name, "skip", "none is named", key, "list the files of the sets you will evaluate on")
        check = _finding(name, self.contaminated, self._trees, key, "remove these records from the training data")
        return Check(
            name, check.status, f"{check.summary}; {self._evaluation.texts:,} texts", key, check.advice, check.places
        )

    def _lost(self, proof: MaskProof) -> tuple[int, int]:
        """Target tokens that were cut or rejected, and all."""
        lost = sum(max(0, count - self._targets.get(place, 0)) for place, count in proof.targets.items())
        return lost, sum(proof.targets.values())

    def facts(self, proof: MaskProof) -> Mapping[str, Any]:
        lost, whole = self._lost(proof)
        return {
            "records": self.texts.records,
            "share_looked_at": self._share,
            "messages": dict(self.texts.roles),
            "characters": self.texts.characters,
            "targets": whole,
            "targets_lost": lost,
            "longest": [{"place": place, "tokens": tokens} for tokens, place in sorted(self._longest, reverse=True)],
        }


def _by_key(store: Store) -> dict[bytes, tuple[int, int]]:
    """Tokens and targets of every content in a store; a record that became several examples counts as a whole."""
    found: dict[bytes, tuple[int, int]] = {}
    for key, tokens, targets in zip(store.keys, store.tokens.tolist(), store.targets.tolist(), strict=True):
        found[key.tobytes()] = (tokens, targets)
    return found


def _keep(heap: list[Any], item: Any, most: int) -> None:
    heapq.heappush(heap, item)
    if len(heap) > most:
        heapq.heappop(heap)


def _finding(name: str, finding: Finding, total: int, key: str, advice: str) -> Check:
    if not finding.records:
        return Check(name, "pass", f"{total:,} records")
    return Check(name, "warn", f"{finding.records:,} of {total:,} records", key, advice, tuple(finding.places))

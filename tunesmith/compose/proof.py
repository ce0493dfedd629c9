"""The proof before training: masks, stored examples and batches are verified on the run's data, tokenizer and model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from tunesmith.batch.example import Example
from tunesmith.batch.protocols import BatchT
from tunesmith.compose.components.data import source_configs
from tunesmith.compose.models.families import FindBatchFault
from tunesmith.data.dataset.store import Store, count_targets
from tunesmith.data.readers.pipeline import read_trees
from tunesmith.errors import DataError, InternalError
from tunesmith.recipe.schema import Recipe
from tunesmith.report.check import Check, Status
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Tree
from tunesmith.train.steps import DatasetSteps
from tunesmith.verify.masks import MaskFault, Property, find_mask_faults
from tunesmith.verify.unknown import UnknownTargets, count_unknown_targets

KEPT = 20  # places that are kept of every property
PROVEN = 256  # records of every source that are verified before a run; `tunesmith check` takes all
RENDERED_TOGETHER = 256  # records
STEPS = 4  # whose batches are verified
DEFECT = "this is a defect of Tunesmith; please report it with the recipe"
BATCHES = "batches"
UNKNOWN = "unknown tokens"


@dataclass(frozen=True, slots=True)
class MaskCheck:
    """How one property of the masks is reported.

    name: of the check, whatever its status.
    holds, fails: the sentence for either status.
    key: the recipe key that fixes a failure.
    advice: what to do with it.
    """

    name: str
    holds: str
    fails: str
    key: str
    advice: str


MASK_CHECKS: dict[Property, MaskCheck] = {
    "targets": MaskCheck(
        "targets",
        "every record has target tokens",
        "there are no target tokens",
        "text.targets",
        "choose what is trained so that every record has some, or drop records without a reply",
    ),
    "end": MaskCheck(
        "end of replies",
        "the end token of every trained turn is a target",
        "the end token of a trained turn is no target",
        "text.format",
        "the format must end a reply with a token that it also stops at, and that token must be trained",
    ),
    "reply": MaskCheck(
        "reply text",
        "the trained tokens of every reply decode to its text, apart from unknown ones",
        "the trained tokens of a reply do not decode to its text",
        "text.format",
        "choose a format whose replies read back as they were written",
    ),
    "prompt": MaskCheck(
        "generation prompt",
        "the tokens before every trained reply are its generation prompt",
        "the tokens before a trained reply are not its generation prompt",
        "text.format",
        "choose a format that writes earlier turns alike in training and in chat",
    ),
    "context": MaskCheck(
        "context tokens",
        "no token outside of replies is a target",
        "a token outside of replies is a target",
        "text.targets",
        "train replies only, or set `all` to train every token",
    ),
    "beginning": MaskCheck(
        "begin token",
        "no begin token is doubled",
        "a begin token is doubled",
        "text.options",
        "set the option bos of the format to false, or use a template without a begin token",
    ),
    "control": MaskCheck(
        "control tokens",
        "no control token comes from content",
        "a control token comes from content",
        "text.format",
        "choose a format, or a tokenizer, whose control tokens cannot come from text",
    ),
    "source": MaskCheck(
        "shift by one",
        "every target is predicted from the token before it",
        "a target is not predicted from the token before it",
        "model.tokenizer",
        "this is a defect of Tunesmith; please report it with the record",
    ),
    "ranking": MaskCheck(
        "ranked replies",
        "replies are compared as the data rank them",
        "replies are not compared as the data rank them",
        "text.targets",
        "this is a defect of Tunesmith; please report it with the record",
    ),
}


@dataclass(slots=True)
class MaskProof:
    """The faults of all records that were verified.

    records: how many were rendered.
    turns: assistant messages in them.
    ranked: whether replies are compared.
    targets: for every tree that was added its target tokens before truncation; 0 where it cannot be rendered.
    max_unknown: the largest share of a source's targets that may be characters outside the vocabulary.
    unknown: source -> how many of its targets do.
    faults: property -> the first faults.
    counts: property -> records with a fault.
    """

    records: int = 0
    turns: int = 0
    ranked: bool = False
    targets: list[int] = field(default_factory=list)
    max_unknown: float = 0.01
    unknown: dict[str, UnknownTargets] = field(default_factory=lambda: defaultdict(UnknownTargets))
    faults: dict[Property, list[MaskFault]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[Property, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, renderer: Renderer, trees: Iterable[Tree]) -> None:
        """Render trees and verify the masks of each; preparation reports trees that cannot be rendered."""
        self.ranked = renderer.targets == "ranked"
        waiting = iter(trees)
        while chunk := list(islice(waiting, RENDERED_TOGETHER)):
            for tree, tokens in zip(chunk, renderer.render_many(chunk), strict=True):
                if isinstance(tokens, DataError):
                    self.targets.append(0)
                    continue
                self.records += 1
                self.targets.append(count_targets(tokens))
                self.unknown[tree.source].add(
                    tree.place, count_unknown_targets(renderer, tree, tokens), self.targets[-1]
                )
                self.turns += sum(message.role == "assistant" for message in tree.messages)
                for fault in find_mask_faults(renderer, tree, tokens):
                    self.counts[fault.property] += 1
                    if len(self.faults[fault.property]) < KEPT:
                        self.faults[fault.property].append(fault)

    def checks(self) -> list[Check]:
        """One check for each property."""
        found = []
        for name, mask in MASK_CHECKS.items():
            if name == "ranking" and not self.ranked:
                continue
            if not self.records:
                found.append(Check(mask.name, "skip", "not verified, since there are no records"))
            elif not self.counts[name]:
                summary = f"{mask.holds} ({self.records:,} records, {self.turns:,} replies)"
                found.append(Check(mask.name, "pass", summary))
            else:
                places = tuple((fault.place, fault.what) for fault in self.faults[name])
                summary = f"{mask.fails} in {self.counts[name]:,} of {self.records:,} records"
                found.append(Check(mask.name, "fail", summary, mask.key, mask.advice, places))
        return [*found, unknown_check(self.unknown, self.max_unknown)] if self.records else found


def unknown_check(sources: Mapping[str, UnknownTargets], limit: float) -> Check:
    """How many targets of each source are characters that the vocabulary does not have.

    limit: the largest share of the targets of a source.
    """
    counted = {source: found for source, found in sources.items() if found.tokens}
    if not counted:
        return Check(UNKNOWN, "pass", "every target is text of the vocabulary")
    shares = [f"{name}: {found.tokens:,} of {found.targets:,} ({found.share:.2%})" for name, found in counted.items()]
    summary = f"targets are characters outside the vocabulary: {'; '.join(shares)}"
    worst_first = sorted(counted.values(), key=lambda found: -found.share)
    status: Status = "fail" if worst_first[0].share > limit else "pass"
    places = tuple(
        (found.place, f"{found.most:,} of its targets are characters outside the vocabulary") for found in worst_first
    )
    advice = f"use a tokenizer and a model that have these characters; text.max_unknown allows {limit:g} of the targets"
    return Check(UNKNOWN, status, summary, "model.tokenizer", advice, places)


def stored_checks(store: Store, rows: int | None) -> list[Check]:
    """Checks of all stored token trees together. rows: of the model's embedding; None if no model was loaded."""
    empty = int(np.count_nonzero(store.targets == 0))
    summary = f"{empty:,} of {len(store):,} stored examples have no target token"
    if not empty:
        summary = f"all {len(store):,} stored examples have target tokens"
    key, advice = "text.max_length", "raise it, or drop records that are too long"
    found = [Check("stored examples", "fail" if empty else "pass", summary, key, advice)]
    if rows is not None:
        highest = store.highest_id()
        status: Status = "pass" if highest < rows else "fail"
        summary = f"the embedding has {rows:,} rows, and the highest token id is {highest:,}"
        advice = "use the tokenizer that belongs to the model, or let the embedding grow (exact)"
        found.append(Check("embedding rows", status, summary, "model.resize", advice))
    return found


def batch_check(steps: DatasetSteps[BatchT], find_fault: FindBatchFault[BatchT]) -> Check:
    """Compare the batches of some steps with their examples: the first steps, the last, and one in the middle."""
    last = len(steps) - 1
    numbers = sorted({*range(min(STEPS - 2, len(steps))), last // 2, last})
    batches = 0
    for number in numbers:
        examples = steps.examples(number)
        missing = {*steps.plan.step(number).examples} - {example.number for example in examples}
        if missing:
            advice = "raise it; a window has to hold a part of a reply"
            summary = f"step {number + 1}: example {min(missing)} has no target left after it was cropped"
            return Check(BATCHES, "fail", summary, "text.max_length", advice)
        waiting = _by_seed(examples)
        for batch in steps.batches(examples):
            batches += 1
            mine = [waiting[key].pop(0) for key in zip(batch.examples, batch.seeds, strict=True) if waiting[key]]
            if fault := find_fault(mine, batch, steps.weighting):
                return Check(BATCHES, "fail", f"step {number + 1}: {fault}", "model.layout", DEFECT)
        if left := [found[0].number for found in waiting.values() if found]:
            return Check(BATCHES, "fail", f"step {number + 1}: example {left[0]} is in no batch", "", DEFECT)
    summary = f"in {batches:,} batches of {len(numbers)} steps every target sees its thread and nothing else"
    return Check(BATCHES, "pass", summary)


def _by_seed(examples: Sequence[Example]) -> defaultdict[tuple[int, int], list[Example]]:
    """The examples of a step by number and seed: a collator may change their order."""
    found: defaultdict[tuple[int, int], list[Example]] = defaultdict(list)
    for example in examples:
        found[example.number, example.seed].append(example)
    return found


def proof_of_run(
    recipe: Recipe, renderer: Renderer, steps: DatasetSteps[BatchT], rows: int, find_fault: FindBatchFault[BatchT]
) -> list[Check]:
    """The checks before the first step of every run, on the first records of each source.

    rows: of the model's embedding.
    find_fault: verifies a batch.
    """
    proof = MaskProof(max_unknown=recipe.text.max_unknown)
    sources = [*recipe.data.sources, *recipe.data.validation_sources]
    proof.add(renderer, read_trees(source_configs(recipe, sources), PROVEN))
    return [*proof.checks(), *stored_checks(steps.store, rows), batch_check(steps, find_fault)]


def check_no_failures(checks: Sequence[Check]) -> None:
    """Raises InternalError for the first check that failed, with the number of the others."""
    failed = [check for check in checks if check.status == "fail"]
    if failed:
        first = failed[0]
        place, what = first.places[0] if first.places else ("", first.summary)
        others = f" (and {len(failed) - 1} more; `tunesmith check` lists them)" if failed[1:] else ""
        raise InternalError(
            f"proof failed: {first.name}: {what}{others}",
            where=place or None,
            advice=f"{first.key}: {first.advice}" if first.key else first.advice,
        )

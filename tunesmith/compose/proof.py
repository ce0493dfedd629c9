"""The proof before training: masks, batches and attention, on the run's own data, tokenizer and model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from tunesmith.batch.example import Example
from tunesmith.compose.models.families import BatchProof
from tunesmith.compose.parts import source_specs
from tunesmith.data.dataset.store import Store, count_targets
from tunesmith.data.readers.pipeline import read_trees
from tunesmith.errors import DataError, InternalError
from tunesmith.recipe.schema import Recipe
from tunesmith.report.check import Check, Status
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Tree
from tunesmith.train.steps import DatasetSteps
from tunesmith.verify.masks import PROPERTIES, MaskFault, Property, find_mask_faults

KEPT = 20  # places for every property
PROVEN = 256  # records of every source that are proven before a run; `tunesmith check` takes all
AT_ONCE = 256  # records that are rendered together
STEPS = 4  # whose batches are taken apart
MENDS: dict[Property, tuple[str, str]] = {
    "targets": (
        "text.targets",
        "choose what is trained so that every record has some, or drop records without a reply",
    ),
    "end": (
        "text.format",
        "the format must end a reply with a token that it also stops at, and that token must be trained",
    ),
    "reply": ("text.format", "choose a format whose replies read back as they were written"),
    "prompt": ("text.format", "choose a format that writes earlier turns alike in training and in chat"),
    "context": ("text.targets", "train replies only, or say with `all` that everything is to be learnt"),
    "beginning": ("text.options", "set the option bos of the format to false, or use a template without a begin token"),
    "control": ("text.format", "choose a format, or a tokenizer, whose control tokens cannot come from text"),
    "source": ("model.tokenizer", "this is a defect of Tunesmith; please report it with the record"),
    "ranking": ("text.targets", "this is a defect of Tunesmith; please report it with the record"),
}


@dataclass(slots=True)
class MaskProof:
    """Faults by property, over all records that were looked at."""

    records: int = 0
    turns: int = 0
    ranked: bool = False  # whether replies are compared
    targets: dict[str, int] = field(default_factory=dict)  # of every record, by its place, before anything is cut
    faults: dict[Property, list[MaskFault]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[Property, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, renderer: Renderer, trees: Iterable[Tree]) -> None:
        """Render the trees and prove each; one that cannot be rendered is a fault that preparation reports."""
        self.ranked = renderer.targets == "ranked"
        waiting = iter(trees)
        while chunk := list(islice(waiting, AT_ONCE)):
            for tree, tokens in zip(chunk, renderer.render_many(chunk), strict=True):
                if isinstance(tokens, DataError):
                    continue
                self.records += 1
                self.targets[tree.place] = count_targets(tokens)
                self.turns += sum(message.role == "assistant" for message in tree.messages)
                for fault in find_mask_faults(renderer, tree, tokens):
                    self.counts[fault.property] += 1
                    if len(self.faults[fault.property]) < KEPT:
                        self.faults[fault.property].append(fault)

    def checks(self) -> list[Check]:
        """One check for each property."""
        seen = f"{self.records:,} records, {self.turns:,} replies"
        found = []
        for name, what in PROPERTIES.items():
            if name == "ranking" and not self.ranked:
                continue
            if not self.counts[name]:
                found.append(Check(what, "pass" if self.records else "skip", seen if self.records else "no records"))
                continue
            places = tuple((fault.place, fault.what) for fault in self.faults[name])
            key, advice = MENDS[name]
            summary = f"does not hold in {self.counts[name]:,} of {seen}"
            found.append(Check(what, "fail", summary, key, advice, places))
        return found


def stored_checks(store: Store, rows: int | None) -> list[Check]:
    """What can be seen of all stored token trees at once. rows: of the model's embedding, if a model was made."""
    empty = np.flatnonzero(store.targets == 0)
    summary = f"{len(store):,} stored, {len(empty):,} without a target"
    key, advice = "text.max_length", "raise it, or drop records that are too long"
    found = [Check("every stored example has targets", "fail" if len(empty) else "pass", summary, key, advice)]
    if rows is not None:
        highest = store.highest_id()
        status: Status = "pass" if highest < rows else "fail"
        advice = "use the tokenizer that belongs to the model, or let the embedding grow (exact)"
        summary = f"highest id {highest:,}, {rows:,} rows"
        found.append(Check("every token has a row in the embedding", status, summary, "model.resize", advice))
    return found


def batch_check(steps: DatasetSteps, find_fault: BatchProof) -> Check:
    """Take the batches of some steps apart: the first ones, the last, and one in the middle."""
    name = "batches hold every thread as if it were alone"
    last = len(steps) - 1
    numbers = sorted({*range(min(STEPS - 2, len(steps))), last // 2, last})
    batches = 0
    for number in numbers:
        examples = steps.examples(number)
        missing = {*steps.plan.step(number).examples} - {example.number for example in examples}
        if missing:
            advice = "raise it; a window has to hold a part of a reply"
            summary = f"step {number + 1}: example {min(missing)} has no target left after it was cut"
            return Check(name, "fail", summary, "text.max_length", advice)
        waiting = _by_seed(examples)
        for batch in steps.batches(examples):
            batches += 1
            mine = [waiting[key].pop(0) for key in zip(batch.examples, batch.seeds, strict=True) if waiting[key]]
            if fault := find_fault(mine, batch, steps.weighting):
                advice = "this is a defect of Tunesmith; please report it with the recipe"
                return Check(name, "fail", f"step {number + 1}: {fault}", "model.layout", advice)
        if left := [found[0].number for found in waiting.values() if found]:
            return Check(name, "fail", f"step {number + 1}: example {left[0]} is in no batch")
    return Check(name, "pass", f"{batches} batches of {len(numbers)} steps")


def _by_seed(examples: Sequence[Example]) -> defaultdict[tuple[int, int], list[Example]]:
    """The examples of a step by number and seed: a kind of batch may put them into another order."""
    found: defaultdict[tuple[int, int], list[Example]] = defaultdict(list)
    for example in examples:
        found[example.number, example.seed].append(example)
    return found


def proof_of_run(
    recipe: Recipe, renderer: Renderer, steps: DatasetSteps, rows: int, find_fault: BatchProof
) -> list[Check]:
    """What every run has to prove before its first step, on the first records of each source. rows: of the embedding."""
    proof = MaskProof()
    sources = [*recipe.data.sources, *recipe.data.validation_sources]
    proof.add(renderer, read_trees(source_specs(recipe, sources), PROVEN))
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

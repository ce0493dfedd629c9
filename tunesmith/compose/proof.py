"""The proof before training: masks, stored examples and batches are verified on the run's data, tokenizer and model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from tunesmith.report.check import Check, Status, append_words, count_records
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Tree
from tunesmith.train.steps import DatasetSteps
from tunesmith.verify.masks import MaskFault, Property, find_mask_faults
from tunesmith.verify.unknown import UnknownTargets, find_unknown_targets

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
    holds: the sentence where it holds; {records} and {replies} are the numbers that were verified.
    fails: the sentence where it does not, without its beginning ("12 of 6,000 records").
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
        "all {records} records have something to train on",
        "have nothing to train on",
        "text.targets",
        "correct text.targets so that every record has a reply that is trained, or remove these records",
    ),
    "end": MaskCheck(
        "end of replies",
        "all {replies} replies end with a token that is trained",
        "have a trained reply whose end is not trained",
        "text.format",
        "choose a text.format that ends every reply with a token at which generation stops",
    ),
    "reply": MaskCheck(
        "reply text",
        "all {replies} replies are read back from their tokens as they were written",
        "have a reply that is not read back from its tokens as it was written",
        "text.format",
        "choose a text.format whose replies are read back as they were written",
    ),
    "prompt": MaskCheck(
        "generation prompt",
        "all {replies} replies follow the same prompt as in chat",
        "have a reply that does not follow the same prompt as in chat",
        "text.format",
        "choose a text.format that writes earlier turns alike in training and in chat",
    ),
    "context": MaskCheck(
        "context tokens",
        "all {records} records are trained on what text.targets names and on nothing else",
        "are trained on a token outside of replies",
        "text.targets",
        append_words("text.targets=all", to="train every token, if that is meant"),
    ),
    "beginning": MaskCheck(
        "begin token",
        "all {records} records have their begin token at most once",
        "have a second begin token",
        "text.options",
        "set the option bos of the prompt format to false, or use a chat template without a begin token",
    ),
    "control": MaskCheck(
        "control tokens",
        "all {records} records have only the control tokens that the prompt format writes",
        "have other control tokens than the prompt format writes",
        "text.format",
        "choose a text.format or a model.tokenizer whose control tokens cannot come from text",
    ),
    "source": MaskCheck(
        "shift by one",
        "all targets of {records} records are predicted from the token before them",
        "have a target that is not predicted from the token before it",
        "model.tokenizer",
        "this is a defect of Tunesmith; please report it with the record",
    ),
    "ranking": MaskCheck(
        "ranked replies",
        "all {records} records compare their replies as the data rank them",
        "do not compare their replies as the data rank them",
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
    max_unknown: the largest share of a source's targets that may be characters outside the vocabulary.
    unknown: source -> how many of its targets do.
    faults: property -> the first faults.
    counts: property -> records with a fault.
    """

    records: int = 0
    turns: int = 0
    ranked: bool = False
    max_unknown: float = 0.01
    unknown: dict[str, UnknownTargets] = field(default_factory=lambda: defaultdict(UnknownTargets))
    faults: dict[Property, list[MaskFault]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[Property, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, renderer: Renderer, trees: Iterable[Tree]) -> None:
        """Render trees and verify the masks of each; preparation reports trees that cannot be rendered."""
        for _ in self.verified(renderer, trees):
            pass

    def verified(self, renderer: Renderer, trees: Iterable[Tree]) -> Iterator[tuple[Tree, TokenTree]]:
        """The same, one tree after the other: every tree that can be rendered, and its tokens before truncation."""
        self.ranked = renderer.targets == "ranked"
        waiting = iter(trees)
        while chunk := list(islice(waiting, RENDERED_TOGETHER)):
            for tree, tokens in zip(chunk, renderer.render_many(chunk), strict=True):
                if not isinstance(tokens, DataError):
                    self._verify(renderer, tree, tokens)
                    yield tree, tokens

    def _verify(self, renderer: Renderer, tree: Tree, tokens: TokenTree) -> None:
        self.records += 1
        self.turns += sum(message.role == "assistant" for message in tree.messages)
        self.unknown[tree.source].add(tree.place, find_unknown_targets(renderer, tree, tokens), count_targets(tokens))
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
                summary = mask.holds.format(records=f"{self.records:,}", replies=f"{self.turns:,}")
                found.append(Check(mask.name, "pass", summary))
            else:
                places = tuple((fault.place, fault.what) for fault in self.faults[name])
                summary = count_records(self.counts[name], self.records, mask.fails)
                found.append(Check(mask.name, "fail", summary, mask.key, mask.advice, places))
        return [*found, unknown_check(self.unknown, self.max_unknown)] if self.records else found


def unknown_check(sources: Mapping[str, UnknownTargets], limit: float) -> Check:
    """How many targets of each source are characters that the vocabulary does not have.

    Above the limit it fails; a reply that has no other characters is a warning, since it teaches nothing.
    limit: the largest share of the targets of a source.
    """
    counted = {source: found for source, found in sources.items() if found.tokens}
    if not counted:
        return Check(UNKNOWN, "pass", "0 targets are characters outside of the vocabulary")
    shares = [
        f"{found.share:.2%} of the targets of {name} ({found.tokens:,} of {found.targets:,})"
        for name, found in counted.items()
    ]
    summary = f"{'; '.join(shares)} are characters outside of the vocabulary"
    worst_first = sorted(counted.values(), key=lambda found: -found.share)
    advice = (
        "use a model and a tokenizer that have these characters; text.max_unknown allows "
        f"{limit:g} of the targets of a source"
    )
    if worst_first[0].share > limit:
        places = tuple((found.place, f"{found.most:,} of its targets are outside") for found in worst_first)
        return Check(UNKNOWN, "fail", summary, "model.tokenizer", advice, places)
    replies = sum(found.replies for found in counted.values())
    if not replies:
        return Check(UNKNOWN, "pass", summary)
    summary = f"{replies:,} {'reply has' if replies == 1 else 'replies have'} no character of the vocabulary"
    places = tuple((place, "a reply of unknown tokens only") for found in worst_first for place in found.places)
    advice = "remove these records, or use a model and a tokenizer that have these characters"
    return Check(UNKNOWN, "warn", summary, "model.tokenizer", advice, places)


def stored_checks(store: Store, rows: int | None) -> list[Check]:
    """Checks of all stored token trees together. rows: of the model's embedding; None if no model was loaded."""
    empty = int(np.count_nonzero(store.targets == 0))
    summary = f"all {len(store):,} stored examples have something to train on"
    if empty:
        summary = f"{empty:,} of {len(store):,} stored examples have nothing to train on"
    advice = "raise text.max_length, or remove records that are too long"
    found = [Check("stored examples", "fail" if empty else "pass", summary, "text.max_length", advice)]
    if rows is not None:
        highest = store.highest_id()
        status: Status = "pass" if highest < rows else "fail"
        summary = f"{rows:,} rows of the embedding are enough for the token ids, of which {highest:,} is the highest"
        if status == "fail":
            summary = (
                f"{rows:,} rows of the embedding are too few for the token ids, of which {highest:,} is the highest"
            )
        advice = append_words("model.resize=exact", to="add the rows, if the tokenizer is that of the model")
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
            advice = "raise text.max_length; every window of a text has to hold a part of a reply"
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
    summary = f"{batches:,} batches of {len(numbers)} steps: every target sees the texts before it and no other record"
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
    whole = replace(steps, rank=0, processes=1)  # the first batches of all processes together
    return [*proof.checks(), *stored_checks(steps.store, rows), batch_check(whole, find_fault)]


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
            advice=first.advice or None,
        )

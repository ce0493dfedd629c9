"""A reward model that is ready to score: every root-to-leaf thread of a tree gets a number, shared turns are read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from tunesmith.batch.example import Example
from tunesmith.batch.packed import PackedBatch, collate_packed, thread_ends
from tunesmith.errors import DataError
from tunesmith.generate.exported import described, find_export
from tunesmith.model.context import NO_LIMIT, context_length
from tunesmith.model.load import read_local_architecture
from tunesmith.model.reward_model import load_reward_model
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.model.vocabulary import rows_of
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Tree
from tunesmith.verify.self_test import self_test_scalars

TOKENS = 8192  # of one batch
PROBE = 512  # tokens of the longest thread that the layout is tested with


@dataclass(frozen=True, slots=True)
class Scored:
    """threads: the score of each root-to-leaf thread, depth-first, at its last token. replies: of each of the tree's ranked
    replies (``TokenTree.replies``), wherever in a thread they stand."""

    threads: tuple[float, ...]
    replies: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RewardScorer:
    """policy: the reward model. renderer: its prompt format and tokenizer. limit: most tokens of a thread. name: where it is."""

    policy: ScalarPolicy
    renderer: Renderer
    limit: int
    name: str

    def render(self, trees: Sequence[Tree]) -> list[TokenTree | DataError]:
        """The tokens of every tree, or why it cannot be scored: a thread that does not end with a reply, or is too long."""
        found: list[TokenTree | DataError] = []
        for tree, tokens in zip(trees, self.renderer.render_many(trees), strict=True):
            found.append(tokens if isinstance(tokens, DataError) else self._objection(tree, tokens) or tokens)
        return found

    def scores(
        self, trees: Sequence[TokenTree], progress: Callable[[int, int], None] = lambda done, total: None
    ) -> list[Scored]:
        """The scores of every tree. progress: called with (trees done, trees in all)."""
        self.policy.eval()
        found: list[Scored] = []
        for batch in collate_packed((Example(number, tree) for number, tree in enumerate(trees)), "messages", TOKENS):
            found += self._together(batch, [trees[number] for number in batch.examples])
            progress(len(found), len(trees))
        return found

    @torch.no_grad()
    def _together(self, batch: PackedBatch, trees: Sequence[TokenTree]) -> list[Scored]:
        ends = thread_ends(trees)
        where = torch.cat([ends, batch.replies.end]).to(self.policy.device)
        values = self.policy.scalars(batch.to(self.policy.device), where).tolist()
        threads, replies = iter(values[: len(ends)]), iter(values[len(ends) :])
        return [
            Scored(tuple(islice(threads, tree.threads)), tuple(islice(replies, len(tree.replies)))) for tree in trees
        ]

    def _objection(self, tree: Tree, tokens: TokenTree) -> DataError | None:
        if any(tree.messages[thread[-1]].role != "assistant" for thread in tree.threads()):
            return DataError("does not end with a reply", where=tree.place, advice="only replies are scored")
        longest = max(len(tokens.thread(end)) for end in tokens.ends())
        if longest > self.limit:
            return DataError(
                f"prompt and reply have {longest:,} tokens, the reward model reads {self.limit:,}",
                where=tree.place,
                advice="shorten it",
            )
        return None


def open_reward_scorer(path: str | Path, format_name: str | None = None) -> RewardScorer:
    """Load the reward model that ``path`` means: a run, its export, or another directory.

    format_name: prompt format of a directory that does not carry one; one that does must agree. On a CUDA device the model
    is held in bfloat16, otherwise in float32. Raises MissingInputError, DataError (no reward model), UsageError,
    RecipeError where no layout is exact for it.
    """
    directory = find_export(path)
    read_local_architecture(directory)
    model = load_reward_model(str(directory))
    format, _ = described(directory, format_name)
    tokenizer = Tokenizer.load(str(directory), format.controls)
    rows = rows_of(model)
    if tokenizer.size > rows:
        raise DataError(
            f"the tokenizer has {tokenizer.size:,} tokens, the reward model rows for {rows:,}",
            where=directory,
            advice="model and tokenizer do not belong together; export both again",
        )
    compute = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    if torch.cuda.is_available():
        model.to(device="cuda", dtype=compute)  # type: ignore[call-arg]
    limit = context_length(model.config) or NO_LIMIT
    verdict = self_test_scalars(ScalarPolicy(model, compute=compute), tokenizer.size, min(limit, PROBE))
    policy = ScalarPolicy(model, compute=compute, layout=verdict.layout)
    return RewardScorer(policy, Renderer(format, tokenizer, "ranked"), limit, str(path))

"""Scoring replies with a reward model: a score for every root-to-leaf thread; shared turns are computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from tunesmith.batch.example import Example
from tunesmith.batch.packed import PackedBatch, collate_packed, thread_ends
from tunesmith.errors import DataError
from tunesmith.evaluate.validation import Measured, measure_batches
from tunesmith.generate.export_directory import declared_format, find_export
from tunesmith.model.context import NO_LIMIT, context_length
from tunesmith.model.devices import best_device
from tunesmith.model.load import read_local_architecture
from tunesmith.model.reward_model import load_reward_model
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.model.vocabulary import rows_of
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Tree
from tunesmith.verify.self_test import self_test_scalars
from tunesmith.world import ALONE, Communicator

BATCH_TOKENS = 8192
THREADS, REPLIES = "threads", "replies"
SELF_TEST_TOKENS = 512  # length of the longest thread in the self-test of the layout


@dataclass(frozen=True, slots=True)
class TreeScores:
    """The scores of one tree.

    threads: the score of each root-to-leaf thread, depth-first, read at its last token.
    replies: the score of each ranked reply (``TokenTree.replies``), read at its last token wherever it is in a thread.
    """

    threads: tuple[float, ...]
    replies: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RewardScorer:
    """A reward model with its prompt format.

    policy: the reward model.
    renderer: the prompt format and the tokenizer.
    max_length: the largest number of tokens in a thread.
    name: the path it was loaded from, as the user wrote it.
    """

    policy: ScalarPolicy
    renderer: Renderer
    max_length: int
    name: str

    def render(self, trees: Sequence[Tree]) -> list[TokenTree | DataError]:
        """For every tree its tokens, or the reason why it cannot be scored.

        A tree cannot be scored where it cannot be rendered, a thread does not end with a reply, or a thread is too
        long.
        """
        found: list[TokenTree | DataError] = []
        for tree, tokens in zip(trees, self.renderer.render_many(trees), strict=True):
            found.append(tokens if isinstance(tokens, DataError) else self._find_problem(tree, tokens) or tokens)
        return found

    def scores(
        self,
        trees: Sequence[TokenTree],
        progress: Callable[[int, int], None] = lambda done, total: None,
        world: Communicator = ALONE,
    ) -> list[TreeScores]:
        """The scores of every tree.

        progress: called with (trees done, trees in all).
        world: the processes that share the work; all of them get all scores.
        """
        self.policy.eval()
        examples = (Example(number, tree) for number, tree in enumerate(trees))

        def score(batch: PackedBatch) -> Measured:
            ends = thread_ends([trees[number] for number in batch.examples])
            where = torch.cat([ends.to(self.policy.device), batch.replies.end])
            values = self.policy.scalars(batch, where).cpu()
            progress(batch.examples[-1] + 1, len(trees))
            return {THREADS: values[: len(ends)], REPLIES: values[len(ends) :]}

        batches = collate_packed(examples, "messages", BATCH_TOKENS)
        measured = measure_batches(self.policy, score, batches, world)
        threads, replies = (iter([v for each in measured for v in each[name].tolist()]) for name in (THREADS, REPLIES))
        return [
            TreeScores(tuple(islice(threads, tree.threads)), tuple(islice(replies, len(tree.replies))))
            for tree in trees
        ]

    def _find_problem(self, tree: Tree, tokens: TokenTree) -> DataError | None:
        if any(tree.messages[thread[-1]].role != "assistant" for thread in tree.threads()):
            advice = "only replies are scored; end every conversation with a message of the assistant"
            return DataError("the conversation does not end with a reply", where=tree.place, advice=advice)
        longest = max(len(tokens.thread(end)) for end in tokens.ends())
        if longest > self.max_length:
            return DataError(
                f"prompt and reply have {longest:,} tokens, but the reward model reads at most {self.max_length:,}",
                where=tree.place,
                advice="shorten them",
            )
        return None


def open_reward_scorer(path: str | Path, format_name: str | None = None) -> RewardScorer:
    """Load a reward model; on a CUDA device in bfloat16, otherwise in float32.

    path: a run, its export, or another model directory (``find_export``).
    format_name: the prompt format of a directory that does not declare one; where it does, both must agree.
    Raises MissingInputError, DataError where the directory holds no reward model, UsageError, and RecipeError where the
    model gives exact scores in no layout.
    """
    directory = find_export(path)
    read_local_architecture(directory)
    model = load_reward_model(str(directory))
    format, _ = declared_format(directory, format_name)
    tokenizer = Tokenizer.load(str(directory), format.controls)
    rows = rows_of(model)
    if tokenizer.size > rows:
        raise DataError(
            f"the tokenizer has {tokenizer.size:,} tokens, but the reward model has embeddings for {rows:,} only",
            where=directory,
            advice="model and tokenizer do not belong together; export both again",
        )
    device = best_device()
    compute = torch.bfloat16 if device.type == "cuda" else torch.float32
    if device.type == "cuda":
        model.to(device=device, dtype=compute)  # type: ignore[call-arg]
    max_length = context_length(model.config) or NO_LIMIT
    result = self_test_scalars(ScalarPolicy(model, compute=compute), tokenizer.size, min(max_length, SELF_TEST_TOKENS))
    policy = ScalarPolicy(model, compute=compute, layout=result.layout)
    return RewardScorer(policy, Renderer(format, tokenizer, "ranked"), max_length, str(path))

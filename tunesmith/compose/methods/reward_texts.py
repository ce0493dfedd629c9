"""Prompts of the validation data with the scores of their replies, which a run shows at evaluations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble_packed
from tunesmith.compose.reply_evaluation import PromptText
from tunesmith.data.dataset.store import Store
from tunesmith.draws import question_order
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.text.tokens.prompts import prompt_ids
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.train.run.shown import ShownText


@dataclass(frozen=True, slots=True)
class ScoredTexts:
    """Scores the replies to the first prompt of some records with the present weights.

    policy: the reward model.
    trees: of the records.
    renderer: of the run.
    """

    policy: ScalarPolicy
    trees: Sequence[TokenTree]
    renderer: Renderer

    @classmethod
    def of(cls, policy: ScalarPolicy, store: Store, count: int, seed: int, renderer: Renderer) -> ScoredTexts:
        """``count`` records of a store, chosen by the seed and their content."""
        order = sorted(range(len(store)), key=lambda number: question_order(seed, store.key(number)))
        return cls(policy, [store.tree(number) for number in order[:count]], renderer)

    def __call__(self) -> Sequence[ShownText]:
        """Each prompt, then its replies, the best first."""
        return [text for tree in self.trees for text in self._texts(tree)]

    @torch.no_grad()
    def _texts(self, tree: TokenTree) -> Iterator[ShownText]:
        self.policy.eval()
        batch = assemble_packed([Example(0, tree)], "messages").to(self.policy.device)
        scores = self.policy.scalars(batch, batch.replies.end).tolist()
        spans = {message: (start, end, source) for start, end, source, message, _ in reversed(tree.spans.tolist())}
        rows = zip(tree.replies.tolist(), scores, strict=True)
        replies = [
            (rank, score, *spans[message]) for (message, group, rank), score in rows if group == tree.replies[0, 1]
        ]
        best = min(rank for rank, *_ in replies)
        yield ShownText("prompt", PromptText(self.renderer)(prompt_ids(tree, replies[0][4])))
        for rank, score, start, end, _ in sorted(replies):
            label = "chosen" if rank == best else "rejected"
            yield ShownText(f"{score:+.2f} {label}", self.renderer.parse(tree.ids[start:end].tolist()).text)

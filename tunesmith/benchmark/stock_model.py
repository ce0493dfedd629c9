"""The model of lm-evaluation-harness itself, which also counts the items that it truncates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.benchmark.language_model import TaskWork
from tunesmith.benchmark.scoring import Answer, AnswerScorer

EncodedPair: TypeAlias = tuple[tuple[str, str], list[int], list[int]]
"""(texts, ids of the context, ids of the continuation) of a request."""


class StockLanguageModel(HFLM):  # type: ignore[misc]
    """``HFLM`` with a count of its work; it computes nothing in another way.

    model, tokenizer: of transformers.
    scorer: knows which answers are too long; it computes nothing here.
    batch_size: texts that are read together.
    max_length: the largest number of tokens that the model reads at once.

    work: task -> its items and how many of them were truncated, without numbers of tokens.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        scorer: AnswerScorer,
        *,
        batch_size: int,
        max_length: int,
    ) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, max_length=max_length)
        self._scorer = scorer
        self._asked: Sequence[Instance] = ()
        self.work: dict[str, TaskWork] = {}

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """See ``HFLM``, which encodes the requests and gives them to ``_loglikelihood_tokens`` in their order."""
        self._asked = requests
        try:
            found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        finally:
            self._asked = ()
        return found

    def _loglikelihood_tokens(self, requests: list[EncodedPair], *arguments: Any, **named: Any) -> Any:
        """See ``HFLM``. The windows of a text that is read as a whole are not counted: each of its tokens is read."""
        items, cut = dict[str, set[int]](), dict[str, set[int]]()
        for asked, (_, context, continuation) in zip(self._asked, requests, strict=bool(self._asked)):
            answer = Answer(asked.doc_id, tuple(context), tuple(continuation))
            items.setdefault(asked.task_name, set()).add(asked.doc_id)
            if self._scorer.truncated(answer):
                cut.setdefault(asked.task_name, set()).add(asked.doc_id)
        for task, found in items.items():
            self._count(task, len(found), len(cut.get(task, ())))
        return super()._loglikelihood_tokens(requests, *arguments, **named)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """See ``HFLM``."""
        for request in requests:
            self._count(request.task_name, 1, 0)
        found: list[float] = super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)
        return found

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """See ``HFLM``, which keeps the last tokens of a context that leaves too few for the reply."""
        for request in requests:
            context, given = request.args
            reply = int(normalize_gen_kwargs(given, self.max_gen_toks)["max_gen_toks"])
            space = self.max_length - (reply if self.backend == "causal" else 0)
            self._count(request.task_name, 1, int(len(self.tok_encode(context)) > space))
        found: list[str] = super().generate_until(requests, disable_tqdm=disable_tqdm)
        return found

    def _count(self, task: str, items: int, truncated: int) -> None:
        work = self.work.setdefault(task, TaskWork())
        work.items += items
        work.truncated += truncated

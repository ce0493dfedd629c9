"""Tunesmith's models as a language model of lm-evaluation-harness, whose tasks then make prompts and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from tunesmith.benchmark.encoding import Encoder, write_messages
from tunesmith.benchmark.journal import Journal
from tunesmith.benchmark.scoring import Answer, AnswerScore, AnswerScorer
from tunesmith.draws import reply_number
from tunesmith.errors import UsageError
from tunesmith.generate.engine import Engine
from tunesmith.generate.requests import ReplyRequest, deal_requests
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.world import ALONE, Communicator

Progress: TypeAlias = Callable[[int, int | None, str], None]
"""progress(done, total, label)."""

REPLY_TOKENS = 256
"""The largest number of tokens of a reply where the task gives none, as in lm-evaluation-harness."""
SAMPLING_KEYS = ("do_sample", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty")
GENERATED_TOGETHER = 32


@dataclass(slots=True)
class TaskWork:
    """What one task took.

    items: questions, or texts.
    truncated: how many of them are too long for the model, so that the beginning was not read.
    computed: tokens that the model read; 0 where they are not counted.
    naive: tokens that it would read if every answer were read with its question, one at a time, without padding; 0
        where they are not counted.
    """

    items: int = 0
    truncated: int = 0
    computed: int = 0
    naive: int = 0


@dataclass(frozen=True, slots=True)
class ModelParts:
    """The parts of a model that answer requests.

    encoder: from texts to ids.
    scorer: log-likelihoods of answers.
    open_engine: returns the engine that generates replies; called when a task needs it first.
    prefix: the token before a text without a context.
    max_length: the largest number of tokens that the model reads at once.
    end: the text of the end token, which ends a reply like the stop texts of a task.
    is_encoder_decoder: prompt and reply do not share ``max_length``.
    """

    encoder: Encoder
    scorer: AnswerScorer
    open_engine: Callable[[], Engine]
    prefix: int
    max_length: int
    end: str | None
    is_encoder_decoder: bool = False


class TreeLanguageModel(LM):  # type: ignore[misc]
    """A language model that reads every question once, for all its answers.

    parts: the model.
    identity: everything but the requests that decides the results; names the journals.
    journals: the directory of the journals.
    progress: called with the number of requests that are done.
    world: the processes that share the requests; all of them get all results.
    """

    def __init__(
        self,
        parts: ModelParts,
        identity: Mapping[str, Any],
        journals: Path,
        progress: Progress = lambda *_: None,
        world: Communicator = ALONE,
    ) -> None:
        super().__init__()
        self._parts, self._identity, self._journals, self._progress = parts, identity, journals, progress
        self._world = world
        self._engine: Engine | None = None
        self.work: dict[str, TaskWork] = {}

    @property
    def tokenizer_name(self) -> str:
        """A name for caches of lm-evaluation-harness, which are not used."""
        return "tunesmith"

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The messages in JSON; ``ChatEncoder`` renders them. A last message of the assistant is continued."""
        return write_messages(chat_history)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """The log-likelihood of every continuation after its context, and whether it is the greedy one."""
        pairs = self._parts.encoder.pairs([request.args for request in requests])
        answers = [(request.task_name, request.doc_id, *pair) for request, pair in zip(requests, pairs, strict=True)]
        return [(score.log_likelihood, score.greedy) for score in self._score(answers)]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """The log-likelihood of every text. A text that is too long is read in windows, each token predicted once."""
        answers, owners = [], []
        for index, request in enumerate(requests):
            (ids,) = self._parts.encoder.prompts(list(request.args))
            windows = get_rolling_token_windows(list(ids), self._parts.prefix, self._parts.max_length, 1)
            for context, continuation in map(make_disjoint_window, windows):
                answers.append((request.task_name, index, tuple(context), tuple(continuation)))
                owners.append(index)
        found = [0.0] * len(requests)
        for owner, score in zip(owners, self._score(answers), strict=True):
            found[owner] += score.log_likelihood
        return found

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """A reply to every context, up to its first stop text."""
        found: list[str] = []
        total = len(requests)
        for task, numbers in _by_task([request.task_name for request in requests]).items():
            texts = self._generate(task, [requests[number] for number in numbers], len(found), total)
            found += texts
        order = [number for numbers in _by_task([r.task_name for r in requests]).values() for number in numbers]
        return [text for _, text in sorted(zip(order, found, strict=True))]

    def _score(self, answers: Sequence[tuple[str, int, tuple[int, ...], tuple[int, ...]]]) -> list[AnswerScore]:
        """answers: (task, document, ids of the context, ids of the continuation)."""
        found: list[AnswerScore | None] = [None] * len(answers)
        done = 0
        for task, numbers in _by_task([answer[0] for answer in answers]).items():
            own = [Answer(*answers[number][1:]) for number in numbers]
            work = self.work.setdefault(task, TaskWork())
            work.items += len({answer.question for answer in own})
            work.truncated += len({answer.question for answer in own if self._parts.scorer.truncated(answer)})
            work.naive += sum(self._parts.scorer.tokens_alone(answer) for answer in own)
            for number, score in self._task_scores(task, own, done, len(answers)).items():
                found[numbers[number]] = score
            done += len(own)
        return [score for score in found if score is not None]

    def _task_scores(self, task: str, answers: Sequence[Answer], before: int, total: int) -> dict[int, AnswerScore]:
        """The score of every answer to a task, by its number. before, total: answers to earlier and to all tasks."""
        journal = self._journal(task, [[answer.question, answer.context, answer.continuation] for answer in answers])
        members, done, missing = list[tuple[int, ...]](), before, 0

        def compute_own() -> Iterator[tuple[int, Any]]:
            """The batches that this process computes: the missing ones are dealt in turn."""
            nonlocal done, missing
            for index, (batch, compute) in enumerate(self._parts.scorer.plan(answers)):
                self.work[task].computed += batch.tokens
                members.append(batch.answers)
                if _read_scores(journal.find(index), batch.answers) is not None:
                    done += len(batch.answers)
                    continue
                if missing % self._world.size == self._world.rank:
                    yield index, [[number, each.log_likelihood, each.greedy] for number, each in compute().items()]
                missing += 1

        for _, lines in journal.add_all(compute_own()):
            done += len(lines)
            self._progress(done, total, f"{task}: {done:,} of {total:,} answers")
        found = dict[int, AnswerScore]()
        for index, numbers in enumerate(members):
            scores = _read_scores(journal.find(index), numbers)
            assert scores is not None, "every batch is computed"
            found |= scores
        return found

    def _generate(self, task: str, requests: Sequence[Instance], done: int, total: int) -> list[str]:
        parts = self._parts
        if self._engine is None:
            self._engine = parts.open_engine()
        prompts = parts.encoder.prompts([request.args[0] for request in requests])
        settings = [read_generation(request.args[1], parts.end, task) for request in requests]
        wanted = [
            self._request(prompt, sampling, stops, request.repeats or 0)
            for prompt, (sampling, stops), request in zip(prompts, settings, requests, strict=True)
        ]
        work = self.work.setdefault(task, TaskWork())
        work.items += len(requests)
        work.truncated += sum(len(ask.prompt) < len(prompt) for ask, prompt in zip(wanted, prompts, strict=True))
        journal = self._journal(
            task, [[ask.prompt, ask.sample, *setting] for ask, setting in zip(wanted, settings, strict=True)]
        )
        missing = [number for number in range(len(wanted)) if journal.find(number) is None]
        shares = deal_requests([wanted[number] for number in missing], self._world.size)
        own = [missing[place] for place in shares[self._world.rank]]
        texts = (
            (own[place], postprocess_generated_text(parts.encoder.text(reply.ids), settings[own[place]][1], None))
            for place, reply in self._engine.replies([wanted[number] for number in own], GENERATED_TOGETHER)
        )
        done += len(wanted) - len(missing)
        for _ in journal.add_all(texts):
            done += 1
            self._progress(done, total, f"{task}: {done:,} of {total:,} replies")
        work.naive = work.computed = sum(len(ask.prompt) for ask in wanted)
        return [str(journal.find(number)) for number in range(len(wanted))]

    def _request(
        self, prompt: tuple[int, ...], sampling: SamplingParameters, stops: tuple[str, ...], repeat: int
    ) -> ReplyRequest:
        """The request of a reply; of a prompt that is too long the last tokens are kept."""
        parts = self._parts
        space = parts.max_length - (0 if parts.is_encoder_decoder else sampling.max_new_tokens)
        if space < 1:
            what = f"the task generates up to {sampling.max_new_tokens:,} tokens, the model has {parts.max_length:,}"
            raise UsageError(f"{what} positions", advice="leave the task out, or use a model with a longer context")
        number = reply_number(prompt[-space:], "benchmark", repeat)
        return ReplyRequest(prompt[-space:], sampling, 0, number, stop=tuple(filter(None, stops)))

    def _journal(self, task: str, requests: Any) -> Journal:
        return Journal(self._journals, {**self._identity, "task": task, "requests": requests}, self._world)


def read_generation(given: Mapping[str, Any], end: str | None, task: str) -> tuple[SamplingParameters, tuple[str, ...]]:
    """(sampling, stop texts) of what a task asks for. Raises UsageError for an option that is not known here.

    end: the text of the end token.
    """
    options = normalize_gen_kwargs(dict(given), REPLY_TOKENS)
    stops = tuple(handle_stop_sequences(options.pop("until", None), end))
    limit = int(options.pop("max_gen_toks"))
    values = {name: options.pop(name) for name in SAMPLING_KEYS if options.get(name) is not None}
    unknown = sorted(name for name, value in options.items() if value is not None)
    if unknown:
        what = f"the task asks for {', '.join(unknown)}, which replies are not generated with here"
        raise UsageError(what, where=task, advice="use --engine hf, or leave the task out")
    if not values.get("do_sample"):
        return SamplingParameters(do_sample=False, max_new_tokens=limit), stops
    values = {name: type(getattr(SamplingParameters(), name))(value) for name, value in values.items()}
    return SamplingParameters(**values, max_new_tokens=limit), stops


def _read_scores(lines: Any, answers: Sequence[int]) -> dict[int, AnswerScore] | None:
    """The scores of a batch that a journal holds; None where it has none, or those of other answers."""
    if not isinstance(lines, list):
        return None
    try:
        found = {int(number): AnswerScore(float(value), bool(greedy)) for number, value, greedy in lines}
    except (TypeError, ValueError):
        return None
    return found if list(found) == list(answers) else None


def _by_task(tasks: Sequence[str]) -> dict[str, list[int]]:
    """The numbers of the requests of every task."""
    found: dict[str, list[int]] = {}
    for number, task in enumerate(tasks):
        found.setdefault(task, []).append(number)
    return found

"""One scheduler for all generation: requests wait in a queue, and a reply that ends gives its row to the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunesmith.generate.requests import FinishReason, ReplyRequest, StoppingCriteria
from tunesmith.generate.row_sampler import RowSampler, TokenLogProbability, not_finite
from tunesmith.generate.running_rows import RunningRows
from tunesmith.generate.stop_texts import ReplyReader, StopSearch

CACHE_TOKENS = 2**18
"""The default of the largest number of tokens that the rows of a batch may come to hold."""


@dataclass(frozen=True, slots=True)
class GeneratedToken:
    """One token of one reply.

    ticket: of the request.
    id: the token id.
    finish: why the reply ends with this token; None if it does not.
    log_probability: only where the request asked for it.
    """

    ticket: int
    id: int
    finish: FinishReason | None
    log_probability: TokenLogProbability | None


@dataclass(frozen=True, slots=True)
class FinishedReply:
    """A complete reply.

    ids: all ids that were generated, including the stop token or those of a stop text; never empty.
    finish: why it ended.
    log_probabilities: one for each id, only where the request asked for them.
    """

    ids: tuple[int, ...]
    finish: FinishReason
    log_probabilities: tuple[TokenLogProbability, ...] | None


@dataclass(slots=True)
class _Reply:
    """A reply that waits or is generated.

    history: the ids before its first id (``RunningRows.history``).
    limit: the largest number of its tokens.
    last: the id that the next step processes.
    search: looks for its stop texts; None if it has none.
    generated: the number of its tokens so far.
    """

    ticket: int
    request: ReplyRequest
    history: Sequence[int]
    limit: int
    last: int
    search: StopSearch | None
    generated: int = 0

    @property
    def needed(self) -> int:
        """The largest number of tokens that its row may come to hold."""
        return max(len(self.request.prompt), len(self.history)) + self.limit


class Scheduler:
    """Generates the replies to requests, which may be added and cancelled at any time.

    rows: the rows of the model.
    stopping: what ends a reply.
    batch_size: the largest number of replies that are generated together.
    tokens: the largest number of tokens (rows times the longest that one of them may become) that the rows may come to
        hold; a single reply is always generated.
    reader: decodes replies with stop texts; None if no request has any.
    """

    def __init__(
        self,
        rows: RunningRows,
        stopping: StoppingCriteria,
        batch_size: int,
        tokens: int = CACHE_TOKENS,
        reader: ReplyReader | None = None,
    ) -> None:
        assert batch_size >= 1, "without a row nothing is generated"
        self._rows, self._stopping = rows, stopping
        self._batch_size, self._tokens = batch_size, tokens
        self._reader = reader
        self._sampler = RowSampler(stopping.vocabulary, stopping.stop_ids, rows.device)
        self._queue: deque[_Reply] = deque()
        self._running: list[_Reply] = []
        self._ended: list[int] = []  # numbers of running rows whose replies have ended
        self._tickets = 0
        rows.clear()

    @property
    def is_idle(self) -> bool:
        """Whether no reply is waiting or being generated."""
        return not self._queue and len(self._ended) == len(self._running)

    def add(self, request: ReplyRequest) -> int:
        """Let a request wait for a row; returns its ticket. The prompt must be shorter than the context."""
        history = self._rows.history(request.prompt)
        limit = min(request.sampling.max_new_tokens, self._stopping.context - len(history))
        assert limit > 0, "the prompt fills the context"
        self._tickets += 1
        search = None
        if request.stop:
            assert self._reader is not None, "stop texts are looked for in decoded replies"
            search = StopSearch(self._reader, request.stop)
        self._queue.append(_Reply(self._tickets, request, history, limit, history[-1], search))
        return self._tickets

    def cancel(self, ticket: int) -> bool:
        """Remove a request; False if its reply has ended already. No further token of it is returned."""
        for reply in self._queue:
            if reply.ticket == ticket:
                self._queue.remove(reply)
                return True
        for number, reply in enumerate(self._running):
            if reply.ticket == ticket and number not in self._ended:
                self._ended.append(number)
                return True
        return False

    def step(self, failed: list[int] | None = None) -> list[GeneratedToken]:
        """Generate one token of every reply that has a row; nothing if there is none.

        failed: gets the tickets of replies for which the logits of the model are not finite; they end, and the others
            go on. Without it such logits raise InternalError.
        """
        self._admit()
        if not self._running:
            return []
        choice = self._sampler.choose(self._rows.step([reply.last for reply in self._running]))
        if choice.failed and failed is None:
            raise not_finite()
        found = []
        for number, reply in enumerate(self._running):
            if failed is not None and number in choice.failed:
                self._ended.append(number)
                failed.append(reply.ticket)
                continue
            reply.last, reply.generated = choice.ids[number], reply.generated + 1
            finish = self._finish(reply)
            if finish is not None:
                self._ended.append(number)
            found.append(GeneratedToken(reply.ticket, reply.last, finish, choice.log_probabilities[number]))
        return found

    def run(self) -> Iterator[tuple[int, FinishedReply]]:
        """Generate until nothing is left; yields (ticket, reply) of every reply that ends."""
        parts: dict[int, list[GeneratedToken]] = {}
        while not self.is_idle:
            for token in self.step():
                parts.setdefault(token.ticket, []).append(token)
                if token.finish is not None:
                    yield token.ticket, _joined(parts.pop(token.ticket))

    def _finish(self, reply: _Reply) -> FinishReason | None:
        if reply.last in self._stopping.stop_ids:
            return "stop"
        if reply.search is not None and reply.search.add(reply.last):
            return "stop"
        if reply.generated < reply.limit:
            return None
        return "context" if len(reply.history) + reply.generated >= self._stopping.context else "length"

    def _admit(self) -> None:
        """Remove the rows that have ended and begin as many of the waiting replies as possible."""
        ended = self._ended
        going = [reply for number, reply in enumerate(self._running) if number not in ended]
        added = self._find_next(going) if self._rows.joins or not going else []
        if not ended and not added:
            return
        order = self._rows.replace(ended, [reply.request.prompt for reply in added])
        requests = [reply.request for reply in added]
        self._sampler.add(
            [reply.history for reply in added],
            [request.sampling for request in requests],
            [request.seed for request in requests],
            [request.sample for request in requests],
            [request.alternatives for request in requests],
            [request.adjustments for request in requests],
        )
        self._sampler.select(order)
        replies = [*self._running, *added]
        self._running, self._ended = [replies[number] for number in order], []
        for _ in added:
            self._queue.popleft()  # last: what an interrupted pass was to begin still waits

    def _find_next(self, going: Sequence[_Reply]) -> list[_Reply]:
        """The first replies of the queue, as many as there are rows and tokens for; they stay in the queue."""
        found, longest = list[_Reply](), max((reply.needed for reply in going), default=0)
        for reply in self._queue:
            count, longest = len(going) + len(found) + 1, max(longest, reply.needed)
            if count > self._batch_size or (count > 1 and count * longest > self._tokens):
                break
            found.append(reply)
        return found


def _joined(tokens: Sequence[GeneratedToken]) -> FinishedReply:
    """The reply that consists of these tokens."""
    finish = tokens[-1].finish
    assert finish is not None, "the last token of a reply says why it ended"
    found = [token.log_probability for token in tokens if token.log_probability is not None]
    return FinishedReply(tuple(token.id for token in tokens), finish, tuple(found) if found else None)

"""Replies of the scheduler are those of a plain loop without a cache, in whatever order requests come and go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from tests.generate.sorted_sampling import next_tokens, seen_tokens
from tests.generate.test_encoder_decoder import random_t5
from tunesmith.draws import token_uniform
from tunesmith.errors import InternalError
from tunesmith.generate.cache_check import static_rows
from tunesmith.generate.decoding import CausalState
from tunesmith.generate.encoder_decoder import EncoderDecoderState
from tunesmith.generate.recomputing import RecomputingState
from tunesmith.generate.requests import ReplyRequest, StoppingCriteria
from tunesmith.generate.running_rows import RunningRows
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.scheduler import FinishedReply, Scheduler
from tunesmith.generate.slot_rows import SlotRows

VOCABULARY, CONTEXT = 61, 40
STOPPING = StoppingCriteria((3, 7), VOCABULARY, CONTEXT)
SAMPLINGS = (
    SamplingParameters(do_sample=False, max_new_tokens=9),
    SamplingParameters(temperature=0.8, top_p=0.9, max_new_tokens=6),
    SamplingParameters(top_k=7, repetition_penalty=1.2, max_new_tokens=12),
    SamplingParameters(typical_p=0.6, min_new_tokens=3, max_new_tokens=4),
    SamplingParameters(do_sample=False, max_new_tokens=50),
)
KINDS: dict[str, Callable[[PreTrainedModel, int], RunningRows]] = {
    "slots": SlotRows,
    "static": lambda model, rows: static_rows(model, lambda: CausalState(model))(rows),
    "recomputed": lambda model, rows: static_rows(model, lambda: RecomputingState(model))(rows),
}


@torch.no_grad()
def plain_reply(model: PreTrainedModel, request: ReplyRequest) -> tuple[list[int], list[float]]:
    """The ids of a reply and the log-probabilities of the model, with one pass over the whole text for every token."""
    ids: list[int] = []
    logs: list[float] = []
    limit = min(request.sampling.max_new_tokens, CONTEXT - len(request.prompt))
    while len(ids) < limit and not (ids and ids[-1] in STOPPING.stop_ids):
        text = [*request.prompt, *ids]
        logits = model(input_ids=torch.tensor([text]), use_cache=False).logits[:, -1, :VOCABULARY].float()
        draw = [token_uniform(request.seed, request.sample, len(ids))]
        seen = seen_tokens([text], VOCABULARY)
        chosen = next_tokens(logits, seen, len(ids), request.sampling, STOPPING.stop_ids, draw)
        ids.append(int(chosen))
        logs.append(float(logits.log_softmax(-1)[0, ids[-1]]))
    return ids, logs


PROMPT = st.sampled_from([(5,), (5, 9, 2), (5, 9, 2, 8), tuple(range(8, 39)), tuple(range(20, 37)), (4,) * 16])
REQUEST = st.builds(
    ReplyRequest,
    PROMPT,
    st.sampled_from(SAMPLINGS),
    st.integers(0, 1),
    st.integers(0, 3),
    st.sampled_from([None, 0, 2]),
)


@settings(max_examples=10, deadline=None)  # `make exhaustive` compares hundreds of replies
@given(
    kind=st.sampled_from(sorted(KINDS)),
    requests=st.lists(REQUEST, min_size=1, max_size=14),
    later=st.lists(st.tuples(st.integers(0, 12), REQUEST), max_size=4),
    cancelled=st.dictionaries(st.integers(1, 18), st.integers(0, 20), max_size=5),
    batch_size=st.integers(1, 9),
    tokens=st.sampled_from([1, 100, 2**18]),
)
def test_replies_are_those_of_a_plain_loop(
    random_model: Callable[..., PreTrainedModel],
    kind: str,
    requests: list[ReplyRequest],
    later: list[tuple[int, ReplyRequest]],
    cancelled: dict[int, int],
    batch_size: int,
    tokens: int,
) -> None:
    model = random_model("llama")
    scheduler = Scheduler(KINDS[kind](model, batch_size), STOPPING, batch_size, tokens)
    asked = {scheduler.add(request): request for request in requests}
    found: dict[int, list[int]] = {ticket: [] for ticket in asked}
    logs: dict[int, list[float]] = {}
    gone, ended, step = set[int](), set[int](), 0
    while not scheduler.is_idle or any(when >= step for when, _ in later):
        for request in (request for when, request in later if when == step):
            ticket = scheduler.add(request)
            asked[ticket], found[ticket] = request, []
        for ticket in (ticket for ticket, when in cancelled.items() if when == step):
            if scheduler.cancel(ticket):
                gone.add(ticket)
            else:
                assert ticket in ended or ticket not in asked or ticket in gone
        for token in scheduler.step():
            assert token.ticket not in gone | ended
            found[token.ticket].append(token.id)
            if token.finish is not None:
                ended.add(token.ticket)
            assert (token.log_probability is None) == (asked[token.ticket].alternatives is None)
            if token.log_probability is not None:
                logs.setdefault(token.ticket, []).append(token.log_probability.chosen)
                assert len(token.log_probability.alternatives) == asked[token.ticket].alternatives
        step += 1
    assert ended == asked.keys() - gone
    for ticket, request in asked.items():
        ids, expected = plain_reply(model, request)
        assert found[ticket] == ids[: len(found[ticket])]
        assert ticket in gone or found[ticket] == ids
        if ticket in logs:
            assert logs[ticket] == pytest.approx(expected[: len(found[ticket])], abs=1e-4)


def replies(rows: RunningRows, requests: Sequence[ReplyRequest], batch_size: int) -> list[FinishedReply]:
    scheduler = Scheduler(rows, STOPPING, batch_size)
    tickets = [scheduler.add(request) for request in requests]
    found = dict(scheduler.run())
    return [found[ticket] for ticket in tickets]


def test_a_reply_says_why_it_ended(random_model: Callable[..., PreTrainedModel]) -> None:
    requests = [ReplyRequest((number, 9), SAMPLINGS[1], 0, number) for number in range(12, 30)]
    requests.append(ReplyRequest((5,) * 36, SAMPLINGS[4], 0, 0))
    found = replies(SlotRows(random_model("gpt_neox"), 5), requests, 5)
    assert {reply.finish for reply in found} == {"stop", "length", "context"}
    for reply, request in zip(found, requests, strict=True):
        stops = [token in STOPPING.stop_ids for token in reply.ids]
        assert not any(stops[:-1])
        assert stops[-1] == (reply.finish == "stop")
        assert reply.finish != "length" or len(reply.ids) == request.sampling.max_new_tokens
        assert reply.finish != "context" or len(reply.ids) + len(request.prompt) == CONTEXT


class FaultyRows(SlotRows):
    """Rows with planted faults. fault: (number of the step, row) whose logits are NaN; interrupted: whether the next
    prompts are not read because of Ctrl-C."""

    fault, steps, interrupted = (-1, -1), 0, False

    def step(self, ids: Sequence[int]) -> Tensor:
        logits = super().step(ids)
        self.steps += 1
        if self.steps == self.fault[0]:
            logits[self.fault[1]] = float("nan")
        return logits

    def _read_prompts(self, heads: Sequence[tuple[int, ...]], free: Sequence[int]) -> None:
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt
        super()._read_prompts(heads, free)


def test_a_reply_whose_logits_are_not_finite_ends_alone(random_model: Callable[..., PreTrainedModel]) -> None:
    requests = [ReplyRequest((number, 9), SAMPLINGS[1], 0, number) for number in range(12, 24)]
    model = random_model("gpt_neox")
    wanted, rows, failed = replies(SlotRows(model, 4), requests, 4), FaultyRows(model, 4), list[int]()
    rows.fault = (2, 1)
    scheduler, found = Scheduler(rows, STOPPING, 4), dict[int, list[int]]()
    tickets = [scheduler.add(request) for request in requests]
    while not scheduler.is_idle:
        for token in scheduler.step(failed):
            found.setdefault(token.ticket, []).append(token.id)
    assert failed == [tickets[1]]
    for ticket, reply in zip(tickets, wanted, strict=True):
        assert tuple(found[ticket]) == reply.ids[: 1 if ticket in failed else None]
    rows.fault = (rows.steps + 2, 1)
    with pytest.raises(InternalError, match="not finite"):
        replies(rows, requests, 4)


def test_an_interruption_while_prompts_are_read_loses_no_request(random_model: Callable[..., PreTrainedModel]) -> None:
    requests = [ReplyRequest((number, 9), SAMPLINGS[1], 0, number) for number in range(12, 20)]
    model = random_model("gpt_neox")
    wanted, rows, found = replies(SlotRows(model, 3), requests, 3), FaultyRows(model, 3), dict[int, FinishedReply]()
    scheduler = Scheduler(rows, STOPPING, 3)
    tickets = [scheduler.add(request) for request in requests]
    for _ in range(2):
        rows.interrupted = True
        with pytest.raises(KeyboardInterrupt):
            found.update(scheduler.run())
    found.update(scheduler.run())
    assert set(found) <= set(tickets)
    assert [found[ticket] for ticket in tickets[3:]] == wanted[3:]


@pytest.mark.parametrize("family", ["gpt_neox", "llama", "gpt2"])
def test_logits_of_a_row_have_the_same_bits_whatever_the_other_rows_are(
    random_model: Callable[..., PreTrainedModel], family: str
) -> None:
    """One row alone, and the same row among others that begin and end around it, one of them much longer."""
    model = random_model(family, rows=576, context=400)
    prompt, ids = tuple(range(30, 63)), [7, 9, 300, 12, 500, 8]
    alone = SlotRows(model, 1)
    alone.replace([], [prompt])
    expected = [alone.step([token])[0] for token in (prompt[-1], *ids)]
    rows, running = SlotRows(model, 20), list[tuple[int, ...]]()
    found = []

    def replace(ended: list[int], *prompts: tuple[int, ...]) -> None:
        running[:] = [[*running, *prompts][number] for number in rows.replace(ended, prompts)]

    def step(token: int) -> None:
        place = running.index(prompt)
        found.append(rows.step([token if row == place else 11 for row in range(len(running))])[place])

    replace([], tuple(range(3, 250)), (5,))
    rows.step([249, 5])
    replace([], prompt, *[tuple(range(40, 60 + k)) for k in range(14)])
    step(prompt[-1])
    step(ids[0])
    replace([1, 0], (9, 8))
    step(ids[1])
    replace([row for row, text in enumerate(running) if text != prompt][:12])
    step(ids[2])
    replace([], *[(7, number) for number in range(15)])
    for token in ids[3:]:
        step(token)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert not torch.equal(expected[0], expected[1])


def test_steps_are_few_because_rows_are_filled_again(random_model: Callable[..., PreTrainedModel]) -> None:
    lengths = [3, 30, 5, 8, 2, 24, 9, 9, 4, 17, 6, 28, 3, 5]
    requests = [
        ReplyRequest((5, 9), SamplingParameters(min_new_tokens=length, max_new_tokens=length), 0, number)
        for number, length in enumerate(lengths)
    ]
    scheduler = Scheduler(SlotRows(random_model("llama"), 4), STOPPING, 4)
    for request in requests:
        scheduler.add(request)
    running = []
    while not scheduler.is_idle:
        running.append(len(scheduler.step()))
    assert sum(running) == sum(lengths)
    assert all(a == 4 for a, b in pairwise(running) if b == 4), "no row is empty while a request waits"


def test_an_encoder_reads_a_prompt_once_for_requests_with_different_sampling() -> None:
    model, sizes = random_t5(), list[int]()
    hook = model.get_encoder().register_forward_pre_hook(
        lambda module, arguments, options: sizes.append(len(options["input_ids"])), with_kwargs=True
    )
    prompts = [(5, 9, 2), (8, 8, 30, 4)]
    requests = [ReplyRequest(prompt, sampling, 0, 1) for prompt in prompts for sampling in SAMPLINGS[:4]]
    rows = static_rows(model, lambda: EncoderDecoderState(model))
    together = replies(rows(8), requests, 8)
    hook.remove()
    assert sum(sizes) == 2
    assert together == [replies(rows(1), [request], 1)[0] for request in requests]

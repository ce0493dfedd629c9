"""Rows with different sampling parameters in one batch, against each row alone and the filters over all logits."""

from __future__ import annotations

import pytest
import torch

from tests.generate.sorted_sampling import next_tokens, seen_tokens
from tunesmith.draws import token_uniform
from tunesmith.generate.penalties import NO_ADJUSTMENTS, LogitAdjustments
from tunesmith.generate.row_sampler import RowSampler
from tunesmith.generate.sampling import SamplingParameters

SIZE, STOPS = 300, (0, 7)
MANY = [
    SamplingParameters(),
    SamplingParameters(do_sample=False),
    SamplingParameters(do_sample=False, repetition_penalty=1.3, min_new_tokens=3),
    SamplingParameters(temperature=0.8, top_p=0.9, repetition_penalty=1.2, min_new_tokens=4),
    SamplingParameters(temperature=0.8, top_p=0.9, top_k=50, repetition_penalty=1.2),
    SamplingParameters(top_k=5, top_p=0.95, repetition_penalty=0.8),
    SamplingParameters(typical_p=0.2, min_new_tokens=1),
    SamplingParameters(temperature=0.7, typical_p=0.3, top_k=20, top_p=0.95),
    SamplingParameters(top_k=1),
    SamplingParameters(top_p=0.5),
    SamplingParameters(temperature=2.5),
    SamplingParameters(top_k=9607),
]


def _logits(step: int, row: int, peak: float = 3.0) -> torch.Tensor:
    """The logits of one row, float32 [1, more than the vocabulary]; the highest belong to ids that do not exist."""
    generator = torch.Generator().manual_seed(1000 * step + row)
    logits = torch.randn(1, SIZE + 20, generator=generator) * peak
    logits[:, SIZE:] += 50
    return logits


def _reference(row: int, sampling: SamplingParameters, steps: int) -> list[int]:
    ids = _history(row)
    for step in range(steps):
        seen, uniform = seen_tokens([ids], SIZE), token_uniform(5, row, step)
        ids.append(int(next_tokens(_logits(step, row)[:, :SIZE], seen, step, sampling, STOPS, [uniform])))
    return ids[len(_history(row)) :]


def _history(row: int) -> list[int]:
    return [(row * 37 + i * i) % SIZE for i in range(row % 5 * 4)]


def _add(sampler: RowSampler, rows: list[int]) -> None:
    samplings = [MANY[row % len(MANY)] for row in rows]
    sampler.add([_history(row) for row in rows], samplings, [5] * len(rows), rows)


def test_every_row_of_a_mixed_batch_gets_the_tokens_of_the_filters_over_all_logits() -> None:
    rows = list(range(3 * len(MANY)))
    sampler = RowSampler(SIZE, STOPS)
    _add(sampler, rows)
    steps = []
    for step in range(8):
        choice = sampler.choose(torch.cat([_logits(step, row) for row in rows]))
        assert choice.tensor.tolist() == choice.ids
        assert choice.log_probabilities == [None] * len(rows)
        steps.append(choice.ids)
    for row in rows:
        assert [ids[row] for ids in steps] == _reference(row, MANY[row % len(MANY)], 8), MANY[row % len(MANY)]


def test_rows_may_leave_change_places_be_repeated_and_be_added_while_others_generate() -> None:
    sampler = RowSampler(SIZE, STOPS)
    rows = list(range(20))
    _add(sampler, rows)
    progress = dict.fromkeys(rows, 0)
    for kept, added in [([3, 1, 3, 8, 19], [30, 31]), ([6, 0, 2, 2, 5], []), ([0, 4, 1], [40])]:
        ids = sampler.choose(torch.cat([_logits(progress[row], row) for row in rows])).ids
        for row, token in zip(rows, ids, strict=True):
            assert token == _reference(row, MANY[row % len(MANY)], progress[row] + 1)[-1]
        progress = {row: progress[row] + 1 for row in rows}
        rows = [rows[place] for place in kept]
        sampler.select(kept)
        _add(sampler, added)
        rows, progress = rows + added, {**progress, **dict.fromkeys(added, 0)}
        assert len(sampler) == len(rows)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("sampling", MANY[:4])
def test_logits_that_are_not_finite_fail_their_row_and_change_no_other(
    value: float, sampling: SamplingParameters
) -> None:
    sampler, alone = RowSampler(SIZE, STOPS), RowSampler(SIZE, STOPS)
    sampler.add([[1, 2]] * 3, [sampling] * 3, [1] * 3, [0, 1, 2])
    alone.add([[1, 2]] * 2, [sampling] * 2, [1] * 2, [0, 2])
    for step, failed in enumerate(((), (1,), (1,))):
        logits = torch.cat([_logits(step, row) for row in range(3)])
        logits[1, SIZE:] = value  # ids that do not exist
        logits[failed, 17] = value
        choice = sampler.choose(logits)
        assert choice.failed == failed
        assert [choice.ids[0], choice.ids[2]] == alone.choose(logits[[0, 2]]).ids


def test_large_finite_logits_are_no_error() -> None:
    sampler = RowSampler(4, [])
    sampler.add([[]], [SamplingParameters(do_sample=False)], [1], [0])
    assert sampler.choose(torch.tensor([[3e38, 3e38, 3.1e38, -3e38]])).ids == [2]


def test_log_probabilities_are_those_of_the_model_before_all_processors() -> None:
    sampler = RowSampler(SIZE, STOPS)
    sampling = SamplingParameters(temperature=0.3, top_k=4, repetition_penalty=1.7)
    sampler.add([[1, 2, 3]] * 4, [sampling] * 4, [5] * 4, [0, 1, 2, 3], [None, 0, 3, SIZE + 5])
    logits = torch.cat([_logits(0, row) for row in range(4)])
    choice = sampler.choose(logits)
    expected = logits[:, :SIZE].double().log_softmax(-1)
    assert choice.log_probabilities[0] is None
    for row, size in ((1, 0), (2, 3), (3, SIZE)):
        found = choice.log_probabilities[row]
        assert found is not None
        assert found.chosen == pytest.approx(expected[row, choice.ids[row]].item(), abs=1e-5)
        top = expected[row].topk(size)
        assert [token for token, _ in found.alternatives] == top.indices.tolist()
        assert [value for _, value in found.alternatives] == pytest.approx(top.values.tolist(), abs=1e-5)
        if size > 0:  # the value of the chosen token is exactly the one in the list
            assert dict(found.alternatives).get(choice.ids[row], found.chosen) == found.chosen


def test_a_row_without_a_history_is_not_penalised_for_ids_that_it_has_not_seen() -> None:
    sampler = RowSampler(4, [])
    sampling = SamplingParameters(do_sample=False, repetition_penalty=1.5)
    sampler.add([[], [1, 2, 3]], [sampling] * 2, [1, 1], [0, 1])
    assert sampler.choose(torch.tensor([[5.0, 4.5, 0.0, 0.0], [1.0, 9.0, 0.0, 0.0]])).ids == [0, 1]
    sampler.select([0])
    assert sampler.choose(torch.tensor([[5.0, 4.5, 0.0, 0.0]])).ids == [1]
    sampler = RowSampler(4, [])
    sampler.add([[], [1, 2, 3]], [sampling] * 2, [1, 1], [0, 1])
    assert sampler.choose(torch.tensor([[0.0, 0.0, 9.0, 0.0], [1.0, 9.0, 0.0, 0.0]])).ids == [2, 1]
    assert sampler.choose(torch.tensor([[5.0, 4.5, 0.0, 0.0], [1.0, 9.0, 0.0, 0.0]])).ids == [0, 1]


def _adjusted(logits: torch.Tensor, ids: list[int], adjustments: LogitAdjustments) -> torch.Tensor:
    """OpenAI's formula over the whole vocabulary: logit - count * frequency - (count > 0) * presence + bias."""
    counts = torch.bincount(torch.tensor(ids, dtype=torch.long), minlength=logits.shape[1]).double()
    added = -counts * adjustments.frequency - (counts > 0) * adjustments.presence
    for token, number in adjustments.bias:
        added[token] += number
    return logits + added.float()


ADJUSTMENTS = [
    NO_ADJUSTMENTS,
    LogitAdjustments(presence=1.5),
    LogitAdjustments(frequency=-0.7),
    LogitAdjustments(presence=-2.0, frequency=2.0, bias=((5, -100.0), (9, 4.0))),
    LogitAdjustments(bias=((11, 100.0),)),
]


def test_penalties_and_biases_are_those_of_the_formula_for_every_row_alone() -> None:
    rows = list(range(2 * len(MANY)))
    kinds = [ADJUSTMENTS[row * 7 % len(ADJUSTMENTS)] for row in rows]
    sampler = RowSampler(SIZE, STOPS)
    samplings = [MANY[row % len(MANY)] for row in rows]
    sampler.add([_history(row) for row in rows], samplings, [5] * len(rows), rows, [1] * len(rows), kinds)
    written: dict[int, list[int]] = {row: [] for row in rows}
    for step in range(12):
        # Peaked logits that are the same at every step, so that tokens repeat where nothing is subtracted.
        choice = sampler.choose(torch.cat([_logits(0, row, 4.0) for row in rows]))
        for place, row in enumerate(rows):
            raw = _logits(0, row, 4.0)[:, :SIZE]
            ids, sampling = written[row], MANY[row % len(MANY)]
            seen = seen_tokens([_history(row) + ids], SIZE)
            logits = _adjusted(raw, ids, kinds[row])
            expected = next_tokens(logits, seen, step, sampling, STOPS, [token_uniform(5, row, step)])
            assert choice.ids[place] == int(expected)
            own = choice.log_probabilities[place]
            assert own is not None
            assert own.chosen == float(raw.log_softmax(dim=-1)[0, int(expected)])
            ids.append(int(expected))
        if step == 5:
            rows = rows[::-2]
            sampler.select(range(len(kinds))[::-2])
